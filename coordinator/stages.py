"""The stages that were announced, and the session as others hold on to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from coordinator.ledger import Session
from coordinator.record import RoundOutcome
from coordinator.roster import Counts
from coordinator.round import Round
from federation.phases import Outcome, Phase
from federation.plan import RoundPlan


@dataclass(frozen=True)
class StageRecord:
    """One announced stage; ``sequence`` rises by one with each, also over restarts."""

    sequence: int
    round_number: int
    phase: Phase
    time_s: float
    counts: Counts
    plan: RoundPlan
    selectors: int
    outcome: Outcome | None
    reason: str


def stage_of(
    round_: Round, sequence: int, phase: Phase, outcome: Outcome | None, reason: str
) -> StageRecord:
    """Describe a stage as it begins."""
    return StageRecord(
        sequence=sequence,
        round_number=round_.number,
        phase=phase,
        time_s=round_.entered_s[phase],
        counts=round_.counts,
        plan=round_.plan,
        selectors=len({claim.owner for claim in round_.claims.values()}),
        outcome=outcome,
        reason=reason,
    )


@dataclass
class SessionHandle:
    """A session as it goes on.

    Attributes:
        state: What the ledger says of it.
        on_outcome: Called with the outcome of each round.
        stop_asked: No further round begins in this process, whatever the ledger says.
        over: Set when the session has ended.
    """

    state: Session
    on_outcome: Callable[[RoundOutcome], None] = lambda _: None
    stop_asked: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def session_id(self) -> str:
        """Random; clients show it when they come back."""
        return self.state.session_id

    @property
    def plan(self) -> RoundPlan:
        """What is asked of each round."""
        return self.state.plan

    @property
    def rounds(self) -> int:
        """How many rounds it has."""
        return self.state.rounds

    @property
    def completed(self) -> int:
        """How many of them have completed."""
        return self.state.completed

    @property
    def stopping(self) -> bool:
        """No further round begins."""
        return self.stop_asked or self.state.stopping

    def follow(self, state: Session | None) -> None:
        """Take over what the ledger says, if it speaks of this session."""
        if state is not None and state.session_id == self.session_id:
            self.state = state
            if state.over:
                self.over.set()
