"""What a client fetched: the model file on disk, the newest checkpoint in memory, by digest."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from federation.chunking import Assembler
from federation.errors import PeerError
from federation.v1 import participation_pb2 as pb

MODEL_BYTES_MAX = 16 << 30
"""Largest artifact that is fetched; a larger declared size is refused."""


class Source(Protocol):
    """Where artifacts come from."""

    def __call__(self, sha256: bytes, offset: int, /) -> AsyncIterator[pb.Chunk]:
        """Stream an artifact's bytes from an offset on."""


class Artifacts:
    """Fetches each artifact once.

    The model file lies in a folder that goes with the process, under a name ending in ``.h5``,
    by which Keras chooses its parser.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="headwater-client-")
        self._checkpoint: tuple[bytes, bytearray] | None = None
        self._partly: dict[bytes, Assembler] = {}

    async def checkpoint(self, artifact: pb.Artifact, source: Source) -> bytearray:
        """Return the checkpoint's bytes, fetched if they are not here."""
        if self._checkpoint is None or self._checkpoint[0] != artifact.sha256:
            self._checkpoint = None
            self._checkpoint = (artifact.sha256, await self._fetch(artifact, source))
        return self._checkpoint[1]

    async def model(self, artifact: pb.Artifact, source: Source) -> Path:
        """Return where the model file is, fetched if it is not here."""
        path = Path(self._folder.name) / f"{artifact.sha256.hex()}.h5"
        if not path.exists():
            data = await self._fetch(artifact, source)
            await asyncio.to_thread(_place, path, data)
        return path

    async def _fetch(self, artifact: pb.Artifact, source: Source) -> bytearray:
        """Fetch and verify; after a cut the next try goes on where this one ended.

        Raises:
            TransferError: The bytes are not those that were declared.
        """
        if artifact.size_bytes > MODEL_BYTES_MAX or len(artifact.sha256) != 32:
            raise PeerError(
                f"an artifact of {artifact.size_bytes} bytes is not fetched",
                reason="artifact-refused",
            )
        assembler = self._partly.pop(artifact.sha256, None)
        if assembler is None or assembler.size != artifact.size_bytes:
            assembler = Assembler(artifact.size_bytes)
        self._partly = {artifact.sha256: assembler}
        async for chunk in source(artifact.sha256, assembler.received):
            assembler.add(chunk.offset, chunk.data)
        del self._partly[artifact.sha256]
        assembler.finish(chunks=assembler.chunks, size=artifact.size_bytes, sha256=artifact.sha256)
        return assembler.buffer

    def close(self) -> None:
        """Delete the folder."""
        self._folder.cleanup()


def _place(path: Path, data: bytearray) -> None:
    """Write a file that is there whole or not at all."""
    temporary = path.with_name(f"{secrets.token_hex(4)}.part")
    temporary.write_bytes(data)
    temporary.rename(path)
