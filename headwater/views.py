"""Three ways to watch a federation: a live picture, plain lines, or JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, Self

from rich.console import Console, RenderableType
from rich.live import Live

from federation.phases import Phase
from federation.runtime import wire
from federation.runtime.control import watch_status
from federation.runtime.process import stop_on_signals
from federation.v1 import control_pb2 as pb
from headwater.live import picture
from headwater.verbs import facts_of
from headwater.words import round_in_words, stage_in_words, storage_in_words

REFRESH_PER_S = 4
"""How often the picture is drawn."""


class View(Protocol):
    """What a watcher of a federation shows."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def say(self, text: str) -> None:
        """Show a line that is not about a round."""

    def show(self, status: pb.Status) -> None:
        """Show where the federation stands."""

    def judged(self, record: pb.RoundRecord, metrics: Mapping[str, float]) -> None:
        """Show what a committed round's checkpoint is worth on held-out data."""


def view_for(*, as_json: bool) -> View:
    """Choose: JSON lines if asked for, a picture on a terminal, else plain lines."""
    if as_json:
        return JsonView()
    return LiveView() if sys.stdout.isatty() else PlainView()


async def watch_until_told(coordinator: str, *, as_json: bool) -> None:
    """Show a coordinator's status as it changes, until Ctrl-C or the coordinator's end.

    Raises:
        PeerError: There is no answer, or there is none any more.
    """
    stop = stop_on_signals()
    stopping = asyncio.create_task(stop.wait())
    with view_for(as_json=as_json) as view:

        async def watch() -> None:
            async with contextlib.aclosing(watch_status(coordinator)) as statuses:
                async for status in statuses:
                    view.show(status)

        watching = asyncio.create_task(watch())
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


class _News:
    """Remembers what of a status was told before."""

    def __init__(self) -> None:
        self._stage = 0
        self._round = 0

    def stages(self, status: pb.Status) -> list[pb.Stage]:
        """Return the stages that were not told yet, in order."""
        new = [stage for stage in status.recent_stages if stage.sequence > self._stage]
        self._stage = max([self._stage, *(stage.sequence for stage in new)])
        return new

    def rounds(self, status: pb.Status) -> list[pb.RoundRecord]:
        """Return the completed rounds that were not told yet, in order."""
        new = [r for r in status.recent_rounds if r.round_number > self._round]
        self._round = max([self._round, *(record.round_number for record in new)])
        return new


class PlainView:
    """A line for each stage and whenever a count changes, with the seconds since the start."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._news = _News()
        self._storage: list[str] = []
        self._said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def say(self, text: str) -> None:
        """Print the line."""
        print(f"{time.monotonic() - self._began_s:6.1f} s  {text}", flush=True)

    def show(self, status: pb.Status) -> None:
        """Print each new stage, and the running one if its words changed; and a disk's refusal."""
        storage = storage_in_words(status)
        if storage != self._storage:
            self._storage = storage
            self.say(*(storage or ["Things can be made durable again"]))
        for stage in self._news.stages(status):
            self._say_round(stage.round_number, stage_in_words(stage))
        if status.HasField("round"):
            self._say_round(status.round.round_number, round_in_words(status.round))

    def judged(self, record: pb.RoundRecord, metrics: Mapping[str, float]) -> None:
        """Print the round's seconds and metrics."""
        self.say(f"Round {record.round_number}  {result_in_words(record, metrics)}")

    def _say_round(self, round_number: int, words: str) -> None:
        line = f"Round {round_number}  {words}"
        if line != self._said:
            self._said = line
            self.say(line)


class LiveView:
    """A picture that stays in place, under the lines that were said."""

    def __init__(self, console: Console | None = None) -> None:
        self._began_s = self._told_s = time.monotonic()
        self._status = pb.Status()
        self._held_out: dict[int, dict[str, float]] = {}
        self._live = Live(
            get_renderable=self._picture,
            console=console or Console(),
            refresh_per_second=REFRESH_PER_S,
            transient=False,
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.refresh()
        self._live.__exit__(None, None, None)

    def _picture(self) -> RenderableType:
        """Draw it as of now; called whenever the terminal is refreshed, from a thread of rich's."""
        return picture(self._status, self._held_out, time.monotonic() - self._told_s)

    def say(self, text: str) -> None:
        """Print the line above the picture."""
        seconds = time.monotonic() - self._began_s
        self._live.console.print(f"{seconds:6.1f} s  {text}", markup=False, highlight=False)

    def show(self, status: pb.Status) -> None:
        """Draw it."""
        self._status, self._told_s = status, time.monotonic()

    def judged(self, record: pb.RoundRecord, metrics: Mapping[str, float]) -> None:
        """Draw it with the round's metrics."""
        self._held_out = self._held_out | {record.round_number: dict(metrics)}


class JsonView:
    """One JSON object a line: ``stage``, ``round``, ``storage``, ``note``."""

    def __init__(self) -> None:
        self._news = _News()
        self._storage_failure = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def say(self, text: str) -> None:
        """Print a note."""
        print_line("note", {"text": text})

    def show(self, status: pb.Status) -> None:
        """Print each new stage, each newly completed round, and a disk's refusal and its end."""
        if status.storage_failure != self._storage_failure:
            self._storage_failure = status.storage_failure
            print_line("storage", {"failure": status.storage_failure})
        records = {record.round_number: record for record in self._news.rounds(status)}
        for stage in self._news.stages(status):
            phase = wire.phase_from_wire(stage.phase)
            print_line("stage", facts_of(stage) | {"phase": phase})
            if phase is Phase.COMPLETED and stage.round_number in records:
                print_line("round", facts_of(records.pop(stage.round_number)))
        for record in records.values():
            print_line("round", facts_of(record))

    def judged(self, record: pb.RoundRecord, metrics: Mapping[str, float]) -> None:
        """Print the metrics on held-out data."""
        facts = {"round_number": record.round_number, "metrics": dict(metrics)}
        print_line("held-out", facts)


def result_in_words(record: pb.RoundRecord, metrics: Mapping[str, float]) -> str:
    """Say what a committed round achieved on data that no client has seen, and in what time."""
    seconds = sum(s for phase, s in record.phase_seconds.items() if phase != "selection")
    trained = f" (in training {record.metrics['loss']:.3f})" if "loss" in record.metrics else ""
    return (
        f"Result: {metrics['accuracy']:.1%} of held-out digits right, "
        f"loss {metrics['loss']:.3f}{trained}, {seconds:.1f} s from Configuration on"
    )


def print_line(kind: str, facts: Mapping[str, Any]) -> None:
    """Print one object a line for a program, at once."""
    print(json.dumps({"event": kind, **facts}), flush=True)
