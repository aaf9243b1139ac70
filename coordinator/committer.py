"""The three steps of a commit, each in a thread, for one round at a time."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from coordinator.merging import Kept, merge
from coordinator.strategy import FederatedAveraging
from federation.errors import StoreError
from federation.runtime.hdf5 import encode_checkpoint
from federation.runtime.store import SharedDirectory, StagedCheckpoint
from federation.runtime.telemetry import get_logger

log = get_logger()

T = TypeVar("T")

IN_DOUBT_RETRY_S = 1.0
"""Pause before another look at a history that cannot be read, whether the round is in it."""


class Committer:
    """Makes checkpoints durable and current.

    Args:
        directory: The shared directory.
        history_keep: Past rounds that are kept.
        check_tenure: Raises ``StoreError`` once another coordinator began on the directory.
    """

    def __init__(
        self,
        directory: SharedDirectory,
        history_keep: int,
        check_tenure: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._check_tenure = check_tenure
        self._history_keep = history_keep
        self._strategy = FederatedAveraging()
        self._dropped = threading.Event()
        self._staged: StagedCheckpoint | None = None
        self._round_id = ""
        self._disk = ThreadPoolExecutor(4, thread_name_prefix="commit")

    async def current_digest(self) -> str:
        """Return the digest of the current checkpoint's wire form, from its bytes."""
        return await self._in_thread(
            lambda: hashlib.sha256(encode_checkpoint(self._directory.checkpoint)).hexdigest()
        )

    def write(
        self, kept: Kept, round_number: int, manifest: Mapping[str, Any]
    ) -> Coroutine[Any, Any, str]:
        """Step (a): merge, and write the checkpoint beside the current one; return its digest.

        A ``drop`` after this call counts, also before what it returns is awaited.

        Raises:
            StoreError: It could not be written, or the round ended meanwhile.
        """
        dropped = self._dropped = threading.Event()
        return self._write(kept, round_number, manifest, dropped)

    async def _write(
        self,
        kept: Kept,
        round_number: int,
        manifest: Mapping[str, Any],
        dropped: threading.Event,
    ) -> str:
        staged = await self._in_thread(
            lambda: merge(self._directory, kept, round_number, manifest, self._strategy, dropped)
        )
        if dropped.is_set():
            await self._in_thread(lambda: self._directory.discard(staged))
            raise StoreError("the round ended without this checkpoint", reason="commit-dropped")
        self._staged, self._round_id = staged, manifest["round_id"]
        return staged.digest

    def drop(self) -> None:
        """The round ends without the checkpoint that is being written."""
        self._dropped.set()
        staged, self._staged = self._staged, None
        if staged is not None:
            self._disk.submit(self._directory.discard, staged)

    async def publish(self, round_number: int) -> None:
        """Step (b), the commit point; in doubt the history decides, as soon as it can be read.

        Raises:
            StoreError: The round is not in the history.
        """
        staged, self._staged = self._staged, None
        assert staged is not None
        try:
            await self._in_thread(lambda: self._publish(staged, round_number))
        except StoreError as error:
            if not await self.holds(round_number, self._round_id):
                await self._in_thread(lambda: self._directory.discard(staged))
                raise
            log.warning("commit was in doubt and holds", reason=error.reason)

    def _publish(self, staged: StagedCheckpoint, round_number: int) -> None:
        self._check_tenure()
        self._directory.publish(staged, round_number)

    async def holds(self, round_number: int, round_id: str) -> bool:
        """Say whether this round is in the history, as soon as that can be read."""
        while True:
            try:
                found = await self._in_thread(lambda: self._directory.manifest(round_number))
                return found is not None and found.get("round_id") == round_id
            except StoreError as error:
                log.error("commit in doubt", reason=error.reason, detail=error.detail)
                await asyncio.sleep(IN_DOUBT_RETRY_S)

    async def make_current(self, round_number: int) -> None:
        """Step (c): replace the current checkpoint; then delete old history."""
        await self._in_thread(lambda: self._directory.make_current(round_number))
        try:
            await self._in_thread(lambda: self._directory.prune(self._history_keep))
        except StoreError as error:
            log.warning("history not pruned", reason=error.reason, detail=error.detail)

    def shut_down(self) -> None:
        """Give the threads back."""
        self._disk.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, function)
