"""Tests of what ``coordinator.round`` decides about selectors: partials, away, back and void."""

from __future__ import annotations

import pytest

from coordinator.effects import (
    Admit,
    CloseReporting,
    Configure,
    EndRound,
    SettlePartial,
    WriteCheckpoint,
)
from coordinator.events import (
    CheckedIn,
    ClientsLeft,
    CommitFinished,
    Event,
    PartialReference,
    PartialSubmitted,
    ReportRejected,
    SelectorAttached,
    SelectorDetached,
    SelectorLeft,
    Stopped,
    Ticked,
)
from coordinator.roster import Standing
from coordinator.round import Closing
from federation.phases import Outcome, Phase
from tests.coordinator.rounds import (
    EAST,
    GRACE_S,
    NORTH,
    NORTH_RESTARTED,
    RETURN_S,
    ROUND_ID,
    SOUTH,
    START_S,
    WINDOW_S,
    a_reference,
    a_round_in,
    configured,
    deadline_after_s,
    folded,
    partial,
    play,
    standings,
    those,
)

NORTHS = {NORTH: ("ann", "cat"), SOUTH: ("ben",)}
DEADLINE_S = START_S + WINDOW_S

# -- Partials --------------------------------------------------------------------------------------


def test_partial_is_kept_its_clients_have_reported() -> None:
    """Reported means: in a kept partial."""
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING)

    round_, effects = play(round_, partial(NORTH, "ann"))

    assert effects == [SettlePartial(NORTH, ROUND_ID, kept=True)]
    assert standings(round_) == {"ann": Standing.REPORTED, "ben": Standing.FOLDED}
    assert round_.duties[NORTH].partial == a_reference("ann")


def test_partial_is_repeated_it_gets_its_first_answer() -> None:
    """A retry whose answer was lost is told the same; nothing is kept twice.

    Elsewhere: a middle tier of NVFlare sends its sum without a sequence number, and a retry
    counts twice.
    """
    round_, _ = play(a_round_in(Phase.REPORTING, Closing.SEALING), partial(NORTH, "ann"))

    after, effects = play(round_, partial(NORTH, "ann"))

    assert effects == [SettlePartial(NORTH, ROUND_ID, kept=True)]
    assert after == round_


def test_another_partial_follows_a_kept_one_it_is_discarded() -> None:
    """A kept partial is final, and a different one does not void its owner."""
    round_, _ = play(a_round_in(Phase.REPORTING, Closing.SEALING), partial(NORTH, "ann"))

    after, effects = play(round_, partial(NORTH, "ann", sha256="11ff"))

    assert effects == [SettlePartial(NORTH, ROUND_ID, kept=False, reason="repeated")]
    assert after == round_


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(partial(NORTH, "ann", round_id="earlier-round"), id="of an earlier round"),
        pytest.param(partial(EAST, "ann"), id="of a selector without duty"),
        pytest.param(partial(NORTH_RESTARTED, "ann"), id="of another incarnation"),
    ],
)
def test_partial_is_not_this_rounds_it_is_discarded_as_stale(event: PartialSubmitted) -> None:
    """A file that was left from another round or process is never averaged, and does no harm."""
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING)

    after, effects = play(round_, event)

    assert effects == [SettlePartial(event.owner, event.round_id, kept=False, reason="stale")]
    assert after == round_


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param(a_reference("ann", "ben"), id="another selector's client"),
        pytest.param(a_reference("ann", "nobody"), id="a client that was not admitted"),
        pytest.param(a_reference("ann", "ann"), id="a client twice"),
        pytest.param(a_reference("ann", count=2, weight=20), id="more reports than clients"),
        pytest.param(a_reference("ann", count=0), id="clients without a report"),
        pytest.param(a_reference("ann", weight=0), id="no weight"),
        pytest.param(a_reference("ann", "dan"), id="a client whose report was rejected"),
    ],
)
def test_partial_does_not_fit_its_claims_it_is_discarded_and_its_owner_void(
    reference: PartialReference,
) -> None:
    """Sums that cannot be what was ordered are not averaged, and nor is anything after them."""
    clients = {NORTH: ("ann", "cat", "dan"), SOUTH: ("ben",)}
    round_ = a_round_in(Phase.REPORTING, clients=clients, min_reports=1)

    round_, _ = play(round_, ReportRejected(NORTH, ROUND_ID, "dan", "not-finite"))
    round_, effects = play(round_, PartialSubmitted(NORTH, ROUND_ID, reference))

    assert effects == [SettlePartial(NORTH, ROUND_ID, kept=False, reason="foreign-partial")]
    assert round_.duties[NORTH].void
    assert round_.duties[NORTH].reason == "foreign-partial"


def test_partial_was_unusable_a_better_one_follows_it_is_discarded_with_the_first_reason() -> None:
    """Void is irrevocable, whatever the selector sends later."""
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS, min_reports=1)

    round_, _ = play(round_, folded(NORTH, "ann"), partial(NORTH, "ann", failure="digest-mismatch"))
    round_, effects = play(round_, partial(NORTH, "ann"))

    assert effects == [SettlePartial(NORTH, ROUND_ID, kept=False, reason="digest-mismatch")]


def test_partial_is_unusable_while_reports_count_its_clients_may_report_elsewhere() -> None:
    """Sums that cannot be read void their owner: its clients are away and may come back."""
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS, min_reports=1)

    round_, effects = play(
        round_, folded(NORTH, "ann"), partial(NORTH, "ann", failure="file-missing")
    )

    assert effects == [SettlePartial(NORTH, ROUND_ID, kept=False, reason="file-missing")]
    assert standings(round_) == {
        "ann": Standing.AWAY,
        "cat": Standing.AWAY,
        "ben": Standing.PENDING,
    }


def test_partial_is_unusable_after_close_its_reports_are_lost() -> None:
    """After Close there is no elsewhere: folded reports of a void selector are lost."""
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING, min_reports=1)

    round_, _ = play(round_, partial(NORTH, "ann", failure="file-missing"))

    assert standings(round_) == {"ann": Standing.LOST, "ben": Standing.FOLDED}
    assert round_.claims["ann"].reason == "file-missing"


def test_kept_partial_does_not_list_a_folded_client_the_report_is_lost() -> None:
    """What is not in the sum did not count, whatever was said before."""
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING, clients=NORTHS, min_reports=1)

    round_, _ = play(round_, partial(NORTH, "ann"))

    assert standings(round_)["cat"] is Standing.LOST
    assert round_.claims["cat"].reason == "not-in-partial"


def test_partial_is_kept_before_close_its_other_clients_are_away() -> None:
    """A selector that drains early leaves clients behind; they have time to go elsewhere."""
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS)

    round_, _ = play(round_, partial(NORTH, "ann"), after_s=2.0)

    assert standings(round_) == {
        "ann": Standing.REPORTED,
        "cat": Standing.AWAY,
        "ben": Standing.PENDING,
    }
    assert deadline_after_s(round_) == 2.0 + RETURN_S


def test_lost_client_is_in_a_partial_it_has_reported() -> None:
    """A report before Close undoes lost, also where only the partial tells of it."""
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS)

    round_, _ = play(round_, ClientsLeft(NORTH, ("ann",)))
    round_, _ = play(round_, Ticked(), after_s=RETURN_S)
    round_, _ = play(round_, partial(NORTH, "ann", "cat"), after_s=RETURN_S)

    assert standings(round_)["ann"] is Standing.REPORTED


def test_round_is_over_a_partial_arrives_it_is_discarded() -> None:
    """Every partial is answered, also when nothing can be done with it any more."""
    round_, _ = play(a_round_in(Phase.REPORTING), Stopped("draining"))

    after, effects = play(round_, partial(NORTH, "ann"))

    assert effects == [SettlePartial(NORTH, ROUND_ID, kept=False, reason="round-over")]
    assert after == round_


def test_round_is_over_a_kept_partial_is_repeated_it_gets_its_first_answer() -> None:
    """The first answer holds for ever."""
    round_, _ = play(a_round_in(Phase.REPORTING, Closing.PUBLISHING), CommitFinished(ROUND_ID))

    assert play(round_, partial(NORTH, "ann")) == (
        round_,
        [SettlePartial(NORTH, ROUND_ID, kept=True)],
    )


def test_partial_comes_after_grace_it_is_discarded_as_late() -> None:
    """The clock decides before the event: what comes with the end of grace is late."""
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING, min_reports=1)

    round_, _ = play(round_, partial(NORTH, "ann"))
    round_, effects = play(round_, partial(SOUTH, "ben"), after_s=GRACE_S)

    assert those(WriteCheckpoint, effects) == [WriteCheckpoint(((NORTH, a_reference("ann")),))]
    assert those(SettlePartial, effects) == [
        SettlePartial(SOUTH, ROUND_ID, kept=False, reason="partial-late")
    ]


# -- A selector's stream ends ----------------------------------------------------------------------


def test_selector_leaves_during_selection_its_held_clients_give_their_places_back() -> None:
    """Nobody counts who is not held; the selector's hello names its clients again."""
    round_ = a_round_in(Phase.SELECTION)

    round_, _ = play(round_, SelectorLeft(NORTH))

    assert list(round_.claims) == ["ben"]


def test_selector_leaves_it_is_away_and_its_clients_count_as_pending() -> None:
    """The same incarnation may come back within ``return_s`` and resume."""
    round_ = a_round_in(Phase.REPORTING)

    round_, effects = play(round_, folded(NORTH, "ann"), SelectorLeft(NORTH), after_s=2.0)

    assert effects == []
    assert standings(round_) == {"ann": Standing.FOLDED, "ben": Standing.PENDING}
    assert deadline_after_s(round_) == 2.0 + RETURN_S


def test_selector_is_said_to_have_left_again_its_time_is_not_extended() -> None:
    """A repeated fact changes nothing."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, SelectorLeft(NORTH))
    round_, _ = play(round_, SelectorLeft(NORTH), after_s=5.0)

    assert deadline_after_s(round_) == RETURN_S


def test_selector_does_not_come_back_it_is_void_and_its_clients_away_afresh() -> None:
    """Void at ``return_s``; its clients have that time once more, to report elsewhere.

    Elsewhere: FEDn asks a combiner that is dead again and again, without an end.
    """
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS)

    round_, _ = play(round_, folded(NORTH, "ann"), SelectorLeft(NORTH))
    round_, _ = play(round_, Ticked(), after_s=RETURN_S)
    assert round_.duties[NORTH].void
    assert round_.duties[NORTH].reason == "selector-lost"
    assert standings(round_) == {
        "ann": Standing.AWAY,
        "cat": Standing.AWAY,
        "ben": Standing.PENDING,
    }
    round_, _ = play(round_, Ticked(), after_s=2 * RETURN_S)

    assert standings(round_)["ann"] is standings(round_)["cat"] is Standing.LOST
    assert round_.claims["ann"].reason == "selector-lost"


def test_client_was_away_before_its_selector_became_void_its_time_begins_afresh() -> None:
    """Voiding gives every open client the whole ``return_s``."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, SelectorLeft(NORTH), after_s=1.0)
    round_, _ = play(round_, ClientsLeft(NORTH, ("ann",)), after_s=2.0)
    round_, _ = play(round_, Ticked(), after_s=1.0 + RETURN_S)

    assert standings(round_)["ann"] is Standing.AWAY
    assert deadline_after_s(round_) == 1.0 + 2 * RETURN_S


def test_selector_detaches_it_is_void_at_once() -> None:
    """A selector that says it will not come back is not waited for."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, SelectorDetached(NORTH))

    assert round_.duties[NORTH].reason == "selector-detached"
    assert standings(round_)["ann"] is Standing.AWAY


def test_selector_detaches_during_selection_its_held_clients_give_their_places_back() -> None:
    """A selector that never got Configure owes nothing and is not void."""
    round_ = a_round_in(Phase.SELECTION)

    round_, _ = play(round_, SelectorDetached(NORTH))

    assert (list(round_.claims), round_.duties) == (["ben"], {})


@pytest.mark.parametrize("gone", [SelectorDetached(NORTH), SelectorLeft(NORTH)])
def test_selector_goes_after_its_partial_was_kept_the_partial_still_counts(gone: Event) -> None:
    """No selector becomes void after its partial was kept: the file is in the shared directory."""
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING)

    round_, _ = play(round_, partial(NORTH, "ann"), gone)
    round_, effects = play(round_, partial(SOUTH, "ben"), after_s=1.0)

    assert not round_.duties[NORTH].void
    assert those(WriteCheckpoint, effects) == [
        WriteCheckpoint(((NORTH, a_reference("ann")), (SOUTH, a_reference("ben"))))
    ]


def test_last_owing_selector_becomes_void_while_sealing_the_checkpoint_is_written() -> None:
    """The round goes on with the partials that are there."""
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING, min_reports=1)

    round_, _ = play(round_, partial(NORTH, "ann"))
    round_, effects = play(round_, SelectorDetached(SOUTH))

    assert effects == [WriteCheckpoint(((NORTH, a_reference("ann")),))]
    assert standings(round_)["ben"] is Standing.LOST
    assert round_.claims["ben"].reason == "selector-detached"


def test_selector_is_lost_with_too_many_reports_round_is_abandoned() -> None:
    """The round goes on only while ``min_reports`` can still be met."""
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING, min_reports=2)

    round_, _ = play(round_, SelectorDetached(NORTH))

    assert (round_.outcome, round_.reason) == (Outcome.ABANDONED, "too-few-reports")
    assert standings(round_) == {"ann": Standing.LOST, "ben": Standing.DISCARDED}


def test_unknown_selector_goes_nothing_happens() -> None:
    """Who has no part in the round cannot disturb it."""
    round_ = a_round_in(Phase.REPORTING)

    assert play(round_, SelectorLeft(EAST), SelectorDetached(EAST)) == (round_, [])


# -- A selector's stream begins --------------------------------------------------------------------


def test_selector_returns_in_time_it_is_configured_only_for_whom_it_did_not_reach() -> None:
    """The same incarnation resumes; only what is missing is ordered again."""
    round_ = a_round_in(Phase.CONFIGURATION, clients={NORTH: ("ann", "cat", "dan")})

    round_, _ = play(round_, configured(NORTH, "ann"), folded(NORTH, "dan"), SelectorLeft(NORTH))
    round_, effects = play(round_, SelectorAttached(NORTH), after_s=5.0)

    assert effects == [Configure(NORTH, ("cat",), DEADLINE_S)]
    assert deadline_after_s(round_) == WINDOW_S


def test_selector_returns_having_reached_everybody_nothing_is_ordered_again() -> None:
    """A break of the stream alone costs nothing."""
    round_ = a_round_in(Phase.REPORTING)

    away, _ = play(round_, SelectorLeft(NORTH))
    back, effects = play(away, SelectorAttached(NORTH), after_s=5.0)

    assert (back, effects) == (round_, [])


def test_selector_returns_while_sealing_it_is_asked_for_its_partial_again() -> None:
    """Close may have been lost with the stream."""
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING)

    round_, effects = play(round_, SelectorLeft(NORTH), SelectorAttached(NORTH))

    assert effects == [CloseReporting(NORTH)]
    assert deadline_after_s(round_) == GRACE_S


def test_selector_returns_after_its_partial_was_kept_nothing_is_ordered() -> None:
    """A selector whose duty is done gets no order."""
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING)

    round_, effects = play(round_, partial(NORTH, "ann"), SelectorAttached(NORTH))

    assert those(CloseReporting, effects) == []


def test_void_selector_comes_back_it_hears_that_the_round_is_over_for_it() -> None:
    """The same process may live on after the ruling; it must not go on folding."""
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS)

    round_, _ = play(round_, SelectorLeft(NORTH))
    round_, _ = play(round_, Ticked(), after_s=RETURN_S)
    after, effects = play(round_, SelectorAttached(NORTH), after_s=RETURN_S)

    assert effects == [EndRound(NORTH, committed=False, reason="selector-lost")]
    assert after == round_


@pytest.mark.parametrize(
    ("event", "committed", "reason"),
    [(CommitFinished(ROUND_ID), True, ""), (CommitFinished(ROUND_ID, "full"), False, "full")],
)
def test_selector_returns_after_the_round_completed_it_hears_the_outcome(
    event: CommitFinished, committed: bool, reason: str
) -> None:
    """The word of the end may have been lost with the stream."""
    round_ = a_round_in(Phase.REPORTING, Closing.PUBLISHING)

    round_, _ = play(round_, SelectorLeft(NORTH), event)
    after, effects = play(round_, SelectorAttached(NORTH))

    assert effects == [EndRound(NORTH, committed, reason)]
    assert after == round_


def test_new_incarnation_attaches_the_old_one_is_void() -> None:
    """A restarted selector has lost its sum; nobody waits for the process before it."""
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS)

    round_, effects = play(round_, folded(NORTH, "ann"), SelectorAttached(NORTH_RESTARTED))

    assert effects == []
    assert round_.duties[NORTH].reason == "selector-restarted"
    assert standings(round_) == {
        "ann": Standing.AWAY,
        "cat": Standing.AWAY,
        "ben": Standing.PENDING,
    }


def test_new_incarnation_attaches_after_the_partial_was_kept_the_partial_still_counts() -> None:
    """A restart after the partial loses nothing."""
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING)

    round_, _ = play(round_, partial(NORTH, "ann"), SelectorAttached(NORTH_RESTARTED))

    assert not round_.duties[NORTH].void


def test_new_incarnation_attaches_during_selection_the_old_one_holds_nobody() -> None:
    """Clients of a process that is gone give their places back, even if nobody saw it go."""
    round_ = a_round_in(Phase.SELECTION)

    round_, effects = play(round_, SelectorAttached(NORTH_RESTARTED))

    assert effects == []
    assert list(round_.claims) == ["ben"]


def test_new_incarnation_attaches_the_old_ones_waiting_clients_wait_no_more() -> None:
    """They are not admitted to the next round through a process that is gone."""
    round_ = a_round_in(Phase.REPORTING, pipelined=True)

    round_, _ = play(
        round_,
        CheckedIn(NORTH, ("cat",)),
        CheckedIn(SOUTH, ("dan",)),
        SelectorAttached(NORTH_RESTARTED),
    )

    assert dict(round_.waiting) == {"dan": SOUTH}


def test_two_incarnations_hold_clients_as_selection_ends_only_the_newer_serves() -> None:
    """One selector has one partial a round, so that one process of it serves."""
    clients = {NORTH: ("ann",), SOUTH: ("ben",)}
    round_ = a_round_in(Phase.SELECTION, clients=clients, goal_count=3, min_reports=1)

    round_, effects = play(round_, CheckedIn(NORTH_RESTARTED, ("cat",)))
    assert effects == [Admit(NORTH_RESTARTED, ("cat",))]
    round_, effects = play(round_, CheckedIn(SOUTH, ("dan",)))

    assert those(Configure, effects) == [
        Configure(SOUTH, ("ben", "dan"), DEADLINE_S),
        Configure(NORTH_RESTARTED, ("cat",), DEADLINE_S),
    ]
    assert list(round_.claims) == ["ben", "cat", "dan"]


def test_void_incarnation_attaches_again_it_takes_nothing_from_a_newer_one() -> None:
    """Of two processes with one id the newer serves, however often the older one dials."""
    round_ = a_round_in(
        Phase.REPORTING, clients={NORTH_RESTARTED: ("ann",), SOUTH: ("ben",)}, goal_count=3
    )
    round_, _ = play(round_, SelectorDetached(NORTH_RESTARTED), CheckedIn(SOUTH, ("ann",)))

    after, effects = play(round_, SelectorAttached(NORTH_RESTARTED))

    assert effects == [EndRound(NORTH_RESTARTED, committed=False, reason="selector-detached")]
    assert after == round_


def test_unknown_selector_attaches_nothing_happens() -> None:
    """A selector without clients in the round has no duty in it."""
    round_ = a_round_in(Phase.REPORTING)

    assert play(round_, SelectorAttached(EAST)) == (round_, [])
