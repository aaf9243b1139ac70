"""What is due or possible in a round, done: its phases follow each other here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from coordinator.draft import Closing, Draft
from coordinator.effects import CloseReporting, Configure, DropCheckpoint, EndRound, WriteCheckpoint
from coordinator.events import Owner, PartialReference
from coordinator.roster import OPEN, UNSPENT, Duty, Standing
from federation import shapes
from federation.phases import Outcome, Phase

DISK_REASONS = frozenset({"disk-full", "read-only", "permission-denied", "io-error"})
"""Words of a selector whose sum the shared directory did not take."""


def advance(draft: Draft) -> None:
    """Do all that is due or possible now."""
    _rule_on_the_away(draft)
    if draft.phase is Phase.SELECTION:
        _try_to_configure(draft)
    if draft.phase is Phase.CONFIGURATION:
        _try_to_report(draft)
    if draft.collecting:
        _fill_places(draft)
        _try_to_close(draft)
    if draft.closing is Closing.SEALING:
        _try_to_write(draft)
    if draft.phase is not Phase.COMPLETED and draft.now_s >= draft.phase_deadline_s:
        if draft.closing is Closing.WRITING:
            draft.effects.append(DropCheckpoint())
            complete(draft, Outcome.ABANDONED, "commit-timeout")
        elif draft.closing is Closing.PUBLISHING:
            # The rename is awaited: in doubt the history decides, not a clock.
            draft.phase_deadline_s = draft.now_s + draft.plan.commit_timeout_s


def complete(draft: Draft, outcome: Outcome, reason: str = "") -> None:
    """Give every claim its fate and every selector its release."""
    if draft.phase is Phase.SELECTION:
        held = {client_id: claim.owner for client_id, claim in draft.claims.items()}
        draft.waiting = held | draft.waiting
        for client_id in held:
            draft.remove(client_id)
    for client_id, claim in draft.claims.items():
        if claim.standing in OPEN:
            draft.stand(client_id, Standing.EXPIRED, reason or "reporting-closed")
        elif claim.standing is Standing.FOLDED:
            draft.stand(client_id, Standing.DISCARDED, reason or "round-over")
    if outcome is Outcome.ABANDONED:
        draft.checkpoint_digest = ""
    for client_id, claim in draft.claims.items():
        shape = shapes.interrupted(claim.shape)
        if shape != claim.shape and claim.standing is not Standing.REPORTED:
            draft.put(client_id, replace(claim, shape=shape))
    draft.outcome, draft.reason = outcome, reason
    draft.closing = Closing.OPEN
    draft.enter(Phase.COMPLETED, draft.now_s)
    committed = outcome is Outcome.COMMITTED
    draft.effects += [EndRound(owner, committed, reason) for owner in draft.duties]


def _rule_on_the_away(draft: Draft) -> None:
    """Whoever did not come back in time is void (a selector) or lost (a client)."""
    if draft.phase is Phase.COMPLETED:
        return
    for owner, duty in list(draft.duties.items()):
        if duty.away_until_s is not None and draft.now_s >= duty.away_until_s:
            draft.void(owner, "selector-lost")
    for client_id, until_s in list(draft.away_until_s.items()):
        if draft.now_s < until_s:
            continue
        if draft.phase is Phase.SELECTION:
            draft.remove(client_id)
        else:
            void = draft.duties[draft.claims[client_id].owner].void
            draft.stand(client_id, Standing.LOST, "selector-lost" if void else "client-lost")


def _try_to_configure(draft: Draft) -> None:
    over = draft.now_s >= draft.phase_deadline_s
    if over or draft.free_places <= 0:
        _drop_replaced(draft)
    if not over and (draft.free_places > 0 or draft.away_until_s):
        return
    for client_id in list(draft.away_until_s):
        draft.remove(client_id)
    if len(draft.claims) < draft.plan.min_reports:
        complete(draft, Outcome.ABANDONED, "too-few-clients")
        return
    deadline_s = draft.now_s + draft.plan.report_window_s
    draft.enter(Phase.CONFIGURATION, deadline_s)
    by_owner: dict[Owner, list[str]] = {}
    for client_id, claim in draft.claims.items():
        draft.stand(client_id, Standing.PENDING)
        by_owner.setdefault(claim.owner, []).append(client_id)
    draft.duties = dict.fromkeys(by_owner, Duty())
    draft.effects += [Configure(owner, tuple(ids), deadline_s) for owner, ids in by_owner.items()]


def _drop_replaced(draft: Draft) -> None:
    """A selector has one partial a round, so that only its newest process may serve."""
    newest = {claim.owner.selector_id: claim.owner for claim in draft.claims.values()}
    for owner in {claim.owner for claim in draft.claims.values()}:
        if owner != newest[owner.selector_id]:
            draft.drop_held(owner)


def _try_to_report(draft: Draft) -> None:
    someone_reported = draft.number_of(Standing.FOLDED, Standing.REPORTED) > 0
    over = draft.now_s >= draft.phase_deadline_s
    if someone_reported or over or _everybody_reached(draft):
        draft.enter(Phase.REPORTING, draft.phase_deadline_s)


def _everybody_reached(draft: Draft) -> bool:
    """Every admitted client has its configuration, or is not waited for any more."""
    if draft.configured < draft.number_of(Standing.PENDING):
        return False  # without a look at each: this is asked with each client that is reached
    return all(
        claim.configured or claim.standing is not Standing.PENDING
        for claim in draft.claims.values()
    )


def _fill_places(draft: Draft) -> None:
    """Let clients that wait for the next round take part in this one.

    A newcomer takes the place of a lost client. A client whose report went down with its selector,
    or was left out of the partial, takes its claim up through the selector that holds it now.
    """
    some_may_move = any(not duty.owing for duty in draft.duties.values())
    if draft.now_s >= draft.phase_deadline_s or (draft.free_places <= 0 and not some_may_move):
        return
    for client_id, owner in list(draft.waiting.items()):
        claim = draft.claims.get(client_id)
        if claim is None:
            joins = draft.free_places > 0
        else:
            joins = claim.standing in UNSPENT and draft.may_move(claim)
        if joins and draft.may_serve(owner):
            draft.admit(owner, client_id)


def _try_to_close(draft: Draft) -> None:
    folded = draft.kept_reports() + draft.number_of(Standing.FOLDED)
    pending = draft.number_of(*OPEN)
    if folded + pending < draft.plan.min_reports:
        complete(draft, Outcome.ABANDONED, "too-few-reports")
        return
    if draft.phase is not Phase.REPORTING:
        return
    over = draft.now_s >= draft.phase_deadline_s
    if pending == 0 or folded >= draft.plan.goal_count or over:
        draft.closing = Closing.SEALING
        draft.phase_deadline_s = draft.now_s + draft.plan.grace_s
        # From here on nobody comes back: who is away now will have expired.
        draft.away_until_s.clear()
        draft.effects += [
            CloseReporting(owner) for owner, duty in draft.duties.items() if duty.owing
        ]


def _try_to_write(draft: Draft) -> None:
    owing = [owner for owner, duty in draft.duties.items() if duty.owing]
    if owing and draft.now_s >= draft.phase_deadline_s:
        for owner in owing:
            draft.void(owner, "partial-late")
        owing = []
    # Whoever is folded here is with a selector that owes: void and kept partials settle it.
    possible = draft.kept_reports() + draft.number_of(Standing.FOLDED)
    if possible < draft.plan.min_reports:
        possible += sum(
            claim.standing in OPEN and claim.owner in owing for claim in draft.claims.values()
        )
    if possible < draft.plan.min_reports:
        complete(draft, Outcome.ABANDONED, _why_too_few(draft))
    elif not owing:
        begin_commit(draft)


def _why_too_few(draft: Draft) -> str:
    """The disk's word, if it refused the sum of a selector: the operator is to mend that first."""
    words = {duty.reason for duty in draft.duties.values() if duty.void}
    return min(words & DISK_REASONS, default="too-few-reports")


def begin_commit(draft: Draft) -> None:
    """Have the next checkpoint written."""
    draft.closing = Closing.WRITING
    draft.phase_deadline_s = draft.now_s + draft.plan.commit_timeout_s
    draft.effects.append(WriteCheckpoint(tuple(_kept_partials(draft))))


def _kept_partials(draft: Draft) -> Iterator[tuple[Owner, PartialReference]]:
    seen: set[str] = set()
    for owner, duty in draft.duties.items():
        if duty.partial is not None and duty.partial.count > 0:
            assert seen.isdisjoint(duty.partial.client_ids)
            seen.update(duty.partial.client_ids)
            yield owner, duty.partial
