"""A plugin of pytest: after the tests, a table of what the marker ``prove`` proved.

A test hands in its figures with ``record_property("figures", {...})``, seconds by name:
``serving_s`` is the time from the start of the restarted process until it answers, ``round_s``
until the round that ran has completed, ``bound_s`` what the settings and the faults allow it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import pytest

SERVING_S = 2.0
"""What the design promises, on local disk; printed, not asserted: machines are loaded."""

Row = tuple[str, str, dict[str, float]]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = sorted(_rows(terminalreporter))
    if not rows:
        return
    terminalreporter.section("proved")
    width = max(len(case) for case, _, _ in rows)
    write = terminalreporter.write_line
    write(f"{'case':<{width}}  {'outcome':<8} {'serving s':>9} {'round s':>9} {'bound s':>9}")
    for case, outcome, figures in rows:
        shown = [f"{_shown(figures.get(f'{name}_s')):>9}" for name in ("serving", "round", "bound")]
        write(f"{case:<{width}}  {outcome:<8} {' '.join(shown)}")
    write(f"{len(rows)} cases, {sum(outcome == 'passed' for _, outcome, _ in rows)} passed")
    serving = [figures["serving_s"] for _, _, figures in rows if "serving_s" in figures]
    if serving:
        within = sum(took_s <= SERVING_S for took_s in serving)
        write(
            f"serving again: median {statistics.median(serving):.2f} s, max {max(serving):.2f} s, "
            f"{within} of {len(serving)} within {SERVING_S:.0f} s of the start of the process"
        )
    rounds = [figures["round_s"] for _, _, figures in rows if "bound_s" in figures]
    if rounds:
        write(
            f"rounds in which something failed, from Configure on: median "
            f"{statistics.median(rounds):.2f} s, max {max(rounds):.2f} s"
        )


def _rows(terminalreporter: pytest.TerminalReporter) -> Iterator[Row]:
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(outcome):
            if not isinstance(report, pytest.TestReport) or "prove" not in report.keywords:
                continue
            if report.when == "call" or outcome in ("error", "skipped"):
                properties: dict[str, Any] = dict(report.user_properties)
                case = report.nodeid.rpartition("::")[2].removeprefix("test_")
                yield case, outcome, properties.get("figures", {})


def _shown(took_s: float | None) -> str:
    return "" if took_s is None else f"{took_s:.2f}"
