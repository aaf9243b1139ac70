"""What the browser tests share: Chromium, a federation's processes, the real webserver."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from federation.runtime.initialise import initialise_with
from tests.browser.chromium import MISSING, a_browser, executable
from tests.browser.webserver_process import WebserverProcess
from tests.system.processes import Federation

if TYPE_CHECKING:
    from playwright.async_api import Browser

REQUIRED = "REQUIRE_BROWSER"
"""Environment variable: with 1 a missing Chromium fails the tests instead of skipping them."""

TIMEOUT_S = 300
"""What a test gets in which several waits come close to their deadlines."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each wait has its own deadline; a test has several."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Start Chromium, or skip where there is none."""
    if executable() is None:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    async with a_browser() as started:
        yield started


@pytest.fixture
async def federation(tmp_path: Path) -> AsyncIterator[Federation]:
    """Give a test processes that end with it, and weights to start from."""
    async with Federation(tmp_path) as started:
        initialise_with(started.shared_data, {"w": np.full((2, 3), 0.5, np.float32)})
        yield started


@pytest.fixture
async def webserver(federation: Federation) -> WebserverProcess:
    """Start a webserver that only shows."""
    started = WebserverProcess(federation)
    await started.start()
    return started
