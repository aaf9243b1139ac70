"""The lines of a journal: happenings and ledgers as text, each line with its checksum.

A line is eight hexadecimal digits, the CRC-32 of the rest, a blank, and a JSON object. The types
that the objects hold are the core's own dataclasses.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from coordinator.events import Owner
from coordinator.ledger import Happening, Ledger
from coordinator.roster import Duty
from federation.errors import SettingsError

FORMAT = 1
"""Rises when a journal of an earlier version cannot be read any more."""

_KINDS: dict[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind) for kind in get_args(Happening)
}


class DamagedLine(ValueError):
    """A line is not what was written."""


@dataclass(frozen=True)
class Snapshot:
    """Everything at one moment: the first line of a journal.

    Attributes:
        at_s: Unix seconds.
        ledger: What holds then.
    """

    at_s: float
    ledger: Ledger


@dataclass(frozen=True)
class Entry:
    """What became durable together.

    Attributes:
        index: Counts the entries after the snapshot, from 1.
        at_s: Unix seconds.
        happenings: In order.
    """

    index: int
    at_s: float
    happenings: tuple[Happening, ...]


@dataclass(frozen=True)
class _Written:
    """A snapshot as JSON has it, which has no objects as keys."""

    format: int
    at_s: float
    ledger: Ledger
    duties: tuple[tuple[Owner, Duty], ...]


_SNAPSHOT = TypeAdapter(_Written)


def line_of_snapshot(snapshot: Snapshot) -> bytes:
    """Return the first line of a journal."""
    ledger = snapshot.ledger
    duties: tuple[tuple[Owner, Duty], ...] = ()
    if ledger.round is not None:
        duties = tuple(ledger.round.duties.items())
        ledger = replace(ledger, round=replace(ledger.round, duties={}))
    return _line(_SNAPSHOT.dump_json(_Written(FORMAT, snapshot.at_s, ledger, duties)))


def snapshot_of(line: bytes) -> Snapshot:
    """Read the first line of a journal; raises ``DamagedLine``."""
    content = _checked(line)
    try:
        written = _SNAPSHOT.validate_json(content)
    except (ValidationError, SettingsError) as error:
        raise DamagedLine("the snapshot cannot be read") from error
    if written.format != FORMAT:
        raise DamagedLine(f"it has format {written.format}, this version reads {FORMAT}")
    ledger = written.ledger
    if ledger.round is not None:
        ledger = replace(ledger, round=replace(ledger.round, duties=dict(written.duties)))
    return Snapshot(written.at_s, ledger)


def line_of_entry(entry: Entry) -> bytes:
    """Return one further line."""
    happenings = ", ".join(_text_of(happening) for happening in entry.happenings)
    text = f'{{"index": {entry.index}, "at_s": {entry.at_s!r}, "happenings": [{happenings}]}}'
    return _line(text.encode())


def _text_of(happening: Happening) -> str:
    kind = type(happening).__name__
    return f'["{kind}", {_KINDS[kind].dump_json(happening).decode()}]'


def entry_of(line: bytes) -> Entry:
    """Read one further line; raises ``DamagedLine``."""
    try:
        found = json.loads(_checked(line))
        happenings = tuple(
            _KINDS[kind].validate_python(value) for kind, value in found["happenings"]
        )
        return Entry(found["index"], found["at_s"], happenings)
    except DamagedLine:
        raise
    except (ValueError, KeyError, TypeError, SettingsError) as error:
        raise DamagedLine("a happening cannot be read") from error


def entries_of(lines: Sequence[bytes]) -> Iterator[Entry]:
    """Read the lines after the snapshot.

    A last line that is torn is left out: nothing that it says was visible to anybody.

    Raises:
        DamagedLine: A line that others follow is damaged, or one is missing.
    """
    damaged: DamagedLine | None = None
    index = 0
    for line in lines:
        try:
            entry = entry_of(line)
        except DamagedLine as error:
            damaged = damaged or error
            continue
        index += 1
        if damaged is not None or entry.index != index:
            raise damaged or DamagedLine(f"entry {index} is missing")
        yield entry


def _line(content: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _checked(line: bytes) -> bytes:
    checksum, blank, content = line.partition(b" ")
    if not (blank and len(checksum) == 8 and checksum == b"%08x" % zlib.crc32(content)):
        raise DamagedLine("a line has another checksum than it says")
    return content
