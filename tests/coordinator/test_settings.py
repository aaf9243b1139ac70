"""Tests of ``coordinator.settings``."""

from __future__ import annotations

import dataclasses

import pytest

from coordinator.settings import CoordinatorSettings
from federation.errors import SettingsError
from federation.plan import Hyperparameters, RoundPlan
from federation.runtime.settings import load_settings


def test_nothing_is_given_plan_has_the_plans_own_defaults() -> None:
    """A default that is written in two places is the same in both."""
    settings = CoordinatorSettings(goal_count=5)

    assert settings.plan() == RoundPlan(goal_count=5)


def test_every_field_is_given_plan_carries_it() -> None:
    """No field of the plan is out of the operator's reach."""
    given = {
        "goal_count": 10,
        "over_selection": 1.3,
        "min_reports": 4,
        "selection_timeout_s": 31.0,
        "report_window_s": 32.0,
        "grace_s": 3.0,
        "return_s": 34.0,
        "commit_timeout_s": 35.0,
        "weighting": "equal",
        "weight_max": 1000,
        "update_norm_max": 2.5,
        "retry_delay_min_s": 0.1,
        "retry_delay_max_s": 0.2,
    }
    hyperparameters = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}
    texts = {name: str(value) for name, value in (given | hyperparameters).items()}

    plan = load_settings(CoordinatorSettings, texts | {"selection_pipelined": True}).settings.plan()

    assert dataclasses.asdict(plan) == given | {
        "pipelined": True,
        "hyperparameters": dataclasses.asdict(Hyperparameters(2, 16, 0.01)),
    }
    assert given.keys() | {"pipelined", "hyperparameters"} == RoundPlan.__dataclass_fields__.keys()


@pytest.mark.parametrize(
    ("flags", "setting"),
    [
        ({"goal_count": "0"}, "goal_count"),
        ({"goal_count": "2", "min_reports": "3"}, "min_reports"),
        ({"over_selection": "0.9"}, "over_selection"),
        ({"over_selection": "nan"}, "over_selection"),
        ({"report_window_s": "0"}, "report_window_s"),
        ({"retry_delay_min_s": "2", "retry_delay_max_s": "1"}, "retry_delay_max_s"),
        ({"learning_rate": "-1"}, "learning_rate"),
        ({"weighting": "wealth"}, "weighting"),
    ],
)
def test_plan_is_impossible_error_names_setting_and_source(
    flags: dict[str, str], setting: str
) -> None:
    """The plan's rules are told like those of a single setting."""
    with pytest.raises(SettingsError) as caught:
        load_settings(CoordinatorSettings, flags)

    assert caught.value.setting == setting
    assert caught.value.source == f"flag --{setting.replace('_', '-')}"


def test_webservers_are_named_each_is_told_once() -> None:
    """By a repeated flag, and signed with the secret."""
    settings = load_settings(
        CoordinatorSettings,
        {
            "webservers": [
                "http://127.0.0.1:8050",
                "https://hw.example/in?x=1",
                "http://127.0.0.1:8050",
            ],
            "webserver_secret": "a secret of ours",
        },
    ).settings

    push = settings.push()

    assert push.urls == ("http://127.0.0.1:8050", "https://hw.example/in?x=1")
    assert push.secret == "a secret of ours"
    assert "a secret of ours" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8050",
        "ftp://hw.example",
        "http://",
        "http://:8050",
        "http://hw.example:0",
        "http://hw.example:123456",
        "http://hw example/",
        "http://hw.example/#fragment",
        "http://ann:hidden@hw.example/",
        "http://hw.example/\n",
        "http://[::1",
        "",
    ],
)
def test_url_cannot_be_posted_to_the_operator_is_told_and_no_password_is_shown(url: str) -> None:
    """At the start, not with the first stage."""
    with pytest.raises(SettingsError) as caught:
        load_settings(CoordinatorSettings, {"webservers": [url]})

    assert caught.value.setting == "webservers"
    assert "http://127.0.0.1:8050" in caught.value.expected
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://[::1]:8050", "https://hw-1.example.org", "http://h/a?b=c"])
def test_url_can_be_posted_to_it_is_kept_as_it_is(url: str) -> None:
    """Exactly that URL is sent to."""
    assert load_settings(CoordinatorSettings, {"webservers": [url]}).settings.webservers == (url,)
