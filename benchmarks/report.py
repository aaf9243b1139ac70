"""The figures as tables for people, and docs/performance.md from the figures.

``python -m benchmarks.report FIGURES.json`` writes the page from what ``benchmarks.round --json``
wrote.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.payload import model
from federation.tensors import ModelSpec

PAGE = Path("docs/performance.md")
PROSE = Path(__file__).with_name("performance.md")
"""The page's words, with a line ``{{figures}}`` where the tables go."""

PAGE_COMMAND = ".venv/bin/python -m benchmarks.report figures.json"

MIB = 1 << 20
REPORTS_IN_FLIGHT_MAX = 4

Figures = Mapping[str, Any]
Row = list[str]

ROUND_HEADINGS = (
    *("case", "round s", "floor s", "ratio", "hashing s", "ratio to both"),
    *("role", "CPU s / round", "peak MiB", "formula MiB"),
)
HELD_HEADINGS = ("what", "value")


def machine(load_before: float) -> dict[str, Any]:
    """Say what the figures were measured on.

    Args:
        load_before: Processes that wanted to run when the measurement began: 0 on a quiet machine.
    """
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(": ")[2] for line in cpuinfo if line.startswith("model name"))
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": next(names, platform.processor() or "unknown"),
        "cores": os.cpu_count(),
        "memory_gib": round(pages * page_bytes / (1 << 30), 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "protobuf": version("protobuf"),
        "numpy": version("numpy"),
        "load_before": round(load_before, 1),
        "sha256_mb_per_s": round(_hash_rate()),
    }


def _hash_rate() -> float:
    """Return how many MB one core hashes in a second, the best of a few tries."""
    data = bytes(32_000_000)
    best_s = min(_seconds_to_hash(data) for _ in range(5))
    return len(data) / 1e6 / best_s


def _seconds_to_hash(data: bytes) -> float:
    began_s = time.perf_counter()
    hashlib.sha256(data).digest()
    return time.perf_counter() - began_s


def round_rows(rounds: Sequence[Figures], hash_rate: float, cores: int) -> Iterator[Row]:
    """Yield a row for each role of each case, the case itself in the first of them.

    Args:
        rounds: What ``benchmarks.round`` measured.
        hash_rate: MB that one core hashes in a second.
        cores: How many there are.
    """
    for result in rounds:
        clients, megabytes = result["clients"], result["megabytes"]
        # What came down and what was trained by the client, what came up by the selector.
        hashing_s = 3 * clients * megabytes / hash_rate / cores
        first = [
            f"{clients} x {megabytes} MB",
            f"{result['seconds']:.2f}",
            f"{result['floor_seconds']:.2f}",
            f"{result['ratio']:.1f}",
            f"{hashing_s:.2f}",
            f"{result['seconds'] / (result['floor_seconds'] + hashing_s):.1f}",
        ]
        uses = result["uses"] | {
            f"the {name}'s server": use for name, use in result["floor_uses"].items()
        }
        for name, use in uses.items():
            formula = _formula_mib(megabytes) if name.startswith("selector") else ""
            cpu_s = use["cpu_s"] / result["rounds_a_turn"]
            yield [*first, name, f"{cpu_s:.2f}", f"{use['peak_mib']:.0f}", formula]
            first = [""] * len(first)


def _formula_mib(megabytes: int) -> str:
    """Return what the design allows a selector for models, in MiB."""
    spec = ModelSpec.of(model(megabytes))
    models = spec.encoded_bytes * (2 + REPORTS_IN_FLIGHT_MAX)
    return f"{(models + 8 * spec.parameters) / MIB:.0f}"


def held_rows(result: Figures) -> Iterator[Row]:
    """Yield a row for each fact about clients that are held."""
    clients, seconds = result["held_clients"], result["idle_seconds"]
    yield ["clients held, over connections", f"{clients:,} over {result['connections']}"]
    yield ["until all are held, their processes' start included", f"{result['held_seconds']:.1f} s"]
    yield ["until the coordinator has counted all", f"{result['counted_seconds']:.1f} s"]
    for name, use in result["idle"].items():
        cpu = f"{use['cpu_percent']:.1f} % of a core"
        yield [f"{name} while all wait ({seconds:.0f} s)", f"{cpu}, {use['mib']:.0f} MiB"]
    yield ["from the operator's start until all are configured", f"{result['woken_seconds']:.1f} s"]
    yield ["from the operator's stop until all are away", f"{result['sent_away_seconds']:.1f} s"]


def rounds_table(rounds: Sequence[Figures], facts: Figures) -> Table:
    """Lay the rounds out for people."""
    title = "Seconds a round (median), and the floor of the same run"
    rows = round_rows(rounds, facts["sha256_mb_per_s"], facts["cores"])
    return _table(title, ROUND_HEADINGS, rows)


def held_table(results: Sequence[Figures]) -> Table:
    """Lay out what it takes to hold clients."""
    rows = (row for result in results for row in held_rows(result))
    return _table("Clients that are held", HELD_HEADINGS, rows)


def _table(title: str, headings: Sequence[str], rows: Iterator[Row]) -> Table:
    table = Table(title=title)
    for heading in headings:
        words = heading in ("case", "role", "what")
        table.add_column(heading, justify="left" if words else "right", min_width=len(heading))
    for row in rows:
        table.add_row(*row)
    return table


def page(figures: Figures, prose: str) -> str:
    """Return the page: its words, and in their midst what was measured, where and how."""
    facts = figures["machine"]
    rows = round_rows(figures["rounds"], facts["sha256_mb_per_s"], facts["cores"])
    where = (
        f"Measured on {facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB of "
        f"memory, {facts['system']}, Python {facts['python']}, grpcio {facts['grpcio']}, protobuf "
        f"{facts['protobuf']}, numpy {facts['numpy']}; SHA-256 at {facts['sha256_mb_per_s']} MB/s "
        f"a core. {facts['load_before']} other processes wanted to run when it began (0 on a quiet "
        "machine). With:"
    )
    parts = [
        where,
        f"```sh\n{figures['command']}\n{PAGE_COMMAND}\n```",
        _markdown(ROUND_HEADINGS, rows),
        *(_markdown(HELD_HEADINGS, held_rows(result)) for result in figures["held"]),
    ]
    return prose.replace("{{figures}}", "\n\n".join(parts))


def _markdown(headings: Sequence[str], rows: Iterator[Row]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Write the page."""
    figures = json.loads(Path(sys.argv[1]).read_text())
    PAGE.write_text(page(figures, PROSE.read_text()))


if __name__ == "__main__":
    main()
