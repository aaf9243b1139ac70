"""Writing an HDF5 file in a stream: structure in memory, data straight into its place on disk.

HDF5 lays the file out, reserving room for each dataset, but only ever sees memory. Data and, at
the end, the structure are written with plain system calls. So memory stays at the size of a
block, a full disk is an ``OSError`` with its number, and HDF5 is never left with a file that it
can neither finish nor close.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from numpy.typing import DTypeLike, NDArray

from federation.runtime.disk import store_errors

_FORMAT = "v110"
"""Read by every HDF5 since 1.10 (2016). Unlike the oldest format it guards all structure with
checksums, without which a damaged file can make HDF5 loop, and allows attributes above 64 KiB."""


class Hdf5Writer:
    """A file in the making.

    Attributes:
        file: Its structure; groups and attributes are made here, datasets with ``reserve``.
    """

    def __init__(self, file: h5py.File, disk: BinaryIO) -> None:
        self.file = file
        self._disk = disk
        self._places: dict[str, tuple[int, int]] = {}

    def reserve(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> h5py.Dataset:
        """Make a dataset, little-endian and contiguous, with the groups above it."""
        folder, _, leaf = name.rpartition("/")
        group = self.file.require_group(folder) if folder else self.file
        dtype = np.dtype(dtype).newbyteorder("<")
        space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_layout(h5d.CONTIGUOUS)
        plist.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5d.FILL_TIME_NEVER)
        type_id = h5t.py_create(dtype, logical=True)
        dataset_id = h5d.create(group.id, leaf.encode(), type_id, space, plist)
        dataset = h5py.Dataset(dataset_id)
        if dataset.size:
            self._places[name] = (dataset_id.get_offset(), dataset.size * dtype.itemsize)
        return dataset

    def fill(
        self,
        name: str,
        dtype: DTypeLike,
        blocks: Iterable[NDArray[Any]],
        see: Callable[[memoryview], object],
    ) -> None:
        """Write a reserved dataset's entries, given in C order in blocks of any shape.

        Args:
            name: As reserved.
            dtype: As reserved.
            blocks: Together exactly the dataset's entries.
            see: Is shown every byte once, in order, e.g. to hash it.
        """
        start, nbytes = self._places.get(name, (0, 0))
        self._disk.seek(start)
        written = 0
        for block in blocks:
            data = _bytes_of(block, dtype)
            written += len(data)
            assert written <= nbytes, f"{name} has more entries than were reserved"
            see(data)
            self._disk.write(data)
        assert written == nbytes, f"{name} has fewer entries than were reserved"

    def gaps(self, file_bytes: int) -> Iterator[tuple[int, int]]:
        """Yield where data are not, as start and end: there the structure lies."""
        gap = 0
        for start, nbytes in sorted(self._places.values()):
            yield gap, start
            gap = start + nbytes
        yield gap, file_bytes


@contextmanager
def hdf5_writer(path: Path) -> Iterator[Hdf5Writer]:
    """Make the file ``path`` or overwrite it; it is whole once this ends without an error.

    Raises:
        StoreError: The disk refused.
    """
    structure = _SparseFile()
    with store_errors(path, "write"), open(path, "wb") as disk:
        with h5py.File(structure, "w", libver=(_FORMAT, _FORMAT)) as file:
            writer = Hdf5Writer(file, disk)
            yield writer
        for start, end in writer.gaps(structure.size):
            disk.seek(start)
            disk.write(structure.content(start, end))


def _bytes_of(block: NDArray[Any], dtype: DTypeLike) -> memoryview:
    little_endian = np.dtype(dtype).newbyteorder("<")
    flat = np.ascontiguousarray(block, little_endian).reshape(-1)
    return flat.view(np.uint8).data


class _SparseFile(io.RawIOBase):
    """A file in memory that takes no room where nothing was written."""

    _PAGE = 4096

    def __init__(self) -> None:
        self.size = 0
        self._position = 0
        self._pages: dict[int, bytearray] = {}

    def content(self, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` to ``end``, zero where nothing was written."""
        empty = bytes(self._PAGE)
        first, last = start // self._PAGE, -(-end // self._PAGE)
        pages = b"".join(self._pages.get(page, empty) for page in range(first, last))
        return pages[start - first * self._PAGE : end - first * self._PAGE]

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}
        self._position = starts[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int | None = None) -> int:
        self.size = self._position if size is None else size
        return self.size

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        count = max(0, min(len(target), self.size - self._position))
        target[:count] = self.content(self._position, self._position + count)
        self._position += count
        return count

    def write(self, data: Any) -> int:
        source = memoryview(data).cast("B")
        done = 0
        while done < len(source):
            page, offset = divmod(self._position, self._PAGE)
            piece = source[done : done + self._PAGE - offset]
            if page not in self._pages:
                self._pages[page] = bytearray(self._PAGE)
            self._pages[page][offset : offset + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        self.size = max(self.size, self._position)
        return done
