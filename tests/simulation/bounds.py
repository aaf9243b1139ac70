"""The time that a round may take, to the moment."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.driver import LOOK_S
from coordinator.durability import STORAGE_RETRY_S
from federation.phases import Phase
from federation.plan import RoundPlan
from tests.simulation.spans import Span, covered_s
from tests.simulation.watch import Book

SLACK_S = 0.1
"""What a round's own steps take, apart from the journal."""


@dataclass(frozen=True)
class Excuses:
    """What a round may take longer for.

    Attributes:
        down: The coordinator was down, or suspended: ``return_s`` more each time.
        storage: The journal was busy or refused, so that nothing could be announced.
        set_back: The wall clock was, so that a restart knows of no time after the last entry.
    """

    down: list[Span]
    storage: list[Span]
    set_back: bool = False


def late_rounds(book: Book, plan: RoundPlan, excuses: Excuses) -> list[str]:
    """Return what took longer than the law says."""
    late = []
    for number, round_ in book.outcomes.items():
        times_s = book.entered_s[number]
        completed_s = times_s[Phase.COMPLETED]
        configured_s = times_s.get(Phase.CONFIGURATION)
        limits = [
            ("Selection", times_s[Phase.SELECTION], configured_s, plan.selection_timeout_s),
            (
                "what follows Configure",
                configured_s,
                completed_s,
                plan.report_window_s + plan.grace_s + plan.commit_timeout_s,
            ),
        ]
        for name, begin_s, left_s, limit_s in limits:
            if begin_s is None:
                continue
            end_s = completed_s if left_s is None else left_s
            allowed_s = limit_s + SLACK_S + _excused_s(book, plan, excuses, begin_s, end_s)
            if end_s - begin_s > allowed_s:
                late.append(
                    f"{name} of round {number} took {end_s - begin_s:.3f} s, longer than "
                    f"{limit_s:.3f} s, or {allowed_s:.3f} s with excuses ({round_.reason})"
                )
    return late


def _excused_s(
    book: Book, plan: RoundPlan, excuses: Excuses, begin_s: float, end_s: float
) -> float:
    refused = [(since_s, until_s + STORAGE_RETRY_S) for since_s, until_s in excuses.storage]
    spans = [*excuses.down, *refused, *book.publishing.past]
    restarts = sum(begin_s <= until_s and since_s <= end_s for since_s, until_s in excuses.down)
    lost_s = LOOK_S if excuses.set_back else 0.0
    return covered_s(spans, begin_s, end_s) + restarts * (plan.return_s + lost_s)
