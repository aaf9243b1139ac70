"""A federation's status in words, for terminals and pages."""

from __future__ import annotations

from collections.abc import Mapping

from federation.phases import Outcome, Phase
from federation.runtime import wire
from federation.v1 import control_pb2 as pb

EXCEPTIONS_SHOWN = 10
"""Clients of a round that are named in its status because something is the matter with them."""


def plural(count: int, noun: str) -> str:
    """Return ``3 clients``, ``1 client``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def stage_in_words(stage: pb.Stage) -> str:
    """Say in one line what a stage is, as it began."""
    return phase_in_words(
        wire.phase_from_wire(stage.phase),
        stage.counts,
        stage.selectors,
        wire.outcome_from_wire(stage.outcome),
        stage.reason,
    )


def phase_in_words(
    phase: Phase, counts: pb.Counts, selectors: int, outcome: Outcome | None, reason: str
) -> str:
    """Say in one line where a round stands."""
    through = f", {plural(selectors, 'selector')}" if selectors else ""
    others = "".join(f", {fate}" for fate in _other_fates(counts))
    match phase:
        case Phase.SELECTION:
            return f"Selection: {counts.admitted} of {counts.admit_limit} checked in{through}"
        case Phase.CONFIGURATION:
            reached = f"{counts.configured} of {counts.admitted}"
            return f"Configuration: {reached} configured{through}{others}"
        case Phase.REPORTING:
            heard = f"{counts.folded + counts.reported} of {counts.admitted}"
            return f"Reporting: {heard} reported{through}{others}"
        case Phase.COMPLETED if outcome is Outcome.COMMITTED:
            return f"Completed: committed with {plural(counts.reported, 'report')}{others}"
        case _:
            return f"Completed: abandoned, {reason}{others}"


def round_in_words(round_: pb.RoundStatus) -> str:
    """Say in one line where a round stands now."""
    return phase_in_words(
        wire.phase_from_wire(round_.phase),
        round_.counts,
        len({client.selector_id for client in round_.clients}),
        wire.outcome_from_wire(round_.outcome),
        round_.reason,
    )


def session_in_words(session: pb.SessionStatus) -> str:
    """Say in one line how far a session is."""
    done = f"{session.rounds_completed} of {session.rounds} rounds"
    if session.running:
        return f"Session running: {done}{', stops after this one' if session.stopping else ''}"
    cut_short = session.rounds_completed < session.rounds
    return f"Session {'stopped' if cut_short else 'over'}: {done}"


def metrics_in_words(metrics: Mapping[str, float]) -> str:
    """Say metrics in one line; their names come from clients, and so nothing in them acts."""
    return ", ".join(
        f"{name.encode('unicode_escape').decode()} {value:.4g}"
        for name, value in sorted(metrics.items())
    )


def status_in_words(status: pb.Status) -> list[str]:
    """Say in a few lines what a federation is doing."""
    attached = sum(selector.attached for selector in status.selectors)
    lines = storage_in_words(status)
    if status.HasField("session"):
        lines.append(session_in_words(status.session))
    else:
        lines.append("No session yet")
    if status.HasField("round"):
        round_ = status.round
        words = round_in_words(round_)
        left = f", {round_.deadline_s:.0f} s left at most" if round_.deadline_s else ""
        lines.append(f"Round {round_.round_number}, {words}{left}")
        lines += _exceptions(round_)
    waiting = plural(status.waiting_clients, "client")
    lines.append(f"{plural(attached, 'selector')} attached, {waiting} waiting")
    for selector in status.selectors:
        where = selector.address if selector.attached else "away"
        lines.append(f"  {selector.selector_id} ({where}): {plural(selector.held, 'client')}")
    return lines


def storage_in_words(status: pb.Status) -> list[str]:
    """Say in a line that the disk refuses, if it does."""
    if not status.storage_failure:
        return []
    return [f"Nothing can be made durable, so no round begins: {status.storage_failure}"]


def _other_fates(counts: pb.Counts) -> list[str]:
    names = ("away", "rejected", "discarded", "withdrawn", "lost", "expired")
    return [f"{getattr(counts, name)} {name}" for name in names if getattr(counts, name)]


def _exceptions(round_: pb.RoundStatus) -> list[str]:
    """Name the clients with which something is the matter."""
    named = [client for client in round_.clients if client.reason]
    lines = [f"  {c.client_id} ({c.selector_id}): {c.standing}, {c.reason}" for c in named]
    more = len(lines) - EXCEPTIONS_SHOWN
    return lines if more <= 0 else [*lines[:EXCEPTIONS_SHOWN], f"  and {more} more"]
