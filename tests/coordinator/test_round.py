"""Tests of ``coordinator.round``: its phases, its ends and its time-outs.

What it decides about clients is in ``test_round_clients``, about selectors in
``test_round_selectors``; what must hold whatever happens in ``test_round_invariants``.
"""

from __future__ import annotations

import pytest

from coordinator.effects import (
    Admit,
    Announce,
    CloseReporting,
    Configure,
    Decline,
    DropCheckpoint,
    EndRound,
    PublishCheckpoint,
    SettlePartial,
    WriteCheckpoint,
)
from coordinator.events import (
    CheckedIn,
    CheckpointWritten,
    ClientsLeft,
    CommitFinished,
    ReportRejected,
    Stopped,
    Ticked,
    Withdrawn,
)
from coordinator.roster import Standing
from coordinator.round import Closing, start
from federation.phases import Outcome, Phase
from tests.coordinator.rounds import (
    BASE,
    COMMIT_TIMEOUT_S,
    GRACE_S,
    NORTH,
    RETRY_WINDOW,
    RETURN_S,
    ROUND_ID,
    SELECTION_TIMEOUT_S,
    SOUTH,
    START_S,
    WINDOW_S,
    a_plan,
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

A_MOMENT_S = 0.001

# -- Selection -------------------------------------------------------------------------------------


def test_round_starts_selection_is_announced_with_its_timeout() -> None:
    """A round begins with Selection, which ends ``selection_timeout_s`` later at the latest."""
    round_, effects = start(7, a_plan(2), START_S, round_id=ROUND_ID, base_digest=BASE)

    assert effects == (Announce(Phase.SELECTION),)
    assert (round_.number, round_.round_id, round_.phase) == (7, ROUND_ID, Phase.SELECTION)
    assert round_.entered_s == {Phase.SELECTION: START_S}
    assert deadline_after_s(round_) == SELECTION_TIMEOUT_S


def test_round_starts_with_waiting_clients_they_are_admitted_before_anybody_else() -> None:
    """The pool that the round before left is admitted first, in its order."""
    waiting = {"cat": SOUTH, "ann": NORTH, "ben": SOUTH}

    round_, effects = start(
        7, a_plan(4), START_S, round_id=ROUND_ID, base_digest=BASE, waiting=waiting
    )

    assert list(effects) == [
        Announce(Phase.SELECTION),
        Admit(SOUTH, ("cat", "ben")),
        Admit(NORTH, ("ann",)),
    ]
    assert list(round_.claims) == ["cat", "ann", "ben"]


def test_round_starts_with_enough_waiting_clients_configuration_begins_at_once() -> None:
    """A full Selection does not wait."""
    waiting = {"ann": NORTH, "ben": SOUTH}

    round_, effects = start(
        7, a_plan(2), START_S, round_id=ROUND_ID, base_digest=BASE, waiting=waiting
    )

    assert round_.phase is Phase.CONFIGURATION
    assert [effect.phase for effect in those(Announce, effects)] == [
        Phase.SELECTION,
        Phase.CONFIGURATION,
    ]
    assert those(Configure, effects) == [
        Configure(NORTH, ("ann",), START_S + WINDOW_S),
        Configure(SOUTH, ("ben",), START_S + WINDOW_S),
    ]


def test_round_starts_with_too_many_waiting_clients_the_last_are_declined() -> None:
    """Without pipelining nobody is held who is not admitted."""
    waiting = {"ann": NORTH, "ben": SOUTH, "cat": NORTH}

    round_, effects = start(
        7, a_plan(2), START_S, round_id=ROUND_ID, base_digest=BASE, waiting=waiting
    )

    assert those(Decline, effects) == [Decline(NORTH, ("cat",), "goal-reached", RETRY_WINDOW)]
    assert list(round_.claims) == ["ann", "ben"]
    assert not round_.waiting


def test_round_starts_pipelined_with_too_many_waiting_clients_they_wait_on() -> None:
    """Pipelined, the surplus waits for the round after, up to that round's limit."""
    waiting = {"ann": NORTH, "ben": SOUTH, "cat": NORTH, "dan": SOUTH, "eve": SOUTH}

    round_, effects = start(
        7, a_plan(2, pipelined=True), START_S, round_id=ROUND_ID, base_digest=BASE, waiting=waiting
    )

    assert list(round_.waiting) == ["cat", "dan"]
    assert those(Decline, effects) == [Decline(SOUTH, ("eve",), "goal-reached", RETRY_WINDOW)]


def test_client_checks_in_during_selection_it_is_admitted_and_held() -> None:
    """Within the limit a client is admitted, and its selector holds it."""
    round_ = a_round_in(Phase.SELECTION, clients={}, goal_count=2)

    round_, effects = play(round_, CheckedIn(NORTH, ("ann",)))

    assert effects == [Admit(NORTH, ("ann",))]
    assert standings(round_) == {"ann": Standing.HELD}
    assert not round_.duties


def test_last_place_is_taken_configuration_is_broadcast_to_the_selectors_that_hold() -> None:
    """Selection ends when ``admit_limit`` clients are admitted; each is configured once."""
    round_ = a_round_in(Phase.SELECTION, clients={NORTH: ("ann",), SOUTH: ("ben",)}, goal_count=3)

    round_, effects = play(round_, CheckedIn(NORTH, ("cat",)), after_s=7.0)

    deadline_s = START_S + 7.0 + WINDOW_S
    assert effects == [
        Admit(NORTH, ("cat",)),
        Announce(Phase.CONFIGURATION),
        Configure(NORTH, ("ann", "cat"), deadline_s),
        Configure(SOUTH, ("ben",), deadline_s),
    ]
    assert set(standings(round_).values()) == {Standing.PENDING}
    assert list(round_.duties) == [NORTH, SOUTH]
    assert round_.deadline_s == deadline_s
    assert round_.entered_s[Phase.CONFIGURATION] == START_S + 7.0


def test_several_selectors_check_clients_in_first_come_is_first_served_over_all() -> None:
    """The coordinator alone counts: the limit is the round's, not a selector's."""
    round_ = a_round_in(Phase.SELECTION, clients={}, goal_count=3)

    round_, effects = play(
        round_,
        CheckedIn(SOUTH, ("cat",)),
        CheckedIn(NORTH, ("ben",)),
        CheckedIn(SOUTH, ("ann", "dan")),
    )

    assert list(round_.claims) == ["cat", "ben", "ann"]
    assert those(Decline, effects) == [Decline(SOUTH, ("dan",), "goal-reached", RETRY_WINDOW)]


def test_over_selection_more_clients_are_admitted_than_reports_aimed_for() -> None:
    """``admit_limit`` is ``goal_count * over_selection``, rounded up."""
    clients = {NORTH: tuple(f"c{number}" for number in range(12))}
    round_ = a_round_in(Phase.SELECTION, clients=clients, goal_count=10, over_selection=1.21)

    round_, effects = play(round_, CheckedIn(SOUTH, ("last", "surplus")))

    assert round_.counts.admitted == 13
    assert those(Decline, effects) == [Decline(SOUTH, ("surplus",), "goal-reached", RETRY_WINDOW)]


def test_selection_times_out_with_enough_clients_round_goes_on() -> None:
    """``min_reports`` clients are enough to go on with when Selection times out."""
    round_ = a_round_in(Phase.SELECTION, goal_count=4, min_reports=2)

    round_, effects = play(round_, Ticked(), after_s=SELECTION_TIMEOUT_S)

    assert round_.phase is Phase.CONFIGURATION
    assert len(those(Configure, effects)) == 2
    assert deadline_after_s(round_) == SELECTION_TIMEOUT_S + WINDOW_S


def test_selection_times_out_with_too_few_clients_round_is_abandoned() -> None:
    """Below ``min_reports`` no commit is possible, so nobody is configured."""
    round_ = a_round_in(Phase.SELECTION, clients={NORTH: ("ann",)}, goal_count=4, min_reports=2)

    round_, effects = play(round_, Ticked(), after_s=SELECTION_TIMEOUT_S)

    assert effects == [Announce(Phase.COMPLETED, Outcome.ABANDONED, "too-few-clients")]
    assert (round_.outcome, round_.reason) == (Outcome.ABANDONED, "too-few-clients")
    assert round_.deadline_s is None


def test_selection_ends_without_a_round_held_clients_wait_for_the_next() -> None:
    """A client that was admitted to a round that was never configured keeps its place."""
    round_ = a_round_in(Phase.SELECTION, goal_count=4, min_reports=3)

    round_, _ = play(round_, Ticked(), after_s=SELECTION_TIMEOUT_S)

    assert dict(round_.waiting) == {"ann": NORTH, "ben": SOUTH}
    assert round_.counts.admitted == 0


def test_selection_is_almost_over_nothing_happens_yet() -> None:
    """A time-out holds at its moment and not before."""
    round_ = a_round_in(Phase.SELECTION, min_reports=1)

    later, effects = play(round_, Ticked(), after_s=SELECTION_TIMEOUT_S - A_MOMENT_S)

    assert (later, effects) == (round_, [])


def test_client_checks_in_as_selection_times_out_the_deadline_comes_first() -> None:
    """Deadlines that are due are handled before the event: the client is a late joiner."""
    round_ = a_round_in(Phase.SELECTION, goal_count=4, min_reports=2)

    round_, effects = play(round_, CheckedIn(SOUTH, ("cat",)), after_s=SELECTION_TIMEOUT_S)

    assert effects.index(Announce(Phase.CONFIGURATION)) < effects.index(Admit(SOUTH, ("cat",)))
    assert standings(round_)["cat"] is Standing.PENDING


# -- Configuration ---------------------------------------------------------------------------------


def test_first_report_is_folded_configuration_ends() -> None:
    """Configuration ends with the first report, even if others are not reached yet."""
    round_ = a_round_in(Phase.CONFIGURATION)

    round_, effects = play(round_, folded(NORTH, "ann"))

    assert effects == [Announce(Phase.REPORTING)]
    assert round_.phase is Phase.REPORTING


def test_first_report_comes_as_a_kept_partial_configuration_ends() -> None:
    """A report that is in a kept partial was folded, whether or not that was told before."""
    round_ = a_round_in(Phase.CONFIGURATION)

    round_, effects = play(round_, partial(NORTH, "ann"))

    assert round_.phase is Phase.REPORTING
    assert those(Announce, effects) == [Announce(Phase.REPORTING)]


def test_every_client_has_its_configuration_configuration_ends() -> None:
    """Configuration ends when the last admitted client was reached."""
    round_ = a_round_in(Phase.CONFIGURATION)

    round_, early = play(round_, configured(NORTH, "ann"))
    round_, late = play(round_, configured(SOUTH, "ben"))

    assert (early, late) == ([], [Announce(Phase.REPORTING)])
    assert round_.counts.configured == 2


def test_clients_that_were_not_reached_have_left_configuration_ends() -> None:
    """Who left before its configuration was written holds nobody up."""
    round_ = a_round_in(Phase.CONFIGURATION)

    round_, effects = play(round_, configured(NORTH, "ann"), ClientsLeft(SOUTH, ("ben",)))

    assert effects == [Announce(Phase.REPORTING)]
    assert standings(round_) == {"ann": Standing.PENDING, "ben": Standing.AWAY}


def test_report_is_rejected_before_all_are_reached_configuration_goes_on() -> None:
    """A rejected report is not a folded one."""
    round_ = a_round_in(Phase.CONFIGURATION, min_reports=1)

    round_, effects = play(round_, ReportRejected(NORTH, ROUND_ID, "ann", "not-finite"))

    assert effects == []
    assert round_.phase is Phase.CONFIGURATION


def test_window_ends_during_configuration_every_stage_is_still_announced() -> None:
    """The report window covers both phases; no stage is skipped on the way."""
    round_ = a_round_in(Phase.CONFIGURATION)

    round_, effects = play(round_, Ticked(), after_s=WINDOW_S)

    assert those(Announce, effects) == [Announce(Phase.REPORTING)]
    assert those(CloseReporting, effects) == [CloseReporting(NORTH), CloseReporting(SOUTH)]
    assert round_.closing is Closing.SEALING


def test_configuration_becomes_reporting_the_window_is_not_begun_anew() -> None:
    """``report_window_s`` runs from Configure on."""
    round_ = a_round_in(Phase.CONFIGURATION)

    round_, _ = play(round_, folded(NORTH, "ann"), after_s=WINDOW_S / 2)

    assert deadline_after_s(round_) == WINDOW_S


# -- Reporting is open -----------------------------------------------------------------------------


def test_goal_count_is_folded_reporting_closes() -> None:
    """Nobody waits for more reports than were aimed for."""
    clients = {NORTH: ("ann", "cat"), SOUTH: ("ben",)}
    round_ = a_round_in(Phase.REPORTING, clients=clients, goal_count=2, over_selection=1.5)

    round_, effects = play(round_, folded(NORTH, "ann"), folded(SOUTH, "ben"), after_s=1.0)

    assert effects == [CloseReporting(NORTH), CloseReporting(SOUTH)]
    assert round_.closing is Closing.SEALING
    assert deadline_after_s(round_) == 1.0 + GRACE_S


def test_nobody_is_pending_any_more_reporting_closes() -> None:
    """Reporting does not wait for clients that have left or failed."""
    clients = {NORTH: ("ann", "cat"), SOUTH: ("ben", "dan")}
    round_ = a_round_in(Phase.REPORTING, clients=clients, min_reports=1)

    round_, before = play(
        round_,
        folded(NORTH, "ann"),
        Withdrawn(NORTH, ROUND_ID, "cat", "trainer-failed"),
        ReportRejected(SOUTH, ROUND_ID, "ben", "wrong-shape"),
    )
    round_, after = play(round_, ReportRejected(SOUTH, ROUND_ID, "dan", "wrong-shape"))

    assert those(CloseReporting, before) == []
    assert those(CloseReporting, after) == [CloseReporting(NORTH), CloseReporting(SOUTH)]


def test_an_away_client_counts_as_pending_reporting_stays_open() -> None:
    """Away is not a fate: until the ruling the client may come back and report."""
    round_ = a_round_in(Phase.REPORTING)

    round_, effects = play(round_, folded(NORTH, "ann"), ClientsLeft(SOUTH, ("ben",)))

    assert effects == []
    assert round_.closing is Closing.OPEN


def test_report_window_ends_reporting_closes_with_what_was_folded() -> None:
    """The window's end closes, whoever is still pending."""
    round_ = a_round_in(Phase.REPORTING)

    round_, effects = play(round_, folded(NORTH, "ann"), Ticked(), after_s=WINDOW_S - A_MOMENT_S)
    assert effects == []
    round_, effects = play(round_, Ticked(), after_s=WINDOW_S)

    assert effects == [CloseReporting(NORTH), CloseReporting(SOUTH)]
    assert deadline_after_s(round_) == WINDOW_S + GRACE_S


def test_reports_are_still_possible_but_too_few_round_is_abandoned_at_once() -> None:
    """When folded and pending together cannot reach ``min_reports``, waiting is in vain."""
    clients = {NORTH: ("ann", "cat"), SOUTH: ("ben",)}
    round_ = a_round_in(Phase.REPORTING, clients=clients, min_reports=2)

    round_, effects = play(
        round_,
        folded(NORTH, "ann"),
        ReportRejected(SOUTH, ROUND_ID, "ben", "not-finite"),
        ReportRejected(NORTH, ROUND_ID, "cat", "not-finite"),
    )

    assert effects == [
        Announce(Phase.COMPLETED, Outcome.ABANDONED, "too-few-reports"),
        EndRound(NORTH, committed=False, reason="too-few-reports"),
        EndRound(SOUTH, committed=False, reason="too-few-reports"),
    ]
    assert standings(round_) == {
        "ann": Standing.DISCARDED,
        "cat": Standing.REJECTED,
        "ben": Standing.REJECTED,
    }
    assert round_.claims["ann"].reason == "too-few-reports"


def test_reports_become_impossible_during_configuration_round_is_abandoned_at_once() -> None:
    """Configuration has the same early end; Reporting is never announced then."""
    round_ = a_round_in(Phase.CONFIGURATION, min_reports=2)

    round_, effects = play(round_, Withdrawn(NORTH, ROUND_ID, "ann", "trainer-failed"))

    assert those(Announce, effects) == [
        Announce(Phase.COMPLETED, Outcome.ABANDONED, "too-few-reports")
    ]
    assert round_.claims["ben"].standing is Standing.EXPIRED
    assert round_.claims["ben"].reason == "too-few-reports"


def test_exactly_min_reports_are_possible_round_goes_on() -> None:
    """``min_reports`` is enough, not one more."""
    clients = {NORTH: ("ann", "cat"), SOUTH: ("ben",)}
    round_ = a_round_in(Phase.REPORTING, clients=clients, min_reports=2)

    round_, effects = play(round_, Withdrawn(NORTH, ROUND_ID, "ann", "trainer-failed"))

    assert (effects, round_.phase) == ([], Phase.REPORTING)


def test_every_partial_is_in_before_close_the_checkpoint_is_written_at_once() -> None:
    """Selectors that drained early owe nothing, so that nobody has to be asked."""
    round_ = a_round_in(Phase.REPORTING)

    round_, effects = play(round_, partial(NORTH, "ann"), partial(SOUTH, "ben"))

    assert effects == [
        SettlePartial(NORTH, ROUND_ID, kept=True),
        SettlePartial(SOUTH, ROUND_ID, kept=True),
        WriteCheckpoint(((NORTH, a_reference("ann")), (SOUTH, a_reference("ben")))),
    ]
    assert round_.closing is Closing.WRITING


# -- Sealing ---------------------------------------------------------------------------------------


def test_last_partial_arrives_the_checkpoint_is_written_from_all_of_them() -> None:
    """The round goes on as soon as no selector owes anything."""
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING)

    round_, first = play(round_, partial(NORTH, "ann"))
    round_, second = play(round_, partial(SOUTH, "ben"), after_s=1.0)

    assert first == [SettlePartial(NORTH, ROUND_ID, kept=True)]
    assert second == [
        SettlePartial(SOUTH, ROUND_ID, kept=True),
        WriteCheckpoint(((NORTH, a_reference("ann")), (SOUTH, a_reference("ben")))),
    ]
    assert round_.closing is Closing.WRITING
    assert deadline_after_s(round_) == 1.0 + COMMIT_TIMEOUT_S


def test_partial_is_empty_it_is_kept_and_left_out_of_the_checkpoint() -> None:
    """A selector without folds says so; there is no file to read."""
    round_ = a_round_in(Phase.REPORTING, min_reports=1)

    round_, effects = play(
        round_,
        folded(NORTH, "ann"),
        Ticked(),
        partial(NORTH, "ann"),
        partial(SOUTH),
        after_s=WINDOW_S,
    )

    assert those(SettlePartial, effects)[1] == SettlePartial(SOUTH, ROUND_ID, kept=True)
    assert those(WriteCheckpoint, effects) == [WriteCheckpoint(((NORTH, a_reference("ann")),))]


def test_grace_ends_with_enough_reports_commits_what_arrived() -> None:
    """A late selector does not hold the round: the partials on time are merged."""
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING, min_reports=1)

    round_, _ = play(round_, partial(NORTH, "ann"))
    round_, effects = play(round_, Ticked(), after_s=GRACE_S)

    assert effects == [WriteCheckpoint(((NORTH, a_reference("ann")),))]
    assert round_.duties[SOUTH].reason == "partial-late"
    assert standings(round_) == {"ann": Standing.REPORTED, "ben": Standing.LOST}
    assert round_.claims["ben"].reason == "partial-late"


def test_grace_ends_with_too_few_reports_round_is_abandoned() -> None:
    """No checkpoint is asked for with fewer than ``min_reports`` reports in kept partials.

    Elsewhere: a time-out of a deployment was counted as its success.
    """
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING, min_reports=2)

    round_, _ = play(round_, partial(NORTH, "ann"))
    round_, before = play(round_, Ticked(), after_s=GRACE_S - A_MOMENT_S)
    round_, after = play(round_, Ticked(), after_s=GRACE_S)

    assert before == []
    assert after == [
        Announce(Phase.COMPLETED, Outcome.ABANDONED, "too-few-reports"),
        EndRound(NORTH, committed=False, reason="too-few-reports"),
        EndRound(SOUTH, committed=False, reason="too-few-reports"),
    ]
    assert standings(round_) == {"ann": Standing.REPORTED, "ben": Standing.LOST}


def test_missing_partials_cannot_reach_the_minimum_grace_is_not_awaited() -> None:
    """Sealing ends early too when too few reports can come."""
    clients = {NORTH: ("ann", "cat"), SOUTH: ("ben",)}
    round_ = a_round_in(Phase.REPORTING, Closing.SEALING, clients=clients, min_reports=2)

    round_, effects = play(round_, partial(NORTH))

    assert those(Announce, effects) == [
        Announce(Phase.COMPLETED, Outcome.ABANDONED, "too-few-reports")
    ]
    assert standings(round_) == {
        "ann": Standing.LOST,
        "cat": Standing.LOST,
        "ben": Standing.DISCARDED,
    }


def test_reporting_is_closed_a_partial_may_still_list_who_was_pending() -> None:
    """The window may end between a fold and the word of it: what was sealed in time counts."""
    round_ = a_round_in(Phase.REPORTING, min_reports=2)

    round_, _ = play(
        round_, folded(NORTH, "ann"), Ticked(), partial(NORTH, "ann"), after_s=WINDOW_S
    )
    round_, effects = play(round_, partial(SOUTH, "ben"), after_s=WINDOW_S + 1.0)

    assert those(WriteCheckpoint, effects)
    assert standings(round_) == {"ann": Standing.REPORTED, "ben": Standing.REPORTED}


def test_surplus_was_folded_before_the_seal_it_counts() -> None:
    """More than ``goal_count`` reports may be in the checkpoint."""
    clients = {NORTH: ("ann", "cat"), SOUTH: ("ben",)}
    round_ = a_round_in(Phase.REPORTING, clients=clients, goal_count=2, over_selection=1.5)

    round_, _ = play(round_, folded(NORTH, "ann"), folded(SOUTH, "ben"), folded(NORTH, "cat"))
    round_, effects = play(round_, partial(NORTH, "ann", "cat"), partial(SOUTH, "ben"))

    assert those(WriteCheckpoint, effects) == [
        WriteCheckpoint(((NORTH, a_reference("ann", "cat")), (SOUTH, a_reference("ben"))))
    ]
    assert round_.counts.reported == 3


# -- Writing and publishing ------------------------------------------------------------------------


def test_checkpoint_is_written_it_is_published() -> None:
    """The commit point is passed only after the checkpoint is durable beside the current one."""
    round_ = a_round_in(Phase.REPORTING, Closing.WRITING)

    round_, effects = play(round_, CheckpointWritten(ROUND_ID), after_s=1.0)

    assert effects == [PublishCheckpoint()]
    assert round_.closing is Closing.PUBLISHING
    assert round_.phase is Phase.REPORTING


def test_checkpoint_could_not_be_written_round_is_abandoned_with_that_reason() -> None:
    """A full or read-only shared directory is an outcome, not a crash."""
    round_ = a_round_in(Phase.REPORTING, Closing.WRITING)

    round_, effects = play(round_, CheckpointWritten(ROUND_ID, failure="disk-full"))

    assert effects == [
        DropCheckpoint(),
        Announce(Phase.COMPLETED, Outcome.ABANDONED, "disk-full"),
        EndRound(NORTH, committed=False, reason="disk-full"),
        EndRound(SOUTH, committed=False, reason="disk-full"),
    ]


def test_writing_takes_too_long_round_is_abandoned() -> None:
    """The first step of the commit may time out, and its late answer changes nothing."""
    round_ = a_round_in(Phase.REPORTING, Closing.WRITING)

    round_, effects = play(round_, Ticked(), after_s=COMMIT_TIMEOUT_S)
    completed, late = play(round_, CheckpointWritten(ROUND_ID), after_s=COMMIT_TIMEOUT_S)

    assert effects[:2] == [
        DropCheckpoint(),
        Announce(Phase.COMPLETED, Outcome.ABANDONED, "commit-timeout"),
    ]
    assert (completed, late) == (round_, [])


def test_checkpoint_is_written_at_the_very_deadline_the_deadline_comes_first() -> None:
    """Deadlines that are due are handled before queued events."""
    round_ = a_round_in(Phase.REPORTING, Closing.WRITING)

    round_, effects = play(round_, CheckpointWritten(ROUND_ID), after_s=COMMIT_TIMEOUT_S)

    assert those(PublishCheckpoint, effects) == []
    assert round_.reason == "commit-timeout"


def test_publishing_takes_long_it_is_awaited_whatever_the_clock_says() -> None:
    """The rename is awaited; in doubt the history decides, so no time-out may say abandoned."""
    round_ = a_round_in(Phase.REPORTING, Closing.PUBLISHING)

    for multiple in (1, 2, 3):
        round_, effects = play(round_, Ticked(), after_s=multiple * COMMIT_TIMEOUT_S)
        assert effects == []
        assert deadline_after_s(round_) == (multiple + 1) * COMMIT_TIMEOUT_S
    round_, _ = play(round_, CommitFinished(ROUND_ID), after_s=3.5 * COMMIT_TIMEOUT_S)

    assert round_.outcome is Outcome.COMMITTED


def test_commit_is_finished_round_is_committed_and_selectors_hear_it() -> None:
    """Committed is said only after the commit point."""
    round_ = a_round_in(Phase.REPORTING, Closing.PUBLISHING)

    round_, effects = play(round_, CommitFinished(ROUND_ID), after_s=2.0)

    assert effects == [
        Announce(Phase.COMPLETED, Outcome.COMMITTED),
        EndRound(NORTH, committed=True),
        EndRound(SOUTH, committed=True),
    ]
    assert (round_.outcome, round_.reason, round_.deadline_s) == (Outcome.COMMITTED, "", None)
    assert round_.entered_s[Phase.COMPLETED] == START_S + 2.0


def test_commit_failed_round_is_abandoned_and_the_checkpoint_dropped() -> None:
    """A checkpoint that is certain not to be in the history does not stay beside it either."""
    round_ = a_round_in(Phase.REPORTING, Closing.PUBLISHING)

    round_, effects = play(round_, CommitFinished(ROUND_ID, failure="round-exists"))

    assert effects[:2] == [
        DropCheckpoint(),
        Announce(Phase.COMPLETED, Outcome.ABANDONED, "round-exists"),
    ]


@pytest.mark.parametrize("closing", [Closing.OPEN, Closing.SEALING, Closing.PUBLISHING])
def test_word_of_a_written_checkpoint_comes_out_of_turn_nothing_happens(closing: Closing) -> None:
    """Nothing is published that this round did not order, nor twice."""
    round_ = a_round_in(Phase.REPORTING, closing)

    assert play(round_, CheckpointWritten(ROUND_ID)) == (round_, [])


@pytest.mark.parametrize("closing", [Closing.OPEN, Closing.SEALING, Closing.WRITING])
def test_word_of_a_commit_comes_out_of_turn_nothing_happens(closing: Closing) -> None:
    """No round is committed before its commit was ordered."""
    round_ = a_round_in(Phase.REPORTING, closing)

    assert play(round_, CommitFinished(ROUND_ID)) == (round_, [])


def test_word_of_another_rounds_checkpoint_arrives_nothing_happens() -> None:
    """A late answer to an earlier round's order is not taken for this round's."""
    writing = a_round_in(Phase.REPORTING, Closing.WRITING)
    publishing = a_round_in(Phase.REPORTING, Closing.PUBLISHING)

    assert play(writing, CheckpointWritten("earlier-round")) == (writing, [])
    assert play(publishing, CommitFinished("earlier-round")) == (publishing, [])


# -- The end ---------------------------------------------------------------------------------------


def test_round_is_committed_every_admitted_client_has_one_fate() -> None:
    """The fates are exhaustive and exclusive, and their sum is the number admitted."""
    clients = {NORTH: ("ann", "cat", "dan"), SOUTH: ("ben", "eve")}
    round_ = a_round_in(Phase.REPORTING, clients=clients, min_reports=1)

    round_, _ = play(
        round_,
        folded(NORTH, "ann"),
        ReportRejected(NORTH, ROUND_ID, "cat", "not-finite"),
        Withdrawn(SOUTH, ROUND_ID, "eve", "trainer-failed"),
        ClientsLeft(SOUTH, ("ben",)),
    )
    round_, _ = play(round_, Ticked(), after_s=RETURN_S)
    round_, _ = play(
        round_,
        Ticked(),
        partial(NORTH, "ann"),
        partial(SOUTH),
        CheckpointWritten(ROUND_ID),
        CommitFinished(ROUND_ID),
        after_s=WINDOW_S,
    )

    assert round_.outcome is Outcome.COMMITTED
    assert standings(round_) == {
        "ann": Standing.REPORTED,
        "cat": Standing.REJECTED,
        "dan": Standing.EXPIRED,
        "ben": Standing.LOST,
        "eve": Standing.WITHDRAWN,
    }
    assert {client_id: claim.reason for client_id, claim in round_.claims.items()} == {
        "ann": "",
        "cat": "not-finite",
        "dan": "reporting-closed",
        "ben": "client-lost",
        "eve": "trainer-failed",
    }


@pytest.mark.parametrize(
    ("phase", "closing"),
    [
        (Phase.SELECTION, Closing.OPEN),
        (Phase.CONFIGURATION, Closing.OPEN),
        (Phase.REPORTING, Closing.OPEN),
        (Phase.REPORTING, Closing.SEALING),
        (Phase.REPORTING, Closing.WRITING),
    ],
)
def test_round_is_stopped_before_publishing_it_is_abandoned(phase: Phase, closing: Closing) -> None:
    """The operator's word ends the round at once, with the operator's reason."""
    round_ = a_round_in(phase, closing)

    round_, effects = play(round_, Stopped("session-stopped"))

    assert those(Announce, effects) == [
        Announce(Phase.COMPLETED, Outcome.ABANDONED, "session-stopped")
    ]
    assert those(EndRound, effects) == [
        EndRound(owner, committed=False, reason="session-stopped") for owner in round_.duties
    ]
    assert bool(those(DropCheckpoint, effects)) == (closing is Closing.WRITING)


def test_round_is_stopped_during_selection_held_clients_are_handed_on() -> None:
    """Nobody was configured: the clients are the next round's, or the session's to send away."""
    round_ = a_round_in(Phase.SELECTION)

    round_, effects = play(round_, Stopped("draining"))

    assert dict(round_.waiting) == {"ann": NORTH, "ben": SOUTH}
    assert (round_.claims, those(EndRound, effects)) == ({}, [])


def test_round_is_stopped_while_reports_are_open_pending_clients_expire() -> None:
    """Who was still training when the round was stopped has expired, with the stop's reason."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, folded(NORTH, "ann"), Stopped("draining"))

    assert standings(round_) == {"ann": Standing.DISCARDED, "ben": Standing.EXPIRED}
    assert {claim.reason for claim in round_.claims.values()} == {"draining"}


def test_round_is_stopped_while_publishing_the_commit_is_awaited() -> None:
    """The commit point may be behind us already: only its answer decides."""
    round_ = a_round_in(Phase.REPORTING, Closing.PUBLISHING)

    stopped, effects = play(round_, Stopped("draining"))

    assert (stopped, effects) == (round_, [])


def test_round_is_stopped_after_it_completed_nothing_happens() -> None:
    """A round has one outcome."""
    round_, _ = play(a_round_in(Phase.REPORTING, Closing.PUBLISHING), CommitFinished(ROUND_ID))

    assert play(round_, Stopped("draining")) == (round_, [])


def test_round_completed_time_passes_without_effect() -> None:
    """Completed is the end; it has no deadline and no next phase."""
    round_, _ = play(a_round_in(Phase.REPORTING, Closing.PUBLISHING), CommitFinished(ROUND_ID))

    assert play(round_, Ticked(), after_s=1e9) == (round_, [])


def test_left_alone_a_round_without_answers_ends_within_its_three_times() -> None:
    """Each round always ends, also when nobody says another word.

    Elsewhere: a prototype of this design had no time-out anywhere, so that one silent peer held
    a round for ever.
    """
    round_ = a_round_in(Phase.CONFIGURATION)
    ticks = [WINDOW_S, WINDOW_S + GRACE_S]

    for after_s in ticks:
        assert deadline_after_s(round_) == after_s
        round_, _ = play(round_, Ticked(), after_s=after_s)

    assert (round_.outcome, round_.reason) == (Outcome.ABANDONED, "too-few-reports")


def test_round_is_ticked_very_late_every_stage_is_announced_in_order() -> None:
    """After a long pause of the process the deadlines are still taken one after the other."""
    round_ = a_round_in(Phase.SELECTION, min_reports=1)
    stages: list[Phase] = []

    for day in range(1, 5):
        round_, effects = play(round_, Ticked(), after_s=day * 86_400.0)
        stages += [announced.phase for announced in those(Announce, effects)]

    assert stages == [Phase.CONFIGURATION, Phase.REPORTING, Phase.COMPLETED]
    assert list(round_.entered_s) == list(Phase)
