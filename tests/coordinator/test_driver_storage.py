"""The disk refuses, at each place where the coordinator writes and with each of its reasons."""

from __future__ import annotations

import asyncio
import errno
import os
import pkgutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from coordinator.events import PartialReference, PartialSubmitted
from coordinator.journal import Journal
from coordinator.records import Records
from coordinator.round import Closing
from federation.phases import Outcome
from federation.runtime.history import History
from federation.runtime.store import SharedDirectory
from tests.coordinator.test_driver import NORTH, Desk, a_desk
from tests.waiting import eventually

WORDS = {
    errno.ENOSPC: "disk-full",
    errno.EROFS: "read-only",
    errno.EACCES: "permission-denied",
    errno.EIO: "io-error",
}

EVERY_REASON = pytest.mark.parametrize("number", WORDS, ids=list(WORDS.values()))


@dataclass
class Fault:
    """A disk that refuses so often.

    Attributes:
        number: The system's ``errno``.
        left: How often it still refuses.
    """

    number: int
    left: int

    def strike(self) -> None:
        """Refuse, if it still does."""
        if self.left > 0:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number))


@dataclass(frozen=True)
class Place:
    """A call to the disk.

    Attributes:
        function: What is called, for ``patch``.
        matches: Which calls, by their arguments.
    """

    function: str
    matches: Callable[..., bool] = lambda *arguments, **more: True


STAGE = Place("federation.runtime.history.write_checkpoint")
STAGED = Place("federation.runtime.history.sync_file")
RENAME = Place("os.rename", lambda _, target: Path(target).name.startswith("round-"))
RENAMED = Place("federation.runtime.history.sync_directory", lambda path: path.name == "history")
CURRENT = Place("federation.runtime.store._link_or_copy")
RECORD = Place("os.replace", lambda _, target: Path(target).parent.name == "rounds")
LINE = Place("os.fdatasync")
OUTCOME = Place("os.pwrite", lambda _, line, offset: b"CommitFinished" in line)
GENERATION = Place("os.rename", lambda _, target: Path(target).suffix == ".jsonl")


@contextmanager
def refusing(number: int, *places: Place, times: int = 1) -> Iterator[Fault]:
    """Let the disk refuse at these places."""
    fault = Fault(number, times)
    with ExitStack() as stack:
        stack.enter_context(patch("coordinator.durability.STORAGE_RETRY_S", 0.001))
        for place in places:
            stack.enter_context(_struck(place, fault))
        yield fault


@contextmanager
def _struck(place: Place, fault: Fault) -> Iterator[None]:
    real: Callable[..., Any] = pkgutil.resolve_name(place.function)

    def call(*arguments: Any, **more: Any) -> Any:
        if place.matches(*arguments, **more):
            fault.strike()
        return real(*arguments, **more)

    with patch(place.function, call):
        yield


async def second_round_commits(desk: Desk) -> None:
    """Once the disk takes what it is given, everything is as ever."""
    session = desk.driver.session
    assert session is not None
    await desk.round_of("ann", value=3.0)
    await desk.over(session)

    assert desk.outcomes[1].outcome is Outcome.COMMITTED
    assert desk.checkpoint() == [3.0] * 3
    assert desk.driver.storage_failure == ""
    assert not list(desk.directory.history.glob(".tmp-*"))
    assert Records(desk.directory.coordinator / "rounds").numbers(0) == [1, 2]


# -- The commit -------------------------------------------------------------------------------


@EVERY_REASON
@pytest.mark.parametrize("place", [STAGE, STAGED, RENAME], ids=["stage", "sync", "rename"])
async def test_disk_refuses_before_the_commit_point_the_round_is_abandoned_with_its_reason(
    tmp_path: Path, place: Place, number: int
) -> None:
    """The current checkpoint is whole, nothing is left of the new one, and the next commits."""
    async with a_desk(tmp_path) as desk:
        await desk.start(2, goal_count=1)
        with refusing(number, place):
            await desk.round_of("ann", value=2.0)
            end = await desk.command("end_round")
            kept = desk.checkpoint()

        assert (end.committed, end.reason) == (False, WORDS[number])
        assert [outcome.reason for outcome in desk.outcomes] == [WORDS[number]]
        assert kept == [0.0] * 3
        await second_round_commits(desk)
        assert desk.directory.rounds() == [2]


@EVERY_REASON
@pytest.mark.parametrize(
    "place", [RENAMED, RECORD, CURRENT, OUTCOME], ids=["sync", "record", "current", "outcome"]
)
async def test_disk_refuses_behind_the_commit_point_it_is_asked_again_until_it_takes_it(
    tmp_path: Path, place: Place, number: int
) -> None:
    """What is in the history is committed; nothing else begins before all of it is done."""
    async with a_desk(tmp_path) as desk:
        await desk.start(2, goal_count=1)
        times = 1 if place is RENAMED else 3
        with refusing(number, place, times=times) as fault:
            await desk.round_of("ann", value=2.0)
            end = await desk.command("end_round")
            await eventually(lambda: fault.left == 0)

        assert end.committed
        await second_round_commits(desk)
        assert desk.outcomes[0].outcome is Outcome.COMMITTED
        assert desk.directory.rounds() == [1, 2]


@EVERY_REASON
async def test_disk_refuses_a_selector_s_sum_the_round_is_abandoned_with_its_reason(
    tmp_path: Path, number: int
) -> None:
    """Too few reports are left, and the operator reads why."""
    async with a_desk(tmp_path) as desk:
        await desk.start(2, goal_count=1)
        order = await desk.configured("ann")
        await desk.fold(order, "ann")
        await desk.command("close_reporting")
        failed = PartialReference("", 1, 1, ("ann",), failure=WORDS[number])
        await desk.driver.post(PartialSubmitted(NORTH, order.round_id, failed))
        end = await desk.command("end_round")

        assert (end.committed, end.reason) == (False, WORDS[number])
        await second_round_commits(desk)


async def test_rename_takes_longer_than_the_commit_timeout_it_is_awaited(tmp_path: Path) -> None:
    """Only the writing may time out: a rename that may have happened is no abandoned round."""
    go_on = threading.Event()
    publish = History.publish

    def slowly(self: History, *arguments: Any) -> None:
        go_on.wait(60.0)
        publish(self, *arguments)

    async with a_desk(tmp_path) as desk:
        await desk.start(2, goal_count=1, commit_timeout_s=0.2)
        with patch.object(History, "publish", slowly):
            await desk.round_of("ann", value=2.0)
            await eventually(lambda: _deadline_of_rename_s(desk))
            due_s = _deadline_of_rename_s(desk)
            await eventually(lambda: _deadline_of_rename_s(desk) > due_s)
            go_on.set()
            end = await desk.command("end_round")

        assert end.committed
        await second_round_commits(desk)


def _deadline_of_rename_s(desk: Desk) -> float:
    """Return until when the rename is awaited at least; 0 before it has begun."""
    round_ = desk.driver.round
    publishing = round_ is not None and round_.closing is Closing.PUBLISHING
    return round_.phase_deadline_s if round_ is not None and publishing else 0.0


# -- The journal ------------------------------------------------------------------------------


@EVERY_REASON
@pytest.mark.parametrize("times", [1, 4], ids=["once", "for-a-while"])
async def test_journal_is_refused_the_round_is_abandoned_as_soon_as_that_can_be_written(
    tmp_path: Path, number: int, times: int
) -> None:
    """A failed sync is never tried again on the same file: a new generation follows."""
    async with a_desk(tmp_path) as desk:
        await desk.start(2, goal_count=1)
        order = await desk.configured("ann")
        before = _generations(desk.directory)
        with refusing(number, LINE, GENERATION, times=times) as fault:
            await desk.fold(order, "ann")
            end = await desk.command("end_round")

        assert fault.left == 0
        assert (end.committed, end.reason) == (False, WORDS[number])
        assert [outcome.reason for outcome in desk.outcomes] == [WORDS[number]]
        assert len(_generations(desk.directory)) == 1
        assert _generations(desk.directory) > before
        await second_round_commits(desk)


@EVERY_REASON
async def test_next_generation_is_refused_the_old_one_goes_on(tmp_path: Path, number: int) -> None:
    """It is due, not needed."""
    async with a_desk(tmp_path) as desk:
        await desk.start(2, goal_count=1)
        with (
            patch("coordinator.journal.GENERATION_BYTES_MAX", 0),
            refusing(number, GENERATION, times=1_000) as fault,
        ):
            await desk.round_of("ann", value=2.0)
            end = await desk.command("end_round")

        assert end.committed
        assert fault.left < 1_000
        await second_round_commits(desk)


async def test_journal_is_slow_nothing_is_lost(tmp_path: Path) -> None:
    """Everything waits for the disk, and nobody hears of what is not durable."""
    may_write = threading.Event()
    append = Journal.append

    def slowly(self: Journal, *arguments: Any, **more: Any) -> None:
        may_write.wait(60.0)
        append(self, *arguments, **more)

    async with a_desk(tmp_path) as desk:
        await desk.start(2, goal_count=1)
        order = await desk.configured("ann")
        with patch.object(Journal, "append", slowly):
            await desk.fold(order, "ann")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await desk.command("close_reporting")
            unheard = desk.driver.round
            may_write.set()
            await desk.command("close_reporting")
        await desk.hand_in(order, "ann", value=2.0)
        end = await desk.command("end_round")

        assert unheard is not None
        assert unheard.counts.folded == 0
        assert end.committed
        await second_round_commits(desk)


def _generations(directory: SharedDirectory) -> list[str]:
    return sorted(path.name for path in (directory.coordinator / "journal").glob("*.jsonl"))
