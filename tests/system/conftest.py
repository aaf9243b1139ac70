"""The federation of a test, whose logs are shown if it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.runtime.initialise import initialise_with
from tests.system.processes import Federation

TIMEOUT_S = 300
"""What a test gets in which several waits come close to their deadlines."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than some seconds, or needs TensorFlow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each wait has its own deadline; a test has several."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Federation]:
    """A federation without a shared directory yet."""
    async with Federation(tmp_path) as federation:
        yield federation


@pytest.fixture
def federation(bare: Federation) -> Federation:
    """A federation whose weights, ``w`` [2, 3] and ``b`` [3], are all 0.5."""
    half = np.full((2, 3), 0.5, np.float32)
    initialise_with(bare.shared_data, {"w": half, "b": half[0]})
    return bare


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Show what every process of a failed test printed."""
    report = yield
    federation = getattr(item, "funcargs", {}).get("bare")
    if report.failed and isinstance(federation, Federation):
        for process in federation.all:
            report.sections.append((f"{process.name}", process.story()))
    return report
