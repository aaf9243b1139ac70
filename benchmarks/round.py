"""How long a round takes, next to the floor: ``make bench``, or ``python -m benchmarks.round``.

Real processes: a coordinator, selectors, and two processes of clients that assemble the model,
change it and send bytes of their own. The floor (``benchmarks.floor``) moves the same bytes over
bare grpc.aio; both are measured in turn in one run, and the ratio of their medians is what counts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console

from benchmarks.held import measure_held
from benchmarks.measured import HOSTS, Process, Use, share
from benchmarks.payload import model
from benchmarks.report import held_table, machine, rounds_table
from federation.runtime.initialise import initialise_with
from federation.v1 import control_pb2, control_pb2_grpc

DEFAULT_CASES = "10x1,10x10,100x1"

ALL_CASES = "10x1,10x10,10x100,100x1,1000x1,held:10000"
"""What docs/performance.md shows."""

TABLE_WIDTH = 110
"""Characters that the widest table needs."""

ROUND_TIMEOUT_S = 600
"""Of selection and reporting: longer than any case takes, also where processes start slowly."""


@dataclass(frozen=True)
class Case:
    """So many clients with a model of so many MB."""

    clients: int
    megabytes: int

    def __str__(self) -> str:
        return f"{self.clients} x {self.megabytes} MB"


@dataclass(frozen=True)
class Result:
    """Seconds of each round but the first, and what each role used."""

    seconds: list[float]
    phases: dict[str, float]
    uses: dict[str, Use]

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


def measure_headwater(
    case: Case, rounds: int, selectors: int, folder: Path, more: Sequence[str] = ()
) -> Result:
    """Run a federation of processes for so many rounds and one to warm up.

    Args:
        case: How many clients, and how large a model.
        rounds: How many count.
        selectors: How many.
        folder: For the shared directory and the logs.
        more: Further flags of the coordinator.
    """
    shared_data = folder / "shared_data"
    initialise_with(shared_data, model(case.megabytes))
    plan = ["--goal-count", case.clients, "--min-reports", case.clients]
    plan += ["--selection-timeout-s", ROUND_TIMEOUT_S, "--report-window-s", ROUND_TIMEOUT_S]
    plan += ["--retry-delay-min-s", 0, "--retry-delay-max-s", 0.01, "--selection-pipelined", *more]
    common = ["--shared-data", shared_data, "--port", 0, "--log-level", "warning"]
    with ExitStack() as stack:

        def start(name: str, module: str, *arguments: object) -> Process:
            log = folder / f"{name}.log"
            return stack.enter_context(Process(name, module, arguments, log))

        coordinator = start("coordinator", "coordinator", *common, *plan, "--rounds", rounds + 1)
        address = f"127.0.0.1:{coordinator.line()['port']}"
        servers = [
            start(
                f"selector-{number}",
                "selector",
                *common,
                *("--selector-id", f"selector-{number}", "--coordinator", address),
            )
            for number in range(selectors)
        ]
        ports = [server.line()["port"] for server in servers]
        hosts = []
        for host in range(HOSTS):
            first, count = share(case.clients, host)
            target = f"127.0.0.1:{ports[host % len(ports)]}"
            if count:
                name = f"clients-{host}"
                hosts.append(start(name, "benchmarks.noop_clients", target, first, count))
        status = _wait_for_end(address)
        records = status.recent_rounds
        assert all(r.outcome == control_pb2.OUTCOME_COMMITTED for r in records), records
        ends = [
            stage.time_s
            for stage in status.recent_stages
            if stage.phase == control_pb2.PHASE_COMPLETED
        ]
        phases = {
            name: statistics.median(record.phase_seconds[name] for record in records[1:])
            for name in records[-1].phase_seconds
        }
        uses = {process.name: process.use() for process in (coordinator, *servers, *hosts)}
        return Result([b - a for a, b in itertools.pairwise(ends)], phases, uses)


def _wait_for_end(address: str) -> control_pb2.Status:
    options = [("grpc.max_receive_message_length", 64 << 20)]
    with grpc.insecure_channel(address, options=options) as channel:
        stub = control_pb2_grpc.ControlStub(channel)
        for status in stub.WatchStatus(control_pb2.WatchStatusRequest()):
            if status.HasField("session") and not status.session.running:
                return status
    raise RuntimeError("the coordinator ended before its session")


def measure_floor(case: Case, rounds: int, folder: Path) -> Result:
    """Exchange the same bytes without a federation."""
    with ExitStack() as stack:

        def start(name: str, *arguments: object) -> Process:
            log = folder / f"{name}.log"
            return stack.enter_context(Process(name, "benchmarks.floor", arguments, log))

        server = start("floor", "serve", case.megabytes, case.clients, rounds + 1)
        port = server.line()["port"]
        for host in range(HOSTS):
            first, count = share(case.clients, host)
            if count:
                arguments = (port, first, count, case.megabytes, rounds + 1)
                start(f"floor-clients-{host}", "clients", *arguments)
        seconds = [float(server.line()["seconds"]) for _ in range(rounds + 1)]
        # Its clients end with the last exchange.
        return Result(seconds[1:], {}, {server.name: server.use()})


def measure(case: Case, rounds: int, selectors: int, turns: int) -> dict[str, Any]:
    """Measure both in turn and sum up."""
    ours: list[Result] = []
    floors: list[Result] = []
    for _ in range(turns):
        for results in (floors, ours):
            with tempfile.TemporaryDirectory(prefix="headwater-bench-") as name:
                folder = Path(name)
                results.append(
                    measure_floor(case, rounds, folder)
                    if results is floors
                    else measure_headwater(case, rounds, selectors, folder)
                )
    seconds = statistics.median(s for result in ours for s in result.seconds)
    floor_s = statistics.median(s for result in floors for s in result.seconds)
    last = ours[-1]
    return {
        "clients": case.clients,
        "megabytes": case.megabytes,
        "selectors": selectors,
        "rounds": sum(len(result.seconds) for result in ours),
        "seconds": seconds,
        "seconds_min": min(s for result in ours for s in result.seconds),
        "seconds_max": max(s for result in ours for s in result.seconds),
        "floor_seconds": floor_s,
        "ratio": seconds / floor_s,
        "phase_seconds": last.phases,
        "rounds_a_turn": rounds + 1,
        "uses": {name: asdict(use) for name, use in last.uses.items()},
        "floor_uses": {name: asdict(use) for name, use in floors[-1].uses.items()},
    }


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cases",
        default=DEFAULT_CASES,
        help=f"CLIENTSxMEGABYTES or held:CLIENTS, by commas; all: {ALL_CASES}",
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds a turn, one more first")
    parser.add_argument("--turns", type=int, default=1, help="turns of floor and federation")
    parser.add_argument("--selectors", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    cases = ALL_CASES if arguments.cases == "all" else arguments.cases
    load_before = os.getloadavg()[0]
    rounds, held = [], []
    for text in cases.split(","):
        print(f"measuring {text} …", file=sys.stderr, flush=True)
        if text.startswith("held:"):
            with tempfile.TemporaryDirectory(prefix="headwater-bench-") as name:
                held.append(measure_held(int(text.removeprefix("held:")), Path(name)))
        else:
            clients, megabytes = map(int, text.split("x"))
            case = Case(clients, megabytes)
            rounds.append(measure(case, arguments.rounds, arguments.selectors, arguments.turns))
    asked = f"--cases {arguments.cases} --rounds {arguments.rounds} --turns {arguments.turns}"
    command = f'make bench ARGS="{asked} --selectors {arguments.selectors} --json figures.json"'
    facts: dict[str, Any] = {
        "command": command,
        "machine": machine(load_before),
        "rounds": rounds,
        "held": held,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")
    console = Console(width=max(Console().width, TABLE_WIDTH))
    if rounds:
        console.print(rounds_table(rounds, facts["machine"]))
    if held:
        console.print(held_table(held))


if __name__ == "__main__":
    main()
