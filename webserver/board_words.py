"""A federation's picture in words: one line for where it stands, one for each event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federation.phases import Outcome, Phase

Facts = Mapping[str, Any]
"""What an update says, by the names of the status updates' schema."""

_OTHER_FATES = ("away", "rejected", "discarded", "withdrawn", "lost", "expired")


def plural(count: int, noun: str) -> str:
    """Return ``3 clients``, ``1 client``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def picture_in_words(facts: Facts) -> str:
    """Say in one line where a federation stands: its round's stage, or what it waits for."""
    if facts["storage_failure"]:
        return f"Nothing can be made durable: {facts['storage_failure']}"
    round_, session = facts["round"], facts["session"]
    if round_ is not None and round_["stage"] != Phase.COMPLETED:
        return stage_in_words(round_)
    if session is None:
        return f"Waiting for a session{_who_waits(facts)}"
    if not session["running"]:
        return f"{session_in_words(session)}. Waiting for the next session{_who_waits(facts)}"
    if round_ is not None:
        return stage_in_words(round_)
    return f"{session_in_words(session)}{_who_waits(facts)}"


def stage_in_words(round_: Facts) -> str:
    """Say in one line where a round stands."""
    counts = round_["counts"]
    others = "".join(f", {counts[fate]} {fate}" for fate in _OTHER_FATES if counts[fate])
    match round_["stage"]:
        case Phase.SELECTION:
            clients = f"{counts['admitted']} of {plural(counts['admit_limit'], 'client')}"
            return f"Selection: {clients}, {plural(_selectors_of(round_), 'selector')}"
        case Phase.CONFIGURATION:
            reached = f"{counts['configured']} of {plural(counts['admitted'], 'client')}"
            return f"Configuration: {reached} configured{others}"
        case Phase.REPORTING:
            heard = counts["folded"] + counts["reported"]
            return f"Reporting: {heard} of {plural(counts['admitted'], 'report')}{others}"
    number = round_["round_number"]
    if round_["outcome"] == Outcome.COMMITTED:
        reports = plural(counts["reported"], "report")
        return f"Completed: round {number} committed with {reports}{others}"
    return f"Completed: round {number} abandoned: {round_['reason']}{others}"


def session_in_words(session: Facts | None) -> str:
    """Say in one line how far a session is."""
    if session is None:
        return "No session"
    done = f"{session['rounds_completed']} of {plural(session['rounds'], 'round')}"
    if session["running"]:
        return f"Session running: {done}{', stops after this one' if session['stopping'] else ''}"
    cut_short = session["rounds_completed"] < session["rounds"]
    return f"Session {'stopped' if cut_short else 'over'}: {done}"


def _selectors_of(round_: Facts) -> int:
    return sum(1 for counts in round_["selectors"].values() if counts["admitted"])


def _who_waits(facts: Facts) -> str:
    waiting = facts["waiting_clients"]
    attached = sum(1 for selector in facts["selectors"] if selector["attached"])
    return f": {plural(waiting, 'client')} waiting, {plural(attached, 'selector')}"
