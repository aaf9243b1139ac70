"""The journal on disk: what happened, durable before anybody hears of what follows from it.

One file a generation, ``coordinator/journal/00000017.jsonl``: a snapshot and what happened since.
A new generation begins at each start, when the file has grown, and after a write that failed,
since a failed fsync must not be tried again on the same file: the kernel may have dropped what it
could not write. Source: Rebello et al. 2020, "Can Applications Recover from fsync Failures?",
USENIX ATC.

Space is taken ahead of the writing, so that an outcome can be written when the disk is full. All
calls block.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.journal_lines import (
    DamagedLine,
    Entry,
    Snapshot,
    entries_of,
    line_of_entry,
    line_of_snapshot,
    snapshot_of,
)
from coordinator.ledger import Happening, Ledger, take
from federation.runtime.disk import (
    TEMPORARY_PREFIX,
    make_directory,
    remove_quietly,
    store_errors,
    sync_directory,
    temporary_path,
)

GENERATION_BYTES_MAX = 8 << 20
"""A generation that has grown so long is followed by a new one, which begins with a snapshot."""

GENERATION_LINES_MAX = 2_000
"""As well: a start takes them again one by one, and should not take long."""

AHEAD_BYTES = 1 << 20
"""Space that is taken at a time, ahead of the writing."""

RESERVE_BYTES = 64 << 10
"""Space that only an outcome may use."""

_NAME = re.compile(r"([0-9]{8,18})\.jsonl")


@dataclass(frozen=True)
class Recovered:
    """What a journal remembers.

    Attributes:
        ledger: The ledger after everything that happened; an empty one where there is no journal.
        at_s: Time has certainly reached this, Unix seconds.
        set_aside: Where a journal that cannot be read was moved; None if there was none.
        damage: What is wrong with it.
    """

    ledger: Ledger
    at_s: float
    set_aside: Path | None = None
    damage: str = ""


class Journal:
    """The journal of one coordinator, which has the directory to itself.

    Args:
        folder: Where the generations lie; made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1
        self._path = folder
        self._generation = 0
        self._index = 0
        self._written = 0
        self._allocated = 0

    @property
    def has_grown(self) -> bool:
        """A new generation is due."""
        return self._written > GENERATION_BYTES_MAX or self._index >= GENERATION_LINES_MAX

    def recover(self) -> Recovered:
        """Read the newest generation, and replay it.

        A generation that cannot be read is set aside under another name.

        Raises:
            StoreError: The disk refused.
        """
        with store_errors(self._folder, "read"):
            make_directory(self._folder)
            for unfinished in self._folder.glob(f"{TEMPORARY_PREFIX}*"):
                unfinished.unlink()
            found = sorted(map(_NAME.fullmatch, os.listdir(self._folder)), key=_generation_of)
            generations = [match for match in found if match]
            if not generations:
                return Recovered(Ledger(), 0.0)
            self._generation = _generation_of(generations[-1])
            path = self._folder / generations[-1][0]
            content = path.read_bytes()
        try:
            return _replayed(content)
        except DamagedLine as error:
            aside = path.with_name(f"{path.name}.damaged")
            with store_errors(path, "set aside"):
                os.replace(path, aside)
                sync_directory(self._folder)
            return Recovered(Ledger(), 0.0, aside, str(error))

    def renew(self, ledger: Ledger, now_s: float) -> None:
        """Begin a new generation with this ledger; older ones are deleted.

        Raises:
            StoreError: The old generation is still the newest one, or neither may be written any
                more; in both cases this can be tried again.
        """
        generation = self._generation + 1
        line = line_of_snapshot(Snapshot(now_s, ledger))
        path = self._folder / f"{generation:08}.jsonl"
        temporary = temporary_path(self._folder)
        try:
            with store_errors(path, "write"):
                temporary.write_bytes(line)
                descriptor = os.open(temporary, os.O_WRONLY)
                try:
                    os.posix_fallocate(descriptor, 0, len(line) + AHEAD_BYTES)
                    os.fsync(descriptor)
                    os.rename(temporary, path)
                    # From here on a restart may find the new one: the old one must not go on.
                    self.close()
                    sync_directory(self._folder)
                except BaseException:
                    os.close(descriptor)
                    raise
        finally:
            remove_quietly(temporary)
        self._descriptor, self._path = descriptor, path
        self._written, self._allocated = len(line), len(line) + AHEAD_BYTES
        self._generation, self._index = generation, 0
        self._delete_older()

    def append(
        self, happenings: Sequence[Happening], now_s: float, *, is_outcome: bool = False
    ) -> None:
        """Return once these are durable.

        Args:
            happenings: In order.
            now_s: Unix seconds.
            is_outcome: They end a round, and may use the reserve.

        Raises:
            StoreError: They may or may not be there: a new generation settles it. With the reason
                ``disk-full`` and not ``is_outcome``: they are not there, an outcome can follow.
        """
        line = line_of_entry(Entry(self._index + 1, now_s, tuple(happenings)))
        with store_errors(self._path, "write"):
            if self._descriptor < 0:
                raise OSError("the journal has no file that can be written")
            self._make_room(len(line) + (0 if is_outcome else RESERVE_BYTES))
            try:
                written = os.pwrite(self._descriptor, line, self._written)
                if written != len(line):
                    raise OSError("a line was written in part")
                os.fdatasync(self._descriptor)
            except OSError:
                self.close()
                raise
        self._index += 1
        self._written += len(line)

    def _make_room(self, size: int) -> None:
        if self._written + size <= self._allocated:
            return
        end = self._written + size + AHEAD_BYTES
        os.posix_fallocate(self._descriptor, self._allocated, end - self._allocated)
        os.fsync(self._descriptor)
        self._allocated = end

    def _delete_older(self) -> None:
        for name in os.listdir(self._folder):
            found = _NAME.fullmatch(name)
            if found and _generation_of(found) < self._generation:
                remove_quietly(self._folder / name)

    def close(self) -> None:
        """Write no more to this generation."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _generation_of(found: re.Match[str] | None) -> int:
    return int(found[1]) if found else -1


def _replayed(content: bytes) -> Recovered:
    """Read a generation and take all that happened again."""
    first, *lines = content.rstrip(b"\0").removesuffix(b"\n").split(b"\n")
    snapshot = snapshot_of(first)
    ledger, at_s = snapshot.ledger, snapshot.at_s
    for entry in entries_of(lines):
        at_s = max(at_s, entry.at_s)
        for happening in entry.happenings:
            ledger, _ = take(ledger, happening, entry.at_s)
    return Recovered(ledger, at_s)
