"""Tests of what ``coordinator.round`` decides about clients: check-ins, waiting, away and fates."""

from __future__ import annotations

import dataclasses

import pytest

from coordinator.effects import (
    Admit,
    CloseReporting,
    Configure,
    Decline,
    Effect,
    Release,
    SettlePartial,
    WriteCheckpoint,
)
from coordinator.events import (
    CheckedIn,
    ClaimsReleased,
    ClientsLeft,
    ClientsReturned,
    CommitFinished,
    Event,
    Owner,
    ReportDiscarded,
    ReportRejected,
    SelectorDetached,
    SelectorLeft,
    Stopped,
    Ticked,
    Withdrawn,
)
from coordinator.roster import Standing
from coordinator.round import Closing, Round, start
from federation.phases import Phase
from federation.plan import RetryWindow
from tests.coordinator.rounds import (
    BASE,
    EAST,
    GRACE_S,
    NORTH,
    NORTH_RESTARTED,
    RETRY_WINDOW,
    RETURN_S,
    ROUND_ID,
    SELECTION_TIMEOUT_S,
    SOUTH,
    START_S,
    WINDOW_S,
    a_plan,
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

JUDGED: dict[Standing, Event] = {
    Standing.REJECTED: ReportRejected(NORTH, ROUND_ID, "ann", "not-finite"),
    Standing.DISCARDED: ReportDiscarded(NORTH, ROUND_ID, "ann", "repeated"),
    Standing.WITHDRAWN: Withdrawn(NORTH, ROUND_ID, "ann", "trainer-failed"),
}


def declined(owner: Owner, client_id: str, reason: str) -> Effect:
    """Say what a client is told that has to come back later."""
    soon = RetryWindow(1.0, RETURN_S / 4)
    window = soon if reason == "claimed-elsewhere" else RETRY_WINDOW
    return Decline(owner, (client_id,), reason, window)


# -- Check-ins during Selection --------------------------------------------------------------------


def test_held_client_leaves_during_selection_its_place_is_given_back() -> None:
    """A held client that goes away does not count; the next one takes its place."""
    round_ = a_round_in(Phase.SELECTION, goal_count=3)

    round_, effects = play(
        round_, ClientsLeft(NORTH, ("ann",)), CheckedIn(SOUTH, ("cat",)), after_s=1.0
    )

    assert effects == [Admit(SOUTH, ("cat",))]
    assert list(round_.claims) == ["ben", "cat"]


def test_held_client_checks_in_again_at_its_selector_it_is_admitted_again() -> None:
    """A repeated check-in is answered too, and keeps its place in the order."""
    round_ = a_round_in(Phase.SELECTION)

    round_, effects = play(round_, CheckedIn(NORTH, ("ann",)))

    assert effects == [Admit(NORTH, ("ann",))]
    assert list(round_.claims) == ["ann", "ben"]


def test_held_client_checks_in_elsewhere_its_older_stream_is_released() -> None:
    """The newest stream wins, the older one ends; the client is admitted once."""
    round_ = a_round_in(Phase.SELECTION)

    round_, effects = play(round_, CheckedIn(SOUTH, ("ann",)))

    assert effects == [Release(NORTH, ("ann",)), Admit(SOUTH, ("ann",))]
    assert round_.claims["ann"].owner == SOUTH
    assert round_.counts.admitted == 2


def test_older_stream_of_a_moved_client_ends_the_client_stays_admitted() -> None:
    """Only the selector that holds a client can give its place back."""
    round_ = a_round_in(Phase.SELECTION)

    round_, _ = play(round_, CheckedIn(SOUTH, ("ann",)), ClientsLeft(NORTH, ("ann",)))

    assert round_.claims["ann"].owner == SOUTH


# -- Surplus, declined or waiting ------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.CONFIGURATION, Phase.REPORTING])
def test_round_is_full_client_is_declined_with_a_window(phase: Phase) -> None:
    """Beyond the limit a client is sent away with a time to come back."""
    round_ = a_round_in(phase)

    after, effects = play(round_, CheckedIn(NORTH, ("cat",)))

    assert effects == [declined(NORTH, "cat", "goal-reached")]
    assert after == dataclasses.replace(round_, sent_away=1)


@pytest.mark.parametrize("closing", [Closing.SEALING, Closing.WRITING, Closing.PUBLISHING])
def test_reporting_is_closed_client_is_declined_even_if_places_are_free(closing: Closing) -> None:
    """After Close nobody joins any more."""
    round_ = a_round_in(Phase.REPORTING, closing, goal_count=3)

    _, effects = play(round_, CheckedIn(NORTH, ("cat",)))

    assert effects == [declined(NORTH, "cat", "goal-reached")]


def test_round_completed_client_is_declined() -> None:
    """A completed round still answers."""
    round_, _ = play(a_round_in(Phase.REPORTING), Stopped("draining"))

    _, effects = play(round_, CheckedIn(NORTH, ("cat",)))

    assert effects == [declined(NORTH, "cat", "goal-reached")]


def test_pipelined_round_is_full_client_waits_for_the_next_round() -> None:
    """Pipelined, surplus clients are held; they are answered when the next round starts."""
    round_ = a_round_in(Phase.REPORTING, pipelined=True)

    round_, effects = play(round_, CheckedIn(SOUTH, ("cat",)), CheckedIn(NORTH, ("dan",)))
    _, at_next_start = start(
        2,
        round_.plan,
        START_S + 1.0,
        round_id="next-round",
        base_digest=BASE,
        waiting=round_.waiting,
    )

    assert effects == []
    assert list(round_.waiting.items()) == [("cat", SOUTH), ("dan", NORTH)]
    assert those(Admit, at_next_start) == [Admit(SOUTH, ("cat",)), Admit(NORTH, ("dan",))]


def test_pipelined_as_many_wait_as_the_next_round_admits_the_rest_is_declined() -> None:
    """Waiting is worth it up to the next round's limit."""
    round_ = a_round_in(Phase.REPORTING, pipelined=True)

    round_, effects = play(round_, CheckedIn(NORTH, ("cat", "dan", "eve")))

    assert list(round_.waiting) == ["cat", "dan"]
    assert effects == [declined(NORTH, "eve", "goal-reached")]


def test_pipelined_finisher_checks_in_again_it_waits_while_the_others_train() -> None:
    """A spent claim does not take part twice, but may be early for the next round."""
    round_ = a_round_in(Phase.REPORTING, pipelined=True)

    round_, effects = play(round_, folded(NORTH, "ann"), CheckedIn(NORTH, ("ann",)))

    assert effects == []
    assert dict(round_.waiting) == {"ann": NORTH}
    assert standings(round_)["ann"] is Standing.FOLDED


def test_pipelined_waiting_client_repeats_its_check_in_it_keeps_its_turn() -> None:
    """A repeated check-in neither loses nor doubles the place in the queue."""
    round_ = a_round_in(Phase.REPORTING, pipelined=True)

    round_, effects = play(
        round_, CheckedIn(NORTH, ("cat", "dan")), CheckedIn(NORTH, ("cat",)), after_s=1.0
    )

    assert list(round_.waiting) == ["cat", "dan"]
    assert effects == []


def test_pipelined_waiting_client_checks_in_elsewhere_its_older_stream_is_released() -> None:
    """The newest stream wins for those who wait, too."""
    round_ = a_round_in(Phase.REPORTING, pipelined=True)

    round_, effects = play(round_, CheckedIn(NORTH, ("cat",)), CheckedIn(SOUTH, ("cat",)))

    assert effects == [Release(NORTH, ("cat",))]
    assert dict(round_.waiting) == {"cat": SOUTH}


def test_pipelined_waiting_client_leaves_it_waits_no_more() -> None:
    """Only the end of the stream that holds a client counts."""
    round_ = a_round_in(Phase.REPORTING, pipelined=True)

    round_, _ = play(round_, CheckedIn(NORTH, ("cat", "dan")), ClientsLeft(NORTH, ("cat",)))
    round_, _ = play(round_, ClientsLeft(SOUTH, ("dan",)))

    assert dict(round_.waiting) == {"dan": NORTH}


@pytest.mark.parametrize("gone", [SelectorLeft(NORTH), SelectorDetached(NORTH)])
def test_pipelined_selector_of_waiting_clients_goes_they_wait_no_more(gone: Event) -> None:
    """The hello of a selector names its clients again; until then they hold no place."""
    round_ = a_round_in(Phase.REPORTING, pipelined=True)

    round_, _ = play(round_, CheckedIn(NORTH, ("cat",)), CheckedIn(SOUTH, ("dan",)), gone)

    assert dict(round_.waiting) == {"dan": SOUTH}


def test_pipelined_client_is_lost_the_first_that_waits_takes_its_place() -> None:
    """A lost client is replaced: admitted minus lost stays within the limit."""
    round_ = a_round_in(Phase.REPORTING, pipelined=True)

    round_, _ = play(round_, CheckedIn(SOUTH, ("cat", "dan")), ClientsLeft(NORTH, ("ann",)))
    round_, effects = play(round_, Ticked(), after_s=RETURN_S)

    assert effects == [
        Admit(SOUTH, ("cat",)),
        Configure(SOUTH, ("cat",), START_S + WINDOW_S),
    ]
    assert standings(round_) == {
        "ann": Standing.LOST,
        "ben": Standing.PENDING,
        "cat": Standing.PENDING,
    }
    assert list(round_.waiting) == ["dan"]


def test_pipelined_only_a_finisher_waits_a_free_place_stays_free() -> None:
    """Who has a claim on this round waits for the next, whatever places are free."""
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS, pipelined=True)

    round_, _ = play(
        round_, folded(SOUTH, "ben"), CheckedIn(SOUTH, ("ben",)), ClientsLeft(NORTH, ("ann",))
    )
    round_, effects = play(round_, Ticked(), after_s=RETURN_S)

    assert effects == []
    assert dict(round_.waiting) == {"ben": SOUTH}


def test_pipelined_client_is_lost_as_the_window_ends_nobody_is_drawn_into_a_closed_round() -> None:
    """A waiting client is not configured just to expire."""
    round_ = a_round_in(Phase.REPORTING, pipelined=True, min_reports=1)

    round_, _ = play(round_, folded(SOUTH, "ben"), CheckedIn(SOUTH, ("cat",)))
    round_, _ = play(round_, ClientsLeft(NORTH, ("ann",)), after_s=WINDOW_S - RETURN_S)
    round_, effects = play(round_, Ticked(), after_s=WINDOW_S)

    assert effects == [CloseReporting(NORTH), CloseReporting(SOUTH)]
    assert dict(round_.waiting) == {"cat": SOUTH}


def test_pipelined_selection_fails_waiting_comes_after_the_held() -> None:
    """Held clients were first; they are the first of the next round."""
    waiting = {"ann": NORTH, "ben": NORTH_RESTARTED, "cat": SOUTH, "dan": SOUTH}
    plan = a_plan(3, min_reports=3, pipelined=True)
    round_, _ = start(1, plan, START_S, round_id=ROUND_ID, base_digest=BASE, waiting=waiting)

    round_, _ = play(round_, Ticked(), after_s=SELECTION_TIMEOUT_S)

    assert round_.reason == "too-few-clients"
    assert list(round_.waiting) == ["ben", "cat", "dan"]


# -- Late joiners ----------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.CONFIGURATION, Phase.REPORTING])
def test_places_are_free_after_selection_late_joiner_is_admitted_and_configured(
    phase: Phase,
) -> None:
    """Whoever comes while reports still count and places are free takes part."""
    round_ = a_round_in(phase, goal_count=3)

    round_, effects = play(round_, CheckedIn(EAST, ("cat", "dan")), after_s=1.0)

    assert effects == [
        Admit(EAST, ("cat",)),
        Configure(EAST, ("cat",), START_S + WINDOW_S),
        declined(EAST, "dan", "goal-reached"),
    ]
    assert standings(round_)["cat"] is Standing.PENDING
    assert round_.duties[EAST].owing


def test_client_is_lost_a_late_joiner_takes_its_place() -> None:
    """A lost client does not count against the limit; a rejected or withdrawn one does."""
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS, min_reports=1)

    round_, full = play(
        round_,
        Withdrawn(NORTH, ROUND_ID, "cat", "trainer-failed"),
        ClientsLeft(NORTH, ("ann",)),
        CheckedIn(SOUTH, ("dan",)),
    )
    round_, free = play(round_, CheckedIn(SOUTH, ("dan", "eve")), after_s=RETURN_S)

    assert full == [declined(SOUTH, "dan", "goal-reached")]
    assert those(Admit, free) == [Admit(SOUTH, ("dan",))]
    assert those(Decline, free) == [declined(SOUTH, "eve", "goal-reached")]


def test_restarted_selector_brings_new_clients_they_are_not_admitted() -> None:
    """A new incarnation never folds in a round that an earlier one served."""
    round_ = a_round_in(Phase.REPORTING, goal_count=4)

    _, effects = play(round_, CheckedIn(NORTH_RESTARTED, ("cat",)))

    assert effects == [declined(NORTH_RESTARTED, "cat", "goal-reached")]


def test_selector_handed_its_partial_in_it_gets_no_more_clients() -> None:
    """A kept partial is final: its selector can fold nobody any more."""
    round_ = a_round_in(Phase.REPORTING, goal_count=4)

    round_, _ = play(round_, partial(NORTH, "ann"))
    _, effects = play(round_, CheckedIn(NORTH, ("cat",)))

    assert effects == [declined(NORTH, "cat", "goal-reached")]


def test_waiting_client_joins_through_another_selector_it_waits_no_more() -> None:
    """A client has a place in this round or in the queue for the next, never in both."""
    round_ = a_round_in(Phase.REPORTING, goal_count=4, pipelined=True)

    round_, waits = play(round_, CheckedIn(NORTH_RESTARTED, ("cat",)))
    round_, joins = play(round_, CheckedIn(SOUTH, ("cat",)))

    assert waits == []
    assert joins == [
        Release(NORTH_RESTARTED, ("cat",)),
        Admit(SOUTH, ("cat",)),
        Configure(SOUTH, ("cat",), START_S + WINDOW_S),
    ]
    assert not round_.waiting


# -- Check-ins of clients with a claim -------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.CONFIGURATION, Phase.REPORTING])
def test_pending_client_checks_in_again_at_its_selector_it_is_configured_again(
    phase: Phase,
) -> None:
    """An unspent claim is taken up again: same claim, same deadline."""
    round_ = a_round_in(phase)

    round_, effects = play(round_, CheckedIn(NORTH, ("ann",)), after_s=3.0)

    assert effects == [Configure(NORTH, ("ann",), START_S + WINDOW_S)]
    assert standings(round_)["ann"] is Standing.PENDING
    assert not round_.claims["ann"].configured


def test_away_client_checks_in_again_at_its_selector_it_takes_its_claim_up() -> None:
    """Coming back by a new check-in is coming back."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, ClientsLeft(NORTH, ("ann",)))
    round_, effects = play(round_, CheckedIn(NORTH, ("ann",)), after_s=3.0)

    assert effects == [Configure(NORTH, ("ann",), START_S + WINDOW_S)]
    assert standings(round_)["ann"] is Standing.PENDING
    assert deadline_after_s(round_) == WINDOW_S


def test_lost_client_checks_in_again_at_its_selector_it_takes_its_claim_up() -> None:
    """The claim of a lost client is unspent, and its owner may still fold it."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, ClientsLeft(NORTH, ("ann",)))
    round_, _ = play(round_, Ticked(), after_s=RETURN_S)
    round_, effects = play(round_, CheckedIn(NORTH, ("ann",)), after_s=RETURN_S)

    assert effects == [Configure(NORTH, ("ann",), START_S + WINDOW_S)]
    assert standings(round_)["ann"] is Standing.PENDING
    assert round_.claims["ann"].reason == ""


def test_client_checks_in_elsewhere_while_its_owner_lives_it_is_declined() -> None:
    """Another selector may fold a client only after the coordinator moved the claim."""
    round_ = a_round_in(Phase.REPORTING)

    after, effects = play(round_, CheckedIn(SOUTH, ("ann",)))

    assert effects == [declined(SOUTH, "ann", "claimed-elsewhere")]
    assert after == round_


def test_client_of_an_away_selector_checks_in_elsewhere_it_is_declined() -> None:
    """Away is not void: the owner may hold the report already, and come back with it."""
    round_ = a_round_in(Phase.REPORTING)

    round_, effects = play(round_, SelectorLeft(NORTH), CheckedIn(SOUTH, ("ann",)))

    assert effects == [declined(SOUTH, "ann", "claimed-elsewhere")]
    assert round_.claims["ann"].owner == NORTH


def test_client_of_a_void_selector_checks_in_elsewhere_the_claim_moves() -> None:
    """When the owner is void the client may report through another selector."""
    round_ = a_round_in(Phase.REPORTING)

    round_, effects = play(round_, SelectorDetached(NORTH), CheckedIn(SOUTH, ("ann",)))

    assert effects == [
        Admit(SOUTH, ("ann",)),
        Configure(SOUTH, ("ann",), START_S + WINDOW_S),
    ]
    assert round_.claims["ann"].owner == SOUTH
    assert standings(round_)["ann"] is Standing.PENDING


def test_folded_client_of_a_void_selector_reports_elsewhere_it_counts_once() -> None:
    """The acknowledged report went down with its selector; the new one is the only one."""
    round_ = a_round_in(Phase.REPORTING, min_reports=2)

    round_, _ = play(
        round_,
        folded(NORTH, "ann"),
        SelectorDetached(NORTH),
        CheckedIn(SOUTH, ("ann",)),
        folded(SOUTH, "ann", "ben"),
        partial(NORTH, "ann"),
        partial(SOUTH, "ann", "ben"),
    )

    assert round_.closing is Closing.WRITING
    assert round_.claims["ann"].owner == SOUTH
    assert standings(round_) == {"ann": Standing.REPORTED, "ben": Standing.REPORTED}


def test_owner_handed_its_partial_in_without_the_client_the_claim_moves() -> None:
    """A kept partial is final, so that a client it does not list can safely report elsewhere."""
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS)

    round_, _ = play(round_, folded(NORTH, "cat"), partial(NORTH, "cat"))
    round_, effects = play(round_, CheckedIn(SOUTH, ("ann",)))

    assert those(Admit, effects) == [Admit(SOUTH, ("ann",))]
    assert round_.claims["ann"].owner == SOUTH


def test_client_in_a_kept_partial_checks_in_elsewhere_it_is_not_admitted_again() -> None:
    """A report that is kept is never folded a second time."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, partial(NORTH, "ann"))
    round_, effects = play(round_, CheckedIn(SOUTH, ("ann",)))

    assert effects == [declined(SOUTH, "ann", "goal-reached")]
    assert standings(round_)["ann"] is Standing.REPORTED


def test_claim_is_released_the_client_reports_through_another_selector() -> None:
    """A live owner may give a claim up; from then on it may not fold that client."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, ClaimsReleased(NORTH, ROUND_ID, ("ann",)))
    round_, late = play(round_, folded(NORTH, "ann"))
    round_, effects = play(round_, CheckedIn(SOUTH, ("ann",)))

    assert late == []
    assert effects == [
        Admit(SOUTH, ("ann",)),
        Configure(SOUTH, ("ann",), START_S + WINDOW_S),
    ]
    assert round_.claims["ann"].owner == SOUTH
    assert not round_.claims["ann"].released


def test_claim_is_released_and_taken_up_at_the_same_selector_it_is_its_own_again() -> None:
    """Where there is no other selector, the client tries again at the one that refused it."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, ClaimsReleased(NORTH, ROUND_ID, ("ann",)))
    round_, effects = play(round_, CheckedIn(NORTH, ("ann",)))
    round_, _ = play(round_, folded(NORTH, "ann"))

    assert those(Configure, effects) == [Configure(NORTH, ("ann",), START_S + WINDOW_S)]
    assert standings(round_)["ann"] is Standing.FOLDED


def test_claim_is_released_and_nobody_takes_it_up_its_client_is_lost() -> None:
    """It is waited for as for any client that is away."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, ClaimsReleased(NORTH, ROUND_ID, ("ann",)))
    assert standings(round_)["ann"] is Standing.AWAY
    round_, _ = play(round_, Ticked(), after_s=RETURN_S)

    assert standings(round_)["ann"] is Standing.LOST


def test_folded_report_cannot_be_released() -> None:
    """What is in a sum stays the owner's until that sum is kept or void."""
    round_, _ = play(a_round_in(Phase.REPORTING), folded(NORTH, "ann"))

    after, _ = play(round_, ClaimsReleased(NORTH, ROUND_ID, ("ann",)))

    assert after == round_


def test_partial_lists_a_client_whose_claim_was_released_it_is_discarded() -> None:
    """Its owner gave the client up for good."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, ClaimsReleased(NORTH, ROUND_ID, ("ann",)))
    round_, effects = play(round_, partial(NORTH, "ann"))

    assert effects == [SettlePartial(NORTH, ROUND_ID, kept=False, reason="foreign-partial")]


def test_client_of_a_void_selector_checks_in_where_nobody_may_serve_it_is_declined() -> None:
    """A claim moves only to a selector that may fold: not to the void one, nor its successor."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, SelectorDetached(NORTH))
    _, at_void = play(round_, CheckedIn(NORTH, ("ann",)))
    _, at_successor = play(round_, CheckedIn(NORTH_RESTARTED, ("ann",)))

    assert at_void == [declined(NORTH, "ann", "claimed-elsewhere")]
    assert at_successor == [declined(NORTH_RESTARTED, "ann", "claimed-elsewhere")]


def test_lost_clients_place_is_taken_it_checks_in_elsewhere_and_is_declined() -> None:
    """A claim of a lost client moves only within the limit: admitted minus lost."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, SelectorDetached(NORTH))
    round_, _ = play(round_, CheckedIn(SOUTH, ("cat",)), after_s=RETURN_S)
    round_, effects = play(round_, CheckedIn(SOUTH, ("ann",)), after_s=RETURN_S)

    assert effects == [declined(SOUTH, "ann", "goal-reached")]
    assert standings(round_) == {
        "ann": Standing.LOST,
        "ben": Standing.PENDING,
        "cat": Standing.PENDING,
    }


def test_lost_clients_place_is_free_it_checks_in_elsewhere_and_the_claim_moves() -> None:
    """Until somebody else has its place, a lost client may still come back through another."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, SelectorDetached(NORTH))
    round_, effects = play(round_, CheckedIn(SOUTH, ("ann",)), after_s=RETURN_S)

    assert those(Admit, effects) == [Admit(SOUTH, ("ann",))]
    assert standings(round_)["ann"] is Standing.PENDING


def test_pipelined_client_of_an_away_selector_checks_in_elsewhere_it_does_not_wait() -> None:
    """Held for the next round it could not report in this one once its claim may move."""
    round_ = a_round_in(Phase.REPORTING, pipelined=True)

    round_, early = play(round_, SelectorLeft(NORTH), CheckedIn(SOUTH, ("ann",)))
    round_, late = play(round_, CheckedIn(SOUTH, ("ann",)), after_s=RETURN_S)

    assert early == [declined(SOUTH, "ann", "claimed-elsewhere")]
    assert those(Admit, late) == [Admit(SOUTH, ("ann",))]
    assert not round_.waiting


def test_pipelined_finisher_waits_elsewhere_as_its_selector_becomes_void_it_reports_again() -> None:
    """Its report went down with the selector: it need not wait for the next round."""
    round_ = a_round_in(Phase.REPORTING, pipelined=True)

    round_, waits = play(
        round_, folded(NORTH, "ann"), SelectorLeft(NORTH), CheckedIn(SOUTH, ("ann",))
    )
    round_, moves = play(round_, Ticked(), after_s=RETURN_S)

    assert waits == []
    assert moves == [
        Admit(SOUTH, ("ann",)),
        Configure(SOUTH, ("ann",), START_S + WINDOW_S),
    ]
    assert round_.claims["ann"].owner == SOUTH
    assert not round_.waiting


def test_pipelined_waiting_client_is_declined_it_waits_no_more() -> None:
    """A client is declined or waits, never both."""
    round_ = a_round_in(Phase.REPORTING, clients={NORTH: ("ann",), SOUTH: ("ben",)}, pipelined=True)

    round_, waits = play(round_, folded(NORTH, "ann"), CheckedIn(NORTH, ("ann",)))
    round_, _ = play(round_, SelectorDetached(SOUTH), partial(NORTH, failure="file-missing"))
    round_, at_void = play(round_, CheckedIn(NORTH, ("ann",)))

    assert waits == []
    assert at_void == [declined(NORTH, "ann", "claimed-elsewhere")]
    assert not round_.waiting


@pytest.mark.parametrize("standing", list(JUDGED))
def test_pipelined_client_with_a_verdict_waits_as_its_selector_becomes_void_it_waits_on(
    standing: Standing,
) -> None:
    """A spent claim stays spent, whatever becomes of its owner."""
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS, pipelined=True, min_reports=1)

    round_, _ = play(round_, JUDGED[standing], CheckedIn(SOUTH, ("ann",)))
    round_, effects = play(round_, SelectorDetached(NORTH))

    assert effects == []
    assert standings(round_)["ann"] is standing
    assert dict(round_.waiting) == {"ann": SOUTH}


def test_pipelined_client_waits_as_its_report_is_kept_it_does_not_report_again() -> None:
    """One client's report is in the sum of a round at most once."""
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS, pipelined=True)

    round_, _ = play(round_, folded(NORTH, "ann"), CheckedIn(SOUTH, ("ann",)))
    round_, effects = play(round_, partial(NORTH, "ann"))

    assert those(Admit, effects) == []
    assert standings(round_)["ann"] is Standing.REPORTED


def test_pipelined_lost_client_whose_place_is_taken_checks_in_and_waits() -> None:
    """Where nothing can come of its claim any more, a client is as welcome as any other."""
    round_ = a_round_in(Phase.REPORTING, pipelined=True)

    round_, _ = play(round_, SelectorDetached(NORTH), CheckedIn(SOUTH, ("cat",)))
    round_, _ = play(round_, CheckedIn(SOUTH, ("ann",)), after_s=RETURN_S)

    assert dict(round_.waiting) == {"ann": SOUTH}
    assert standings(round_)["ann"] is Standing.LOST


@pytest.mark.parametrize("standing", list(JUDGED))
def test_claim_is_spent_client_checks_in_again_and_is_declined(standing: Standing) -> None:
    """A verdict spends the claim: rejected, discarded and withdrawn may try the next round."""
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS)

    round_, _ = play(round_, JUDGED[standing])
    round_, effects = play(round_, CheckedIn(NORTH, ("ann",)))

    assert effects == [declined(NORTH, "ann", "goal-reached")]
    assert standings(round_)["ann"] is standing


def test_reporting_is_closed_pending_client_checks_in_again_and_is_declined() -> None:
    """After Close nobody is configured, not even who has an unspent claim."""
    round_ = a_round_in(Phase.REPORTING, min_reports=1)

    round_, _ = play(round_, folded(NORTH, "ann"), Ticked(), after_s=WINDOW_S)
    round_, effects = play(round_, CheckedIn(SOUTH, ("ben",)), after_s=WINDOW_S)

    assert effects == [declined(SOUTH, "ben", "goal-reached")]


# -- Away, returned and lost -----------------------------------------------------------------------


def test_client_leaves_it_is_away_until_it_counts_as_lost() -> None:
    """Away becomes lost ``return_s`` later, and not before.

    Elsewhere: NVFlare never removes a device that vanished.
    """
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, ClientsLeft(NORTH, ("ann",)), after_s=2.0)
    assert standings(round_)["ann"] is Standing.AWAY
    assert deadline_after_s(round_) == 2.0 + RETURN_S
    round_, _ = play(round_, Ticked(), after_s=2.0 + RETURN_S - 0.001)
    assert standings(round_)["ann"] is Standing.AWAY
    round_, _ = play(round_, Ticked(), after_s=2.0 + RETURN_S)

    assert standings(round_)["ann"] is Standing.LOST
    assert round_.claims["ann"].reason == "client-lost"


def test_away_client_is_said_to_have_left_again_its_time_is_not_extended() -> None:
    """A repeated fact changes nothing."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, ClientsLeft(NORTH, ("ann",)))
    round_, _ = play(round_, ClientsLeft(NORTH, ("ann",)), after_s=5.0)

    assert deadline_after_s(round_) == RETURN_S


def test_away_client_returns_it_is_pending_again() -> None:
    """Back in time, the client goes on as if nothing had been."""
    round_ = a_round_in(Phase.REPORTING)

    away, _ = play(round_, ClientsLeft(NORTH, ("ann",)))
    back, effects = play(away, ClientsReturned(NORTH, ROUND_ID, ("ann",)), after_s=5.0)

    assert (back, effects) == (round_, [])


@pytest.mark.parametrize(
    "returned",
    [
        ClientsReturned(NORTH, "earlier-round", ("ann",)),
        ClientsReturned(SOUTH, ROUND_ID, ("ann",)),
        ClientsReturned(NORTH, ROUND_ID, ("nobody",)),
    ],
)
def test_return_is_of_another_round_selector_or_client_it_changes_nothing(
    returned: ClientsReturned,
) -> None:
    """Facts about what this round did not give are ignored."""
    round_, _ = play(a_round_in(Phase.REPORTING), ClientsLeft(NORTH, ("ann",)))

    assert play(round_, returned) == (round_, [])


def test_client_that_is_not_away_is_said_to_have_returned_it_stands_where_it_stood() -> None:
    """A selector's hello names all whom it holds; to be held undoes neither fold nor verdict."""
    clients = {NORTH: ("ann", "ben", "cat", "dan")}
    round_ = a_round_in(Phase.REPORTING, clients=clients, min_reports=1)

    round_, _ = play(round_, ClientsLeft(NORTH, ("ann",)))
    round_, _ = play(
        round_,
        folded(NORTH, "ben"),
        ReportRejected(NORTH, ROUND_ID, "cat", "not-finite"),
        after_s=RETURN_S,
    )
    returned = ClientsReturned(NORTH, ROUND_ID, ("ann", "ben", "cat", "dan"))

    assert play(round_, returned, after_s=RETURN_S) == (round_, [])
    assert standings(round_) == {
        "ann": Standing.LOST,
        "ben": Standing.FOLDED,
        "cat": Standing.REJECTED,
        "dan": Standing.PENDING,
    }


def test_stream_of_a_folded_client_ends_it_stays_folded() -> None:
    """The end of a stream after the duty is done means nothing.

    Elsewhere: Flower throws a reply away if its node is offline when the server looks next.
    """
    round_, _ = play(a_round_in(Phase.REPORTING), folded(NORTH, "ann"))

    assert play(round_, ClientsLeft(NORTH, ("ann",))) == (round_, [])


def test_lost_client_reports_before_close_it_is_folded() -> None:
    """A report before Close undoes lost."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, ClientsLeft(NORTH, ("ann",)))
    round_, _ = play(round_, Ticked(), after_s=RETURN_S)
    round_, effects = play(
        round_, folded(NORTH, "ann"), folded(SOUTH, "ben"), after_s=RETURN_S + 1.0
    )

    assert standings(round_) == {"ann": Standing.FOLDED, "ben": Standing.FOLDED}
    assert those(CloseReporting, effects)


def test_away_client_reports_it_is_folded_without_having_returned() -> None:
    """A report is proof enough that the client is there."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, ClientsLeft(NORTH, ("ann",)), folded(NORTH, "ann"))

    assert standings(round_)["ann"] is Standing.FOLDED
    assert deadline_after_s(round_) == WINDOW_S


def test_reporting_closes_while_a_client_is_away_it_expires() -> None:
    """From Close on nobody is waited for, so that nobody is lost any more."""
    round_ = a_round_in(Phase.REPORTING, min_reports=1)

    round_, _ = play(round_, folded(NORTH, "ann"))
    round_, _ = play(round_, ClientsLeft(SOUTH, ("ben",)), after_s=WINDOW_S - RETURN_S + 1.0)
    round_, _ = play(round_, Ticked(), after_s=WINDOW_S)
    assert deadline_after_s(round_) == WINDOW_S + GRACE_S
    round_, _ = play(round_, Ticked(), after_s=WINDOW_S + 1.0)
    round_, _ = play(round_, Stopped("draining"), after_s=WINDOW_S + 1.0)

    assert standings(round_)["ben"] is Standing.EXPIRED


def test_stream_ends_after_close_client_is_not_away() -> None:
    """After Close the end of a stream decides nothing."""
    round_ = a_round_in(Phase.REPORTING, min_reports=1)

    round_, _ = play(round_, folded(NORTH, "ann"), Ticked(), after_s=WINDOW_S)

    assert play(round_, ClientsLeft(SOUTH, ("ben",)), after_s=WINDOW_S) == (round_, [])


def test_every_client_is_lost_round_is_abandoned() -> None:
    """Nobody is pending and nobody reported: waiting for the window is in vain."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, ClientsLeft(NORTH, ("ann",)), ClientsLeft(SOUTH, ("ben",)))
    round_, _ = play(round_, Ticked(), after_s=RETURN_S)

    assert round_.reason == "too-few-reports"
    assert set(standings(round_).values()) == {Standing.LOST}


# -- Reports ---------------------------------------------------------------------------------------


def test_report_is_folded_the_claim_carries_its_facts() -> None:
    """Example count and metrics are the round's, for the mean over its reports."""
    round_ = a_round_in(Phase.CONFIGURATION)

    round_, _ = play(round_, folded(NORTH, "ann"))

    assert round_.claims["ann"].num_examples == 10
    assert round_.claims["ann"].configured
    assert round_.counts.folded == 1


@pytest.mark.parametrize("standing", list(JUDGED))
def test_report_is_judged_the_claim_has_its_standing_and_reason(standing: Standing) -> None:
    """Rejected, discarded and withdrawn are three different fates."""
    round_ = a_round_in(Phase.REPORTING, clients=NORTHS)

    round_, _ = play(round_, JUDGED[standing])

    event = JUDGED[standing]
    assert isinstance(event, ReportRejected | ReportDiscarded | Withdrawn)
    assert standings(round_)["ann"] is standing
    assert round_.claims["ann"].reason == event.reason


@pytest.mark.parametrize("standing", list(JUDGED))
def test_verdict_is_given_a_later_fold_changes_nothing(standing: Standing) -> None:
    """Fates are exclusive: a verdict spends the claim."""
    round_, _ = play(a_round_in(Phase.REPORTING, clients=NORTHS), JUDGED[standing])

    assert play(round_, folded(NORTH, "ann")) == (round_, [])


@pytest.mark.parametrize("standing", list(JUDGED))
def test_report_is_folded_a_later_verdict_changes_nothing(standing: Standing) -> None:
    """A duplicate that is discarded does not take the folded report away."""
    round_, _ = play(a_round_in(Phase.REPORTING, clients=NORTHS), folded(NORTH, "ann"))

    assert play(round_, JUDGED[standing]) == (round_, [])


@pytest.mark.parametrize(
    "event",
    [
        folded(SOUTH, "ann"),
        folded(NORTH_RESTARTED, "ann"),
        folded(NORTH, "ann", round_id="earlier-round"),
        folded(NORTH, "nobody"),
        configured(SOUTH, "ann"),
        configured(NORTH, "ann", round_id="earlier-round"),
        ReportRejected(SOUTH, ROUND_ID, "ann", "not-finite"),
        ReportDiscarded(NORTH, "earlier-round", "ann", "repeated"),
        Withdrawn(NORTH, ROUND_ID, "nobody", "trainer-failed"),
    ],
)
def test_fact_is_of_another_round_selector_or_client_it_changes_nothing(event: Event) -> None:
    """Only the owner of a claim speaks about it, and only about this round."""
    round_ = a_round_in(Phase.CONFIGURATION)

    assert play(round_, event) == (round_, [])


def test_void_selector_goes_on_reporting_nothing_of_it_counts() -> None:
    """Void is irrevocable."""
    round_, _ = play(a_round_in(Phase.REPORTING), SelectorDetached(NORTH))

    events: list[Event] = [
        folded(NORTH, "ann"),
        configured(NORTH, "ann"),
        ClientsReturned(NORTH, ROUND_ID, ("ann",)),
        Withdrawn(NORTH, ROUND_ID, "ann", "trainer-failed"),
    ]
    assert play(round_, *events) == (round_, [])


def test_round_completed_facts_about_its_clients_change_nothing() -> None:
    """A fate is final."""
    round_, _ = play(a_round_in(Phase.REPORTING), folded(NORTH, "ann"), Stopped("draining"))

    events: list[Event] = [
        folded(SOUTH, "ben"),
        configured(SOUTH, "ben"),
        ClientsLeft(SOUTH, ("ben",)),
        ReportRejected(SOUTH, ROUND_ID, "ben", "not-finite"),
    ]
    assert play(round_, *events) == (round_, [])


def test_lost_client_reports_after_the_round_completed_it_stays_lost() -> None:
    """Only before Close does a report undo lost."""
    round_ = a_round_in(Phase.REPORTING)

    round_, _ = play(round_, ClientsLeft(NORTH, ("ann",)))
    round_, _ = play(round_, Ticked(), Stopped("draining"), after_s=RETURN_S)
    after, effects = play(round_, folded(NORTH, "ann"), after_s=RETURN_S)

    assert (after, effects) == (round_, [])
    assert standings(after)["ann"] is Standing.LOST


def test_word_of_folds_arrives_after_close_they_count() -> None:
    """Surplus that was folded before the seal counts, though the word of it comes later."""
    round_ = a_round_in(Phase.REPORTING, min_reports=1)

    round_, _ = play(round_, folded(NORTH, "ann"), Ticked(), after_s=WINDOW_S)
    round_, _ = play(round_, folded(SOUTH, "ben"), after_s=WINDOW_S + 1.0)

    assert standings(round_)["ben"] is Standing.FOLDED


def test_upload_is_cut_off_at_close_the_client_is_discarded() -> None:
    """What had no end at Close is discarded with its reason, not expired."""
    round_ = a_round_in(Phase.REPORTING, min_reports=1)

    round_, _ = play(round_, folded(NORTH, "ann"), Ticked(), after_s=WINDOW_S)
    round_, effects = play(
        round_,
        ReportDiscarded(SOUTH, ROUND_ID, "ben", "closed"),
        partial(NORTH, "ann"),
        partial(SOUTH),
        after_s=WINDOW_S,
    )

    assert those(WriteCheckpoint, effects)
    assert round_.claims["ben"].reason == "closed"
    assert standings(round_)["ben"] is Standing.DISCARDED


def test_client_withdraws_while_held_its_stream_decides() -> None:
    """Before Configure there is no claim to give up: the end of the stream gives the place back."""
    round_ = a_round_in(Phase.SELECTION)

    assert play(round_, Withdrawn(NORTH, ROUND_ID, "ann", "user-stopped")) == (round_, [])


def test_committed_round_is_told_of_a_client_again_it_stays_committed() -> None:
    """Late words change neither outcome nor fates."""
    round_, _ = play(a_round_in(Phase.REPORTING, Closing.PUBLISHING), CommitFinished(ROUND_ID))

    after, effects = play(round_, folded(NORTH, "ann"), partial(SOUTH, "ben"))

    assert after == round_
    assert len(effects) == 1


def test_nothing_is_asked_of_a_round_it_does_not_change_the_one_before() -> None:
    """A round is replaced, never changed: the step's argument stays as it was."""
    before = a_round_in(Phase.REPORTING)
    copy = a_round_in(Phase.REPORTING)

    after, _ = play(before, folded(NORTH, "ann"), ClientsLeft(SOUTH, ("ben",)))

    assert before == copy
    assert isinstance(after, Round)
    assert after != before
