"""One of three clients is killed in mid-round: ``python -m benchmarks.side_by_side``.

Real processes with the settings that everybody begins with, but for those that are flags here. It
prints how long the round went on without the client, that the next one runs with the two that are
left, and that the one after it has three again once the client is back.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.measured import Process
from benchmarks.payload import changed, model
from client.trainer import Trainer, TrainingResult, TrainingTask
from federation.runtime.initialise import initialise_with
from federation.runtime.wire import session_to_wire
from federation.v1 import control_pb2 as pb
from federation.v1 import control_pb2_grpc

ROUNDS = 3
CLIENTS = 3
MEGABYTES = 1
TRAINING_S = 5.0
KILLED_AFTER_S = 1.0
"""From the moment when all three train."""

TRAINING_VARIABLE = "SIDE_BY_SIDE_TRAINING_S"


class Slow(Trainer):
    """Takes its time, and changes the model."""

    def fit(self, weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        """Wait for the time that the environment names, or until told to stop."""
        until_s = time.monotonic() + float(os.environ[TRAINING_VARIABLE])
        while time.monotonic() < until_s:
            task.raise_if_stopped()
            time.sleep(0.05)
        return TrainingResult(changed(weights, 0), num_examples=1)


@dataclass(frozen=True)
class Figures:
    """What was seen.

    Attributes:
        kill_to_end_s: From the kill to the end of its round.
        reports: Of the round with the kill, the next one, and the one after the client was back.
        next_s: From the end of the round with the kill to the end of the next one.
    """

    kill_to_end_s: float
    reports: tuple[int, int, int]
    next_s: float


def measure(return_s: float, selection_timeout_s: float, folder: Path) -> Figures:
    """Run three rounds; a client is killed in the first."""
    shared_data = folder / "shared_data"
    initialise_with(shared_data, model(MEGABYTES))
    with ExitStack() as stack:

        def start(name: str, module: str, *arguments: object) -> Process:
            return stack.enter_context(Process(name, module, arguments, folder / f"{name}.log"))

        common = ("--shared-data", shared_data, "--port", 0)
        coordinator = start(
            *("coordinator", "coordinator", *common, "--goal-count", CLIENTS),
            *("--return-s", return_s, "--selection-timeout-s", selection_timeout_s),
        )
        address = f"127.0.0.1:{coordinator.line()['port']}"
        selector = start(
            *("selector", "selector", *common, "--selector-id", "north", "--coordinator", address)
        )
        target = f"127.0.0.1:{selector.line()['port']}"

        def start_client(number: int, life: int) -> Process:
            name = f"client-{number}"
            arguments = ("--selector", target, "--client-id", name, "--state", folder / name)
            trainer = ("--trainer", "benchmarks.side_by_side:Slow")
            return start(f"{name}-{life}", "client", *arguments, *trainer)

        clients = [start_client(number, 1) for number in range(CLIENTS)]
        with grpc.insecure_channel(address) as channel:
            watch = Watch(channel)
            watch.until(lambda s: s.waiting_clients == CLIENTS)
            control_pb2_grpc.ControlStub(channel).StartSession(session_to_wire(ROUNDS, {}))
            watch.until(lambda s: s.round.phase == pb.PHASE_REPORTING and _pending(s) == CLIENTS)
            time.sleep(KILLED_AFTER_S)
            clients[-1].kill()
            killed_s = time.monotonic()
            first = watch.completed(1)
            ended_s = time.monotonic()
            second = watch.completed(2)
            next_ended_s = time.monotonic()
            start_client(CLIENTS - 1, 2)
            third = watch.completed(3)
        reports = [record.counts.reported for record in (first, second, third)]
        return Figures(
            ended_s - killed_s, (reports[0], reports[1], reports[2]), next_ended_s - ended_s
        )


class Watch:
    """The coordinator's status as it changes."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._statuses = control_pb2_grpc.ControlStub(channel).WatchStatus(pb.WatchStatusRequest())

    def until(self, condition: Callable[[pb.Status], bool]) -> pb.Status:
        """Return the first status that is so."""
        for status in self._statuses:
            if condition(status):
                found: pb.Status = status
                return found
        raise RuntimeError("the coordinator ended")

    def completed(self, number: int) -> pb.RoundRecord:
        """Wait for a round's end; return what is remembered of it."""
        status = self.until(lambda s: any(r.round_number == number for r in s.recent_rounds))
        return next(r for r in status.recent_rounds if r.round_number == number)


def _pending(status: pb.Status) -> int:
    return sum(client.standing == "pending" for client in status.round.clients)


def main() -> None:
    """Measure with each ``return_s``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--return-s",
        type=float,
        nargs="+",
        default=[30.0, 5.0],
        help="seconds that a client has to come back; 30 is the default of a coordinator",
    )
    parser.add_argument("--selection-timeout-s", type=float, default=10.0)
    parser.add_argument("--training-s", type=float, default=TRAINING_S)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    asked = parser.parse_args()
    os.environ[TRAINING_VARIABLE] = str(asked.training_s)
    table = Table(title=f"One of {CLIENTS} clients is killed while all train")
    for heading in ("return_s", "kill to end of round s", "reports", "next round s", "reports"):
        table.add_column(heading, justify="right")
    table.add_column("reports once it is back", justify="right")
    figures = {}
    for return_s in asked.return_s:
        with tempfile.TemporaryDirectory(prefix="headwater-bench-") as name:
            seen = measure(return_s, asked.selection_timeout_s, Path(name))
        figures[str(return_s)] = seen.__dict__
        first, second, third = map(str, seen.reports)
        row = (f"{return_s:g}", f"{seen.kill_to_end_s:.1f}", first, f"{seen.next_s:.1f}")
        table.add_row(*row, second, third)
    Console().print(table)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
