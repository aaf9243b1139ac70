"""What remains of a completed round: its outcome, each client's fate, times and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from coordinator.roster import Claim, Counts, mean_metrics
from coordinator.round import Round
from federation.phases import Outcome, Phase
from federation.plan import RoundPlan


@dataclass(frozen=True)
class RoundOutcome:
    """How a round ended.

    Attributes:
        round_number: Rises with each round.
        round_id: Random text that no other round has.
        outcome: Committed or abandoned.
        reason: Why it was abandoned; empty otherwise.
        counts: The fates of the admitted clients.
        phase_seconds: Seconds by phase; reporting includes merge and commit.
        metrics: Means over the reports, weighted as the tensors are.
        checkpoint_digest: Hex SHA-256 of the committed checkpoint's wire form; empty if abandoned.
        clients: The admitted clients' claims, with their fates.
        plan: What was asked of the round.
    """

    round_number: int
    round_id: str
    outcome: Outcome
    reason: str
    counts: Counts
    phase_seconds: Mapping[str, float]
    metrics: Mapping[str, float]
    checkpoint_digest: str
    clients: Mapping[str, Claim]
    plan: RoundPlan

    @property
    def committed(self) -> bool:
        """The round made the next checkpoint."""
        return self.outcome is Outcome.COMMITTED

    @property
    def seconds(self) -> float:
        """From the start of Selection to Completed."""
        return sum(self.phase_seconds.values())


def record_of(round_: Round) -> RoundOutcome:
    """Sum up a completed round."""
    assert round_.outcome is not None
    return RoundOutcome(
        round_number=round_.number,
        round_id=round_.round_id,
        outcome=round_.outcome,
        reason=round_.reason,
        counts=round_.counts,
        phase_seconds=phase_seconds(round_),
        metrics=mean_metrics(round_.claims, by_examples=round_.plan.weighting == "examples"),
        checkpoint_digest=round_.checkpoint_digest,
        clients=round_.claims,
        plan=round_.plan,
    )


def phase_seconds(round_: Round) -> dict[str, float]:
    """Return how long each phase that was left took."""
    order = [phase for phase in Phase if phase in round_.entered_s]
    starts = [round_.entered_s[phase] for phase in order]
    return {
        phase.value: end - begin
        for phase, begin, end in zip(order, starts, starts[1:], strict=False)
    }


def manifest_of(round_: Round) -> dict[str, Any]:
    """Describe the round for the manifest beside its checkpoint, as JSON-able facts."""
    kept = {
        owner.selector_id: duty.partial
        for owner, duty in round_.duties.items()
        if duty.partial is not None and duty.partial.count > 0
    }
    return {
        "round_number": round_.number,
        "round_id": round_.round_id,
        "base_digest": round_.base_digest,
        "weight": sum(partial.weight for partial in kept.values()),
        "count": sum(partial.count for partial in kept.values()),
        "selectors": {
            selector_id: {
                "client_ids": list(partial.client_ids),
                "weight": partial.weight,
                "sha256": partial.sha256,
            }
            for selector_id, partial in kept.items()
        },
        "metrics": mean_metrics(round_.claims, by_examples=round_.plan.weighting == "examples"),
        "counts": asdict(round_.counts),
        "entered_s": {phase.value: at_s for phase, at_s in round_.entered_s.items()},
        "hyperparameters": asdict(round_.plan.hyperparameters),
    }
