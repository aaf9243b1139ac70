"""The journal on disk: what happened, durable before anybody hears of what follows from it.

One file a generation, ``coordinator/journal/00000017.jsonl``: a snapshot and what happened since.
A new generation begins at each start, when the file has grown, and after a write that failed,
since a failed fsync must not be tried again on the same file: the kernel may have dropped what it
could not write. Source: Rebello et al. 2020, "Can Applications Recover from fsync Failures?",
USENIX ATC.

Older generations are deleted, unless they hold stages that webservers are still to be told of.

Space is taken ahead of the writing, so that an outcome can be written when the disk is full. All
calls block.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
from coordinator.picture import Stage, numbered, remembered
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

OLDER_MAX = 16
"""Older generations that are kept for the stages in them."""

_NAME = re.compile(r"([0-9]{8,18})\.jsonl")


@dataclass(frozen=True)
class Recovered:
    """What a journal remembers.

    Attributes:
        ledger: The ledger after everything that happened; an empty one where there is no journal.
        at_s: Time has certainly reached this, Unix seconds.
        untold: The stages after the last one that the outbox took, in order.
        set_aside: Where a journal that cannot be read was moved; None if there was none.
        damage: What is wrong with it.
    """

    ledger: Ledger
    at_s: float
    untold: tuple[Stage, ...] = ()
    set_aside: Path | None = None
    damage: str = ""


class JournalSize(NamedTuple):
    """How long a generation is: its bytes, and the entries after its snapshot."""

    written: int
    entries: int


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

    @property
    def size(self) -> JournalSize:
        """How long the newest generation is."""
        return JournalSize(self._written, self._index)

    def recover(self, told: int | None = None) -> Recovered:
        """Read the newest generation, and replay it.

        A generation that cannot be read is set aside under another name.

        Args:
            told: The number of the last stage that needs not be told any more; None: nobody is
                to be told of any.

        Raises:
            StoreError: The disk refused.
        """
        with store_errors(self._folder, "read"):
            make_directory(self._folder)
            for unfinished in self._folder.glob(f"{TEMPORARY_PREFIX}*"):
                unfinished.unlink()
            paths = self._generations()
            if not paths:
                return Recovered(Ledger(), 0.0)
            path = paths[-1]
            self._generation = _generation_of(path)
            content = path.read_bytes()
            older = [path.read_bytes() for path in paths[:-1]] if told is not None else []
        try:
            newest = _replayed(content, told)
        except DamagedLine as error:
            aside = path.with_name(f"{path.name}.damaged")
            with store_errors(path, "set aside"):
                os.replace(path, aside)
                sync_directory(self._folder)
            return Recovered(Ledger(), 0.0, set_aside=aside, damage=str(error))
        untold = (*_stages_before(newest, older, told), *newest.stages)
        return Recovered(newest.ledger, newest.at_s, untold)

    def renew(self, ledger: Ledger, now_s: float, *, keep_older: bool = False) -> None:
        """Begin a new generation with this ledger.

        Args:
            ledger: What holds now.
            now_s: Unix seconds.
            keep_older: Leave the older generations until a further one begins.

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
        with store_errors(self._folder, "read"):
            older = self._generations()[:-1]
        for path in older[:-OLDER_MAX] if keep_older else older:
            remove_quietly(path)

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

    def _generations(self) -> list[Path]:
        """Return the files of all generations, oldest first; raises ``OSError``."""
        names = filter(_NAME.fullmatch, os.listdir(self._folder))
        return sorted((self._folder / name for name in names), key=_generation_of)

    def close(self) -> None:
        """Write no more to this generation."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _generation_of(path: Path) -> int:
    return int(path.stem)


@dataclass(frozen=True)
class _Generation:
    """One file, replayed.

    Attributes:
        began: The sequence number of the last stage before it.
        ledger: The ledger after everything that happened.
        at_s: Time has certainly reached this, Unix seconds.
        stages: Those that were announced in it and are to be told.
    """

    began: int
    ledger: Ledger
    at_s: float
    stages: tuple[Stage, ...]


def _replayed(content: bytes, told: int | None) -> _Generation:
    """Read a generation and take all that happened again; raises ``DamagedLine``."""
    first, *lines = content.rstrip(b"\0").removesuffix(b"\n").split(b"\n")
    snapshot = snapshot_of(first)
    ledger, at_s = snapshot.ledger, snapshot.at_s
    stages: list[Stage] = []
    for entry in entries_of(lines):
        at_s = max(at_s, entry.at_s)
        for happening in entry.happenings:
            before = ledger.sequence
            ledger, effects = take(ledger, happening, entry.at_s)
            for sequence, announced in numbered(before, effects):
                if told is not None and sequence > told:
                    picture = remembered(ledger, entry.at_s)
                    stages.append(Stage(sequence, announced, picture))
    return _Generation(snapshot.ledger.sequence, ledger, at_s, tuple(stages))


def _stages_before(newest: _Generation, older: Sequence[bytes], told: int | None) -> list[Stage]:
    """Return the stages of older generations that are still to be told.

    Where a write failed, a generation may end with what was never taken, and the following one
    tells otherwise: it counts from its beginning on. One that is damaged tells nothing.
    """
    stages: list[Stage] = []
    until = newest.began
    for content in reversed(older):
        try:
            generation = _replayed(content, told)
        except DamagedLine:
            break
        stages[:0] = [stage for stage in generation.stages if stage.sequence <= until]
        until = min(until, generation.began)
    return stages
