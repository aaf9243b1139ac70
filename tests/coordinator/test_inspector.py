"""A partial is looked at before it counts: it is there, and it is what its selector said."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.events import Event, Owner, PartialReference, PartialSubmitted
from coordinator.inspector import Inspector
from coordinator.round import Round
from federation.phases import Phase
from federation.plan import RoundPlan
from federation.runtime.clock import Clock
from federation.runtime.store import SharedDirectory
from federation.v1 import coordination_pb2 as pb
from tests.coordinator.partials import ROUND_ID, base_digest, hand_in
from tests.servers import a_shared_directory
from tests.waiting import within

NORTH = Owner("north", "n1")
ONES = {"w": np.ones(3, np.float32)}


class Desk:
    """As much of a driver as an inspector sees."""

    def __init__(self, directory: SharedDirectory) -> None:
        self.base_digest = base_digest(directory)
        self.clock = Clock()
        self.round: Round | None = None
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.tasks: list[asyncio.Task[None]] = []

    def serve(self, round_id: str = ROUND_ID, grace_s: float = 30.0) -> None:
        """Have a round run."""
        plan = RoundPlan(goal_count=1, grace_s=grace_s)
        deadline_s = self.clock.now_s() + 60.0
        self.round = Round(1, round_id, plan, self.base_digest, Phase.REPORTING, deadline_s)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(coroutine))

    async def post(self, event: Event) -> None:
        self.events.put_nowait(event)


@pytest.fixture
def directory(tmp_path: Path) -> SharedDirectory:
    """A shared directory that starts from zeros."""
    return a_shared_directory(tmp_path, {"w": np.zeros(3, np.float32)})


@pytest.fixture
def desk(directory: SharedDirectory) -> Desk:
    """Where events go."""
    return Desk(directory)


@pytest.fixture
def inspector(directory: SharedDirectory, desk: Desk) -> Iterator[Inspector]:
    """One on that directory."""
    inspector = Inspector(directory, desk)  # type: ignore[arg-type]
    yield inspector
    inspector.shut_down()


def said(reference: PartialReference, **changes: Any) -> pb.PartialWritten:
    """What a selector tells of its partial."""
    facts: dict[str, Any] = {
        "round_id": ROUND_ID,
        "sha256": reference.sha256,
        "count": reference.count,
        "weight": reference.weight,
        "client_ids": reference.client_ids,
    }
    return pb.PartialWritten(**(facts | changes))


async def inspected(
    inspector: Inspector, desk: Desk, message: pb.PartialWritten
) -> PartialReference:
    """Inspect; return what the round is told."""
    inspector.submit(NORTH, message)
    event = await within(desk.events.get())
    assert isinstance(event, PartialSubmitted)
    assert (event.owner, event.round_id) == (NORTH, message.round_id)
    return event.partial


async def test_partial_that_is_what_was_said_is_submitted_as_it_is(
    directory: SharedDirectory, desk: Desk, inspector: Inspector
) -> None:
    """Its reference goes to the round."""
    desk.serve()
    reference = hand_in(directory, NORTH, {"ann": (ONES, 3)})

    assert await inspected(inspector, desk, said(reference)) == reference


async def test_file_that_is_seen_late_is_waited_for(
    directory: SharedDirectory, desk: Desk, inspector: Inspector
) -> None:
    """Network file systems show a new file after a while."""
    desk.serve()
    reference = hand_in(directory, NORTH, {"ann": (ONES, 3)})
    path = directory.partial("north")
    aside = path.rename(path.with_name("aside"))

    inspector.submit(NORTH, said(reference))
    await asyncio.sleep(0)
    aside.rename(path)
    event = await within(desk.events.get())

    assert isinstance(event, PartialSubmitted)
    assert event.partial == reference


@pytest.mark.parametrize(
    ("header", "changes"),
    [
        ({"round_id": "the-round-before"}, {}),
        ({"incarnation": "n0"}, {}),
        ({"base_digest": "00" * 32}, {}),
        ({}, {"weight": 4}),
        ({}, {"client_ids": ["ben"]}),
    ],
)
async def test_partial_that_is_another_is_submitted_as_a_failure(
    directory: SharedDirectory,
    desk: Desk,
    inspector: Inspector,
    header: dict[str, Any],
    changes: dict[str, Any],
) -> None:
    """Once grace is over; the event follows in any case."""
    desk.serve(grace_s=0.01)
    reference = hand_in(directory, NORTH, {"ann": (ONES, 3)}, **header)

    found = await inspected(inspector, desk, said(reference, **changes))

    assert found.failure == "stale-partial"


async def test_missing_partial_is_submitted_as_a_failure(desk: Desk, inspector: Inspector) -> None:
    """With the reason of the disk."""
    desk.serve(grace_s=0.01)
    reference = PartialReference("00" * 32, 1, 1, ("ann",))

    assert (await inspected(inspector, desk, said(reference))).failure == "file-missing"


async def test_empty_or_failed_partial_needs_no_file(desk: Desk, inspector: Inspector) -> None:
    """There is none to look at."""
    desk.serve()

    empty = await inspected(inspector, desk, pb.PartialWritten(round_id=ROUND_ID))
    failed = await inspected(
        inspector, desk, pb.PartialWritten(round_id=ROUND_ID, count=1, failure="fold-failed")
    )

    assert (empty.count, empty.failure) == (0, "")
    assert failed.failure == "fold-failed"


@pytest.mark.parametrize("running", ["another-round", None])
async def test_partial_of_a_round_that_does_not_run_is_not_looked_for(
    desk: Desk, inspector: Inspector, running: str | None
) -> None:
    """It would be waited for in vain."""
    if running is not None:
        desk.serve(running)
    reference = PartialReference("00" * 32, 1, 1, ("ann",))

    assert (await inspected(inspector, desk, said(reference))).failure == "stale-partial"
