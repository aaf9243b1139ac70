"""Tests of ``coordinator.roster``."""

from __future__ import annotations

import pytest

from coordinator.roster import FATES, OPEN, UNSPENT, Claim, Counts, Duty, Standing, mean_metrics
from federation.phases import Fate
from tests.coordinator.rounds import NORTH, a_reference


def a_report(num_examples: int, standing: Standing = Standing.REPORTED, **metrics: float) -> Claim:
    """Build the claim of a client that reported these metrics."""
    return Claim(NORTH, standing, num_examples=num_examples, metrics=metrics)


def test_every_fate_is_a_standing() -> None:
    """What became of a client is the last of its standings, by the same word."""
    assert {standing.value for standing in FATES} == {fate.value for fate in Fate}
    assert set(Standing) - FATES == {
        Standing.HELD,
        Standing.PENDING,
        Standing.AWAY,
        Standing.FOLDED,
    }


def test_round_waits_for_a_client_a_verdict_is_possible() -> None:
    """Away is not a fate; lost is one that a report may undo."""
    no_longer_waited_for = UNSPENT - OPEN

    assert OPEN < UNSPENT
    assert no_longer_waited_for == {Standing.LOST}


def test_standing_is_counted_counts_has_its_name() -> None:
    """No standing is left out of what people see."""
    assert all(hasattr(Counts(), standing.value) for standing in Standing)


@pytest.mark.parametrize(
    ("duty", "owing"),
    [
        (Duty(), True),
        (Duty(away_until_s=7.0), True),
        (Duty(void=True, reason="selector-lost"), False),
        (Duty(partial=a_reference("ann")), False),
        (Duty(partial=a_reference()), False),
    ],
)
def test_selector_is_owing_until_it_is_void_or_its_partial_is_kept(duty: Duty, owing: bool) -> None:
    """An empty partial is one, too; an away selector may still hand one in."""
    assert duty.owing is owing


def test_metrics_are_weighted_by_examples_as_the_tensors_are() -> None:
    """A mean over reports has the weights of the mean over tensors."""
    claims = {"ann": a_report(30, loss=1.0), "ben": a_report(10, loss=5.0)}

    means = mean_metrics(claims, by_examples=True)

    assert means == {"loss": 2.0}


def test_weighting_is_equal_metrics_are_weighted_equally() -> None:
    """``weighting = "equal"`` holds for metrics, too."""
    claims = {"ann": a_report(30, loss=1.0), "ben": a_report(10, loss=5.0)}

    means = mean_metrics(claims, by_examples=False)

    assert means == {"loss": 3.0}


def test_metric_is_missing_in_a_report_the_others_make_its_mean() -> None:
    """A report that does not carry a metric has no weight in it."""
    claims = {"ann": a_report(30, loss=1.0), "ben": a_report(10, loss=5.0, accuracy=0.5)}

    means = mean_metrics(claims, by_examples=True)

    assert means == {"accuracy": 0.5, "loss": 2.0}
    assert list(means) == ["accuracy", "loss"]


@pytest.mark.parametrize("standing", [s for s in Standing if s.value not in ("folded", "reported")])
def test_report_did_not_count_its_metrics_do_not_either(standing: Standing) -> None:
    """A report that was lost, discarded or rejected is in no mean."""
    claims = {"ann": a_report(30, loss=1.0), "ben": a_report(10, standing, loss=5.0)}

    assert mean_metrics(claims, by_examples=True) == {"loss": 1.0}


def test_report_is_folded_but_not_kept_yet_its_metrics_count() -> None:
    """The manifest is made while its reports are kept; the status shows those that are folded."""
    claims = {"ann": a_report(1, Standing.FOLDED, loss=1.0), "ben": a_report(3, loss=5.0)}

    assert mean_metrics(claims, by_examples=True) == {"loss": 4.0}


def test_nobody_has_examples_there_is_no_mean() -> None:
    """A peer that counts no examples does not make the round divide by zero."""
    claims = {"ann": a_report(0, loss=1.0)}

    assert mean_metrics(claims, by_examples=True) == {}


def test_mean_is_beyond_the_largest_float_it_is_left_out() -> None:
    """One client's absurd metric does not make a page that nobody can parse."""
    claims = {"ann": a_report(1000, loss=1e308, accuracy=0.5)}

    assert mean_metrics(claims, by_examples=True) == {"accuracy": 0.5}


def test_nobody_reported_there_are_no_means() -> None:
    """No report, no metrics."""
    assert mean_metrics({}, by_examples=True) == {}
