"""Opening an HDF5 file from outside: nothing in it is read before all of it was looked at.

HDF5 can point at other files, call plug-ins and declare terabytes in a few bytes. What is let
through is what Keras writes: groups and plain numbers in this very file, each reached by one hard
link, with numbers and strings as attributes. Reading such a file costs at most its own size.

HDF5's own parser comes before all this and is trusted. It finds damage by checksums in the format
that we write; the oldest format, which Keras writes, has none, and damage there may make it loop.
"""

from __future__ import annotations

import io
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t, h5z

from federation.errors import StoreError
from federation.runtime.disk import store_errors

UNWRITTEN_BYTES = 2**20
"""What the datasets may declare beyond the size of the file: small ones that nobody filled."""

HARMLESS_FILTERS = frozenset({h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32})
"""Filters that do not make data larger. Compression is not among them: a chunk of a compressed
file expands without a bound that could be known before, and Keras does not compress."""

_DTYPE_NAMES = (
    "float16", "float32", "float64", "bool",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BYTE_ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")
_TYPES = [
    (h5t.py_create(np.dtype(name).newbyteorder(order), logical=True), name)
    for name in _DTYPE_NAMES
    for order in _BYTE_ORDERS
]


@dataclass(frozen=True)
class FileLimits:
    """How much an HDF5 file may hold.

    Attributes:
        declared_bytes_max: All datasets together, as they declare themselves.
        objects_max: Groups and datasets.
        depth_max: Groups within groups.
        attributes_max: Attributes of all objects together.
        attribute_bytes_max: One attribute of numbers or strings of fixed length.
        strings_max: Strings of variable length in one attribute.
    """

    declared_bytes_max: int = 64 * 2**30
    objects_max: int = 100_000
    depth_max: int = 32
    attributes_max: int = 200_000
    attribute_bytes_max: int = 16 * 2**20
    strings_max: int = 4096


DEFAULT_LIMITS = FileLimits()


@contextmanager
def open_checked(path: Path, limits: FileLimits = DEFAULT_LIMITS) -> Iterator[h5py.File]:
    """Open an HDF5 file to read it, once everything in it was found harmless.

    Raises:
        StoreError: With the reason ``file-missing``, ``permission-denied``, ``io-error``,
            ``file-unreadable`` (damaged, or no file), ``not-hdf5``, ``hdf5-forbidden-link``,
            ``hdf5-forbidden-type``, ``hdf5-forbidden-filter`` or ``hdf5-too-large``.
    """
    with open_checked_descriptor(path, limits) as (file, _):
        yield file


@contextmanager
def open_checked_descriptor(
    path: Path, limits: FileLimits = DEFAULT_LIMITS
) -> Iterator[tuple[h5py.File, int]]:
    """As ``open_checked``, and give the file's descriptor, too: closed with the file."""
    with _opened(path) as whole:
        with damage_reported(path):
            # Not by name: HDF5 shares files that one process opens twice, and then fails over
            # anything that the other, perhaps a notebook's, does differently.
            file = h5py.File(whole, "r")
        with file:
            with damage_reported(path):
                _Inspection(path, limits, os.fstat(whole.fileno()).st_size).of_file(file)
            yield file, whole.fileno()


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Turn what h5py raises over a damaged file into a ``StoreError``."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
        cause = " ".join(str(error).split())[:200]
        raise StoreError(f"{path} cannot be read: {cause}", reason="file-unreadable") from error


def dtype_name(type_id: h5t.TypeID) -> str | None:
    """Return the numpy name of an HDF5 type, of either byte order; None if it is not a plain one.

    Compared property by property, so that no odd precision or padding slips through. A bool is
    h5py's enumeration of FALSE and TRUE.
    """
    return next((name for known, name in _TYPES if known.equal(type_id)), None)


def fixed_attribute(found: h5py.Group | h5py.Dataset, name: str) -> Any:
    """Return an attribute of our own files: a number, an array, or text of fixed length.

    Raises:
        KeyError: There is none.
        ValueError: It is of variable length or no ASCII.
    """
    attribute = found.attrs.get_id(name)
    kind = attribute.get_type()
    if isinstance(kind, h5t.TypeStringID) and kind.is_variable_str():
        raise ValueError(f"attribute {name} is of variable length")
    value = found.attrs[name]
    return value.decode("ascii") if isinstance(value, bytes) else value


@contextmanager
def _opened(path: Path) -> Iterator[_WholeFile]:
    """Open a file that begins like HDF5; one whose HDF5 part begins later is taken for another."""
    with store_errors(path, "read"):
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            raise StoreError(f"{path} is not a file", reason="file-unreadable")
        whole = _WholeFile(path)
    with whole:
        with store_errors(path, "read"):
            signature = whole.read(len(_SIGNATURE))
        if signature != _SIGNATURE:
            raise StoreError(f"{path} is not an HDF5 file", reason="not-hdf5")
        yield whole


class _WholeFile(io.FileIO):
    """A file to read in which the end is an error: HDF5 would take what was not read for data."""

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        done = 0
        while done < len(target):
            count = super().readinto(target[done:])
            if not count:
                raise OSError("the file ends too early")
            done += count
        return done


class _Inspection:
    """One walk over a file that counts what it finds and raises at the first forbidden thing."""

    def __init__(self, path: Path, limits: FileLimits, file_bytes: int) -> None:
        self._path = path
        self._limits = limits
        self._declared_bytes_max = min(limits.declared_bytes_max, file_bytes + UNWRITTEN_BYTES)
        self._declared_bytes = 0
        self._objects = 0
        self._attributes = 0
        self._seen: set[int] = set()

    def of_file(self, file: h5py.File) -> None:
        root = h5o.open(file.id, b"/")
        self._enter(root, "/")
        pending: list[tuple[h5g.GroupID, str, int]] = [(root, "", 0)]
        while pending:
            group, folder, depth = pending.pop()
            for name, where in self._links(group, folder):
                found = h5o.open(group, name)
                self._enter(found, where)
                if isinstance(found, h5g.GroupID):
                    if depth == self._limits.depth_max:
                        raise self._refusal("hdf5-too-large", f"{where} lies too deep")
                    pending.append((found, where, depth + 1))
                elif isinstance(found, h5d.DatasetID):
                    self._check_dataset(found, where)
                else:
                    raise self._refusal("hdf5-forbidden-type", f"{where} is a type, not data")

    def _links(self, group: h5g.GroupID, folder: str) -> Iterator[tuple[bytes, str]]:
        """Yield the names in a group, as they are and as a person may read them."""
        self._objects += group.get_num_objs()
        if self._objects > self._limits.objects_max:
            raise self._refusal("hdf5-too-large", f"it has over {self._limits.objects_max} objects")
        for name in group:
            where = f"{folder}/{ascii(name)[2:-1]}"
            if group.links.get_info(name).type != h5l.TYPE_HARD:
                raise self._refusal(
                    "hdf5-forbidden-link", f"{where} is a soft or external link, not data"
                )
            if b"/" in name:  # no writer can make it, and opening it would follow other links
                raise self._refusal("hdf5-forbidden-link", f"the name of {where} holds a slash")
            yield name, where

    def _enter(self, found: h5o.ObjectID, where: str) -> None:
        """Refuse an object that was met before, which also ends every cycle; check attributes."""
        address = h5o.get_info(found).addr
        if address in self._seen:
            raise self._refusal("hdf5-forbidden-link", f"{where} has a second name in the file")
        self._seen.add(address)
        count = h5a.get_num_attrs(found)
        self._attributes += count
        if self._attributes > self._limits.attributes_max:
            raise self._refusal("hdf5-too-large", "it has too many attributes")
        for index in range(count):
            self._check_attribute(h5a.open(found, index=index), where)

    def _check_attribute(self, attribute: h5a.AttrID, where: str) -> None:
        where = f"attribute {attribute.name!a} of {where}"
        kind = attribute.get_type()
        entries = _entries(attribute.get_space())
        if isinstance(kind, h5t.TypeStringID):
            too_many = kind.is_variable_str() and entries > self._limits.strings_max
        elif dtype_name(kind) is None:
            raise self._refusal(
                "hdf5-forbidden-type", f"{where} is neither plain numbers nor strings"
            )
        else:
            too_many = False
        if too_many or entries * kind.get_size() > self._limits.attribute_bytes_max:
            raise self._refusal("hdf5-too-large", f"{where} is too large")

    def _check_dataset(self, dataset: h5d.DatasetID, where: str) -> None:
        # Storage comes first: asking a virtual dataset for its shape may open other files.
        plist = dataset.get_create_plist()
        layout = plist.get_layout()
        if layout == h5d.VIRTUAL or plist.get_external_count() > 0:
            raise self._refusal("hdf5-forbidden-link", f"{where} takes its data from elsewhere")
        for index in range(plist.get_nfilters()):
            code = plist.get_filter(index)[0]
            if code not in HARMLESS_FILTERS:
                raise self._refusal(
                    "hdf5-forbidden-filter",
                    f"{where} is compressed or filtered (filter {code}); "
                    "'h5repack -f NONE' makes a plain copy",
                )
        kind = dataset.get_type()
        if dtype_name(kind) is None:
            raise self._refusal(
                "hdf5-forbidden-type",
                f"{where} is not of a plain number type (float16/32/64, int8..64, uint8..64, bool)",
            )
        entries = _entries(dataset.get_space())
        if layout == h5d.CHUNKED:  # a chunk is read as a whole, however little of it is used
            entries = max(entries, math.prod(plist.get_chunk()))
        self._declared_bytes += entries * kind.get_size()
        if self._declared_bytes > self._declared_bytes_max:
            raise self._refusal(
                "hdf5-too-large",
                f"up to {where} its data declare {self._declared_bytes} bytes, "
                f"but {self._declared_bytes_max} are the most for this file",
            )

    def _refusal(self, reason: str, fact: str) -> StoreError:
        return StoreError(f"{self._path} is refused: {fact}", reason=reason)


def _entries(space: h5s.SpaceID) -> int:
    """Return how many entries a data space declares, in whole numbers that cannot overflow."""
    if space.get_simple_extent_type() == h5s.NULL:
        return 0
    return math.prod(space.get_simple_extent_dims())
