"""When clients come back that are not needed now: when they are, and not all at once."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from coordinator.effects import Decline
from coordinator.events import CheckedIn, Configured, Owner, Stopped
from coordinator.ledger import Ledger, RoundBegan, SessionStarted, take
from coordinator.pacing import CHECK_INS_PER_S, DELAY_MAX_S, Pace, expected_s, retry_window
from federation.plan import RetryWindow
from tests.coordinator.rounds import BASE, NORTH, START_S, a_plan, those

PLAN = a_plan(2, selection_timeout_s=200.0)
NARROW = RetryWindow(1.0, 5.0)


def test_nothing_was_observed_the_window_is_the_plans_own() -> None:
    """Seconds: the first round may be short."""
    assert retry_window(PLAN, crowd=1) == NARROW
    assert expected_s(PLAN, Pace(), None, START_S) == 0.0


def test_client_is_sent_away_in_selection_it_comes_back_when_the_round_is_expected_to_end() -> None:
    """The work is still to come."""
    assert expected_s(PLAN, Pace(work_s=60.0), None, START_S) == 60.0
    assert retry_window(PLAN, 1, in_s=60.0) == RetryWindow(60.0, 64.0)


@pytest.mark.parametrize(("after_s", "left_s"), [(0.0, 60.0), (45.0, 15.0), (61.0, 0.0)])
def test_client_is_sent_away_while_others_train_it_comes_back_at_the_end(
    after_s: float, left_s: float
) -> None:
    """Counted from Configure; a round that takes longer than expected is expected at any moment."""
    assert expected_s(PLAN, Pace(work_s=60.0), START_S, START_S + after_s) == left_s


def test_surplus_clients_are_held_instead_nobody_is_told_to_wait() -> None:
    """A pipelined round has the next one's clients on their streams."""
    assert expected_s(a_plan(2, pipelined=True), Pace(work_s=60.0), None, START_S) == 0.0


def test_round_that_took_for_ever_does_not_send_anybody_away_for_so_long() -> None:
    """A limit on what was observed."""
    patient = a_plan(2, selection_timeout_s=4 * DELAY_MAX_S)

    assert expected_s(patient, Pace(work_s=1e9), None, START_S) == DELAY_MAX_S
    assert retry_window(PLAN, 10**9).delay_max_s == NARROW.delay_min_s + DELAY_MAX_S


def test_round_is_shorter_than_expected_who_was_sent_away_is_back_for_the_next_selection() -> None:
    """Else one round with a lost client makes the following ones time out without anybody."""
    plan = a_plan(2, selection_timeout_s=10.0)

    in_s = expected_s(plan, Pace(work_s=31.0), START_S, START_S + 5.0)

    window = retry_window(plan, crowd=2, in_s=in_s)
    assert in_s == 5.0
    assert window.delay_max_s < plan.selection_timeout_s


def test_rounds_differ_the_expectation_follows_them_slowly() -> None:
    """One slow round is no reason to send everybody away for long."""
    pace = Pace().after(10.0, crowd=3)

    assert pace == Pace(10.0, 3)
    assert pace.after(20.0, crowd=0) == Pace(13.0, 0)
    assert pace.after(None, crowd=5) == Pace(10.0, 5)


def test_five_thousand_clients_are_sent_away_they_do_not_come_back_as_one_wave() -> None:
    """Evenly over the window: in no second much more than the rate that is aimed at."""
    drawn = random.Random(1)
    returns: Counter[int] = Counter()
    for nth in range(5_000):
        window = retry_window(PLAN, crowd=5_000, in_s=30.0)
        arrives_s = nth / 2_500 + drawn.uniform(window.delay_min_s, window.delay_max_s)
        returns[int(arrives_s)] += 1

    seconds = range(31, 30 + int(5_000 / CHECK_INS_PER_S))
    print("returns by second:", *(f"{s}:{returns[s]}" for s in sorted(returns)))  # noqa: T201
    assert min(returns) >= 30
    assert max(returns.values()) <= 1.5 * CHECK_INS_PER_S
    assert min(returns[second] for second in seconds) >= 0.5 * CHECK_INS_PER_S


def test_crowd_of_the_round_before_is_known_the_first_of_it_are_spread_as_the_last() -> None:
    """Windows that grow with each client would send the first ones back together."""
    ledger, _ = take(Ledger(), SessionStarted("this-session", PLAN, 9), START_S)
    for number in (1, 2):
        ledger, _ = take(ledger, RoundBegan(f"round-{number}", BASE), START_S)
        surplus = [Owner("south", "s1")] * 400
        ledger, _ = take(ledger, CheckedIn(NORTH, ("ann", "ben")), START_S)
        ledger, _ = take(ledger, Configured(NORTH, f"round-{number}", ("ann", "ben")), START_S)
        windows = []
        for nth, owner in enumerate(surplus):
            ledger, effects = take(ledger, CheckedIn(owner, (f"client-{nth}",)), START_S)
            windows += [decline.retry_window for decline in those(Decline, effects)]
        ledger, _ = take(ledger, Stopped("why"), START_S + 50.0)

    assert len(windows) == 400
    assert set(windows) == {RetryWindow(50.0, 54.0)}
    assert ledger.pace == Pace(work_s=50.0, crowd=400)


def test_coordinator_was_down_or_its_clock_was_set_that_is_not_taken_for_work() -> None:
    """A round works no longer than its time-outs, so that nobody is sent away for half an hour."""
    ledger, now_s = Ledger(), START_S
    began = RoundBegan("r1", BASE, waiting=(("c1", NORTH), ("c2", NORTH)))
    for happening in (SessionStarted("s1", PLAN, 9), began):
        ledger, _ = take(ledger, happening, now_s)
    ledger, _ = take(ledger, Stopped("draining"), now_s + 100_000.0)

    longest_s = PLAN.report_window_s + PLAN.grace_s + PLAN.commit_timeout_s
    assert ledger.pace.work_s == longest_s
