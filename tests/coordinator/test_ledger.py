"""The session, its round and the numbers: one pure step, the same whenever it is taken again."""

from __future__ import annotations

import pytest

from coordinator.effects import Announce, Configure, EndRound, SettlePartial
from coordinator.events import (
    CheckedIn,
    ClientsLeft,
    Owner,
    PartialReference,
    PartialSubmitted,
    SelectorAttached,
    Stopped,
    Ticked,
)
from coordinator.ledger import (
    DRAINING,
    Happening,
    Ledger,
    NumberSeen,
    Restarted,
    RoundBegan,
    SessionEnded,
    SessionStarted,
    SessionStopping,
    take,
)
from federation.phases import Outcome, Phase
from tests.coordinator.rounds import BASE, NORTH, ROUND_ID, SELECTION_TIMEOUT_S, START_S, a_plan

PLAN = a_plan(2, min_reports=2)
STARTED = SessionStarted("this-session", PLAN, rounds=2)
BEGAN = RoundBegan(ROUND_ID, BASE)


def after(*happenings: Happening, ledger: Ledger | None = None, now_s: float = START_S) -> Ledger:
    """Return the ledger after these, all at one time."""
    ledger = ledger or Ledger()
    for happening in happenings:
        ledger, _ = take(ledger, happening, now_s)
    return ledger


def test_session_is_started_it_wants_a_round() -> None:
    """Which begins once its base is in place."""
    ledger = after(STARTED)

    assert (ledger.wants_round, ledger.wants_end, ledger.session_runs) == (True, False, True)


def test_round_begins_it_has_the_next_number_and_admits_who_waits() -> None:
    """First come, first served."""
    waiting = (("ann", NORTH), ("ben", NORTH), ("cleo", NORTH))

    ledger, effects = take(
        after(NumberSeen(41), STARTED), RoundBegan(ROUND_ID, BASE, waiting), START_S
    )

    assert ledger.running is not None
    assert (ledger.running.number, ledger.last_round_number) == (42, 42)
    assert ledger.running.base_digest == BASE
    assert ledger.sequence == 2
    assert [effect.client_ids for effect in effects if isinstance(effect, Configure)] == [
        ("ann", "ben")
    ]


def test_round_completes_it_is_counted_and_the_next_one_is_wanted() -> None:
    """Whatever its outcome."""
    ledger = after(STARTED, BEGAN)

    ledger = after(Ticked(), ledger=ledger, now_s=START_S + SELECTION_TIMEOUT_S)

    assert ledger.session is not None
    assert ledger.session.completed == 1
    assert (ledger.running, ledger.wants_round) == (None, True)


def test_all_rounds_completed_the_session_ends_with_its_checkpoint() -> None:
    """And wants nothing more."""
    ledger = after(STARTED, BEGAN, Stopped("x"), RoundBegan("second", BASE), Stopped("x"))
    assert (ledger.wants_round, ledger.wants_end) == (False, True)

    ledger = after(SessionEnded("f1a1"), ledger=ledger)

    assert ledger.session is not None
    assert (ledger.session.over, ledger.session.final_digest) == (True, "f1a1")
    assert (ledger.session_runs, ledger.wants_round, ledger.wants_end) == (False, False, False)


def test_round_that_a_stopped_coordinator_gave_up_is_not_counted() -> None:
    """The next coordinator on the directory makes up for it."""
    ledger = after(STARTED, BEGAN, Stopped(DRAINING))

    assert ledger.session is not None
    assert ledger.session.completed == 0
    assert ledger.wants_round


def test_session_is_stopped_no_further_round_begins() -> None:
    """Also if one was about to."""
    ledger = after(STARTED, SessionStopping(), BEGAN)

    assert (ledger.running, ledger.wants_end) == (None, True)


def test_second_session_while_one_runs_changes_nothing() -> None:
    """One at a time."""
    ledger = after(STARTED)

    assert after(SessionStarted("other", PLAN, 9), ledger=ledger) == ledger


@pytest.mark.parametrize(
    "happening",
    [
        SessionStopping(),
        SessionEnded(BASE),
        BEGAN,
        Restarted(BASE),
        CheckedIn(NORTH, ("ann",)),
        ClientsLeft(NORTH, ("ann",)),
        Stopped("why"),
        Ticked(),
        SelectorAttached(NORTH),
    ],
)
def test_nothing_runs_what_does_not_fit_changes_nothing(happening: Happening) -> None:
    """Every happening is taken in every state."""
    assert take(Ledger(), happening, START_S) == (Ledger(), ())


def test_selector_comes_back_after_the_round_completed_it_hears_how_it_ended() -> None:
    """Its release may have been lost with its stream."""
    waiting = (("ann", NORTH), ("ben", NORTH))
    ledger = after(STARTED, RoundBegan(ROUND_ID, BASE, waiting), Stopped("why"))

    same, effects = take(ledger, SelectorAttached(NORTH), START_S)

    assert same == ledger
    assert effects == (EndRound(NORTH, committed=False, reason="why"),)


def test_partial_comes_after_the_round_completed_it_is_settled() -> None:
    """Each gets an answer."""
    ledger = after(STARTED, BEGAN, Stopped("why"))
    late = PartialSubmitted(NORTH, ROUND_ID, PartialReference("", 0, 0, ()))

    _, effects = take(ledger, late, START_S)

    assert effects == (SettlePartial(NORTH, ROUND_ID, kept=False, reason="stale"),)


def test_coordinator_is_there_again_the_same_round_goes_on() -> None:
    """Nothing is announced twice."""
    ledger = after(STARTED, BEGAN, CheckedIn(NORTH, ("ann",)))

    later, effects = take(ledger, Restarted(BASE), START_S + 1000.0)

    assert later.running is not None
    assert ledger.running is not None
    assert later.running.round_id == ledger.running.round_id
    assert later.running.phase is Phase.SELECTION
    assert not any(isinstance(effect, Announce) for effect in effects)


def test_coordinator_died_behind_the_commit_point_the_round_is_committed() -> None:
    """The history decides."""
    waiting = tuple((name, Owner("north", "n1")) for name in ("ann", "ben"))
    ledger = after(STARTED, RoundBegan(ROUND_ID, BASE, waiting))

    ledger, _ = take(ledger, Restarted("new", committed=True), START_S)

    assert ledger.round is not None
    assert ledger.session is not None
    assert ledger.round.outcome is Outcome.COMMITTED
    assert ledger.session.completed == 1
