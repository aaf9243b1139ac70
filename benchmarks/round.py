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
import platform
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
from rich.console import Console
from rich.table import Table

from benchmarks.measured import Process, Use
from benchmarks.payload import model
from federation.runtime.initialise import initialise_with
from federation.v1 import control_pb2, control_pb2_grpc

HOSTS = 2
"""Processes that the clients are spread over."""

DEFAULT_CASES = "10x1,10x10"


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


def measure_headwater(case: Case, rounds: int, selectors: int, folder: Path) -> Result:
    """Run a federation of processes for so many rounds and one to warm up."""
    shared_data = folder / "shared_data"
    initialise_with(shared_data, model(case.megabytes))
    plan = ["--goal-count", case.clients, "--min-reports", case.clients]
    plan += ["--retry-delay-min-s", 0, "--retry-delay-max-s", 0.01, "--selection-pipelined"]
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
            first, count = _share(case.clients, host)
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
        hosts = []
        for host in range(HOSTS):
            first, count = _share(case.clients, host)
            if count:
                arguments = (port, first, count, case.megabytes, rounds + 1)
                hosts.append(start(f"floor-clients-{host}", "clients", *arguments))
        seconds = [float(server.line()["seconds"]) for _ in range(rounds + 1)]
        return Result(seconds[1:], {}, {"floor": server.use()})


def _share(clients: int, host: int) -> tuple[int, int]:
    """Return the first client of a host and how many it has."""
    counts = [clients // HOSTS + (index < clients % HOSTS) for index in range(HOSTS)]
    return sum(counts[:host]), counts[host]


def measure(case: Case, rounds: int, selectors: int, turns: int) -> dict[str, object]:
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
        "uses": {name: asdict(use) for name, use in last.uses.items()},
        "floor_peak_mib": floors[-1].uses["floor"].peak_mib,
    }


def machine() -> dict[str, object]:
    """Say what the figures were measured on."""
    names = (
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    )
    return {
        "processor": next(names, "unknown").partition(": ")[2],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
    }


def table_of(results: list[dict[str, object]]) -> Table:
    """Lay the results out for people."""
    table = Table(title="Seconds a round (median), and the floor of the same run")
    for heading in ("case", "round s", "floor s", "ratio", "role", "CPU s / round", "peak MiB"):
        table.add_column(heading, justify="left" if heading in ("case", "role") else "right")
    for result in results:
        rounds = int(str(result["rounds"])) + 1
        first = [
            f"{result['clients']} x {result['megabytes']} MB",
            f"{result['seconds']:.3f}",
            f"{result['floor_seconds']:.3f}",
            f"{result['ratio']:.2f}",
        ]
        uses = result["uses"]
        assert isinstance(uses, dict)
        for name, use in uses.items():
            table.add_row(*first, name, f"{use['cpu_s'] / rounds:.2f}", f"{use['peak_mib']:.0f}")
            first = ["", "", "", ""]
    return table


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default=DEFAULT_CASES, help="CLIENTSxMEGABYTES, by commas")
    parser.add_argument("--rounds", type=int, default=5, help="rounds a turn, one more first")
    parser.add_argument("--turns", type=int, default=1, help="turns of floor and federation")
    parser.add_argument("--selectors", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    results = []
    for text in arguments.cases.split(","):
        clients, megabytes = map(int, text.split("x"))
        case = Case(clients, megabytes)
        print(f"measuring {case} …", file=sys.stderr, flush=True)
        results.append(measure(case, arguments.rounds, arguments.selectors, arguments.turns))
    if arguments.json:
        facts = {"machine": machine(), "results": results}
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")
    Console().print(table_of(results))


if __name__ == "__main__":
    main()
