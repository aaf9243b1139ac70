"""Sessions and rounds as an operator asks for them, of a real coordinator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator import status
from coordinator.settings import CoordinatorSettings
from federation.errors import PeerError, SettingsError
from federation.runtime.control import get_rounds, get_status, start_session, stop_session
from tests.servers import HOST, a_coordinator, a_shared_directory
from tests.waiting import within

ZEROS = {"w": np.zeros(3, np.float32)}


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[str]:
    """Where a coordinator listens, whose rounds are over at once since nobody takes part."""
    a_shared_directory(tmp_path, ZEROS)
    settings = CoordinatorSettings(selection_timeout_s=0.01)
    async with a_coordinator(tmp_path, settings=settings) as coordinator:
        yield f"{HOST}:{coordinator.port}"


async def until_over(target: str) -> None:
    """Wait for the session's end."""
    while (await within(get_status(target))).session.running:
        pass


async def test_session_is_started_and_stopped_each_answer_says_how_far_it_is(target: str) -> None:
    """The answer is the session's status."""
    started = await start_session(target, 9, {"selection_timeout_s": 100.0, "weighting": "equal"})

    stopped = await stop_session(target, after_round=False)

    assert (started.rounds, started.running) == (9, True)
    assert (stopped.session_id, stopped.running) == (started.session_id, False)


async def test_coordinator_refuses_the_error_has_its_words_and_its_reason(target: str) -> None:
    """Not the words for a coordinator that does not answer."""
    with pytest.raises(PeerError, match="no session is running") as caught:
        await stop_session(target, after_round=True)

    assert caught.value.reason == "no-session"
    assert caught.value.detail == "no session is running"


async def test_plan_is_impossible_with_the_coordinator_s_settings_the_error_names_the_setting(
    target: str,
) -> None:
    """Only the coordinator knows the whole plan."""
    with pytest.raises(PeerError, match="min_reports = 3 is wrong") as caught:
        await start_session(target, 1, {"min_reports": 3})

    assert caught.value.reason == "impossible-plan"


@pytest.mark.parametrize(
    ("rounds", "plan", "setting"),
    [
        (-1, {}, "rounds"),
        (2**32, {}, "rounds"),
        (1, {"goal_count": -1}, "goal_count"),
        (1, {"weight_max": 2**64}, "weight_max"),
        (1, {"weighting": "half"}, "weighting"),
    ],
)
async def test_value_has_no_room_in_the_contract_it_is_refused_here_by_its_name(
    target: str, rounds: int, plan: dict[str, Any], setting: str
) -> None:
    """As clear as what the coordinator refuses."""
    with pytest.raises(SettingsError) as caught:
        await start_session(target, rounds, plan)

    assert caught.value.setting == setting


async def test_rounds_do_not_fit_one_answer_all_come(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or as many as are asked for, from a number on."""
    await start_session(target, 5, {})
    await until_over(target)
    monkeypatch.setattr(status, "CLIENTS_BYTES_MAX", -1)  # one a message

    every = await get_rounds(target)
    some = await get_rounds(target, from_round=2, limit=3)

    assert [record.round_number for record in every] == [1, 2, 3, 4, 5]
    assert [record.round_number for record in some] == [2, 3, 4]
