"""Reading and writing checkpoints: a model's tensors in Keras' HDF5 weights layout.

A tensor's name is its dataset's path below the weights root, e.g. ``a/d/kernel``. Keras finds the
datasets through the attributes ``layer_names`` and ``weight_names``, whose order no name gives
back, so a new checkpoint takes them over from the file whose layout it follows.

Source: keras/src/legacy/saving/legacy_h5_format.py, ``save_weights_to_hdf5_group``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from federation.errors import StoreError
from federation.runtime.hdf5_guard import (
    DEFAULT_LIMITS,
    FileLimits,
    damage_reported,
    dtype_name,
    fixed_attribute,
    open_checked,
)
from federation.runtime.hdf5_writer import Hdf5Writer, hdf5_writer
from federation.tensors import MalformedTensors, ModelSpec, TensorSpec, allocate, decode, header_of

__all__ = [
    "Blocks",
    "FileLimits",
    "Stamp",
    "blocks_of",
    "encode_checkpoint",
    "is_keras_model",
    "open_checked",
    "read_spec",
    "read_stamp",
    "read_weights",
    "spec_of",
    "weights_root",
    "write_checkpoint",
]

Blocks = Callable[[TensorSpec], Iterable[NDArray[Any]]]
"""Gives a tensor's entries in C order, in blocks of any shape."""

OWN_PREFIX = "headwater_"
ROUND_ATTRIBUTE = "headwater_round"
DIGEST_ATTRIBUTE = "headwater_digest"


@dataclass(frozen=True)
class Stamp:
    """What a checkpoint's attributes say of it, known without reading its tensors.

    Attributes:
        round_number: The round that made it; for one that ``headwater init`` placed, the highest
            round number at that time, 0 at first.
        digest: sha256 of its wire form, hex.
    """

    round_number: int
    digest: str


def weights_root(file: h5py.File) -> h5py.Group:
    """Return the group that holds the weights: the root, or part of a file with a whole model."""
    is_weights_file = {"layer_names", "layer_names0", DIGEST_ATTRIBUTE} & set(file.attrs)
    if not is_weights_file and isinstance(file.get("model_weights"), h5py.Group):
        return file["model_weights"]
    return file


def is_keras_model(path: Path) -> bool:
    """Say whether the file holds a model with architecture and weights, as Keras saves it."""
    with open_checked(path) as file:
        return "model_config" in file.attrs and weights_root(file) != file


def read_spec(path: Path, limits: FileLimits = DEFAULT_LIMITS) -> ModelSpec:
    """Describe a checkpoint's tensors; raises ``StoreError``."""
    with _tensors(path, limits) as (spec, _):
        return spec


def read_stamp(path: Path) -> Stamp | None:
    """Return who made a checkpoint; None if that was not us. Raises ``StoreError``."""
    with open_checked(path) as file, damage_reported(path):
        if not {ROUND_ATTRIBUTE, DIGEST_ATTRIBUTE} <= set(file.attrs):
            return None
        round_number = int(fixed_attribute(file, ROUND_ATTRIBUTE))
        return Stamp(round_number, str(fixed_attribute(file, DIGEST_ATTRIBUTE)))


def encode_checkpoint(path: Path, limits: FileLimits = DEFAULT_LIMITS) -> bytearray:
    """Read a checkpoint straight into its wire form; raises ``StoreError``."""
    with _tensors(path, limits) as (spec, datasets):
        buffer, views = allocate(spec)
        with damage_reported(path):
            for name, view in views.items():
                if view.size:
                    datasets[name].read_direct(view)
                if view.dtype == np.bool_ and view.size and view.view(np.uint8).max() > 1:
                    raise StoreError(
                        f"{path} cannot be read: {name!a} has a bool that is not 0 or 1",
                        reason="file-unreadable",
                    )
    return buffer


def read_weights(path: Path, limits: FileLimits = DEFAULT_LIMITS) -> dict[str, NDArray[Any]]:
    """Return a checkpoint's tensors by name, read-only; raises ``StoreError``."""
    return decode(encode_checkpoint(path, limits))


def blocks_of(weights: Mapping[str, NDArray[Any]]) -> Blocks:
    """Give tensors that are in memory anyway, each as one block."""
    return lambda tensor: [weights[tensor.name]]


def write_checkpoint(
    path: Path,
    spec: ModelSpec,
    blocks: Blocks,
    *,
    layout: Path | None = None,
    attributes: Mapping[str, str | int] | None = None,
) -> str:
    """Write a checkpoint in a stream, to a name that nobody reads yet.

    Args:
        path: Made or overwritten; neither atomic nor synced, which is the caller's part.
        spec: The tensors, asked for in this order and written in their dtype.
        blocks: Where they come from; called once a tensor.
        layout: A Keras model or an earlier checkpoint with these tensors, whose groups and
            attributes are taken over, so that Keras loads the file; None gives plain groups.
        attributes: More attributes of the file; ``headwater_digest`` is added.

    Returns:
        The checkpoint digest: sha256 of the wire form, hex.

    Raises:
        StoreError: ``layout`` cannot be read or has other tensors (reason ``layout-mismatch``),
            or the disk refused.
    """
    digest = hashlib.sha256(header_of(spec))
    with hdf5_writer(path) as writer:
        if layout is not None:
            _take_over(layout, spec, writer)
        for tensor in spec.tensors:
            writer.reserve(tensor.name, tensor.shape, tensor.dtype)
        for tensor in spec.tensors:
            writer.fill(tensor.name, tensor.dtype, blocks(tensor), digest.update)
        writer.file.attrs.update(attributes or {})
        writer.file.attrs[DIGEST_ATTRIBUTE] = np.bytes_(digest.hexdigest())
    return digest.hexdigest()


def spec_of(root: h5py.Group, path: Path) -> tuple[ModelSpec, dict[str, h5py.Dataset]]:
    """Describe the tensors below a group of a checked file, and say where they are.

    Raises:
        StoreError: The file is damaged, or a name cannot be a tensor's (``malformed-tensors``).
    """
    datasets: dict[str, h5py.Dataset] = {}
    tensors = []
    try:
        with damage_reported(path):
            for name, found in _walk(root):
                if isinstance(found, h5py.Dataset):
                    dtype = dtype_name(found.id.get_type())
                    tensors.append(TensorSpec(name, str(dtype), found.shape))
                    datasets[name] = found
            return ModelSpec(tuple(tensors)), datasets
    except MalformedTensors as error:
        raise StoreError(f"{path} is refused: {error.detail}", reason=error.reason) from error


@contextmanager
def _tensors(path: Path, limits: FileLimits) -> Iterator[tuple[ModelSpec, dict[str, h5py.Dataset]]]:
    with open_checked(path, limits) as file:
        yield spec_of(weights_root(file), path)


def _walk(root: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Yield every group and dataset below a group of a checked file, by its path from there."""
    pending = [("", root)]
    while pending:
        folder, group = pending.pop()
        for leaf, found in group.items():
            yield folder + leaf, found
            if isinstance(found, h5py.Group):
                pending.append((f"{folder}{leaf}/", found))


def _take_over(layout: Path, spec: ModelSpec, writer: Hdf5Writer) -> None:
    """Make the groups of ``layout`` with their attributes: names of layers and weights."""
    with open_checked(layout) as file:
        root = weights_root(file)
        if spec_of(root, layout)[0] != spec:
            raise StoreError(
                f"{layout} has other tensors than the checkpoint that is to be laid out like it",
                reason="layout-mismatch",
            )
        with damage_reported(layout):
            _copy_attributes(root, writer.file)
            for name, found in _walk(root):
                if isinstance(found, h5py.Group):
                    _copy_attributes(found, writer.file.require_group(name))


def _copy_attributes(source: h5py.Group, target: h5py.Group) -> None:
    """Copy attributes in their shape and order, except those that tell of one checkpoint.

    Strings get a fixed length: those of variable length lie in a part of the file that no checksum
    guards.
    """
    for name, value in source.attrs.items():
        if not name.startswith(OWN_PREFIX):
            target.attrs[name] = _fixed(value)


def _fixed(value: Any) -> Any:
    if isinstance(value, str):
        return np.bytes_(value.encode(errors="surrogateescape"))
    if isinstance(value, np.ndarray) and value.dtype == object:
        texts = [text.encode(errors="surrogateescape") for text in value.flat]
        return np.array(texts, "S").reshape(value.shape)
    return value
