"""An engine is there or the tests are skipped; images are built once; a failure shows its logs."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engine import TARGETS, Refused, Stage, build, trouble_with_engine

REQUIRED = "REQUIRE_CONTAINERS"

TIMEOUT_S = 600
"""What a test gets; each of its waits has a deadline of its own."""

BUILD_TIMEOUT_S = 1800
"""What the first test gets, which builds the images."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these are `containers`, and are left out unless they are asked for."""
    mine = [item for item in items if Path(__file__).parent in item.path.parents]
    for number, item in enumerate(mine):
        item.add_marker(pytest.mark.containers)
        item.add_marker(pytest.mark.timeout(TIMEOUT_S if number else BUILD_TIMEOUT_S))


@pytest.fixture(scope="session")
def engine() -> None:
    """Skip where there is no engine, and say why; fail where one must be."""
    trouble = trouble_with_engine()
    if trouble and os.environ.get(REQUIRED) == "1":
        pytest.fail(f"no Docker engine, and {REQUIRED}=1: {trouble}")
    if trouble:
        pytest.skip(f"no Docker engine: {trouble}")


@pytest.fixture(scope="session")
def images(engine: None) -> None:
    """Build all four."""
    for target in TARGETS:
        build(target)


@pytest.fixture
def stage(images: None) -> Iterator[Stage]:
    """A network and a volume of this test's own."""
    with Stage() as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Show what every container of a failed test said."""
    report = yield
    stage = getattr(item, "funcargs", {}).get("stage")
    if report.failed and call.when == "call" and isinstance(stage, Stage):
        try:
            report.sections.extend(stage.story().items())
        except Refused as why:
            report.sections.append(("logs", str(why)))
    return report
