"""The role processes that a demo starts: each with a log, found by its listening line, stopped."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from federation.errors import FederationError

LISTENING_TIMEOUT_S = 60.0
"""A server that has not said where it listens by then has failed to start."""

STOP_TIMEOUT_S = 10.0
"""A process that has not ended so long after SIGTERM is killed."""

LOG_TAIL_LINES = 15
"""Lines of a failed process's log that are shown."""


class ChildFailed(FederationError):
    """A process that was started ended by itself."""

    reason = "process-failed"


@dataclass(frozen=True, eq=False)
class Child:
    """One process.

    Attributes:
        name: For people, e.g. ``"selector-1"``.
        module: What it runs, e.g. ``"selector"``.
        arguments: Its command line.
        process: The process.
        log: Where its standard error goes.
    """

    name: str
    module: str
    arguments: Sequence[str]
    process: asyncio.subprocess.Process
    log: Path

    def log_tail(self) -> str:
        """Return the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:])


class Children:
    """All processes of a demo; leaving the block stops them, last started first."""

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder
        self.all: list[Child] = []

    async def __aenter__(self) -> Self:
        self._log_folder.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.shield(self.stop())

    async def start(self, name: str, module: str, arguments: Sequence[str]) -> Child:
        """Start ``python -m module`` in a process group of its own, so that Ctrl-C is ours.

        A later process of the same name goes on with the log.
        """
        log = self._log_folder / f"{name}.log"
        again = any(child.name == name for child in self.all)
        with log.open("ab" if again else "wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the current folder must not come before ours
                "-m",
                module,
                *arguments,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                env=_environment(),
            )
        child = Child(name, module, arguments, process, log)
        self.all.append(child)
        return child

    async def listening_port(self, child: Child) -> int:
        """Wait for the child's listening line and return its port.

        Raises:
            ChildFailed: It ended, or said nothing in time.
        """
        assert child.process.stdout is not None
        try:
            async with asyncio.timeout(LISTENING_TIMEOUT_S):
                line = await child.process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            raise ChildFailed(f"{child.name} did not start; its log:\n{child.log_tail()}")
        return int(json.loads(line)["port"])

    async def stop(self) -> None:
        """Stop all: SIGTERM, last started first, then SIGKILL for those that stay."""
        running = self._running()
        for child in running:
            child.process.terminate()
        await asyncio.gather(*(_ended(child) for child in running))

    def kill(self) -> None:
        """End all at once."""
        for child in self._running():
            child.process.kill()

    def _running(self) -> list[Child]:
        return [child for child in reversed(self.all) if child.process.returncode is None]


async def _ended(child: Child) -> None:
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await child.process.wait()
    except TimeoutError:
        child.process.kill()
        await child.process.wait()


def _environment() -> dict[str, str]:
    """Flags alone decide: settings for one role must not reach the others by the environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
    return kept | {"PYTHONUNBUFFERED": "1"}
