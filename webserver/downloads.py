"""Checkpoints of the shared directory for those who look at a page; read only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from federation.errors import StoreError
from federation.runtime.telemetry import get_logger
from webserver.board import Checkpoint
from webserver.live import Checkpoints
from webserver.refusals import Refused

log = get_logger()

LOOK_TIMEOUT_S = 2.0
"""A shared directory that has not answered by then has no checkpoint for us now."""

PIECE_BYTES = 1 << 20

DIGEST_HEADER = "X-Headwater-Checkpoint-SHA256"


class Downloads:
    """The history of a shared directory.

    Args:
        shared_data: The directory; None: there is nothing to download.
    """

    def __init__(self, shared_data: Path | None) -> None:
        self._folder = None if shared_data is None else shared_data / "history"

    async def marked(self, checkpoints: Checkpoints) -> Checkpoints:
        """Say of each checkpoint whether it is here."""
        last, best = checkpoints
        return await self._marked(last), await self._marked(best)

    async def open(self, round_number: int, digest: str) -> tuple[BinaryIO, int]:
        """Open a round's checkpoint; return it and its size in bytes.

        Args:
            round_number: The round.
            digest: The checkpoint that its federation announced; another one is not given.

        Raises:
            Refused: It is not here, or not any more.
        """
        try:
            found = await asyncio.wait_for(
                asyncio.to_thread(self._open, round_number, digest), LOOK_TIMEOUT_S
            )
        except (StoreError, TimeoutError, OSError) as error:
            log.warning("shared directory failed", folder=str(self._folder), detail=str(error))
            found = None
        if found is None:
            detail = f"the checkpoint of round {round_number} is not here; old ones are deleted"
            raise Refused(404, detail, reason="checkpoint-missing")
        return found

    async def _marked(self, checkpoint: Checkpoint | None) -> Checkpoint | None:
        if checkpoint is None or self._folder is None:
            return checkpoint
        try:
            file, _ = await self.open(checkpoint.round_number, checkpoint.digest)
        except Refused:
            return checkpoint
        await asyncio.to_thread(file.close)
        return replace(checkpoint, here=True)

    def _open(self, round_number: int, digest: str) -> tuple[BinaryIO, int] | None:
        # Those who give nothing to download need not load what reads checkpoints.
        from federation.runtime.history import History

        if self._folder is None:
            return None
        history = History(self._folder)
        manifest = history.manifest(round_number)
        if manifest is None or manifest["digest"] != digest:
            return None
        file = history.checkpoint(round_number).open("rb")
        return file, file.seek(0, 2)


async def pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield a file's bytes from its beginning, and close it."""
    try:
        await asyncio.to_thread(file.seek, 0)
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece
    finally:
        file.close()
