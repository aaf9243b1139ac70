"""Everything around the roles that is simulated, and the patches that put it in its place."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from federation.errors import StoreError
from selector.spool_files import write_facts, write_update
from tests.simulation import updates
from tests.simulation.calls import Channel
from tests.simulation.directory import SimulatedDirectory
from tests.simulation.disk import DIRECTORY, JOURNAL, JournalOs, Trouble
from tests.simulation.loop import Executor, Process, VirtualLoop
from tests.simulation.network import Network

DISK_S = {"journal": (0.0003, 0.004), "seal": (0.001, 0.02), "commit": (0.001, 0.02)}
"""Seconds that a job in a thread of this name takes, drawn evenly."""

_EXECUTORS = (
    "coordinator.committer",
    "coordinator.inspector",
    "coordinator.memory",
    "selector.desk",
    "selector.sealing",
    "selector.selector",
)


class Surroundings:
    """The loop, the network, the disks and the clocks of one run.

    Attributes:
        folder: Where the coordinator's own files are, on a real but fast disk.
        troubles: What is wrong with each disk.
        wall_offset_s: How far the wall clock was set.
        drains: By selector: set when it is to drain.
        jobs_s: Spans in which a job of the journal was under way.
        left_open: What the system would close with a process that runs to the end.
    """

    def __init__(self, loop: VirtualLoop, seed: int, folder: Path) -> None:
        self.loop = loop
        self.folder = folder
        self.rng = random.Random(f"{seed}/surroundings")
        self.network = Network(loop, random.Random(f"{seed}/network"))
        self.troubles = {JOURNAL: Trouble(), DIRECTORY: Trouble()}
        self.journal_os = JournalOs(loop, random.Random(f"{seed}/disk"), self.troubles[JOURNAL])
        self.directory = SimulatedDirectory(loop, self.troubles[DIRECTORY], updates.FIRST_WEIGHTS)
        self.wall_offset_s = 1.7e9
        self.drains: dict[str, asyncio.Event] = {}
        self.jobs_s: list[tuple[float, float]] = []
        self.left_open = ExitStack()
        self._tokens = random.Random(f"{seed}/tokens")

    def wall_s(self) -> float:
        """Return what the wall clock shows."""
        return self.loop.time() + self.wall_offset_s

    def job_s(self, name: str) -> float:
        """Draw how long a job in a thread of this name takes; slow disks make it longer."""
        seconds = self.rng.uniform(*DISK_S.get(name, (0.0001, 0.003)))
        disk = JOURNAL if name == "journal" else DIRECTORY
        trouble = self.troubles[disk]
        if name in DISK_S and self.loop.time() < trouble.slow_until_s:
            seconds += self.rng.uniform(0, trouble.slow_s)
        if name == "journal":
            self.jobs_s.append((self.loop.time(), self.loop.time() + seconds))
        return seconds

    def process(self, name: str) -> Process:
        """Make a process."""
        return Process(self.loop, name, self.job_s)

    def at_end_of(self, process: Process, do: Callable[[], None]) -> None:
        """Do something when a process ends."""
        process.at_exit.append(do)

    def heal(self) -> None:
        """Nothing goes wrong from now on."""
        self.network.heal()
        for trouble in self.troubles.values():
            trouble.heal(self.loop.time())

    def token_hex(self, size: int = 32) -> str:
        """Stand in for ``secrets.token_hex``."""
        return self._tokens.randbytes(size).hex()

    def channel(self, target: str, keepalive_s: float, keepalive_timeout_s: float) -> Channel:
        """Stand in for ``create_channel``."""
        return Channel(self.network, target)

    def write_record(self, path: Path, write: Callable[[Path], object]) -> None:
        """Stand in for ``write_atomically`` in ``coordinator.records``."""
        if self.loop.time() < self.troubles[JOURNAL].refuses_until_s:
            raise StoreError("the disk refuses", reason="io-error")
        write(path)

    def on_trouble(self, write: Callable[..., None]) -> Callable[..., None]:
        """Stand in for what writes a file of a spool: it fails with the shared directory."""

        def writing(*arguments: Any) -> None:
            trouble = self.troubles[DIRECTORY]
            refuses = self.loop.time() < trouble.refuses_until_s
            if not refuses or trouble.is_late:
                write(*arguments)
            if refuses:
                raise StoreError("the disk refuses", reason="io-error")

        return writing

    @contextmanager
    def in_place(self, generation_bytes_max: int) -> Iterator[None]:
        """Put everything in its place for as long as the block lasts."""
        directory = self.directory
        places: dict[str, Any] = {
            "time.monotonic": self.loop.time,
            "secrets.token_hex": self.token_hex,
            "selector.uplink.create_channel": self.channel,
            "client.selectors.create_channel": self.channel,
            "coordinator.journal.os": self.journal_os,
            "coordinator.journal.sync_directory": self.journal_os.sync_directory,
            "coordinator.journal.GENERATION_BYTES_MAX": generation_bytes_max,
            "coordinator.journal.AHEAD_BYTES": 16 << 10,
            "coordinator.journal.RESERVE_BYTES": 4 << 10,
            "coordinator.records.write_atomically": self.write_record,
            "coordinator.inspector.open_partial": directory.open_partial,
            "coordinator.merging.open_partial": directory.open_partial,
            "coordinator.merging.read_spec": directory.read_spec,
            "coordinator.committer.encode_checkpoint": directory.encode_checkpoint,
            "selector.sealing.write_partial": directory.write_partial,
            "selector.spool.time": SimpleNamespace(time=self.wall_s),
            "selector.spool.write_facts": self.on_trouble(write_facts),
            "selector.spool.write_update": self.on_trouble(write_update),
        }
        places |= {f"{module}.ThreadPoolExecutor": Executor for module in _EXECUTORS}
        with ExitStack() as stack:
            for name, what in places.items():
                stack.enter_context(patch(name, what))
            yield


class Log(logging.Handler):
    """Keeps what the roles log: errors that are bugs always, the rest for a trace.

    Attributes:
        lines: What was logged, with virtual time.
        bugs: Exceptions that none of our errors is.
    """

    def __init__(self, loop: VirtualLoop, say: Callable[[str, str], None], traced: bool) -> None:
        super().__init__(logging.DEBUG if traced else logging.ERROR)
        self._loop = loop
        self._say = say
        self._traced = traced
        self.bugs: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        event: Any = record.msg
        event = dict(event) if isinstance(event, dict) else {"event": str(event)}
        error = event.pop("exc_info", None)
        text = str(event.pop("event", ""))
        if error and text in ("call failed", "fold failed", "selector stream failed"):
            self.bugs.append(f"{text}: {error!r} {record.exc_info!r}")
        event.pop("_record", None)
        if self._traced:
            self._say(text, " ".join(f"{key}={value}" for key, value in event.items()))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Listen for as long as the block lasts."""
        logger = logging.getLogger("headwater")
        level, propagate, handlers = logger.level, logger.propagate, logger.handlers[:]
        logger.handlers[:] = [self]
        logger.propagate = False
        logger.setLevel(self.level)
        try:
            yield
        finally:
            logger.handlers[:] = handlers
            logger.propagate = propagate
            logger.setLevel(level)
