"""Tests of ``federation.runtime.progress``."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np

from federation.runtime import progress
from federation.runtime.hdf5 import blocks_of
from federation.runtime.initialise import initialise
from federation.runtime.progress import Unwatched, copy_file, watched
from federation.tensors import ModelSpec
from headwater.digits_model import BUILTIN_MODEL


class Remembered:
    """Remembers each piece of work: what, how much of it there was to do, how much was done."""

    def __init__(self) -> None:
        self.works: list[tuple[str, int | None, int]] = []

    def begin(self, doing: str, total_bytes: int | None) -> None:
        self.works.append((doing, total_bytes, 0))

    def advance(self, done_bytes: int) -> None:
        doing, total_bytes, done = self.works.pop()
        self.works.append((doing, total_bytes, done + done_bytes))


def test_file_is_copied_each_block_is_told(tmp_path: Path) -> None:
    """The last one may be shorter; together they are the file."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(250)) * 10)
    told = Remembered()

    with patch.object(progress, "COPY_BLOCK_BYTES", 999):
        copy_file(source, target, told)

    assert target.read_bytes() == source.read_bytes()
    assert told.works == [("Copying source", 2500, 2500)]


def test_blocks_are_watched_they_are_the_same_and_told() -> None:
    """Told once it was taken."""
    weights = {"w": np.arange(6.0, dtype=np.float32)}
    told = Remembered()
    told.begin("Writing", 24)

    [block] = watched(blocks_of(weights), told)(ModelSpec.of(weights).tensors[0])

    assert block is weights["w"]
    assert told.works == [("Writing", 24, 24)]


def test_directory_is_initialised_all_its_bytes_are_told(tmp_path: Path) -> None:
    """What is read is not known before; what is written is."""
    told = Remembered()

    initialise(tmp_path, model=None, arrays=None, builtin=BUILTIN_MODEL, progress=told)

    reading, writing, copying = told.works
    assert reading == ("Reading digits.h5", None, 0)
    assert writing[0] == "Writing fl_checkpoint"
    assert writing[1] == writing[2]
    assert copying == ("Copying digits.h5", *[BUILTIN_MODEL.stat().st_size] * 2)


def test_nobody_looks_nothing_is_said() -> None:
    """Progress costs nothing where it is not shown."""
    unwatched = Unwatched()

    unwatched.begin("Working", None)
    unwatched.advance(1)
