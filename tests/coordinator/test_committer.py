"""The three steps of a commit: durable, at most once, and never half."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from coordinator import committer as module
from coordinator.committer import Committer
from coordinator.events import Owner, PartialReference
from coordinator.merging import merge
from federation.errors import StoreError
from federation.runtime.hdf5 import read_weights
from federation.runtime.store import SharedDirectory
from tests.coordinator.partials import ROUND_ID, base_digest, hand_in
from tests.servers import a_shared_directory
from tests.waiting import eventually, within

NORTH = Owner("north", "n1")
ONES = {"w": np.ones(3, np.float32)}


@pytest.fixture
def directory(tmp_path: Path) -> SharedDirectory:
    """A shared directory that starts from zeros."""
    return a_shared_directory(tmp_path, {"w": np.zeros(3, np.float32)})


@pytest.fixture
def committer(directory: SharedDirectory) -> Iterator[Committer]:
    """One on that directory."""
    committer = Committer(directory, history_keep=2)
    yield committer
    committer.shut_down()


def kept(
    directory: SharedDirectory, round_id: str = ROUND_ID
) -> list[tuple[Owner, PartialReference]]:
    """One partial of ones."""
    return [(NORTH, hand_in(directory, NORTH, {"ann": (ONES, 1)}, round_id))]


def manifest(directory: SharedDirectory, round_id: str = ROUND_ID) -> dict[str, Any]:
    """What a round says of itself."""
    return {"round_id": round_id, "base_digest": base_digest(directory)}


async def write(committer: Committer, directory: SharedDirectory, number: int = 1) -> str:
    """Step (a)."""
    return await within(committer.write(kept(directory), number, manifest(directory)))


def unfinished(directory: SharedDirectory) -> list[Path]:
    """What lies in the history and is no round."""
    return list(directory.history.glob(".tmp-*")) if directory.history.exists() else []


async def test_three_steps_make_the_checkpoint_current(
    directory: SharedDirectory, committer: Committer
) -> None:
    """Written beside, named, then linked as the current one."""
    digest = await write(committer, directory)
    written = read_weights(directory.checkpoint)["w"].tolist()
    await within(committer.publish(1))
    published = read_weights(directory.checkpoint)["w"].tolist()
    await within(committer.make_current(1))

    assert (written, published) == ([0.0] * 3, [0.0] * 3)
    assert read_weights(directory.checkpoint)["w"].tolist() == [1.0] * 3
    assert await committer.current_digest() == digest
    found = directory.manifest(1)
    assert found is not None
    assert (found["round_id"], found["digest"]) == (ROUND_ID, digest)
    assert unfinished(directory) == []


async def test_dropped_checkpoint_leaves_nothing_behind(
    directory: SharedDirectory, committer: Committer
) -> None:
    """The round ended without it, after it was written."""
    await write(committer, directory)

    committer.drop()

    await eventually(lambda: unfinished(directory) == [])
    assert directory.manifest(1) is None


async def test_checkpoint_that_is_dropped_while_it_is_written_fails(
    directory: SharedDirectory, committer: Committer
) -> None:
    """Whatever the disk does meanwhile, it is not staged for a later round."""
    go_on = threading.Event()

    def slowly(*arguments: Any) -> Any:
        go_on.wait(60.0)
        return merge(*arguments)

    with patch.object(module, "merge", slowly):
        writing = asyncio.create_task(write(committer, directory))
        await asyncio.sleep(0)
        committer.drop()
        go_on.set()

        with pytest.raises(StoreError) as failed:
            await writing

    assert failed.value.reason == "commit-dropped"
    assert unfinished(directory) == []


async def test_checkpoint_that_is_dropped_before_its_writing_began_fails(
    directory: SharedDirectory, committer: Committer
) -> None:
    """A task begins later than it is made; the drop in between must count."""
    writing = committer.write(kept(directory), 1, manifest(directory))

    committer.drop()

    with pytest.raises(StoreError) as failed:
        await within(writing)
    assert failed.value.reason == "commit-dropped"
    assert unfinished(directory) == []


async def test_next_round_commits_after_one_that_was_dropped(
    directory: SharedDirectory, committer: Committer
) -> None:
    """Nothing of the dropped one is published under another number."""
    await write(committer, directory, 1)
    committer.drop()

    await write(committer, directory, 2)
    await within(committer.publish(2))

    assert directory.manifest(2) is not None
    assert directory.manifest(1) is None


async def test_round_that_history_has_already_is_not_committed_again(
    directory: SharedDirectory, committer: Committer
) -> None:
    """Another coordinator passed the commit point: the loser leaves nothing behind."""
    other = Committer(directory, history_keep=2)
    await within(other.write(kept(directory, "other"), 1, manifest(directory, "other")))
    await within(other.publish(1))
    await write(committer, directory, 1)

    with pytest.raises(StoreError) as failed:
        await within(committer.publish(1))

    assert failed.value.reason == "round-exists"
    found = directory.manifest(1)
    assert found is not None
    assert found["round_id"] == "other"
    assert unfinished(directory) == []
    other.shut_down()


async def test_commit_that_failed_after_its_rename_holds(
    directory: SharedDirectory, committer: Committer
) -> None:
    """In doubt the manifest decides."""
    await write(committer, directory)

    with patch("federation.runtime.history.sync_directory", side_effect=OSError(5, "I/O")):
        await within(committer.publish(1))

    assert directory.manifest(1) is not None


async def test_commit_in_doubt_is_looked_at_until_history_can_be_read(
    directory: SharedDirectory, committer: Committer
) -> None:
    """A disk that does not let us look decides nothing: abandoned now, it might be found later."""
    await write(committer, directory)
    answers: list[Any] = [StoreError("no", reason="io-error"), StoreError("no", reason="io-error")]
    look = SharedDirectory.manifest

    def unreadable_at_first(self: SharedDirectory, round_number: int) -> Any:
        if answers:
            raise answers.pop()
        return look(self, round_number)

    with (
        patch("federation.runtime.history.sync_directory", side_effect=OSError(5, "I/O")),
        patch.object(SharedDirectory, "manifest", unreadable_at_first),
        patch.object(module, "IN_DOUBT_RETRY_S", 0.0),
    ):
        await within(committer.publish(1))

    assert answers == []
    assert directory.manifest(1) is not None


async def test_commit_that_the_disk_refused_fails_and_leaves_nothing_behind(
    directory: SharedDirectory, committer: Committer
) -> None:
    """The round is abandoned with the disk's reason; the checkpoint stays current."""
    await write(committer, directory)

    with (
        patch.object(os, "rename", side_effect=OSError(28, "No space left on device")),
        pytest.raises(StoreError) as failed,
    ):
        await within(committer.publish(1))

    assert failed.value.reason == "disk-full"
    assert unfinished(directory) == []
    assert read_weights(directory.checkpoint)["w"].tolist() == [0.0] * 3


async def test_old_rounds_are_pruned_once_a_new_one_is_current(
    directory: SharedDirectory, committer: Committer
) -> None:
    """``history_keep`` of them stay."""
    for number in (1, 2, 3):
        await write(committer, directory, number)
        await within(committer.publish(number))
        await within(committer.make_current(number))

    assert [directory.manifest(number) is not None for number in (1, 2, 3)] == [False, True, True]


async def test_history_that_cannot_be_pruned_costs_nothing(
    directory: SharedDirectory, committer: Committer
) -> None:
    """The checkpoint is current; the rest can wait."""
    await write(committer, directory)
    await within(committer.publish(1))

    with patch.object(SharedDirectory, "prune", side_effect=StoreError("no")):
        await within(committer.make_current(1))

    assert read_weights(directory.checkpoint)["w"].tolist() == [1.0] * 3
