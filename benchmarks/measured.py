"""Processes under measurement: started, found by a line that they print, their CPU and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_TICKS = os.sysconf("SC_CLK_TCK")

HOSTS = 2
"""Processes that clients are spread over."""

STOP_TIMEOUT_S = 15.0
"""A process that has not ended so long after SIGTERM is killed."""


@dataclass(frozen=True)
class Use:
    """What a process used.

    Attributes:
        cpu_s: CPU seconds, of user and system.
        peak_mib: Largest resident set so far.
        mib: Resident set now.
    """

    cpu_s: float
    peak_mib: float
    mib: float


class Process:
    """One process; leaving the block stops it."""

    def __init__(self, name: str, module: str, arguments: Sequence[object], log: Path) -> None:
        self.name = name
        self._log = log.open("wb")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def line(self) -> dict[str, Any]:
        """Wait for the next line of its output, which is JSON."""
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        if not text:
            tail = Path(self._log.name).read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{self.name} ended; its log:\n{tail}")
        facts: dict[str, Any] = json.loads(text)
        return facts

    def kill(self) -> None:
        """End it without a warning."""
        self._process.kill()
        self._process.wait()

    def use(self) -> Use:
        """Read what it used so far."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        facts = dict(line.split(":", 1) for line in status.splitlines())
        peak_mib, mib = (int(facts[name].split()[0]) / 1024 for name in ("VmHWM", "VmRSS"))
        return Use((int(stat[11]) + int(stat[12])) / _TICKS, peak_mib, mib)


def share(clients: int, host: int) -> tuple[int, int]:
    """Return the first client of a host and how many it has."""
    counts = [clients // HOSTS + (index < clients % HOSTS) for index in range(HOSTS)]
    return sum(counts[:host]), counts[host]
