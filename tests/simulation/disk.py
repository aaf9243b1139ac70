"""Disks that refuse, dawdle, and forget in a crash what was not synced.

The journal writes real files through :class:`JournalOs`, which knows what is durable. Everything
else in the shared directory is in memory: see :mod:`tests.simulation.directory`.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.simulation.loop import Died, VirtualLoop

JOURNAL, DIRECTORY = "journal", "directory"


@dataclass
class Trouble:
    """What is wrong with one disk.

    Attributes:
        refuses_until_s: Every write fails before.
        error: The ``errno`` of it.
        is_late: It fails after it was done, as a failed sync does.
        slow_until_s: Every job takes longer before.
        slow_s: So much longer at most.
        lag_until_s: Readers on other machines see what was there a while ago.
        lag_s: How long ago.
        refused_s: Spans in which it refused.
    """

    refuses_until_s: float = 0.0
    error: int = errno.EIO
    is_late: bool = False
    slow_until_s: float = 0.0
    slow_s: float = 0.0
    lag_until_s: float = 0.0
    lag_s: float = 0.0
    refused_s: list[tuple[float, float]] = field(default_factory=list)

    def refuse(self, now_s: float, seconds: float, error: int, *, is_late: bool) -> None:
        """Fail every write for so long."""
        self.refuses_until_s, self.error, self.is_late = now_s + seconds, error, is_late
        self.refused_s.append((now_s, now_s + seconds))

    def heal(self, now_s: float) -> None:
        """Nothing is wrong from now on."""
        self.refuses_until_s = min(self.refuses_until_s, now_s)
        self.slow_until_s = self.lag_until_s = now_s
        self.refused_s = [(begin, min(end, max(begin, now_s))) for begin, end in self.refused_s]


class Durable(Protocol):
    """Who wants to know what became durable."""

    def line(self, data: bytes) -> None:
        """A line of the journal cannot be lost any more."""

    def snapshot(self, data: bytes) -> None:
        """A new generation began."""


@dataclass
class _Write:
    descriptor: int
    inode: int
    offset: int
    before: bytes
    data: bytes


class JournalOs:
    """Stands in for the module ``os`` in ``coordinator.journal``.

    Attributes:
        dies_after: So many further operations succeed before the process is dead; None: all.
    """

    def __init__(self, loop: VirtualLoop, rng: random.Random, trouble: Trouble) -> None:
        self._loop = loop
        self._rng = rng
        self._trouble = trouble
        self.durable: Durable | None = None
        self.dies_after: int | None = None
        self._unsynced: list[_Write] = []
        self._renamed: list[tuple[Path, Path]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _operate(
        self, function: Callable[[], Any], *, half: Callable[[], Any] | None = None
    ) -> Any:
        """Do it, fail, or die before it is done."""
        if self.dies_after is not None:
            if self.dies_after == 0:
                if half is not None:
                    half()
                raise Died
            self.dies_after -= 1
        trouble = self._trouble
        refuses = self._loop.time() < trouble.refuses_until_s
        if refuses and not trouble.is_late:
            raise OSError(trouble.error, os.strerror(trouble.error))
        result = function()
        if refuses:
            raise OSError(trouble.error, os.strerror(trouble.error))
        return result

    def posix_fallocate(self, descriptor: int, offset: int, length: int) -> None:
        self._operate(lambda: os.ftruncate(descriptor, offset + length))

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        def write(size: int) -> int:
            both_ways = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
            before = os.pread(both_ways, len(data), offset)
            inode = os.fstat(descriptor).st_ino
            self._unsynced.append(_Write(both_ways, inode, offset, before, data))
            return os.pwrite(descriptor, data[:size], offset)

        written: int = self._operate(
            lambda: write(len(data)), half=lambda: write(self._rng.randrange(len(data)))
        )
        return written

    def fdatasync(self, descriptor: int) -> None:
        if self._trouble.is_late and self._loop.time() < self._trouble.refuses_until_s:
            raise OSError(self._trouble.error, os.strerror(self._trouble.error))
        self._operate(lambda: self._synced(descriptor))

    fsync = fdatasync

    def rename(self, source: Path, target: Path) -> None:
        def rename() -> None:
            os.rename(source, target)
            self._renamed.append((source, target))

        self._operate(rename)

    def sync_directory(self, folder: Path) -> None:
        """Stands in for ``sync_directory`` in ``coordinator.journal``."""
        self._operate(self._names_synced)

    def _synced(self, descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        for write in [write for write in self._unsynced if write.inode == inode]:
            self._settle(write)
            assert self.durable is not None
            self.durable.line(write.data)

    def _names_synced(self) -> None:
        renamed, self._renamed = self._renamed, []
        for _, target in renamed[-1:]:
            assert self.durable is not None
            self.durable.snapshot(target.read_bytes())
        if renamed:
            for write in list(self._unsynced):
                self._settle(write)  # of a generation before

    def _settle(self, write: _Write) -> None:
        self._unsynced.remove(write)
        os.close(write.descriptor)

    def crash(self) -> None:
        """Forget, keep or tear what was not synced."""
        self.dies_after = None
        for write in list(self._unsynced):
            now = os.pread(write.descriptor, len(write.data), write.offset)
            kept = self._rng.choice((0, len(now), self._rng.randrange(len(now) + 1)))
            before = write.before.ljust(len(now), b"\0")
            left = now[:kept] + before[kept:]
            os.pwrite(write.descriptor, left, write.offset)
            self._settle(write)
            if left == write.data:
                assert self.durable is not None
                self.durable.line(write.data)
        renamed, self._renamed = self._renamed, []
        for source, target in renamed[-1:]:
            if self._rng.random() < 0.5 and target.exists():
                os.rename(target, source)
            elif target.exists():
                assert self.durable is not None
                self.durable.snapshot(target.read_bytes())

    def close_all(self) -> None:
        """Give the descriptors back."""
        for write in list(self._unsynced):
            self._settle(write)
