"""Partial files: a selector's weighted sums, as one selector writes and the coordinator reads them.

``sums/<tensor>`` holds the float tensors' sums in float64 (attribute ``dtype``: what the tensor is
made of), ``picked/<tensor>`` the integer and bool tensors. The file's attributes are a
``PartialHeader``. Beside it lies ``<file>_weight`` with the total weight in decimal.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5t
from numpy.typing import NDArray

from federation.aggregation import BLOCK_ENTRIES, WeightedMean
from federation.runtime.disk import make_directory, store_errors, write_atomically
from federation.runtime.hdf5 import spec_of
from federation.runtime.hdf5_guard import (
    DEFAULT_LIMITS,
    FileLimits,
    damage_reported,
    fixed_attribute,
    open_checked_descriptor,
)
from federation.runtime.hdf5_writer import hdf5_writer
from federation.runtime.partial_header import (
    UNREADABLE,
    PartialHeader,
    malformed,
    read_header,
    write_header,
)
from federation.tensors import MalformedTensors, ModelSpec, TensorSpec

__all__ = ["WEIGHT_SUFFIX", "PartialFile", "PartialHeader", "open_partial", "write_partial"]

WEIGHT_SUFFIX = "_weight"

_SUMS = "sums"
_PICKED = "picked"
_DTYPE = "dtype"
_FLOATS = ("float16", "float32", "float64")


def write_partial(path: Path, header: PartialHeader, mean: WeightedMean) -> str:
    """Write a selector's sum and then, beside it, its weight, each atomically and durably.

    Args:
        path: The partial; its folder is made if only that is missing.
        header: Agrees with ``mean``; an empty sum is a partial too.
        mean: Not changed meanwhile by another thread.

    Returns:
        sha256 over the tensors' bytes in the order of ``mean.spec``, hex: what ``PartialFile``
        finds when it reads the file.

    Raises:
        StoreError: The disk refused; an earlier partial is still whole.
    """
    assert header.flaw() is None, header.flaw()
    pick = (mean.pick.weight, mean.pick.client_id) if mean.pick else (0, "")
    assert (header.pick_weight, header.pick_client_id) == pick
    assert (header.weight, header.count) == (mean.weight, mean.count)
    digest = ""

    def write(temporary: Path) -> None:
        nonlocal digest
        digest = _write_sums(temporary, header, mean)

    with store_errors(path.parent, "make"):
        make_directory(path.parent)
    write_atomically(path, write)
    weight_path = path.with_name(path.name + WEIGHT_SUFFIX)
    write_atomically(weight_path, lambda temporary: temporary.write_text(str(mean.weight)))
    return digest


class PartialFile:
    """An open partial, read tensor by tensor in the order of ``spec``.

    Attributes:
        header: Its attributes, checked for sense but not for being current.
        spec: The model's tensors, in the dtypes of the model.
    """

    def __init__(self, file: h5py.File, descriptor: int, path: Path) -> None:
        self.header = read_header(file, path)
        self._path = path
        self._descriptor = descriptor
        sums, sum_datasets = _part(file, _SUMS, path)
        picked, self._picked = _part(file, _PICKED, path)
        if any(tensor.is_float for tensor in picked.tensors):
            raise malformed(path, "a float tensor is picked instead of summed")
        floats = [_float_tensor(tensor, sum_datasets[tensor.name], path) for tensor in sums.tensors]
        try:
            self.spec = ModelSpec((*floats, *picked.tensors))
        except MalformedTensors as error:  # the two groups claim the same name
            raise malformed(path, error.detail) from error
        self._offsets = {name: _place(data, path) for name, data in sum_datasets.items()}
        self._hash = hashlib.sha256()
        self._read: list[str] = []

    def blocks(self, name: str) -> Iterator[NDArray[np.float64]]:
        """Yield a float tensor's sum, flat, ``BLOCK_ENTRIES`` entries at a time.

        Read with system calls: a file that shrinks meanwhile is an error, where a memory map would
        end the process, and HDF5 cannot select a run of entries across rows.
        """
        tensor = self.spec.by_name[name]
        assert tensor.is_float
        offset = self._offsets[name]
        for start in range(0, tensor.size, BLOCK_ENTRIES):
            block = np.empty(min(BLOCK_ENTRIES, tensor.size - start), "<f8")
            data = block.view(np.uint8).data
            with store_errors(self._path, "read"):
                self._read_fully(data, offset + start * block.itemsize)
            self._hash.update(data)
            yield block
        self._read.append(name)

    def picked(self, name: str) -> NDArray[Any]:
        """Return an integer or bool tensor in its shape."""
        tensor = self.spec.by_name[name]
        assert not tensor.is_float
        values = np.empty(tensor.shape, tensor.wire_dtype)
        if tensor.size:
            with damage_reported(self._path):
                self._picked[name].read_direct(values)
        data = values.reshape(-1).view(np.uint8)
        if tensor.dtype == "bool" and data.max(initial=0) > 1:
            raise malformed(self._path, f"{name!a} has a bool that is not 0 or 1")
        self._hash.update(data.data)
        self._read.append(name)
        return values

    def digest(self) -> str:
        """Return what ``write_partial`` returned, once every tensor was read, each in its turn."""
        assert self._read == list(self.spec.by_name), "not every tensor was read in its turn"
        return self._hash.hexdigest()

    def _read_fully(self, data: memoryview, offset: int) -> None:
        done = 0
        while done < len(data):
            count = os.preadv(self._descriptor, [data[done:]], offset + done)
            if count == 0:
                raise malformed(self._path, "it ends in the middle of a tensor")
            done += count


@contextmanager
def open_partial(path: Path, limits: FileLimits = DEFAULT_LIMITS) -> Iterator[PartialFile]:
    """Open a partial that another process wrote; usable until the block ends.

    Raises:
        StoreError: As ``open_checked``, or with the reason ``malformed-partial``.
    """
    with open_checked_descriptor(path, limits) as (file, descriptor):
        yield PartialFile(file, descriptor, path)


def _write_sums(path: Path, header: PartialHeader, mean: WeightedMean) -> str:
    digest = hashlib.sha256()
    with hdf5_writer(path) as writer:
        write_header(writer.file, header)
        writer.file.create_group(_SUMS)
        writer.file.create_group(_PICKED)
        for tensor in mean.spec.tensors:
            place, dtype = _place_and_dtype(tensor)
            dataset = writer.reserve(place, tensor.shape, dtype)
            if tensor.is_float:
                dataset.attrs[_DTYPE] = np.bytes_(tensor.dtype)
        for tensor in mean.spec.tensors:
            place, dtype = _place_and_dtype(tensor)
            values = mean.sums if tensor.is_float else mean.picked
            writer.fill(place, dtype, [values[tensor.name]], digest.update)
    return digest.hexdigest()


def _place_and_dtype(tensor: TensorSpec) -> tuple[str, str]:
    if tensor.is_float:
        return f"{_SUMS}/{tensor.name}", "float64"
    return f"{_PICKED}/{tensor.name}", tensor.dtype


def _part(
    file: h5py.File, group_name: str, path: Path
) -> tuple[ModelSpec, dict[str, h5py.Dataset]]:
    group = file.get(group_name)
    if not isinstance(group, h5py.Group):
        raise malformed(path, f"it has no group {group_name}")
    return spec_of(group, path)


def _float_tensor(tensor: TensorSpec, dataset: h5py.Dataset, path: Path) -> TensorSpec:
    """Return a summed tensor as the model has it: in its own dtype instead of float64."""
    try:
        dtype = fixed_attribute(dataset, _DTYPE)
    except UNREADABLE as error:
        raise malformed(path, f"{tensor.name!a} does not say what it is made of") from error
    is_float64 = dataset.id.get_type().equal(h5t.IEEE_F64LE)
    if not (isinstance(dtype, str) and dtype in _FLOATS and is_float64):
        raise malformed(path, f"{tensor.name!a} is no sum of a float tensor")
    return TensorSpec(tensor.name, dtype, tensor.shape)


def _place(dataset: h5py.Dataset, path: Path) -> int:
    """Return where in the file a dataset's entries lie, in C order and without a gap."""
    contiguous = dataset.id.get_create_plist().get_layout() == h5d.CONTIGUOUS
    offset = dataset.id.get_offset()
    if dataset.size and (offset is None or not contiguous):
        raise malformed(path, f"{dataset.name!a} is not stored in one piece")
    return offset or 0
