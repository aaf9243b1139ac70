"""How long work says how far it is, to whoever wants to show it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from federation.runtime.hdf5 import Blocks
from federation.tensors import TensorSpec

COPY_BLOCK_BYTES = 8 << 20


class Progress(Protocol):
    """What is told: a piece of work begins, some of its bytes are done."""

    def begin(self, doing: str, total_bytes: int | None) -> None:
        """Begin a piece of work; None: it is not known how much it is."""

    def advance(self, done_bytes: int) -> None:
        """So many more bytes are done."""


class Unwatched:
    """Progress that nobody looks at."""

    def begin(self, doing: str, total_bytes: int | None) -> None:
        """Say nothing."""

    def advance(self, done_bytes: int) -> None:
        """Say nothing."""


def copy_file(source: Path, target: Path, progress: Progress) -> None:
    """Copy a file's bytes, block by block."""
    progress.begin(f"Copying {source.name}", source.stat().st_size)
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(COPY_BLOCK_BYTES):
            writer.write(block)
            progress.advance(len(block))


def watched(blocks: Blocks, progress: Progress) -> Blocks:
    """Give the same blocks, and tell of each once it was taken."""

    def each(tensor: TensorSpec) -> Iterator[NDArray[Any]]:
        for block in blocks(tensor):
            yield block
            progress.advance(block.nbytes)

    return each
