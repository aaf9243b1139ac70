"""What operators see: the driver's present as messages of the control service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.driver import Driver
from coordinator.links import Link
from coordinator.picture import SelectorPicture
from coordinator.record import RoundOutcome
from coordinator.roster import Claim, Counts
from coordinator.round import Round
from coordinator.stages import SessionHandle, StageRecord
from federation.phases import Phase
from federation.plan import RoundPlan
from federation.runtime import wire
from federation.v1 import control_pb2 as pb

CLIENTS_BYTES_MAX = 1 << 20
"""Room for single clients in a status, which stays far from gRPC's limit on a message."""

ROUNDS_MAX = 500
"""Rounds in one answer; who wants more asks again."""


@dataclass(frozen=True)
class Myself:
    """What a coordinator says of itself.

    Attributes:
        shared_data: The path of its shared directory, as it sees it.
        version: Its release.
        directory_mark: What it wrote into that directory as it started: see ``Tenure``.
        federation_id: The name that the federation has for life.
    """

    shared_data: str
    version: str
    directory_mark: str
    federation_id: str


def status_of(driver: Driver, myself: Myself) -> pb.Status:
    """Take a snapshot.

    Counts are complete; clients are listed as far as there is room, those of newer rounds first.
    """
    picture = driver.picture()
    now_s, round_, session = picture.at_s, picture.round, driver.session
    links = {link.owner.selector_id: link for link in driver.links.attached()}
    room = _Room(CLIENTS_BYTES_MAX)
    shown = _round(round_, now_s, room) if round_ else None
    newest_first = [_record(record, room) for record in reversed(driver.rounds)]
    return pb.Status(
        time_s=now_s,
        round=shown,
        session=session_status(session) if session else None,
        selectors=[_selector(one, links.get(one.selector_id)) for one in picture.selectors],
        recent_stages=[_stage(stage) for stage in driver.stages],
        recent_rounds=reversed(newest_first),
        waiting_clients=picture.waiting_clients,
        shared_data=myself.shared_data,
        version=myself.version,
        directory_mark=myself.directory_mark,
        federation_id=myself.federation_id,
        storage_failure=picture.storage_failure,
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


def _selector(selector: SelectorPicture, link: Link | None) -> pb.SelectorStatus:
    return pb.SelectorStatus(
        selector_id=selector.selector_id,
        address=selector.address,
        attached=selector.attached,
        held=selector.held,
        version=link.version if link else "",
        directory_mark=link.directory_mark if link else "",
    )


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
        training_s=claim.training_s,
    )
