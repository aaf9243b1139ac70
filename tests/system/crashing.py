"""Runs a role that dies at a named point: ``python -m tests.system.crashing POINT ROLE flags``.

The role is the real one, with its real ``main``; functions are wrapped from outside, so that the
process kills itself with SIGKILL exactly there. ``POINT`` is one of ``STEPS``, or one of

| point          | the coordinator dies                                                           |
|----------------|--------------------------------------------------------------------------------|
| `torn:EVENT`   | when half of the journal's line with this event is written                     |
| `after:EVENT`  | when this event is durable, and before it has any effect                       |
| `tell:COMMAND` | when it is about to send the first command of this kind                        |

followed by ``@ROUND`` if it is to happen only once that round has begun, which the coordinator
alone knows, or by ``#CALL`` for that call alone, from 1. With ``hold=`` before it the process does
not die: it logs ``holds``, and waits there until the file that the environment variable
``CRASHING_GATE`` names is there. Where a thread does the work, the rest of the process goes on.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import itertools
import json
import os
import runpy
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from coordinator.journal import Journal
from coordinator.ledger import RoundBegan
from coordinator.links import Links
from federation.runtime.frames import Piece

GATE = "CRASHING_GATE"
"""Environment variable: a file whose appearance lets a process that holds go on."""

LOOK_S = 0.01
"""Pause between two looks for it."""

Point = Callable[[], None]
"""What happens at the point; it does not return if the process dies there."""

Matches = Callable[..., bool]
"""Looks at a call's arguments."""


def _any_call(*arguments: Any, **more: Any) -> bool:
    return True


def _of_history(path: Path) -> bool:
    return path.name == "history"


@dataclass(frozen=True)
class Step:
    """A place in the code.

    Attributes:
        where: Module, and class if there is one, as in ``coordinator.records:Records``.
        function: Its function there.
        ends: The point is after the function returned, not before it is called.
        matches: Which calls count.
    """

    where: str
    function: str
    ends: bool = False
    matches: Matches = _any_call


_HISTORY = "federation.runtime.history:History"
_STORE = "federation.runtime.store:SharedDirectory"

STEPS = {
    # The commit, in order. Step (a):
    "before-merging": Step("coordinator.committer", "merge"),
    "before-staging": Step(_HISTORY, "stage"),
    "in-staging": Step("federation.runtime.history", "sync_file"),
    "after-staging": Step(_HISTORY, "stage", ends=True),
    # Step (b):
    "before-rename": Step(_HISTORY, "publish"),
    "after-rename": Step("federation.runtime.history", "sync_directory", matches=_of_history),
    "after-publish": Step(_HISTORY, "publish", ends=True),
    # What remains of the round:
    "before-record": Step("coordinator.records:Records", "save"),
    "after-record": Step("coordinator.records:Records", "save", ends=True),
    # Step (c):
    "before-current": Step(_STORE, "make_current"),
    "in-current": Step("federation.runtime.store", "_link_or_copy", ends=True),
    "after-current": Step(_STORE, "make_current", ends=True),
    "before-prune": Step(_HISTORY, "prune"),
    # The start, and every new generation of the journal:
    "before-epoch": Step("coordinator.tenure", "write_atomically"),
    "after-epoch": Step("coordinator.tenure", "write_atomically", ends=True),
    "before-renewal": Step("coordinator.journal:Journal", "renew"),
    "in-renewal": Step("os", "posix_fallocate"),
    "renamed-journal": Step("coordinator.journal", "sync_directory"),
    "after-renewal": Step("coordinator.journal:Journal", "renew", ends=True),
    # A selector:
    "before-base": Step("selector.artifacts:Shelf", "load_checkpoint"),
    "before-partial": Step("selector.sealing", "write_partial"),
    "in-partial": Step("federation.runtime.partials", "_write_sums", ends=True),
    "after-partial": Step("selector.sealing", "write_partial", ends=True),
    "before-spooling": Step("selector.spool", "write_update"),
    "after-spooling": Step("selector.spool", "write_update", ends=True),
    "before-noting": Step("selector.spool:Spool", "note_partial"),
    "after-noting": Step("selector.spool:Spool", "note_partial", ends=True),
}
"""By name; the coordinator's in the order in which a round passes them."""

IN_REPORT = "in-report"
"""The point of a client that has sent the first chunk of its report, which it tries for the first
time; its calls are the rounds that it reports in."""


class Rounds:
    """Counts the rounds that have begun, by what the coordinator's journal is given.

    Attributes:
        newest: Number of the newest; the shared directory is new when the process starts.
    """

    def __init__(self) -> None:
        self.newest = 0

    def count(self, happenings: Any) -> None:
        """Look at what is about to become durable."""
        self.newest += sum(isinstance(happening, RoundBegan) for happening in happenings)


def arm(point: str, happen: Point, rounds: Rounds) -> None:
    """Wrap what the point lies at; raises ``KeyError`` for one that is not known."""
    name, _, call = point.partition("#")
    name, _, number = name.partition("@")
    from_round, at_call = int(number or 0), int(call or 0)
    passages = itertools.count(1)

    def passed() -> None:
        if rounds.newest >= from_round and at_call in (0, next(passages)):
            happen()

    kind, colon, word = name.partition(":")
    if name == IN_REPORT:
        _stop_in_report(at_call, happen)
    elif not colon:
        _wrap(STEPS[name], passed)
    elif kind == "tell":
        Links.send = _telling(word, passed)  # type: ignore[method-assign]
    else:
        _POINTS_OF_LINES[kind](word, passed)
    _count_rounds(rounds)


def _wrap(step: Step, passed: Point) -> None:
    module, _, class_name = step.where.partition(":")
    holder = importlib.import_module(module)
    if class_name:
        holder = getattr(holder, class_name)
    real = getattr(holder, step.function)

    @functools.wraps(real)
    def wrapped(*arguments: Any, **more: Any) -> Any:
        counts = step.matches(*arguments, **more)
        if counts and not step.ends:
            passed()
        result = real(*arguments, **more)
        if counts and step.ends:
            passed()
        return result

    setattr(holder, step.function, wrapped)


def _stop_in_report(at_call: int, happen: Point) -> None:
    contribution: Any = importlib.import_module("client.contribution")
    frames = contribution.frames
    rounds: list[str] = []

    async def stopping(update: Any, *how: Any) -> AsyncIterator[Any]:
        is_first_try = update.round_id not in rounds
        rounds.extend([update.round_id] * is_first_try)
        stops = is_first_try and len(rounds) == at_call
        async for frame in frames(update, *how):
            yield frame
            if stops and isinstance(frame, Piece):
                stops = False
                # It is asked for more once gRPC has taken this frame.
                await asyncio.to_thread(happen)

    contribution.frames = stopping


def _count_rounds(rounds: Rounds) -> None:
    append = Journal.append

    def counting(self: Journal, happenings: Any, now_s: float, *, is_outcome: bool = False) -> None:
        rounds.count(happenings)
        append(self, happenings, now_s, is_outcome=is_outcome)

    Journal.append = counting  # type: ignore[method-assign]


def _has(happenings: Any, kind: str) -> bool:
    return any(type(happening).__name__ == kind for happening in happenings)


def _after_line(kind: str, passed: Point) -> None:
    append = Journal.append

    def appending(
        self: Journal, happenings: Any, now_s: float, *, is_outcome: bool = False
    ) -> None:
        append(self, happenings, now_s, is_outcome=is_outcome)
        if _has(happenings, kind):
            passed()

    Journal.append = appending  # type: ignore[method-assign]


def _in_line(kind: str, passed: Point) -> None:
    append, pwrite = Journal.append, os.pwrite

    def tearing(descriptor: int, line: bytes, offset: int) -> int:
        half = pwrite(descriptor, line[: len(line) // 2], offset)
        passed()
        return half + pwrite(descriptor, line[half:], offset + half)

    def appending(
        self: Journal, happenings: Any, now_s: float, *, is_outcome: bool = False
    ) -> None:
        os.pwrite = tearing if _has(happenings, kind) else pwrite  # type: ignore[assignment]
        append(self, happenings, now_s, is_outcome=is_outcome)

    Journal.append = appending  # type: ignore[method-assign]


_POINTS_OF_LINES = {"after": _after_line, "torn": _in_line}


def _telling(kind: str, passed: Point) -> Any:
    send = Links.send

    def sending(self: Links, owner: Any, command: Any) -> None:
        if command.WhichOneof("command") == kind:
            passed()
        send(self, owner, command)

    return sending


def die() -> NoReturn:
    """End as a crash does: nothing is flushed, closed or said."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody survives SIGKILL")


def hold() -> None:
    """Wait for the gate."""
    say("holds")
    while not Path(os.environ[GATE]).exists():
        time.sleep(LOOK_S)


def say(event: str) -> None:
    """Write a line to the log, for the test."""
    sys.stderr.write(json.dumps({"event": event}) + "\n")
    sys.stderr.flush()


def main() -> None:
    point = sys.argv.pop(1)
    held = point.removeprefix("hold=")
    arm(held, die if held == point else hold, Rounds())
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
