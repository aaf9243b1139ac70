"""The wire form of a model's tensors: named arrays to one canonical run of bytes, and back.

The layout is that of safetensors: the length of the header as 8 little-endian bytes, a JSON
header ``{name: {"dtype", "shape", "data_offsets"}}`` padded with spaces to a multiple of 8 bytes,
then the tensors' bytes, little-endian, C order, without holes. ``encode`` writes them by
descending item size, then by name in code point order. So all data are aligned, and equal tensors
give equal bytes and one sha256, which is "the checkpoint digest" everywhere.

Source: https://huggingface.co/docs/safetensors, section "Format".
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from federation.errors import PeerError

Buffer: TypeAlias = bytes | bytearray | memoryview

HEADER_BYTES_MAX = 16 * 2**20
NAME_BYTES_MAX = 1024
DIMENSIONS_MAX = 32
"""Most axes of a tensor: what every supported numpy can hold."""
TENSOR_BYTES_MAX = 2**62
"""Largest product of item size and extents, empty extents taken as 1: numpy's own limit halved."""

_CODES = {
    "float16": "F16", "float32": "F32", "float64": "F64",
    "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64",
    "bool": "BOOL",
}  # fmt: skip
_DTYPE_NAMES = {code: name for name, code in _CODES.items()}
_WIRE_DTYPES = {name: np.dtype(name).newbyteorder("<") for name in _CODES}

_LENGTH_BYTES = 8
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
NAME_RULE = (
    f"a tensor's name has 1 to {NAME_BYTES_MAX} bytes of UTF-8 without control characters, "
    "parts between single slashes, none of them empty, '.' or '..', and is not __metadata__"
)


class MalformedTensors(PeerError):
    """Bytes, names, dtypes or shapes that are no set of tensors in the wire form."""

    reason = "malformed-tensors"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What one tensor looks like, without its values.

    Attributes:
        name: Follows ``NAME_RULE``; for Keras the dataset's path below the weights root.
        dtype: Name of a numpy dtype out of float16/32/64, int8..64, uint8..64 and bool.
        shape: Extents, outermost first; ``()`` for a single number.

    Raises:
        MalformedTensors: One of them cannot be.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        checked_name(self.name)
        if self.dtype not in _CODES:
            raise MalformedTensors(
                f"tensor {_shown(self.name)} has dtype {_shown(self.dtype)}, "
                f"but only {', '.join(_CODES)} can be sent"
            )
        if len(self.shape) > DIMENSIONS_MAX or not all(map(_is_count, self.shape)):
            raise MalformedTensors(
                f"tensor {_shown(self.name)} has shape {_shown(self.shape)}, but a shape has at "
                f"most {DIMENSIONS_MAX} extents, each a whole number from 0 to 2**63 - 1"
            )
        if math.prod(max(1, extent) for extent in self.shape) * self.itemsize > TENSOR_BYTES_MAX:
            raise MalformedTensors(
                f"tensor {_shown(self.name)} has shape {_shown(self.shape)}, "
                "which is beyond what memory can hold"
            )

    @property
    def wire_dtype(self) -> np.dtype[Any]:
        """The dtype of the tensor's bytes: little-endian on every host."""
        return _WIRE_DTYPES[self.dtype]

    @property
    def itemsize(self) -> int:
        """Bytes of one entry."""
        return self.wire_dtype.itemsize

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        return self.size * self.itemsize

    @property
    def is_float(self) -> bool:
        """Whether the tensor is averaged; integer and bool tensors are picked instead."""
        return self.dtype.startswith("float")


@dataclass(frozen=True)
class ModelSpec:
    """What a model's tensors look like; equal specs mean equal headers on the wire.

    Attributes:
        tensors: Given in any order, kept in the wire's: descending item size, then name.

    Raises:
        MalformedTensors: Two tensors share a name, or one's name is a folder of another's.
    """

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.tensors, key=lambda tensor: (-tensor.itemsize, tensor.name)))
        object.__setattr__(self, "tensors", ordered)
        names = {tensor.name for tensor in ordered}
        if len(names) != len(ordered):
            raise MalformedTensors("two tensors have the same name")
        for name in names:
            taken = next((folder for folder in _folders(name) if folder in names), None)
            if taken is not None:
                raise MalformedTensors(
                    f"{_shown(taken)} is a tensor, so {_shown(name)} cannot lie below it"
                )

    @classmethod
    def of(cls, weights: Mapping[str, NDArray[Any]]) -> ModelSpec:
        """Describe arrays as they are; raises ``MalformedTensors`` for what cannot be sent."""
        named = weights.items()
        return cls(tuple(TensorSpec(name, array.dtype.name, array.shape) for name, array in named))

    @cached_property
    def by_name(self) -> Mapping[str, TensorSpec]:
        """The tensors by name, in the wire's order."""
        return MappingProxyType({tensor.name: tensor for tensor in self.tensors})

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all tensors, without the header."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @cached_property
    def parameters(self) -> int:
        """Entries of all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def encoded_bytes(self) -> int:
        """Bytes of the wire form: header and tensors."""
        return len(header_of(self)) + self.nbytes


def checked_name(name: object) -> str:
    """Return ``name`` if a tensor may have it, else raise ``MalformedTensors``."""
    if not (isinstance(name, str) and _is_name(name)):
        raise MalformedTensors(f"{_shown(name)} names no tensor: {NAME_RULE}")
    return name


def header_of(spec: ModelSpec) -> bytes:
    """Return the bytes that come before the tensors' own: length, JSON, padding."""
    entries = {}
    end = 0
    for tensor in spec.tensors:
        start, end = end, end + tensor.nbytes
        entries[tensor.name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": tensor.shape,
            "data_offsets": (start, end),
        }
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def allocate(spec: ModelSpec) -> tuple[bytearray, dict[str, NDArray[Any]]]:
    """Make room for a model in its wire form.

    Returns:
        The buffer with its header in place, and writable views of its tensors in the wire's
        order, all zero: fill them, and the buffer is the wire form.
    """
    header = header_of(spec)
    buffer = bytearray(len(header) + spec.nbytes)
    buffer[: len(header)] = header
    views: dict[str, NDArray[Any]] = {}
    offset = len(header)
    for tensor in spec.tensors:
        views[tensor.name] = np.ndarray(tensor.shape, tensor.wire_dtype, buffer, offset)
        offset += tensor.nbytes
    return buffer, views


def encode(weights: Mapping[str, NDArray[Any]]) -> bytearray:
    """Return the wire form of ``weights``; raises ``MalformedTensors`` for what cannot be sent."""
    buffer, views = allocate(ModelSpec.of(weights))
    for name, view in views.items():
        view[...] = weights[name]
    return buffer


def decode(buffer: Buffer, *, header_bytes_max: int = HEADER_BYTES_MAX) -> dict[str, NDArray[Any]]:
    """Return read-only views of the tensors in ``buffer``, in the order of its header.

    Nothing is copied, so the views live as long as the buffer does and show its later changes.
    Any order of tensors is read, as other writers of safetensors have theirs.

    Args:
        buffer: The whole wire form, contiguous.
        header_bytes_max: Refuses longer headers unread. JSON costs some twenty times its size in
            memory while it is parsed: who knows the model does well to pass a close limit.

    Raises:
        MalformedTensors: Anything is off: header, names, dtypes, shapes, holes, overlaps, sizes,
            trailing bytes, or a bool that is neither 0 nor 1.
    """
    data = memoryview(buffer).cast("B").toreadonly()
    entries, start = _read_header(data, header_bytes_max)
    data = data[start:]
    placed = [_placed(name, entry) for name, entry in entries.items()]
    _check_cover(placed, len(data))
    views: dict[str, NDArray[Any]] = {}
    for tensor, begin, _ in placed:
        view: NDArray[Any] = np.ndarray(tensor.shape, tensor.wire_dtype, data, begin)
        if tensor.dtype == "bool" and tensor.size and view.view(np.uint8).max() > 1:
            raise MalformedTensors(f"tensor {_shown(tensor.name)} has a bool that is not 0 or 1")
        views[tensor.name] = view
    return views


def _read_header(data: memoryview, header_bytes_max: int) -> tuple[dict[str, object], int]:
    """Return the header's entries by name, not yet checked, and where the tensors begin."""
    if len(data) < _LENGTH_BYTES:
        raise MalformedTensors(f"{len(data)} bytes are too few for a header's length")
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if length > header_bytes_max:
        raise MalformedTensors(
            f"the header would have {length} bytes, above the limit of {header_bytes_max}"
        )
    end = _LENGTH_BYTES + length
    if end > len(data):
        raise MalformedTensors(f"the header would end at byte {end} of {len(data)}")
    try:
        entries = json.loads(bytes(data[_LENGTH_BYTES:end]).decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise MalformedTensors("the header is not JSON in UTF-8") from error
    if not isinstance(entries, dict):
        raise MalformedTensors("the header is no JSON object")
    return entries, end


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise MalformedTensors("the header says a name twice")
    return entries


def _placed(name: str, entry: object) -> tuple[TensorSpec, int, int]:
    """Return what a header's entry says: the tensor, where its bytes begin and where they end."""
    match entry:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [begin, end], **rest}:
            if not rest and code in _DTYPE_NAMES and _is_count(begin) and _is_count(end):
                tensor = TensorSpec(name, _DTYPE_NAMES[code], tuple(shape))
                if end - begin == tensor.nbytes:
                    return tensor, begin, end
    raise MalformedTensors(f"the header's entry of {_shown(name)} is wrong: {_shown(entry)}")


def _check_cover(placed: list[tuple[TensorSpec, int, int]], nbytes: int) -> None:
    """Refuse tensors that do not cover the data exactly: holes, overlaps, trailing bytes."""
    covered = 0
    for begin, end in sorted((begin, end) for _, begin, end in placed):
        if begin != covered:
            raise MalformedTensors(f"a tensor begins at byte {begin}, but the next is {covered}")
        covered = end
    if covered != nbytes:
        raise MalformedTensors(f"the tensors have {covered} bytes, but {nbytes} bytes are there")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_name(text: str) -> bool:
    # Characters first: only then is the encoded form known to be small.
    if not 1 <= len(text) <= NAME_BYTES_MAX or text == "__metadata__" or _CONTROL.search(text):
        return False
    try:
        fits = len(text.encode()) <= NAME_BYTES_MAX
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        return False
    return fits and not any(part in ("", ".", "..") for part in text.split("/"))


def _folders(name: str) -> Iterator[str]:
    """Yield ``a`` and ``a/b`` for ``a/b/c``."""
    for slash in re.finditer("/", name):
        yield name[: slash.start()]


def _shown(value: object) -> str:
    """Return a peer's value escaped and cut short, fit for a sentence whatever its size."""
    return reprlib.repr(value).encode("ascii", "backslashreplace").decode()
