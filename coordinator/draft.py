"""A round, and its draft while one event is applied: what holds of it, and the small moves.

:mod:`coordinator.progress` has the moves of the round as a whole, :mod:`coordinator.round` says
which event calls for which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from coordinator import pacing
from coordinator.effects import Admit, Announce, Configure, Decline, Effect, Release
from coordinator.events import Owner
from coordinator.pacing import Pace
from coordinator.roster import OPEN, Claim, Counts, Duty, Standing
from federation.phases import NEXT_PHASES, Outcome, Phase
from federation.plan import RetryWindow, RoundPlan

CLAIMED_ELSEWHERE = "claimed-elsewhere"
"""Reason of a decline by a selector that may not fold this client, since another one may."""


class Closing(StrEnum):
    """How far Reporting is."""

    OPEN = "open"
    SEALING = "sealing"
    WRITING = "writing"
    PUBLISHING = "publishing"


@dataclass(frozen=True)
class Round:
    """One round; replaced, never changed.

    Attributes:
        number: Rises with each round, whatever the outcomes.
        round_id: Random; decides what belongs to this round.
        plan: What the operator asked for.
        base_digest: Hex SHA-256 of the checkpoint that the clients train from.
        phase: Where the round stands.
        closing: How far Reporting is.
        phase_deadline_s: When the phase (or the inner step of Reporting) ends at the latest.
        entered_s: When each phase began, Unix seconds.
        claims: The admitted clients by id, in order of admission.
        counts: How many of them stand where; carried along, since to count them anew at every step
            would make a round quadratic in its clients.
        away_until_s: When each away client counts as lost, Unix seconds; nobody after Close. In
            Selection: when a client whose selector is not back after a restart loses its place.
        duties: The selector processes that were sent Configure.
        waiting: Surplus clients held for the next round (``plan.pipelined``), first come first.
        outcome: None until Completed.
        reason: Why the round was abandoned; empty otherwise.
        checkpoint_digest: Hex SHA-256 of the checkpoint that the round wrote; empty before.
        pace: What was observed of earlier rounds.
        sent_away: How many clients were declined since the round was full.
    """

    number: int
    round_id: str
    plan: RoundPlan
    base_digest: str
    phase: Phase
    phase_deadline_s: float
    closing: Closing = Closing.OPEN
    entered_s: Mapping[Phase, float] = field(default_factory=dict)
    claims: Mapping[str, Claim] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    away_until_s: Mapping[str, float] = field(default_factory=dict)
    duties: Mapping[Owner, Duty] = field(default_factory=dict)
    waiting: Mapping[str, Owner] = field(default_factory=dict)
    outcome: Outcome | None = None
    reason: str = ""
    checkpoint_digest: str = ""
    pace: Pace = field(default_factory=Pace)
    sent_away: int = 0

    @property
    def crowd(self) -> int:
        """How many clients share a retry window."""
        return max(self.sent_away, self.pace.crowd)

    def expected_s(self, now_s: float) -> float:
        """Return in how many seconds the round is expected to be over; 0 if nobody knows."""
        configured_s = self.entered_s.get(Phase.CONFIGURATION)
        return pacing.expected_s(self.plan, self.pace, configured_s, now_s)

    @property
    def deadline_s(self) -> float | None:
        """When ``Ticked`` is due, Unix seconds; None once Completed."""
        if self.phase is Phase.COMPLETED:
            return None
        away = [d.away_until_s for d in self.duties.values() if d.away_until_s is not None]
        return min([self.phase_deadline_s, *away, *self.away_until_s.values()])


class Draft:
    """A round while one event is applied to it."""

    def __init__(self, round_: Round, now_s: float) -> None:
        self.before = round_
        self.plan = round_.plan
        self.now_s = now_s
        self.phase = round_.phase
        self.closing = round_.closing
        self.phase_deadline_s = round_.phase_deadline_s
        self.entered_s = dict(round_.entered_s)
        self.claims = dict(round_.claims)
        self.away_until_s = dict(round_.away_until_s)
        self.duties = dict(round_.duties)
        self.waiting = dict(round_.waiting)
        self.outcome = round_.outcome
        self.reason = round_.reason
        self.checkpoint_digest = round_.checkpoint_digest
        self.sent_away = round_.sent_away
        self.effects: list[Effect] = []
        self.by_standing = {
            standing: getattr(round_.counts, standing.value) for standing in Standing
        }
        self.configured = round_.counts.configured

    def finished(self) -> tuple[Round, tuple[Effect, ...]]:
        """Return the round as it is now, and what it wants done."""
        by_standing = {standing.value: n for standing, n in self.by_standing.items()}
        round_ = replace(
            self.before,
            phase=self.phase,
            closing=self.closing,
            phase_deadline_s=self.phase_deadline_s,
            entered_s=self.entered_s,
            claims=self.claims,
            counts=Counts(len(self.claims), self.configured, **by_standing),
            away_until_s=self.away_until_s,
            duties=self.duties,
            waiting=self.waiting,
            outcome=self.outcome,
            reason=self.reason,
            checkpoint_digest=self.checkpoint_digest,
            sent_away=self.sent_away,
        )
        return round_, tuple(self.effects)

    # -- What holds of the round now ------------------------------------------------------------

    @property
    def collecting(self) -> bool:
        """Reports still count: after Configure, before Close."""
        return self.phase in (Phase.CONFIGURATION, Phase.REPORTING) and (
            self.closing is Closing.OPEN
        )

    @property
    def free_places(self) -> int:
        return self.plan.admit_limit - (len(self.claims) - self.number_of(Standing.LOST))

    def number_of(self, *standings: Standing) -> int:
        return sum(self.by_standing[standing] for standing in standings)

    def kept_reports(self) -> int:
        return sum(duty.partial.count for duty in self.duties.values() if duty.partial)

    def may_serve(self, owner: Owner) -> bool:
        """Say whether this process may fold in this round.

        Not if it is void or its partial is kept, nor if another process of its selector served
        this round before it.
        """
        duty = self.duties.get(owner)
        if duty is not None:
            return duty.owing
        return all(other.selector_id != owner.selector_id for other in self.duties)

    def may_move(self, claim: Claim) -> bool:
        """Say whether an unspent claim may move to another selector.

        Its owner must have released it, be void, or have a kept partial without this client; a
        lost client that comes back takes a place like any other.
        """
        place = claim.standing is not Standing.LOST or self.free_places > 0
        return place and (claim.released or not self.duties[claim.owner].owing)

    def owned(self, owner: Owner, round_id: str, client_id: str) -> Claim | None:
        """The client's claim, if this event about it still counts."""
        claim = self.claims.get(client_id)
        duty = self.duties.get(owner)
        if round_id != self.before.round_id or self.phase is Phase.COMPLETED:
            return None
        if claim is None or claim.owner != owner or duty is None or not duty.owing:
            return None
        if claim.released:
            return None
        return claim

    # -- Small moves ----------------------------------------------------------------------------

    def enter(self, phase: Phase, deadline_s: float) -> None:
        """Begin a phase, which is announced; Selection is the first, and begins once."""
        assert phase in NEXT_PHASES[self.phase] if self.entered_s else phase is Phase.SELECTION
        self.phase, self.phase_deadline_s = phase, deadline_s
        self.entered_s[phase] = self.now_s
        self.effects.append(Announce(phase, self.outcome, self.reason))

    def put(self, client_id: str, claim: Claim) -> None:
        """Set a client's claim; whoever is not away any more is not waited for as such."""
        before = self.claims.get(client_id)
        if before is not None:
            self._count(before, -1)
        self._count(claim, +1)
        self.claims[client_id] = claim
        if claim.standing is not Standing.AWAY:
            self.away_until_s.pop(client_id, None)

    def remove(self, client_id: str) -> None:
        """Give a held client's place back."""
        self._count(self.claims.pop(client_id), -1)
        self.away_until_s.pop(client_id, None)

    def _count(self, claim: Claim, difference: int) -> None:
        self.by_standing[claim.standing] += difference
        self.configured += difference * claim.configured

    def stand(self, client_id: str, standing: Standing, reason: str = "", **more: Any) -> None:
        claim = self.claims[client_id]
        self.put(client_id, replace(claim, standing=standing, reason=reason, **more))

    def send_away(self, client_id: str) -> None:
        self.stand(client_id, Standing.AWAY)
        self.away_until_s[client_id] = self.now_s + self.plan.return_s

    def admit(self, owner: Owner, client_id: str) -> None:
        """Claim the client for this selector; a late joiner is configured at once."""
        self.release(owner, client_id, self.waiting.pop(client_id, None))
        self.effects.append(Admit(owner, (client_id,)))
        if self.phase is Phase.SELECTION:
            self.put(client_id, Claim(owner, Standing.HELD))
            return
        self.put(client_id, Claim(owner, Standing.PENDING))
        self.duties.setdefault(owner, Duty())
        self.effects.append(Configure(owner, (client_id,), self.phase_deadline_s))

    def release(self, owner: Owner, client_id: str, earlier: Owner | None) -> None:
        """End the client's earlier stream: the newest wins."""
        if earlier is not None and earlier != owner:
            self.effects.append(Release(earlier, (client_id,)))

    def surplus(self, owner: Owner, client_id: str) -> None:
        """Hold the client for the next round, or send it away with a time to come back."""
        earlier = self.waiting.get(client_id)
        held = self.plan.pipelined and len(self.waiting) < self.plan.admit_limit
        if earlier is not None or held:
            self.release(owner, client_id, earlier)
            self.waiting[client_id] = owner
        else:
            self.decline(owner, client_id, "goal-reached")

    def decline(self, owner: Owner, client_id: str, reason: str) -> None:
        """Send the client away with a time to come back; it is not held as well."""
        self.release(owner, client_id, self.waiting.pop(client_id, None))
        window = self.plan.retry_window
        if reason == CLAIMED_ELSEWHERE:
            # It is to be configured here before it counts as lost, once the other one is void.
            soon_s = self.plan.return_s / 8
            window = RetryWindow(
                min(window.delay_min_s, soon_s), min(window.delay_max_s, 2 * soon_s)
            )
        if reason == "goal-reached":
            self.sent_away += 1
            pace, configured_s = self.before.pace, self.entered_s.get(Phase.CONFIGURATION)
            in_s = pacing.expected_s(self.plan, pace, configured_s, self.now_s)
            window = pacing.retry_window(self.plan, max(self.sent_away, pace.crowd), in_s)
        self.effects.append(Decline(owner, (client_id,), reason, window))

    def drop_held(self, owner: Owner) -> None:
        """Forget the clients that this process holds: it, or its stream, is gone."""
        if self.phase is Phase.SELECTION:
            held = [c for c, claim in self.claims.items() if claim.owner == owner]
            for client_id in held:
                self.remove(client_id)
        self.waiting = {c: other for c, other in self.waiting.items() if other != owner}

    def void(self, owner: Owner, reason: str) -> None:
        """Nothing from this process counts any more; its clients may report elsewhere."""
        if not self.duties[owner].owing or self.phase is Phase.COMPLETED:
            return
        self.duties[owner] = Duty(void=True, reason=reason)
        for client_id, claim in self.claims.items():
            if claim.owner != owner:
                continue
            if self.collecting and claim.standing in (*OPEN, Standing.FOLDED):
                self.send_away(client_id)
            elif claim.standing is Standing.FOLDED:
                self.stand(client_id, Standing.LOST, reason)
