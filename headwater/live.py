"""A federation's status as a picture for a terminal, drawn anew whenever it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from federation.phases import Outcome, Phase
from federation.runtime import wire
from federation.v1 import control_pb2 as pb
from headwater.words import plural, round_in_words, storage_in_words

ROUNDS_SHOWN = 10
"""Newest rounds in the table."""

CLIENTS_SHOWN = 12
"""Clients named in a selector's row."""

_SECONDS = {
    Phase.SELECTION.value: "select\ns",
    Phase.CONFIGURATION.value: "config\ns",
    Phase.REPORTING.value: "report\ns",
}
"""Headings of the seconds that each phase took."""

_BARS = "▁▂▃▄▅▆▇█"

_MARKS = {
    "held": ("·", "dim"),
    "pending": ("…", "cyan"),
    "away": ("?", "yellow"),
    "folded": ("✓", "green"),
    "reported": ("✓", "green"),
    "rejected": ("✗", "red"),
    "discarded": ("-", "yellow"),
    "withdrawn": ("-", "yellow"),
    "lost": ("✗", "red"),
    "expired": ("-", "yellow"),
}
"""How a client's standing is drawn; the word stands beside it where it is not the rule."""

Metrics = Mapping[int, Mapping[str, float]]
"""What was measured on held-out data, by round number."""


def sparkline(values: Sequence[float]) -> str:
    """Draw values as bars, the smallest lowest; equal values lie in the middle."""
    if not values:
        return ""
    low, high = min(values), max(values)
    if high == low:
        return _BARS[3] * len(values)
    top = len(_BARS) - 1
    return "".join(_BARS[round((value - low) / (high - low) * top)] for value in values)


def picture(status: pb.Status, held_out: Metrics, age_s: float = 0.0) -> RenderableType:
    """Draw where the federation stands: the stage, the selectors, the rounds.

    Args:
        status: As the coordinator tells it.
        held_out: Loss and accuracy of the rounds that were evaluated; may be empty.
        age_s: How long ago it was told; what is left of the phase has shrunk by it.
    """
    parts: list[RenderableType] = [Text(line, style="red") for line in storage_in_words(status)]
    parts.append(_stage_line(status, age_s))
    if status.selectors:
        parts.append(_selectors(status))
    if status.recent_rounds:
        parts.append(_rounds(status.recent_rounds, held_out))
    return Group(*parts)


def _stage_line(status: pb.Status, age_s: float) -> Text:
    if not status.HasField("round"):
        waiting = plural(status.waiting_clients, "client")
        waits = f", {waiting} waiting" if status.waiting_clients else ""
        return Text(f"No round yet{waits}", style="bold")
    round_ = status.round
    line = Text(f"Round {round_.round_number}{_place(status)}  ", style="bold")
    style = "red" if wire.outcome_from_wire(round_.outcome) is Outcome.ABANDONED else "bold green"
    line.append(round_in_words(round_), style=style)
    if round_.deadline_s:
        left_s = max(round_.deadline_s - age_s, 0.0)
        line.append(f"  {left_s:.0f} s left at most", style="dim")
    return line


def _place(status: pb.Status) -> str:
    """Say which of the session's rounds this is; numbers go on from one session to the next."""
    if not status.HasField("session"):
        return ""
    completed = wire.phase_from_wire(status.round.phase) is Phase.COMPLETED
    place = status.session.rounds_completed + (not completed)
    same = place == status.round.round_number
    return f" of {status.session.rounds}" if same else f", {place} of {status.session.rounds}"


def _selectors(status: pb.Status) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("selector", "reported", "clients"):
        table.add_column(heading)
    for selector in status.selectors:
        clients = sorted(
            (c for c in status.round.clients if c.selector_id == selector.selector_id),
            key=lambda client: (len(client.client_id), client.client_id),  # client-2, client-10
        )
        done = sum(client.standing in ("folded", "reported") for client in clients)
        name = Text(selector.selector_id, style="" if selector.attached else "red")
        if not selector.attached:
            name.append(" away")
        table.add_row(name, _bar(done, len(clients)), _clients(clients))
    return table


def _bar(done: int, total: int) -> Text:
    if not total:
        return Text("no clients yet", style="dim")
    full = round(10 * done / total)
    bar = Text("█" * full, style="green")
    bar.append("░" * (10 - full), style="dim")
    bar.append(f" {done}/{total}")
    return bar


def _clients(clients: Sequence[pb.ClientStatus]) -> Text:
    line = Text()
    for client in clients[:CLIENTS_SHOWN]:
        mark, style = _MARKS.get(client.standing, ("?", ""))
        line.append(f"{mark} {client.client_id}", style=style)
        if client.reason:
            line.append(f" {client.standing}, {client.reason}", style=style)
        if "accuracy" in client.metrics:
            line.append(f" {client.metrics['accuracy']:.2f}", style="dim")
        line.append("  ")
    if len(clients) > CLIENTS_SHOWN:
        line.append(f"and {len(clients) - CLIENTS_SHOWN} more", style="dim")
    return line


def _rounds(records: Sequence[pb.RoundRecord], held_out: Metrics) -> Table:
    columns = metric_names(records, held_out)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("\nround")
    table.add_column("\noutcome", no_wrap=True)
    for heading in _SECONDS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for name in columns:
        table.add_column(Text(name.replace(" ", "\n", 1)), justify="right")
    for record in records[-ROUNDS_SHOWN:]:
        table.add_row(
            str(record.round_number),
            _outcome(record),
            *(
                f"{record.phase_seconds[phase]:.1f}" if phase in record.phase_seconds else ""
                for phase in _SECONDS
            ),
            *(_value(metric(record, held_out, name)) for name in columns),
        )
    lines = {
        name: [v for r in records if (v := metric(r, held_out, name)) is not None]
        for name in columns
    }
    if any(len(values) > 1 for values in lines.values()):
        drawn = (sparkline(values[-ROUNDS_SHOWN:]) for values in lines.values())
        table.add_row("trend", *[""] * (1 + len(_SECONDS)), *drawn, style="cyan")
    return table


def metric_names(records: Sequence[pb.RoundRecord], held_out: Metrics) -> list[str]:
    """Name the metric columns: those of the training, then those on held-out data."""
    trained = sorted({name for record in records for name in record.metrics})
    tested = sorted({name for metrics in held_out.values() for name in metrics})
    return [f"training {name}" for name in trained] + [f"held-out {name}" for name in tested]


def metric(record: pb.RoundRecord, held_out: Metrics, column: str) -> float | None:
    """Return a round's value in a metric column, if it has one."""
    kind, _, name = column.partition(" ")
    source = record.metrics if kind == "training" else held_out.get(record.round_number, {})
    return source.get(name)


def _outcome(record: pb.RoundRecord) -> Text:
    if wire.outcome_from_wire(record.outcome) is Outcome.COMMITTED:
        return Text(f"committed, {record.counts.reported} reports", style="green")
    return Text(f"abandoned, {record.reason}", style="red")


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
