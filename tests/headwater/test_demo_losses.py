"""Tests of ``headwater.demo_losses``."""

from __future__ import annotations

import pytest

from headwater.demo_losses import STARTS_MAX, WRONG_SETTING, after_loss

KILLED = -9
OTHERS = ["coordinator", "selector", "client"]


def test_client_is_killed_it_is_started_again() -> None:
    """Rounds wait for all clients, and a demo shows that they survive the loss of one."""
    assert after_loss("client", KILLED, 1, OTHERS) == "start-again"


def test_client_ends_again_and_again_the_demo_ends() -> None:
    """What fails each time is for the person to see."""
    assert after_loss("client", 1, STARTS_MAX, OTHERS) == "end"


def test_client_cannot_work_with_its_settings_the_demo_ends() -> None:
    """The next one could not either."""
    assert after_loss("client", WRONG_SETTING, 1, OTHERS) == "end"


@pytest.mark.parametrize(
    ("left", "then"), [(OTHERS, "go-on"), (["coordinator", "client"], "end")], ids=["one", "none"]
)
def test_selector_is_lost_the_demo_goes_on_while_another_is_left(
    left: list[str], then: str
) -> None:
    """Each client knows all selectors."""
    assert after_loss("selector", KILLED, 1, left) == then


def test_coordinator_is_lost_the_demo_ends() -> None:
    """It has the rounds."""
    assert after_loss("coordinator", KILLED, 1, OTHERS) == "end"


@pytest.mark.parametrize(
    ("starts", "then"), [(1, "start-again"), (STARTS_MAX, "go-on")], ids=["once", "again and again"]
)
def test_webserver_is_lost_it_is_started_again_and_never_ends_the_demo(
    starts: int, then: str
) -> None:
    """It remembers everything, and no round needs it."""
    assert after_loss("webserver", KILLED, starts, OTHERS) == then
