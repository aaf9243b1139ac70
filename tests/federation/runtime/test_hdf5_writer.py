"""Structure in memory, data straight to disk: together one HDF5 file."""

import errno
import gc
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from federation.errors import StoreError
from federation.runtime.hdf5_writer import hdf5_writer


def test_what_is_written_in_blocks_is_read_as_one_tensor(tmp_path: Path) -> None:
    """Blocks of any shape, byte order and memory layout end up in C order, little-endian."""
    path = tmp_path / "file"
    values = np.arange(24, dtype="f4").reshape(2, 3, 4)
    flat = values.reshape(-1)
    seen = bytearray()

    with hdf5_writer(path) as writer:
        writer.reserve("a/b/values", (2, 3, 4), "f4")
        writer.reserve("a/empty", (0, 4), "f8")
        writer.reserve("a/one", (), "?")
        blocks = [flat[:5], flat[5:9].astype(">f8").reshape(2, 2), flat[9:10], flat[10:]]
        writer.fill("a/b/values", "f4", blocks, seen.extend)
        writer.fill("a/empty", "f8", [], seen.extend)
        writer.fill("a/one", "?", [np.array(True)], seen.extend)
        writer.file["a"].attrs["word"] = "later"

    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["a/b/values"][()], values)
        assert file["a/b/values"].dtype == "<f4"
        assert file["a/empty"].shape == (0, 4)
        assert file["a/one"][()]
        assert file["a"].attrs["word"] == "later"
    assert seen == values.tobytes() + b"\x01"


def test_many_groups_between_the_data_are_all_there(tmp_path: Path) -> None:
    """Structure is larger than HDF5's cache and lies all over the file."""
    path = tmp_path / "file"
    names = [f"layer_{index}/{'x' * 50}/kernel" for index in range(600)]

    with hdf5_writer(path) as writer:
        for index, name in enumerate(names):
            writer.reserve(name, (3,), "i4")
            writer.file[name].parent.attrs["words"] = np.bytes_(f"{index}" * 300)
        for index, name in enumerate(names):
            writer.fill(name, "i4", [np.full(3, index)], len)

    with h5py.File(path) as file:
        for index in range(0, 600, 97):
            assert file[names[index]][()].tolist() == [index] * 3
            assert file[names[index]].parent.attrs["words"] == f"{index}".encode() * 300


def test_a_file_larger_than_memory_allows_is_written_in_blocks(tmp_path: Path) -> None:
    """Memory stays at the size of a block, not of the model."""
    entries = 2**23

    def blocks() -> Iterator[NDArray[Any]]:
        for _ in range(0, entries, 2**15):
            yield np.ones(2**15, "f4")

    tracemalloc.start()
    with hdf5_writer(tmp_path / "file") as writer:
        writer.reserve("a", (entries,), "f4")
        writer.fill("a", "f4", blocks(), len)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (tmp_path / "file").stat().st_size > 4 * entries
    assert peak < 2**20


@pytest.mark.parametrize("given", [3, 5])
def test_blocks_that_are_not_the_whole_tensor_are_a_bug(tmp_path: Path, given: int) -> None:
    """Too little or too much is asserted before it can reach a neighbour."""
    with hdf5_writer(tmp_path / "file") as writer:
        writer.reserve("a", (4,), "f4")
        writer.reserve("b", (4,), "f4")
        with pytest.raises(AssertionError, match="entries"):
            writer.fill("a", "f4", [np.zeros(2), np.zeros(given - 2)], len)


def _write_a_million_zeros(path: Path) -> None:
    with hdf5_writer(path) as writer:
        writer.reserve("a", (2**20,), "f4")
        writer.fill("a", "f4", [np.zeros(2**20)], len)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_reported_and_leaves_no_file_open() -> None:
    """HDF5 never sees the disk, so it has nothing that it could fail to close."""
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(StoreError) as caught:
        _write_a_million_zeros(Path("/dev/full"))

    assert caught.value.reason == "disk-full"
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    """An ``OSError`` becomes a ``StoreError`` with its path."""
    with pytest.raises(StoreError) as caught, hdf5_writer(tmp_path / "gone" / "file"):
        pass

    assert caught.value.reason == "file-missing"
    assert os.strerror(errno.ENOENT) in caught.value.detail
