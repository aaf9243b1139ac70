"""What operators see: the driver's present as messages of the control service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from coordinator.driver import Driver
from coordinator.events import Owner
from coordinator.record import RoundOutcome
from coordinator.roster import Claim, Counts, Standing
from coordinator.round import Round
from coordinator.stages import SessionHandle, StageRecord
from federation.phases import Phase
from federation.plan import RoundPlan
from federation.runtime import wire
from federation.v1 import control_pb2 as pb

_ON_A_STREAM = (Standing.HELD, Standing.PENDING)

CLIENTS_BYTES_MAX = 1 << 20
"""Room for single clients in a status, which stays far from gRPC's limit on a message."""

ROUNDS_MAX = 500
"""Rounds in one answer; who wants more asks again."""


def status_of(driver: Driver, shared_data: str, version: str) -> pb.Status:
    """Take a snapshot.

    Counts are complete; clients are listed as far as there is room, those of newer rounds first.
    """
    now_s = driver.clock.now_s()
    round_, session = driver.round, driver.session
    room = _Room(CLIENTS_BYTES_MAX)
    shown = _round(round_, now_s, room) if round_ else None
    newest_first = [_record(record, room) for record in reversed(driver.rounds)]
    return pb.Status(
        time_s=now_s,
        round=shown,
        session=session_status(session) if session else None,
        selectors=_selectors(driver),
        recent_stages=[_stage(stage) for stage in driver.stages],
        recent_rounds=reversed(newest_first),
        waiting_clients=len(_waiting(driver)),
        shared_data=shared_data,
        version=version,
        storage_failure=driver.storage_failure,
    )


async def rounds_of(driver: Driver, from_round: int, limit: int) -> pb.GetRoundsResponse:
    """Return completed rounds, oldest first; only the first may have more clients than are listed.

    Args:
        driver: Has them in memory, or on disk.
        from_round: The smallest number.
        limit: The most rounds; 0: as many as there is room for.

    Raises:
        StoreError: The disk refused.
    """
    in_memory = {record.round_number: record for record in driver.rounds}
    numbers = sorted({*driver.memory.remembered(from_round), *in_memory})
    numbers = [number for number in numbers if number >= from_round]
    room = _Room(CLIENTS_BYTES_MAX)
    shown: list[pb.RoundRecord] = []
    following = 0
    for number in numbers:
        record = in_memory.get(number) or await driver.memory.load(number)
        if record is None:
            continue
        if len(shown) >= min(limit or ROUNDS_MAX, ROUNDS_MAX):
            following = number
            break
        message = _record(record, room)
        if shown and room.is_full:
            following = number
            break
        shown.append(message)
    return pb.GetRoundsResponse(rounds=shown, next=following)


class _Room:
    """What is left of the room for single clients."""

    def __init__(self, size: int) -> None:
        self._left = size

    @property
    def is_full(self) -> bool:
        """Some client found no room."""
        return self._left < 0

    def clients(self, claims: Mapping[str, Claim]) -> list[pb.ClientStatus]:
        """Return as many clients as there is room for, in their order."""
        shown = []
        for client_id, claim in claims.items():
            client = _client(client_id, claim)
            self._left -= client.ByteSize()
            if self._left < 0:
                break
            shown.append(client)
        return shown


def _waiting(driver: Driver) -> Mapping[str, Owner]:
    if driver.round is not None and driver.round.phase is not Phase.COMPLETED:
        return driver.round.waiting
    return driver.lobby.waiting


def session_status(session: SessionHandle) -> pb.SessionStatus:
    """Describe a session."""
    return pb.SessionStatus(
        session_id=session.session_id,
        rounds=session.rounds,
        rounds_completed=session.completed,
        running=not session.over.is_set(),
        stopping=session.stopping,
    )


def _round(round_: Round, now_s: float, room: _Room) -> pb.RoundStatus:
    running = round_.phase is not Phase.COMPLETED
    return pb.RoundStatus(
        round_number=round_.number,
        round_id=round_.round_id,
        phase=wire.phase_to_wire(round_.phase),
        counts=_counts(round_.counts, round_.plan),
        deadline_s=max(0.0, round_.phase_deadline_s - now_s) if running else 0.0,
        outcome=wire.outcome_to_wire(round_.outcome),
        reason=round_.reason,
        clients=room.clients(round_.claims),
    )


def _selectors(driver: Driver) -> list[pb.SelectorStatus]:
    """Describe those that are attached, and those that are away but served the round."""
    round_ = driver.round
    claims = round_.claims.values() if round_ is not None else ()
    held = Counter(owner.selector_id for owner in _waiting(driver).values())
    served = {claim.owner.selector_id for claim in claims}
    held.update(claim.owner.selector_id for claim in claims if claim.standing in _ON_A_STREAM)
    attached = {link.owner.selector_id: link.address for link in driver.links.attached()}
    return [
        pb.SelectorStatus(
            selector_id=selector_id,
            address=attached.get(selector_id, ""),
            attached=selector_id in attached,
            held=held[selector_id],
        )
        for selector_id in sorted({*attached, *served})
    ]


def _stage(stage: StageRecord) -> pb.Stage:
    return pb.Stage(
        sequence=stage.sequence,
        round_number=stage.round_number,
        phase=wire.phase_to_wire(stage.phase),
        time_s=stage.time_s,
        counts=_counts(stage.counts, stage.plan),
        selectors=stage.selectors,
        outcome=wire.outcome_to_wire(stage.outcome),
        reason=stage.reason,
    )


def _record(record: RoundOutcome, room: _Room) -> pb.RoundRecord:
    return pb.RoundRecord(
        round_number=record.round_number,
        round_id=record.round_id,
        outcome=wire.outcome_to_wire(record.outcome),
        reason=record.reason,
        counts=_counts(record.counts, record.plan),
        phase_seconds=record.phase_seconds,
        metrics=record.metrics,
        checkpoint_digest=record.checkpoint_digest,
        clients=room.clients(record.clients),
    )


def _counts(counts: Counts, plan: RoundPlan) -> pb.Counts:
    return pb.Counts(
        goal_count=plan.goal_count,
        admit_limit=plan.admit_limit,
        min_reports=plan.min_reports,
        admitted=counts.admitted,
        configured=counts.configured,
        folded=counts.folded,
        pending=counts.held + counts.pending,
        away=counts.away,
        reported=counts.reported,
        rejected=counts.rejected,
        discarded=counts.discarded,
        withdrawn=counts.withdrawn,
        lost=counts.lost,
        expired=counts.expired,
    )


def _client(client_id: str, claim: Claim) -> pb.ClientStatus:
    return pb.ClientStatus(
        client_id=client_id,
        selector_id=claim.owner.selector_id,
        standing=claim.standing.value,
        reason=claim.reason,
        num_examples=claim.num_examples,
        metrics=claim.metrics,
        shape=claim.shape,
    )
