"""The four phases of a round, its two outcomes and the fates of an admitted client.

Source: Bonawitz et al. 2019, arXiv:1902.01046, section 2.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """Where a round stands. People see it as "stage"."""

    SELECTION = "selection"
    CONFIGURATION = "configuration"
    REPORTING = "reporting"
    COMPLETED = "completed"


NEXT_PHASES: dict[Phase, frozenset[Phase]] = {
    Phase.SELECTION: frozenset({Phase.CONFIGURATION, Phase.COMPLETED}),
    Phase.CONFIGURATION: frozenset({Phase.REPORTING, Phase.COMPLETED}),
    Phase.REPORTING: frozenset({Phase.COMPLETED}),
    Phase.COMPLETED: frozenset(),
}
"""The only moves that a phase can make."""


class Outcome(StrEnum):
    """How a round ended."""

    COMMITTED = "committed"
    ABANDONED = "abandoned"


class Fate(StrEnum):
    """What became of an admitted client; exhaustive and exclusive at Completed."""

    REPORTED = "reported"
    REJECTED = "rejected"
    DISCARDED = "discarded"
    WITHDRAWN = "withdrawn"
    LOST = "lost"
    EXPIRED = "expired"
