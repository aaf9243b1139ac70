"""What status updates cost a round: ``python -m benchmarks.push``.

The same rounds without a webserver, and with one that takes all, one that is down, and one that
never answers; by turns in one run. The ratio of the medians to those without is what counts. And
what a round takes in the outbox while nobody takes it.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measured import HOSTS
from benchmarks.round import Case, measure_headwater
from coordinator.events import (
    CheckedIn,
    Configured,
    FoldedReport,
    Owner,
    ReportsFolded,
    Stopped,
)
from coordinator.ledger import Happening, Ledger, RoundBegan, SessionStarted, take
from coordinator.outbox import Letter, Outbox
from coordinator.picture import Stage, numbered, remembered
from coordinator.updates import body_of, stage_update
from federation.plan import RoundPlan

KINDS = ("none", "takes all", "down", "never answers")


class _Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    never = threading.Event()

    def do_POST(self) -> None:
        """Take an update."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class _Silent(_Receiver):
    def do_POST(self) -> None:
        """Let it wait."""
        self.never.wait()


@contextmanager
def a_webserver(kind: str) -> Iterator[list[str]]:
    """Run a webserver of this kind; yield the coordinator's flags for it."""
    if kind == "none":
        yield []
        return
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), _Silent if kind == "never answers" else _Receiver
    )
    server.daemon_threads = True
    server.block_on_close = False
    if kind == "down":
        server.server_close()
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield ["--webserver", f"http://127.0.0.1:{server.server_port}/"]
    if kind != "down":
        server.shutdown()
        server.server_close()


def measure(case: Case, rounds: int, turns: int) -> dict[str, list[float]]:
    """Return the seconds of each round, by the kind of webserver."""
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(turns):
        for kind in KINDS:
            with (
                tempfile.TemporaryDirectory(prefix="headwater-bench-") as name,
                a_webserver(kind) as flags,
            ):
                result = measure_headwater(case, rounds, 1, Path(name), flags)
                seconds[kind] += result.seconds
    return seconds


def outbox_bytes(clients: int, rounds: int) -> float:
    """Return the bytes that the stages of one such round take in the outbox."""
    owner, ledger, stages = Owner("north", "n1"), Ledger(), list[Stage]()
    plan = RoundPlan(goal_count=clients)
    ids = tuple(f"client-{number}" for number in range(clients))
    rng = random.Random(0)

    def happen(*happenings: Happening) -> None:
        nonlocal ledger
        for happening in happenings:
            before = ledger.sequence
            ledger, effects = take(ledger, happening, 1e9)
            stages.extend(
                Stage(number, announced, remembered(ledger, 1e9))
                for number, announced in numbered(before, effects)
            )

    for number in range(rounds):
        metrics = [{"loss": rng.random(), "accuracy": rng.random()} for _ in ids]
        reports = tuple(
            FoldedReport(name, 100, each, rng.random())
            for name, each in zip(ids, metrics, strict=True)
        )
        round_id = rng.randbytes(16).hex()
        if number == 0:
            happen(SessionStarted("session", plan, rounds))
        happen(RoundBegan(round_id, "ba5e"), CheckedIn(owner, ids))
        happen(Configured(owner, round_id, ids), ReportsFolded(owner, round_id, reports))
        happen(Stopped("session-stopped"))
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as name:
        path = Path(name) / "outbox.sqlite"
        outbox = Outbox(path)
        outbox.begin(["http://127.0.0.1/"], 0)
        for stage in stages:
            update = stage_update(stage)
            body = body_of(update, "0123456789abcdef", "0")
            outbox.put([Letter(update.stage, update.at_s, update.sequence, body)])
        outbox.close()
        return path.stat().st_size / rounds


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20, help="rounds a turn, one more first")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    seconds = measure(Case(arguments.clients, 1), arguments.rounds, arguments.turns)
    medians = {kind: statistics.median(each) for kind, each in seconds.items()}
    sizes = {clients: outbox_bytes(clients, 50) / 1024 for clients in (10, 1000)}
    table = Table(title=f"{arguments.clients} clients x 1 MB, {HOSTS} processes of clients")
    for heading in ("webserver", "round s (median)", "ratio"):
        table.add_column(heading, justify="left" if heading == "webserver" else "right")
    for kind, median_s in medians.items():
        table.add_row(kind, f"{median_s:.3f}", f"{median_s / medians['none']:.2f}")
    console = Console()
    console.print(table)
    for clients, kib in sizes.items():
        console.print(f"A round of {clients} clients takes {kib:.1f} KiB in the outbox.")
    if arguments.json:
        figures = {"medians": medians, "seconds": seconds, "outbox_kib": sizes}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
