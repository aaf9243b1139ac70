"""The coordinator was down: the same round goes on, and nobody is given up before its time."""

from __future__ import annotations

import pytest

from coordinator.effects import Admit, CloseReporting, Configure, EndRound, WriteCheckpoint
from coordinator.events import (
    CheckedIn,
    CommitFinished,
    SelectorAttached,
    SelectorLeft,
    Ticked,
)
from coordinator.roster import Standing
from coordinator.round import Closing, Round, resume
from federation.phases import Outcome, Phase
from tests.coordinator.rounds import (
    BASE,
    DIGEST,
    NORTH,
    NORTH_RESTARTED,
    RETURN_S,
    ROUND_ID,
    SOUTH,
    START_S,
    WINDOW_S,
    a_round_in,
    play,
    standings,
)

DOWN_S = 1_000.0
AGAIN_S = START_S + DOWN_S

PHASES = [
    (Phase.SELECTION, Closing.OPEN),
    (Phase.CONFIGURATION, Closing.OPEN),
    *((Phase.REPORTING, closing) for closing in Closing),
]


def again(round_: Round, *, down_s: float = DOWN_S) -> Round:
    """Take the round up again after so long."""
    return resume(round_, START_S + down_s, base_digest=BASE, committed=False)[0]


@pytest.mark.parametrize(("phase", "closing"), PHASES)
def test_round_is_taken_up_its_deadline_lies_in_the_future(phase: Phase, closing: Closing) -> None:
    """What fell due while nobody could answer is not held against anybody."""
    round_ = again(a_round_in(phase, closing))

    assert round_.phase is phase
    assert round_.deadline_s is not None
    assert round_.deadline_s >= AGAIN_S + RETURN_S


def test_short_pause_does_not_prolong_the_round() -> None:
    """The deadline is the one that the clients were told, where it is later."""
    round_ = again(a_round_in(Phase.REPORTING), down_s=1.0)

    assert round_.phase_deadline_s == START_S + WINDOW_S


def test_held_clients_keep_their_places_until_their_selector_is_back() -> None:
    """Nobody who came later takes them meanwhile, and no round is configured without them."""
    round_ = again(a_round_in(Phase.SELECTION, clients={NORTH: ("ann",)}, goal_count=2))

    round_, effects = play(round_, CheckedIn(SOUTH, ("ben", "cleo")), after_s=DOWN_S + 1)
    assert round_.phase is Phase.SELECTION
    assert [effect.client_ids for effect in effects if isinstance(effect, Admit)] == [("ben",)]

    round_, effects = play(
        round_, SelectorAttached(NORTH, ("ann",)), CheckedIn(NORTH, ("ann",)), after_s=DOWN_S + 2
    )

    assert round_.phase is Phase.CONFIGURATION
    assert set(round_.claims) == {"ann", "ben"}


def test_selector_is_back_without_a_held_client_the_place_is_free() -> None:
    """Its stream ended while nobody listened."""
    round_ = again(a_round_in(Phase.SELECTION, clients={NORTH: ("ann", "ben")}, goal_count=3))

    round_, _ = play(
        round_, SelectorAttached(NORTH, ("ben",)), CheckedIn(NORTH, ("ben",)), after_s=DOWN_S
    )

    assert set(round_.claims) == {"ben"}
    assert round_.away_until_s == {}


def test_selector_of_held_clients_is_not_back_in_time_their_places_are_free() -> None:
    """``return_s`` after the start."""
    held = a_round_in(Phase.SELECTION, clients={NORTH: ("ann",)}, goal_count=2)
    round_ = again(held, down_s=1.0)

    round_, _ = play(round_, Ticked(), after_s=1.0 + RETURN_S)

    assert dict(round_.claims) == {}
    assert round_.phase is Phase.SELECTION


def test_selector_comes_back_with_another_memory_its_held_clients_are_gone() -> None:
    """It is another process."""
    round_ = again(a_round_in(Phase.SELECTION, clients={NORTH: ("ann",)}, goal_count=2))

    round_, _ = play(round_, SelectorAttached(NORTH_RESTARTED), after_s=DOWN_S)

    assert dict(round_.claims) == {}


def test_clients_in_training_are_not_disturbed() -> None:
    """Their selector is back, and nothing is ordered again that was done."""
    round_ = again(a_round_in(Phase.REPORTING, clients={NORTH: ("ann", "ben")}))

    round_, effects = play(round_, SelectorAttached(NORTH), after_s=DOWN_S + 1)

    assert effects == []
    assert standings(round_) == {"ann": Standing.PENDING, "ben": Standing.PENDING}
    assert round_.duties[NORTH].away_until_s is None


def test_configuration_may_not_have_been_sent_it_is_sent_again() -> None:
    """The journal knows what was decided, not what left the machine."""
    round_ = again(a_round_in(Phase.CONFIGURATION, clients={NORTH: ("ann", "ben")}))

    _, effects = play(round_, SelectorAttached(NORTH), after_s=DOWN_S + 1)

    assert [effect.client_ids for effect in effects if isinstance(effect, Configure)] == [
        ("ann", "ben")
    ]


def test_selector_does_not_come_back_it_is_void_in_its_time() -> None:
    """Counted from the coordinator's start."""
    round_ = again(a_round_in(Phase.REPORTING))
    round_, _ = play(round_, SelectorAttached(NORTH), after_s=DOWN_S + 1)

    round_, _ = play(round_, Ticked(), after_s=DOWN_S + RETURN_S)

    assert round_.duties[SOUTH].void
    assert not round_.duties[NORTH].void


def test_selector_that_was_away_before_has_its_time_anew() -> None:
    """It could not come back to a coordinator that was down."""
    round_, _ = play(a_round_in(Phase.REPORTING), SelectorLeft(NORTH))

    round_ = again(round_)

    assert round_.duties[NORTH].away_until_s == AGAIN_S + RETURN_S


def test_close_may_not_have_been_sent_it_is_sent_again() -> None:
    """The selector seals once."""
    round_ = again(a_round_in(Phase.REPORTING, Closing.SEALING))

    _, effects = play(round_, SelectorAttached(NORTH), after_s=DOWN_S + 1)

    assert effects == [CloseReporting(NORTH)]


@pytest.mark.parametrize("closing", [Closing.WRITING, Closing.PUBLISHING])
def test_checkpoint_was_not_committed_it_is_written_again(closing: Closing) -> None:
    """From the partials, which stay until the outcome."""
    round_, effects = resume(
        a_round_in(Phase.REPORTING, closing), AGAIN_S, base_digest=BASE, committed=False
    )

    assert round_.closing is Closing.WRITING
    assert round_.phase_deadline_s == AGAIN_S + RETURN_S
    (write,) = effects
    assert isinstance(write, WriteCheckpoint)
    assert {owner for owner, _ in write.partials} == {NORTH, SOUTH}


def test_commit_point_was_passed_the_round_is_committed() -> None:
    """Once, and announced once."""
    round_, effects = resume(
        a_round_in(Phase.REPORTING, Closing.PUBLISHING), AGAIN_S, base_digest="new", committed=True
    )
    late, more = play(round_, CommitFinished(ROUND_ID), after_s=DOWN_S)

    assert (round_.outcome, round_.checkpoint_digest) == (Outcome.COMMITTED, DIGEST)
    assert {e.owner for e in effects if isinstance(e, EndRound)} == {NORTH, SOUTH}
    assert (late, more) == (round_, [])


@pytest.mark.parametrize(("phase", "closing"), PHASES)
def test_checkpoint_was_replaced_meanwhile_the_round_is_abandoned(
    phase: Phase, closing: Closing
) -> None:
    """What was trained belongs to weights that are gone."""
    round_, _ = resume(a_round_in(phase, closing), AGAIN_S, base_digest="other", committed=False)

    assert (round_.outcome, round_.reason) == (Outcome.ABANDONED, "base-replaced")
