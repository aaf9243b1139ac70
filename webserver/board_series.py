"""Rounds as columns for a chart, thinned evenly; and which checkpoint is the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from federation.phases import Phase

TIMED_PHASES = (Phase.SELECTION, Phase.CONFIGURATION, Phase.REPORTING)
"""The stages that last."""

METRICS_SHOWN = 32
"""Lines of a chart; further metrics are left out, in the order of their names."""

BEST_BY: tuple[tuple[str, Literal["highest", "lowest"]], ...] = (
    ("accuracy", "highest"),
    ("loss", "lowest"),
)
"""The best checkpoint is that of the committed round with the highest accuracy; where no round has
one, with the lowest loss; of equals the newest."""


def thinned(count: int, limit: int) -> list[int]:
    """Return which of ``count`` things to show, at most ``limit``: evenly, both ends included."""
    if count <= limit:
        return list(range(count))
    if limit == 1:
        return [count - 1]
    return [index * (count - 1) // (limit - 1) for index in range(limit)]


def columns(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Turn rounds into columns of one length, None where a round has no value.

    Args:
        rounds: Oldest first, each with ``round_number``, ``outcome``, ``metrics`` and
            ``phase_seconds``.
    """
    names = sorted({name for round_ in rounds for name in round_["metrics"]})[:METRICS_SHOWN]
    return {
        "round_number": [round_["round_number"] for round_ in rounds],
        "outcome": [round_["outcome"] for round_ in rounds],
        "metrics": {name: [round_["metrics"].get(name) for round_ in rounds] for name in names},
        "phase_seconds": {
            phase.value: [round_["phase_seconds"].get(phase) for round_ in rounds]
            for phase in TIMED_PHASES
        },
    }
