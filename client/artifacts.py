"""What a client fetched: the model file on disk, the newest checkpoint in memory, by digest.

Checkpoints are not cached on disk: each round makes another, so that only a client that was
restarted within a round would find the one it needs.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

from client.cache import Download, ModelCache
from federation.chunking import Assembler
from federation.errors import PeerError
from federation.runtime.frames import Piece
from federation.runtime.telemetry import get_logger
from federation.tensors import Buffer
from federation.v1 import participation_pb2 as pb

log = get_logger()

ARTIFACT_BYTES_MAX = 64 << 30
"""Largest artifact that is fetched; a larger declared size is refused."""

PROGRESS_S = 2.0
"""A transfer that takes longer says how far it is, each time that so many seconds passed."""

OTHER_LOOK_S = 0.2
"""Pause between two looks at a file that another process fetches."""

OTHER_STALL_S = 20.0
"""A file that another process fetches and that did not grow for so long is fetched here, too."""


class Source(Protocol):
    """Where artifacts come from."""

    def __call__(self, sha256: bytes, offset: int, /) -> AsyncIterator[Piece]:
        """Stream an artifact's bytes from an offset on."""


class Artifacts:
    """Fetches each artifact once.

    Args:
        cache: Where model files are kept; None: a folder that goes with this object.
        clock: Monotonic seconds.
    """

    def __init__(
        self, cache: ModelCache | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if cache is None:
            self._folder = tempfile.TemporaryDirectory(prefix="headwater-client-")
            cache = ModelCache(Path(self._folder.name), sys.maxsize)
        self._cache = cache
        self._clock = clock
        self._checkpoint: tuple[bytes, Buffer] | None = None
        self._partly: tuple[bytes, Assembler] | None = None
        self._download: tuple[bytes, Download] | None = None

    async def checkpoint(self, artifact: pb.Artifact, source: Source) -> Buffer:
        """Return the checkpoint's bytes, fetched if they are not here.

        Raises:
            TransferError: The bytes are not those that were declared.
        """
        if self._checkpoint is None or self._checkpoint[0] != artifact.sha256:
            self._checkpoint = None
            self._checkpoint = (artifact.sha256, await self._fetch(artifact, source))
        return self._checkpoint[1]

    async def model(self, artifact: pb.Artifact, source: Source) -> Path:
        """Return where the model file is, fetched if it is not here.

        Raises:
            TransferError: The bytes are not those that were declared.
            StoreError: The disk refused.
        """
        _check(artifact)
        sha256, size = artifact.sha256, artifact.size_bytes
        # At each look what is there may have changed: other processes fetch and delete, too.
        while (path := await asyncio.to_thread(self._cache.find, sha256, size)) is None:
            download = await self._begin(artifact)
            if download is not None:
                return await self._finish(artifact, download, source)
        return path

    async def _fetch(self, artifact: pb.Artifact, source: Source) -> Buffer:
        """Fetch and verify; after a cut the next try goes on where this one ended."""
        _check(artifact)
        sha256, assembler = self._partly or (b"", None)
        if assembler is None or (sha256, assembler.size) != (artifact.sha256, artifact.size_bytes):
            assembler = Assembler(artifact.size_bytes)
        self._partly = (artifact.sha256, assembler)
        progress = _Progress("checkpoint", artifact.size_bytes, self._clock)
        async for chunk in source(artifact.sha256, assembler.received):
            assembler.add(chunk.offset, chunk.data)
            progress.reached(assembler.received)
        self._partly = None
        assembler.finish(chunks=assembler.chunks, size=artifact.size_bytes, sha256=artifact.sha256)
        return assembler.buffer

    async def _begin(self, artifact: pb.Artifact) -> Download | None:
        """Go on with the file of this artifact; None: look again whether it is here.

        Waits while another process fetches it.
        """
        sha256, size = artifact.sha256, artifact.size_bytes
        begun_sha256, begun = self._download or (b"", None)
        if begun is not None and (begun_sha256, begun.size) == (sha256, size):
            return begun
        self._stop_download()
        bytes_there, grown_s = -2, self._clock()
        while (download := await asyncio.to_thread(self._cache.begin, sha256, size)) is None:
            bytes_now = self._cache.bytes_of_part(sha256)
            if bytes_now < 0:
                return None
            if bytes_now != bytes_there:
                bytes_there, grown_s = bytes_now, self._clock()
            elif self._clock() - grown_s > OTHER_STALL_S:
                log.warning("another process fetches the model too slowly", bytes=bytes_now)
                begin = self._cache.begin
                download = await asyncio.to_thread(begin, sha256, size, alone=True)
                break
            await asyncio.sleep(OTHER_LOOK_S)
        if download is not None:
            self._download = (sha256, download)
        return download

    async def _finish(self, artifact: pb.Artifact, download: Download, source: Source) -> Path:
        progress = _Progress("model", artifact.size_bytes, self._clock)
        if download.received < download.size:
            async for chunk in source(artifact.sha256, download.received):
                await asyncio.to_thread(download.add, chunk.offset, chunk.data)
                progress.reached(download.received)
        download.finish(artifact.sha256)
        self._download = None
        return await asyncio.to_thread(self._cache.place, download, artifact.sha256)

    def _stop_download(self) -> None:
        if self._download is not None:
            self._download[1].close()
            self._download = None

    def close(self) -> None:
        """Give back what others may use, and delete a folder of one's own."""
        self._stop_download()
        self._cache.close()
        if self._folder is not None:
            self._folder.cleanup()


class _Progress:
    """Says in the log how far a transfer is, if it takes long."""

    def __init__(self, what: str, size: int, clock: Callable[[], float]) -> None:
        self._what = what
        self._size = size
        self._clock = clock
        self._began_s = self._said_s = clock()
        self._began_at: int | None = None

    def reached(self, received: int) -> None:
        """So many bytes are here."""
        now_s = self._clock()
        if self._began_at is None:
            self._began_at = received
        if now_s - self._said_s < PROGRESS_S:
            return
        self._said_s = now_s
        rate = (received - self._began_at) / (now_s - self._began_s)
        log.info(
            "fetching",
            artifact=self._what,
            percent=100 * received // self._size,
            received_bytes=received,
            size_bytes=self._size,
            bytes_per_s=round(rate),
        )


def _check(artifact: pb.Artifact) -> None:
    if artifact.size_bytes > ARTIFACT_BYTES_MAX or len(artifact.sha256) != 32:
        raise PeerError(
            f"an artifact of {artifact.size_bytes} bytes is not fetched",
            reason="artifact-refused",
        )
