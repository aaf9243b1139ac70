"""What clients fetch: the checkpoint from shared memory, the model file from disk, by digest."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from federation.chunking import CHUNK_BYTES_MIN, chunk_bytes_for, chunks
from federation.errors import PeerError, StoreError
from federation.runtime.disk import store_errors
from federation.runtime.frames import encode_chunk
from federation.runtime.hdf5 import encode_checkpoint
from federation.runtime.store import SharedDirectory
from federation.tensors import ModelSpec, decode
from federation.v1 import participation_pb2 as pb

FRAMES_KEPT = 8
"""Encoded chunks of a checkpoint that are kept for the next client: 16 MiB at most."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The global weights in memory, in their wire form.

    Attributes:
        sha256: Of all bytes.
        buffer: All bytes; nobody changes them.
    """

    sha256: bytes
    buffer: bytearray
    _frames: dict[tuple[int, int], bytes] = field(default_factory=dict, repr=False)

    @property
    def weights(self) -> dict[str, NDArray[Any]]:
        """Read-only views of the tensors."""
        return decode(self.buffer)

    @property
    def spec(self) -> ModelSpec:
        """Names, shapes and dtypes."""
        return ModelSpec.of(self.weights)

    def descriptor(self) -> pb.Artifact:
        """Describe it to a client."""
        return pb.Artifact(
            kind=pb.ARTIFACT_KIND_CHECKPOINT, sha256=self.sha256, size_bytes=len(self.buffer)
        )

    def frames(self, offset: int, chunk_bytes: int = 0) -> Iterator[bytes]:
        """Yield the bytes from an offset on as encoded chunks; clients side by side share them.

        Args:
            offset: Where to begin.
            chunk_bytes: Largest chunk that the client takes; 0: it does not say.
        """
        size = _chunk_bytes(len(self.buffer), chunk_bytes)
        for start, view in chunks(self.buffer, offset=offset, chunk_bytes=size):
            frame = self._frames.get((start, size))
            if frame is None:
                frame = encode_chunk(start, view)
                if len(self._frames) == FRAMES_KEPT:
                    del self._frames[next(iter(self._frames))]
                self._frames[start, size] = frame
            yield frame


@dataclass(frozen=True)
class ModelFile:
    """The Keras model file, read from disk chunk by chunk.

    Attributes:
        path: Where it is.
        sha256: Of all bytes.
        size_bytes: Of all bytes.
    """

    path: Path
    sha256: bytes
    size_bytes: int

    def descriptor(self) -> pb.Artifact:
        """Describe it to a client."""
        return pb.Artifact(
            kind=pb.ARTIFACT_KIND_MODEL, sha256=self.sha256, size_bytes=self.size_bytes
        )

    def frames(self, offset: int, chunk_bytes: int = 0) -> Iterator[bytes]:
        """Yield the bytes from an offset on as encoded chunks; see ``Checkpoint.frames``."""
        size = _chunk_bytes(self.size_bytes, chunk_bytes)
        with store_errors(self.path, "read"), self.path.open("rb") as file:
            file.seek(offset)
            while data := file.read(size):
                yield encode_chunk(offset, data)
                offset += len(data)


Artifact = Checkpoint | ModelFile


def _chunk_bytes(size: int, asked: int) -> int:
    usual = chunk_bytes_for(size)
    return min(usual, max(asked, CHUNK_BYTES_MIN)) if asked else usual


_Identity: TypeAlias = tuple[int, int, int]
"""Inode, bytes and time of change of a file: another one has another."""


class Shelf:
    """The artifacts of this selector by digest: the model and the newest two checkpoints.

    One more is kept while clients fetch the result of a session after which others ran.

    Its loads block: use a thread. Only one reads at a time, so that many who ask for the same
    checkpoint cost one buffer.
    """

    def __init__(self, directory: SharedDirectory) -> None:
        self._directory = directory
        self._reading = threading.Lock()
        self._hashing = threading.Lock()
        self._past: tuple[int, Checkpoint] | None = None
        self._model: tuple[_Identity, ModelFile] | None = None
        self._current: tuple[_Identity, int, bytes] | None = None
        self._checkpoints: dict[bytes, Checkpoint] = {}

    def find(self, sha256: bytes) -> Artifact:
        """Return the artifact with this digest; does not block.

        Raises:
            PeerError: There is none here.
        """
        checkpoint = self._checkpoints.get(sha256)
        if checkpoint is not None:
            return checkpoint
        if self._model is not None and self._model[1].sha256 == sha256:
            return self._model[1]
        if self._past is not None and self._past[1].sha256 == sha256:
            return self._past[1]
        raise PeerError("no artifact here has this digest", reason="unknown-artifact")

    def load_checkpoint(self, digest: str) -> Checkpoint:
        """Return the checkpoint with this digest, which the coordinator means.

        Raises:
            StoreError: It cannot be read, or the current one is another (``checkpoint-differs``).
        """
        with self._reading:
            for known in self._checkpoints.values():
                if known.sha256.hex() == digest:
                    return known
            _, checkpoint = self._read_current()
        if checkpoint.sha256.hex() != digest:
            raise self._differs()
        return checkpoint

    def final_checkpoint(self, digest: str) -> tuple[int, Checkpoint]:
        """Return the checkpoint with this digest, current or past, and the round that made it.

        Raises:
            StoreError: It cannot be read, or is neither (``checkpoint-differs``).
        """
        with self._reading:
            if self._past is not None and self._past[1].sha256.hex() == digest:
                return self._past
            number, checkpoint = self._read_current()
            if checkpoint.sha256.hex() == digest:
                self._past = None
                return number, checkpoint
            for number in reversed(self._directory.rounds()):
                manifest = self._directory.manifest(number)
                if manifest is not None and manifest["digest"] == digest:
                    buffer = encode_checkpoint(self._directory.past_checkpoint(number))
                    self._past = number, Checkpoint(hashlib.sha256(buffer).digest(), buffer)
                    return self._past
        raise self._differs()

    def _differs(self) -> StoreError:
        return StoreError(
            f"{self._directory.checkpoint} is not the checkpoint that the coordinator means; "
            "both must see the same shared directory",
            reason="checkpoint-differs",
        )

    def current_checkpoint(self) -> tuple[int, Checkpoint]:
        """Return the current checkpoint and the round that made it, 0 if none did.

        Raises:
            StoreError: It cannot be read.
        """
        with self._reading:
            return self._read_current()

    def _read_current(self) -> tuple[int, Checkpoint]:
        """Read the current checkpoint, unless it is the file that was read last."""
        path = self._directory.checkpoint
        with store_errors(path, "read"):
            identity = _identity(path)
        if self._current is not None and self._current[0] == identity:
            _, number, sha256 = self._current
            if sha256 in self._checkpoints:
                return number, self._checkpoints[sha256]
        # Two at a time at most: that of the running round, and the next one.
        self._checkpoints = dict(list(self._checkpoints.items())[-1:])
        number = self._directory.current_round_number()
        buffer = encode_checkpoint(path)
        checkpoint = Checkpoint(hashlib.sha256(buffer).digest(), buffer)
        with store_errors(path, "read"):
            replaced = _identity(path) != identity
        if replaced:  # so that number and weights may not belong together
            return self._read_current()
        self._current = (identity, number, checkpoint.sha256)
        self._checkpoints[checkpoint.sha256] = checkpoint
        return number, checkpoint

    def load_model(self) -> ModelFile | None:
        """Describe the model file, hashed anew only if it changed; None if there is none."""
        path = self._directory.model
        # Under a lock of its own: a model of gigabytes takes seconds.
        with self._hashing, store_errors(path, "read"):
            try:
                identity = _identity(path)
            except FileNotFoundError:
                return None
            if self._model is None or self._model[0] != identity:
                with path.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").digest()
                self._model = (identity, ModelFile(path, sha256, identity[1]))
        return self._model[1]


def _identity(path: Path) -> _Identity:
    stat = os.stat(path)
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def base_for(checkpoint: Checkpoint, norm_limited: bool) -> Mapping[str, NDArray[Any]] | None:
    """Return the weights that the norm is measured from, or None where no limit needs them."""
    return checkpoint.weights if norm_limited else None
