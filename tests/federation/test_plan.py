"""Tests of ``federation.plan``."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import SettingsError
from federation.plan import Hyperparameters, RetryWindow, RoundPlan

NO_NUMBER = (math.nan, math.inf, -math.inf)


def test_only_the_goal_is_given_the_rest_has_the_documented_defaults() -> None:
    """The defaults are those of the design; their sums are what an operator waits at most."""
    plan = RoundPlan(goal_count=10)

    given = dataclasses.asdict(plan)
    assert given.pop("hyperparameters") == dataclasses.asdict(Hyperparameters())
    assert given == {
        "goal_count": 10,
        "over_selection": 1.0,
        "min_reports": 5,
        "selection_timeout_s": 300.0,
        "report_window_s": 600.0,
        "grace_s": 15.0,
        "return_s": 30.0,
        "commit_timeout_s": 60.0,
        "pipelined": False,
        "weighting": "examples",
        "weight_max": 1_000_000_000,
        "update_norm_max": None,
        "retry_delay_min_s": 1.0,
        "retry_delay_max_s": 5.0,
    }


@pytest.mark.parametrize(("goal_count", "min_reports"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_min_reports_is_not_given_it_is_half_of_the_goal_rounded_up(
    goal_count: int, min_reports: int
) -> None:
    """A commit needs half of what was aimed for, unless the operator says otherwise."""
    assert RoundPlan(goal_count).min_reports == min_reports


@pytest.mark.parametrize(
    ("goal_count", "over_selection", "admit_limit"),
    [
        (1, 1.0, 1),
        (10, 1.0, 10),
        (10, 1.3, 13),
        (3, 1.3, 4),
        (10, 1.1, 11),  # 10 * 1.1 is 11.000000000000002 in binary
        (100, 1.1, 110),
        (3, 1.0001, 4),
        (2, 2.5, 5),
    ],
)
def test_admit_limit_is_goal_times_over_selection_rounded_up(
    goal_count: int, over_selection: float, admit_limit: int
) -> None:
    """Rounded up as a person would, not as binary fractions do."""
    assert RoundPlan(goal_count, over_selection=over_selection).admit_limit == admit_limit


@given(goal_count=st.integers(1, 10_000), percent=st.integers(100, 400))
def test_over_selection_is_a_whole_percentage_admit_limit_is_exact(
    goal_count: int, percent: int
) -> None:
    """No percentage of any goal gets a client too many or too few."""
    plan = RoundPlan(goal_count, over_selection=percent / 100)

    assert plan.admit_limit == math.ceil(Fraction(goal_count * percent, 100))
    assert plan.admit_limit >= plan.goal_count >= plan.min_reports


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("goal_count", 0),
        ("goal_count", -1),
        ("min_reports", -1),
        ("min_reports", 5),
        *(("over_selection", value) for value in (0.99, 0.0, -1.0, 100.1, 1e308, *NO_NUMBER)),
        *(("selection_timeout_s", value) for value in (0.0, -1.0, *NO_NUMBER)),
        *(("report_window_s", value) for value in (0.0, -1.0, *NO_NUMBER)),
        *(("return_s", value) for value in (0.0, -1.0, *NO_NUMBER)),
        *(("commit_timeout_s", value) for value in (0.0, -1.0, *NO_NUMBER)),
        *(("grace_s", value) for value in (0.0, -1.0, *NO_NUMBER)),
        *(("retry_delay_min_s", value) for value in (-1.0, *NO_NUMBER)),
        *(("retry_delay_max_s", value) for value in (0.9, -1.0, *NO_NUMBER)),
        ("weighting", "by-hand"),
        ("weight_max", 0),
        ("weight_max", 2**53 + 1),
        *(("update_norm_max", value) for value in (0.0, -1.0, *NO_NUMBER)),
    ],
)
def test_plan_is_impossible_it_is_refused_by_the_name_of_its_field(
    setting: str, value: object
) -> None:
    """The operator hears which setting is wrong, what was given and what would be right."""
    fields: dict[str, Any] = {"goal_count": 4, setting: value}

    with pytest.raises(SettingsError) as refusal:
        RoundPlan(**fields)

    assert refusal.value.setting == setting
    assert refusal.value.reason == "impossible-plan"
    assert refusal.value.expected.startswith("it must be ")
    assert repr(refusal.value.value) == repr(value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("min_reports", 4),
        ("over_selection", 1.0),
        ("over_selection", 100.0),
        ("grace_s", 1e-9),
        ("retry_delay_min_s", 0.0),
        ("retry_delay_max_s", 1.0),
        ("weight_max", 1),
        ("weight_max", 2**53),
        ("update_norm_max", 1e-9),
    ],
)
def test_field_is_at_its_border_the_plan_is_possible(setting: str, value: object) -> None:
    """A border belongs to what is allowed."""
    fields: dict[str, Any] = {"goal_count": 4, setting: value}

    assert getattr(RoundPlan(**fields), setting) == value


def test_plan_says_when_to_come_back_as_a_window() -> None:
    """Both ends of the retry window are the plan's."""
    plan = RoundPlan(1, retry_delay_min_s=2.0, retry_delay_max_s=3.0)

    assert plan.retry_window == RetryWindow(delay_min_s=2.0, delay_max_s=3.0)


def test_plan_is_frozen() -> None:
    """A running round's plan does not change under it."""
    plan = RoundPlan(1)

    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.goal_count = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        *(("learning_rate", value) for value in (0.0, -0.1, *NO_NUMBER)),
    ],
)
def test_hyperparameter_is_impossible_it_is_refused(setting: str, value: object) -> None:
    """What no trainer can do is not sent to any."""
    fields: dict[str, Any] = {setting: value}

    with pytest.raises(SettingsError) as refusal:
        Hyperparameters(**fields)

    assert refusal.value.setting == setting
    assert refusal.value.reason == "impossible-plan"


def test_hyperparameters_are_at_their_borders_they_are_possible() -> None:
    """One pass, one example a step and any positive rate are training, too."""
    hyperparameters = Hyperparameters(epochs=1, batch_size=1, learning_rate=1e-12)

    assert dataclasses.astuple(hyperparameters) == (1, 1, 1e-12)
