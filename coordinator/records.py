"""What remains of completed rounds, on disk: a file each, so that it survives every restart."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from coordinator.record import RoundOutcome
from federation.errors import SettingsError
from federation.runtime.disk import make_directory, remove_quietly, store_errors, write_atomically
from federation.runtime.telemetry import get_logger

log = get_logger()

RECORDS_MAX = 10_000
"""Newest rounds whose records are kept."""

_RECORD = TypeAdapter(RoundOutcome)
_NAME = re.compile(r"round-([0-9]{6,18})\.json")


class Records:
    """The folder of records. Its calls block: use a thread.

    Args:
        folder: Made if it is missing.
        keep: Newest records that are kept.
    """

    def __init__(self, folder: Path, keep: int = RECORDS_MAX) -> None:
        self._folder = folder
        self._keep = keep
        with store_errors(folder, "read"):
            make_directory(folder)
            names = map(_NAME.fullmatch, os.listdir(folder))
        self._numbers = sorted(int(name[1]) for name in names if name)

    @property
    def highest(self) -> int:
        """The highest round number of a record; 0 if there is none."""
        return self._numbers[-1] if self._numbers else 0

    def numbers(self, from_round: int) -> list[int]:
        """Return the numbers of the rounds that are remembered, ascending, from this one on."""
        return [number for number in self._numbers if number >= from_round]

    def save(self, record: RoundOutcome) -> None:
        """Make a record durable; may be done again.

        Raises:
            StoreError: The disk refused.
        """
        number = record.round_number
        content = _RECORD.dump_json(record)
        write_atomically(self._path(number), lambda path: path.write_bytes(content))
        self._numbers = sorted({*self._numbers, number})
        for old in self._numbers[: -self._keep]:
            remove_quietly(self._path(old))
        self._numbers = self._numbers[-self._keep :]

    def load(self, round_number: int) -> RoundOutcome | None:
        """Return what is remembered of a round; None if that is nothing.

        Raises:
            StoreError: The disk refused.
        """
        path = self._path(round_number)
        with store_errors(path, "read"):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            return _RECORD.validate_json(content)
        except (ValidationError, SettingsError):
            log.error("record of a round cannot be read", file=path.name)
            return None

    def newest(self, count: int, bytes_max: int) -> list[RoundOutcome]:
        """Return the newest records, oldest first, as far as they are not too much to read."""
        found: list[RoundOutcome] = []
        for number in reversed(self._numbers[-count:]):
            with store_errors(self._path(number), "read"):
                bytes_max -= self._path(number).stat().st_size
            record = self.load(number) if bytes_max >= 0 else None
            if record is None:
                break
            found.append(record)
        return found[::-1]

    def _path(self, round_number: int) -> Path:
        return self._folder / f"round-{round_number:06}.json"
