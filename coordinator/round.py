"""One round, from the first check-in to its outcome: a state machine without I/O.

    Selection ──► Configuration ──► Reporting ──► Completed
        │               │                             ▲
        └───────────────┴──────── abandoned ──────────┘

``start`` opens a round, ``step`` takes one event and returns the next round with the effects that
the event calls for. Time is an argument. A round never waits without a deadline: unless it is
Completed, ``Round.deadline_s`` lies in the future, and ``step(round, Ticked(), deadline)`` moves
it on. Events that make no sense any more (late, repeated, from a void selector) change nothing.

Reporting has an inner order, :class:`Closing`: reports are folded (OPEN), selectors seal their
sums and hand in partials (SEALING), the next checkpoint is written (WRITING) and becomes current
(PUBLISHING).

Here is what each event means; the moves that it leads to are in :mod:`coordinator.progress`.

Source: Bonawitz et al. 2019, arXiv:1902.01046, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from coordinator.draft import CLAIMED_ELSEWHERE, Closing, Draft, Round
from coordinator.effects import (
    Admit,
    CloseReporting,
    Configure,
    DropCheckpoint,
    Effect,
    EndRound,
    PublishCheckpoint,
    SettlePartial,
)
from coordinator.events import (
    CheckedIn,
    CheckpointWritten,
    ClaimsReleased,
    ClientsLeft,
    ClientsReturned,
    CommitFinished,
    Configured,
    Event,
    Owner,
    PartialReference,
    PartialSubmitted,
    ReportDiscarded,
    ReportRejected,
    ReportsFolded,
    SelectorAttached,
    SelectorDetached,
    SelectorLeft,
    ShapesSeen,
    Stopped,
    Ticked,
    Withdrawn,
)
from coordinator.pacing import Pace
from coordinator.progress import advance, begin_commit, complete
from coordinator.roster import OPEN, UNSPENT, Claim, Duty, Standing
from federation import shapes
from federation.phases import Outcome, Phase
from federation.plan import RoundPlan

__all__ = ["Closing", "Round", "resume", "start", "step"]


def start(
    number: int,
    plan: RoundPlan,
    now_s: float,
    *,
    round_id: str,
    base_digest: str,
    waiting: Mapping[str, Owner] | None = None,
    pace: Pace | None = None,
) -> tuple[Round, tuple[Effect, ...]]:
    """Open a round and admit the clients that already wait.

    Args:
        number: Higher than that of any earlier round.
        plan: What the operator asks for.
        now_s: Unix seconds.
        round_id: Random text that no other round has.
        base_digest: Hex SHA-256 of the current checkpoint.
        waiting: Clients that are held already, first come first.
        pace: What was observed of earlier rounds.
    """
    deadline_s = now_s + plan.selection_timeout_s
    round_ = Round(number, round_id, plan, base_digest, Phase.SELECTION, deadline_s)
    round_ = replace(round_, pace=pace or Pace())
    draft = Draft(round_, now_s)
    draft.enter(Phase.SELECTION, round_.phase_deadline_s)
    by_owner: dict[Owner, list[str]] = {}
    for client_id, owner in (waiting or {}).items():
        if draft.free_places > 0:
            draft.put(client_id, Claim(owner, Standing.HELD))
            by_owner.setdefault(owner, []).append(client_id)
        else:
            draft.surplus(owner, client_id)
    draft.effects += [Admit(owner, tuple(ids)) for owner, ids in by_owner.items()]
    advance(draft)
    return draft.finished()


def step(round_: Round, event: Event, now_s: float) -> tuple[Round, tuple[Effect, ...]]:
    """Take one event; deadlines that are due are handled before it.

    Args:
        round_: The round so far; unchanged.
        event: What happened.
        now_s: Unix seconds, never less than at the step before.
    """
    draft = Draft(round_, now_s)
    if round_.deadline_s is not None and now_s >= round_.deadline_s:
        advance(draft)
    _HANDLERS[type(event)](draft, event)
    advance(draft)
    return draft.finished()


def resume(
    round_: Round, now_s: float, *, base_digest: str, committed: bool
) -> tuple[Round, tuple[Effect, ...]]:
    """Go on with a round after the coordinator was down.

    Whoever takes part has ``return_s`` from now on to come back, and no deadline is nearer: what
    fell due meanwhile, nobody could answer.

    Args:
        round_: The round as it was, not Completed.
        now_s: Unix seconds.
        base_digest: Hex SHA-256 of the current checkpoint. Another one than the round's means that
            somebody replaced it: what was trained belongs to none that is there.
        committed: Whether the history holds this round's checkpoint.
    """
    draft = Draft(round_, now_s)
    if committed:
        complete(draft, Outcome.COMMITTED)
    elif base_digest != round_.base_digest:
        complete(draft, Outcome.ABANDONED, "base-replaced")
    elif draft.closing in (Closing.WRITING, Closing.PUBLISHING):
        begin_commit(draft)
        draft.phase_deadline_s = max(round_.phase_deadline_s, now_s + draft.plan.return_s)
    else:
        _await_return(draft)
    advance(draft)
    return draft.finished()


def _await_return(draft: Draft) -> None:
    until_s = draft.now_s + draft.plan.return_s
    draft.phase_deadline_s = max(draft.phase_deadline_s, until_s)
    draft.waiting.clear()  # those who still wait are named by their selectors
    away = draft.claims if draft.phase is Phase.SELECTION else draft.away_until_s
    draft.away_until_s = dict.fromkeys(away, until_s)
    for owner, duty in draft.duties.items():
        if duty.owing:
            draft.duties[owner] = replace(duty, away_until_s=until_s)


# -- Clients ------------------------------------------------------------------------------------


def _checked_in(draft: Draft, event: CheckedIn) -> None:
    for client_id in event.client_ids:
        claim = draft.claims.get(client_id)
        if claim is None:
            _newcomer(draft, event.owner, client_id)
        elif claim.standing is Standing.HELD:
            draft.release(event.owner, client_id, claim.owner)
            draft.admit(event.owner, client_id)
        elif claim.standing not in UNSPENT or not draft.collecting:
            draft.surplus(event.owner, client_id)
        else:
            _claimant(draft, event.owner, client_id, claim)


def _newcomer(draft: Draft, owner: Owner, client_id: str) -> None:
    open_ = draft.phase is Phase.SELECTION or (draft.collecting and draft.may_serve(owner))
    if open_ and draft.free_places > 0:
        draft.admit(owner, client_id)
    else:
        draft.surplus(owner, client_id)


def _claimant(draft: Draft, owner: Owner, client_id: str, claim: Claim) -> None:
    """A client that has a claim on this round, not spent, is on a new stream."""
    owing = draft.duties[claim.owner].owing and not claim.released
    serves = draft.may_serve(owner)
    if claim.owner == owner and owing:
        draft.stand(client_id, Standing.PENDING, configured=False)
        draft.effects.append(Configure(owner, (client_id,), draft.phase_deadline_s))
    elif serves and draft.may_move(claim):
        draft.admit(owner, client_id)
    elif serves and not owing:
        draft.surplus(owner, client_id)
    else:
        # It does not wait for the next round: it may still report in this one, elsewhere or later.
        draft.decline(owner, client_id, CLAIMED_ELSEWHERE)


def _clients_left(draft: Draft, event: ClientsLeft) -> None:
    for client_id in event.client_ids:
        if draft.waiting.get(client_id) == event.owner:
            del draft.waiting[client_id]
        claim = draft.claims.get(client_id)
        if claim is None or claim.owner != event.owner:
            continue
        if claim.standing is Standing.HELD:
            draft.remove(client_id)
        elif claim.standing is Standing.PENDING and draft.collecting:
            draft.send_away(client_id)


def _clients_returned(draft: Draft, event: ClientsReturned) -> None:
    for client_id in event.client_ids:
        claim = draft.owned(event.owner, event.round_id, client_id)
        if claim is not None and claim.standing is Standing.AWAY:
            draft.stand(client_id, Standing.PENDING)


def _claims_released(draft: Draft, event: ClaimsReleased) -> None:
    for client_id in event.client_ids:
        claim = draft.owned(event.owner, event.round_id, client_id)
        if claim is None or claim.standing not in UNSPENT or not draft.collecting:
            continue
        draft.put(client_id, replace(claim, released=True))
        if claim.standing is not Standing.LOST:
            draft.send_away(client_id)


def _configured(draft: Draft, event: Configured) -> None:
    for client_id in event.client_ids:
        claim = draft.owned(event.owner, event.round_id, client_id)
        if claim is not None:
            shape = shapes.reached(claim.shape, shapes.CONFIGURED)
            draft.put(client_id, replace(claim, configured=True, shape=shape))


def _reports_folded(draft: Draft, event: ReportsFolded) -> None:
    for report in event.reports:
        claim = draft.owned(event.owner, event.round_id, report.client_id)
        if claim is not None and claim.standing in UNSPENT:
            draft.stand(
                report.client_id,
                Standing.FOLDED,
                configured=True,
                num_examples=report.num_examples,
                metrics=report.metrics,
                training_s=report.training_s,
                shape=shapes.reached(claim.shape, shapes.ARRIVED),
            )


def _shapes_seen(draft: Draft, event: ShapesSeen) -> None:
    for client_id, shape in event.shapes.items():
        claim = draft.owned(event.owner, event.round_id, client_id)
        if claim is not None:
            draft.put(client_id, replace(claim, shape=shape))


def _report_rejected(draft: Draft, event: ReportRejected) -> None:
    _judged(draft, event, Standing.REJECTED)


def _report_discarded(draft: Draft, event: ReportDiscarded) -> None:
    _judged(draft, event, Standing.DISCARDED)


def _judged(
    draft: Draft, event: ReportRejected | ReportDiscarded | Withdrawn, standing: Standing
) -> None:
    claim = draft.owned(event.owner, event.round_id, event.client_id)
    if claim is not None and claim.standing in UNSPENT:
        refused = standing is Standing.REJECTED
        shape = shapes.reached(claim.shape, shapes.REJECTED) if refused else claim.shape
        draft.stand(event.client_id, standing, event.reason, shape=shape)


def _withdrawn(draft: Draft, event: Withdrawn) -> None:
    _judged(draft, event, Standing.WITHDRAWN)


# -- Selectors ----------------------------------------------------------------------------------


def _partial_submitted(draft: Draft, event: PartialSubmitted) -> None:
    kept, reason = _judge_partial(draft, event)
    draft.effects.append(SettlePartial(event.owner, event.round_id, kept, reason))
    duty = draft.duties.get(event.owner)
    if duty is None or not duty.owing or event.round_id != draft.before.round_id:
        return
    if kept:
        _keep(draft, event.owner, event.partial)
    else:
        draft.void(event.owner, reason)


def _keep(draft: Draft, owner: Owner, partial: PartialReference) -> None:
    draft.duties[owner] = Duty(partial=partial)
    listed = set(partial.client_ids)
    for client_id, claim in draft.claims.items():
        if claim.owner != owner:
            continue
        if client_id in listed:
            draft.stand(client_id, Standing.REPORTED, configured=True)
        elif claim.standing is Standing.FOLDED:
            draft.stand(client_id, Standing.LOST, "not-in-partial")
        elif claim.standing in OPEN and draft.collecting:
            draft.send_away(client_id)


def _judge_partial(draft: Draft, event: PartialSubmitted) -> tuple[bool, str]:
    """Say whether the partial counts, and why not. A repeated one gets its first answer."""
    duty = draft.duties.get(event.owner)
    partial = event.partial
    if event.round_id != draft.before.round_id or duty is None:
        return False, "stale"
    if duty.partial is not None:
        return (True, "") if duty.partial == partial else (False, "repeated")
    if duty.void:
        return False, duty.reason
    if draft.phase is Phase.COMPLETED:
        return False, "round-over"
    if partial.failure:
        return False, partial.failure
    claims = [draft.claims.get(client_id) for client_id in partial.client_ids]
    own = all(c is not None and c.owner == event.owner for c in claims)
    unspent = all(
        c is not None and c.standing in (*UNSPENT, Standing.FOLDED) and not c.released
        for c in claims
    )
    consistent = partial.count == len(set(partial.client_ids)) == len(partial.client_ids)
    if not own or not unspent or not consistent or partial.weight < partial.count:
        return False, "foreign-partial"
    return True, ""


def _selector_attached(draft: Draft, event: SelectorAttached) -> None:
    owner = event.owner
    duty = draft.duties.get(owner)
    if duty is not None and draft.phase is Phase.COMPLETED:
        committed = draft.outcome is Outcome.COMMITTED
        draft.effects.append(EndRound(owner, committed, draft.reason))
    elif duty is not None and duty.void:
        draft.effects.append(EndRound(owner, committed=False, reason=duty.reason))
    else:
        _replace_others(draft, owner)
        _confirm(draft, owner, event.held)
        if duty is not None and duty.owing:
            _order_again(draft, owner, duty)


def _confirm(draft: Draft, owner: Owner, held: tuple[str, ...] | None) -> None:
    """A selector is back after a restart of the coordinator: whom it lost has no place."""
    if draft.phase is Phase.SELECTION and held is not None:
        for client_id in draft.away_until_s.keys() - set(held):
            if draft.claims[client_id].owner == owner:
                draft.remove(client_id)


def _order_again(draft: Draft, owner: Owner, duty: Duty) -> None:
    """Order again what the selector's earlier stream may have lost."""
    draft.duties[owner] = replace(duty, away_until_s=None)
    if draft.closing is Closing.SEALING:
        draft.effects.append(CloseReporting(owner))
        return
    unreached = tuple(
        client_id
        for client_id, claim in draft.claims.items()
        if claim.owner == owner and claim.standing is Standing.PENDING and not claim.configured
    )
    if unreached:
        draft.effects.append(Configure(owner, unreached, draft.phase_deadline_s))


def _replace_others(draft: Draft, owner: Owner) -> None:
    """Of two processes with one selector id the newer serves."""
    others = {*draft.duties, *draft.waiting.values()}
    if draft.phase is Phase.SELECTION:
        others |= {claim.owner for claim in draft.claims.values()}
    for other in others:
        if other.selector_id == owner.selector_id and other != owner:
            draft.drop_held(other)
            if other in draft.duties:
                draft.void(other, "selector-restarted")


def _selector_left(draft: Draft, event: SelectorLeft) -> None:
    draft.drop_held(event.owner)
    duty = draft.duties.get(event.owner)
    if duty is None or not duty.owing or draft.phase is Phase.COMPLETED:
        return
    if duty.away_until_s is None:
        until_s = draft.now_s + draft.plan.return_s
        draft.duties[event.owner] = replace(duty, away_until_s=until_s)


def _selector_detached(draft: Draft, event: SelectorDetached) -> None:
    draft.drop_held(event.owner)
    if event.owner in draft.duties:
        draft.void(event.owner, "selector-detached")


# -- The commit and the end ---------------------------------------------------------------------


def _checkpoint_written(draft: Draft, event: CheckpointWritten) -> None:
    if event.round_id != draft.before.round_id or draft.closing is not Closing.WRITING:
        return
    if event.failure:
        draft.effects.append(DropCheckpoint())
        complete(draft, Outcome.ABANDONED, event.failure)
        return
    draft.checkpoint_digest = event.digest
    draft.closing = Closing.PUBLISHING
    draft.phase_deadline_s = draft.now_s + draft.plan.commit_timeout_s
    draft.effects.append(PublishCheckpoint())


def _commit_finished(draft: Draft, event: CommitFinished) -> None:
    if event.round_id != draft.before.round_id or draft.closing is not Closing.PUBLISHING:
        return
    if event.failure:
        draft.effects.append(DropCheckpoint())
        complete(draft, Outcome.ABANDONED, event.failure)
    else:
        complete(draft, Outcome.COMMITTED)


def _stopped(draft: Draft, event: Stopped) -> None:
    if draft.phase is Phase.COMPLETED or draft.closing is Closing.PUBLISHING:
        return
    if draft.closing is Closing.WRITING:
        draft.effects.append(DropCheckpoint())
    complete(draft, Outcome.ABANDONED, event.reason)


def _ticked(draft: Draft, event: Ticked) -> None:
    """Nothing to add: what is due was done before the event."""


_HANDLERS: dict[type[Event], Callable[[Draft, Any], None]] = {
    CheckedIn: _checked_in,
    ClientsLeft: _clients_left,
    ClientsReturned: _clients_returned,
    ClaimsReleased: _claims_released,
    Configured: _configured,
    ReportsFolded: _reports_folded,
    ShapesSeen: _shapes_seen,
    ReportRejected: _report_rejected,
    ReportDiscarded: _report_discarded,
    Withdrawn: _withdrawn,
    PartialSubmitted: _partial_submitted,
    SelectorAttached: _selector_attached,
    SelectorLeft: _selector_left,
    SelectorDetached: _selector_detached,
    CheckpointWritten: _checkpoint_written,
    CommitFinished: _commit_finished,
    Stopped: _stopped,
    Ticked: _ticked,
}
