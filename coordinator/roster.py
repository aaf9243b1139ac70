"""Who takes part in a round: the claims of clients, the duties of selectors, and their counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from coordinator.events import Owner, PartialReference
from federation import shapes
from federation.phases import Fate


class Standing(StrEnum):
    """Where an admitted client stands; the last six are fates."""

    HELD = "held"
    PENDING = "pending"
    AWAY = "away"
    FOLDED = "folded"
    REPORTED = Fate.REPORTED.value
    REJECTED = Fate.REJECTED.value
    DISCARDED = Fate.DISCARDED.value
    WITHDRAWN = Fate.WITHDRAWN.value
    LOST = Fate.LOST.value
    EXPIRED = Fate.EXPIRED.value


UNSPENT = frozenset({Standing.PENDING, Standing.AWAY, Standing.LOST})
"""A verdict on the client's report is still possible; it counts while Close has not come."""

OPEN = frozenset({Standing.PENDING, Standing.AWAY})
"""The round waits for these."""

FATES = frozenset(Standing(fate.value) for fate in Fate)


@dataclass(frozen=True, slots=True)
class Claim:
    """One admitted client: who may fold its report, and how far it is.

    Attributes:
        owner: The only selector process that may fold this client in this round.
        standing: Where the client stands.
        configured: Whether its configuration was written to its stream.
        reason: Why it stands there, where there is a reason.
        num_examples: Example count of the report that was folded last; 0 before.
        metrics: Scalars of that report.
        training_s: Seconds that its training took, if it said so.
        shape: How far it came (federation/shapes.py).
        released: The owner gave it up: any selector may take it over, the owner included.
    """

    owner: Owner
    standing: Standing
    configured: bool = False
    reason: str = ""
    num_examples: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    training_s: float | None = None
    shape: str = shapes.ADMITTED
    released: bool = False


@dataclass(frozen=True, slots=True)
class Duty:
    """What one selector process owes to the round.

    Attributes:
        away_until_s: When a selector without a stream becomes void, Unix seconds.
        void: Irrevocable: nothing from this process counts in this round any more.
        partial: Its kept partial.
        reason: Why it is void.
    """

    away_until_s: float | None = None
    void: bool = False
    partial: PartialReference | None = None
    reason: str = ""

    @property
    def owing(self) -> bool:
        """A partial from it would still count."""
        return not self.void and self.partial is None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many admitted clients stand where.

    ``admitted`` is the sum of the others but ``configured``, which overlaps them.
    """

    admitted: int = 0
    configured: int = 0
    held: int = 0
    pending: int = 0
    away: int = 0
    folded: int = 0
    reported: int = 0
    rejected: int = 0
    discarded: int = 0
    withdrawn: int = 0
    lost: int = 0
    expired: int = 0


def mean_metrics(claims: Mapping[str, Claim], *, by_examples: bool) -> dict[str, float]:
    """Average each metric over the reports that carry it, weighted as the tensors are.

    A mean that is not a finite number is left out: JSON has no word for it.
    """
    sums: dict[str, float] = {}
    weights: dict[str, float] = {}
    for claim in claims.values():
        if claim.standing in (Standing.FOLDED, Standing.REPORTED):
            weight = claim.num_examples if by_examples else 1
            for name, value in claim.metrics.items():
                sums[name] = sums.get(name, 0.0) + weight * value
                weights[name] = weights.get(name, 0.0) + weight
    means = {name: sums[name] / weights[name] for name in sorted(sums) if weights[name]}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}
