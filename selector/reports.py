"""What is said of a cohort on the wire: receipts to clients, facts to the coordinator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence
from typing import TypeVar

from federation.plan import RetryWindow
from federation.runtime import wire
from federation.v1 import coordination_pb2 as pb
from federation.v1 import participation_pb2
from selector.cohort import Cohort, Member, Standing

T = TypeVar("T")

FACTS_MAX = 500
"""Facts of a kind in one hello, so that it stays far from gRPC's limit on a message."""

_OUTCOMES = {
    Standing.ACCEPTED: participation_pb2.REPORT_OUTCOME_ACCEPTED,
    Standing.REJECTED: participation_pb2.REPORT_OUTCOME_REJECTED,
    Standing.DISCARDED: participation_pb2.REPORT_OUTCOME_DISCARDED,
    Standing.WITHDRAWN: participation_pb2.REPORT_OUTCOME_DISCARDED,
}


def receipt_of(member: Member, window: RetryWindow) -> participation_pb2.ReportReceipt:
    """Return the receipt of a judged report."""
    transfer = member.transfer
    return participation_pb2.ReportReceipt(
        chunks=transfer.chunks if transfer else 0,
        size_bytes=transfer.size_bytes if transfer else 0,
        sha256=transfer.sha256 if transfer else b"",
        outcome=_OUTCOMES[member.standing],
        reason=member.reason,
        detail=member.detail,
        retry_window=wire.retry_window_to_wire(window),
    )


def verdict_event(round_id: str, member: Member) -> pb.SelectorEvent | None:
    """Return what the coordinator is told of a verdict; None where there is none yet."""
    facts = {"round_id": round_id, "client_id": member.client_id, "reason": member.reason}
    match member.standing:
        case Standing.ACCEPTED:
            folded = pb.ReportsFolded(round_id=round_id, reports=[_folded(member)])
            return pb.SelectorEvent(reports_folded=folded)
        case Standing.REJECTED:
            return pb.SelectorEvent(report_rejected=pb.ReportRejected(**facts))
        case Standing.DISCARDED:
            return pb.SelectorEvent(report_discarded=pb.ReportDiscarded(**facts))
        case Standing.WITHDRAWN:
            return pb.SelectorEvent(client_withdrew=pb.ClientWithdrew(**facts))
        case _:
            return None


def released_event(round_id: str, client_ids: Iterable[str]) -> pb.SelectorEvent:
    """Say that other selectors may fold these clients."""
    released = pb.ClaimsReleased(round_id=round_id, client_ids=client_ids)
    return pb.SelectorEvent(claims_released=released)


def shape_events(round_id: str, members: Iterable[Member]) -> list[pb.SelectorEvent]:
    """Say how far those came who have not reported, in messages of moderate size."""
    unreported = [member for member in members if not member.reported]
    events = []
    for start in range(0, len(unreported), FACTS_MAX):
        told = {m.client_id: m.shape for m in unreported[start : start + FACTS_MAX]}
        shapes = pb.ClientShapes(round_id=round_id, shapes=told)
        events.append(pb.SelectorEvent(client_shapes=shapes))
    return events


def state_of(cohort: Cohort, partial: pb.PartialWritten | None) -> pb.CohortState:
    """Say all that the selector knows of the round."""
    order = cohort.order
    state = pb.CohortState(
        round_id=order.round_id,
        round_number=order.round_number,
        partial=partial,
        # In the hello or not at all: told after it, it could undo what was ordered meanwhile.
        released=sorted(cohort.released)[:FACTS_MAX],
    )
    for member in cohort.members.values():
        facts = {"client_id": member.client_id, "reason": member.reason}
        match member.standing:
            case Standing.CONFIGURED | Standing.FOLDING:
                state.configured.append(member.client_id)
            case Standing.AWAY:
                state.away.append(member.client_id)
            case Standing.ACCEPTED:
                state.folded.append(_folded(member))
            case Standing.REJECTED:
                state.rejected.add(**facts)
            case Standing.DISCARDED:
                state.discarded.add(**facts)
            case Standing.WITHDRAWN:
                state.withdrawn.add(**facts)
            case Standing.CLAIMED:
                pass  # the coordinator configures it once more
    return state


def returned_event(cohort: Cohort) -> pb.SelectorEvent | None:
    """Name those whose configuration is on its way; some may have come back unheard."""
    claimed = [m.client_id for m in cohort.members.values() if m.standing is Standing.CLAIMED]
    if not claimed:
        return None
    back = pb.ClientsReturned(round_id=cohort.order.round_id, client_ids=claimed)
    return pb.SelectorEvent(clients_returned=back)


def in_messages(hello: pb.Hello) -> list[pb.SelectorEvent]:
    """Cut a hello into one of moderate size and the events that tell the rest."""
    rest = _beyond(hello.cohort) if hello.HasField("cohort") else []
    for held in _cut_off(hello.held):
        checked_in = pb.ClientsCheckedIn(clients=held)
        rest.append(pb.SelectorEvent(clients_checked_in=checked_in))
    hello.more = bool(rest)
    return [pb.SelectorEvent(hello=hello), *rest]


def _beyond(cohort: pb.CohortState) -> list[pb.SelectorEvent]:
    """Cut a cohort's state to a moderate size; return the events that tell the rest."""
    rest: list[pb.SelectorEvent] = []
    round_id = cohort.round_id
    for reached in _cut_off(cohort.configured):
        done = pb.ClientsConfigured(round_id=round_id, client_ids=reached)
        back = pb.ClientsReturned(round_id=round_id, client_ids=reached)
        rest.append(pb.SelectorEvent(clients_configured=done))
        rest.append(pb.SelectorEvent(clients_returned=back))
    for away in _cut_off(cohort.away):
        left = pb.ClientsLeft(client_ids=away)
        rest.append(pb.SelectorEvent(clients_left=left))
    for folded in _cut_off(cohort.folded):
        told = pb.ReportsFolded(round_id=round_id, reports=folded)
        rest.append(pb.SelectorEvent(reports_folded=told))
    for rejected in _cut_off(cohort.rejected):
        rest += [pb.SelectorEvent(report_rejected=report) for report in rejected]
    for discarded in _cut_off(cohort.discarded):
        rest += [pb.SelectorEvent(report_discarded=report) for report in discarded]
    for withdrawn in _cut_off(cohort.withdrawn):
        rest += [pb.SelectorEvent(client_withdrew=client) for client in withdrawn]
    if rest and cohort.HasField("partial"):
        # Whose reports are in it is told before it.
        partial = pb.PartialWritten()
        partial.CopyFrom(cohort.partial)
        cohort.ClearField("partial")
        rest.append(pb.SelectorEvent(partial_written=partial))
    return rest


def _cut_off(facts: MutableSequence[T]) -> Iterator[list[T]]:
    """Remove what is beyond the first ``FACTS_MAX``, and yield it in pieces of that size."""
    beyond = facts[FACTS_MAX:]
    del facts[FACTS_MAX:]
    for start in range(0, len(beyond), FACTS_MAX):
        yield list(beyond[start : start + FACTS_MAX])


def _folded(member: Member) -> pb.FoldedReport:
    return pb.FoldedReport(
        client_id=member.client_id,
        num_examples=member.num_examples,
        metrics=member.metrics,
        training_s=member.training_s,
    )
