"""Which sum a partial file holds: the facts, their rules, and the file's attributes they are."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from federation.errors import StoreError
from federation.identifiers import is_client_id, is_selector_id
from federation.runtime.hdf5_guard import fixed_attribute

UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)
"""What h5py, or taking its answer for what it should be, raises over an attribute."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_WORD_LENGTH_MAX = 128
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class PartialHeader:
    """Which sum this is; kept as the file's attributes, which decide, not the file's name.

    Attributes:
        round_number: The round, from 1.
        round_id: The random id of this attempt at the round.
        selector_id: Whose sum it is.
        incarnation: Random id of that selector's process.
        base_digest: The checkpoint that the clients started from, sha256 of its wire form, hex.
        client_ids: Whose reports are in the sum, each once.
        weight: Sum of the reports' weights.
        count: Number of reports.
        pick_weight: Weight of the report whose integer and bool tensors these are, 0 for none.
        pick_client_id: Whose report that is, empty for none.
    """

    round_number: int
    round_id: str
    selector_id: str
    incarnation: str
    base_digest: str
    client_ids: tuple[str, ...]
    weight: int
    count: int
    pick_weight: int
    pick_client_id: str

    def flaw(self) -> str | None:
        """Say what cannot be true of a partial, None if all of it can."""
        rules = {
            "the round number is below 1": self.round_number >= 1,
            "the selector id is malformed": is_selector_id(self.selector_id),
            "the round id or the incarnation is empty or too long": all(
                1 <= len(word) <= _WORD_LENGTH_MAX for word in (self.round_id, self.incarnation)
            ),
            "the base digest is malformed": _DIGEST.fullmatch(self.base_digest) is not None,
            "a client id is malformed": all(map(is_client_id, self.client_ids)),
            "a client is listed twice": len(set(self.client_ids)) == len(self.client_ids),
            "the count is not the number of clients": self.count == len(self.client_ids),
            "the weight does not fit the count": (
                self.weight >= self.count if self.count else self.weight == 0
            ),
            "the pick is not one of the clients": (
                self.pick_client_id in self.client_ids and 1 <= self.pick_weight <= self.weight
                if self.count
                else (self.pick_client_id, self.pick_weight) == ("", 0)
            ),
        }
        return next((rule for rule, holds in rules.items() if not holds), None)


def write_header(file: h5py.File, header: PartialHeader) -> None:
    """Put the header into a file's attributes, text in fixed length."""
    for field in dataclasses.fields(header):
        file.attrs[field.name] = _attribute(getattr(header, field.name))


def read_header(file: h5py.File, path: Path) -> PartialHeader:
    """Read it back; raises ``StoreError`` (reason ``malformed-partial``) for what cannot be."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(PartialHeader):
        try:
            values[field.name] = _HEADER_TYPES[str(field.type)](fixed_attribute(file, field.name))
        except UNREADABLE as error:
            raise malformed(path, f"its attribute {field.name} is missing or wrong") from error
    header = PartialHeader(**values)
    flaw = header.flaw()
    if flaw is not None:
        raise malformed(path, flaw)
    return header


def malformed(path: Path, fact: str) -> StoreError:
    """Return the error over a file that is HDF5 but no partial."""
    return StoreError(f"{path} is no partial that can be used: {fact}", reason="malformed-partial")


def _attribute(value: int | str | tuple[str, ...]) -> object:
    if isinstance(value, tuple):
        return np.array([text.encode() for text in value], "S")
    # Ten thousand clients of the largest weight pass what an HDF5 integer holds.
    if isinstance(value, str) or value > _INT64_MAX:
        return np.bytes_(str(value))
    return value


def _whole_number(value: Any) -> int:
    return int(str(value))  # a number, or its decimal text if it is large


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(text.decode("ascii") for text in value.tolist())


_HEADER_TYPES: dict[str, Callable[[Any], int | str | tuple[str, ...]]] = {
    "int": _whole_number,
    "str": _text,
    "tuple[str, ...]": _texts,
}
