"""What selectors say, as events: the facts of a hello, and each message after it."""

from __future__ import annotations

import math
from typing import Any

from coordinator.events import (
    CheckedIn,
    ClaimsReleased,
    ClientsLeft,
    ClientsReturned,
    Configured,
    Event,
    FoldedReport,
    Owner,
    ReportDiscarded,
    ReportRejected,
    ReportsFolded,
    SelectorDetached,
    ShapesSeen,
    Withdrawn,
)
from federation.errors import PeerError
from federation.identifiers import checked_client_id
from federation.shapes import is_shape
from federation.v1 import coordination_pb2 as pb

METRICS_MAX = 32
"""Metrics of one report that are kept."""


def facts_of(owner: Owner, cohort: pb.CohortState) -> list[Event]:
    """Return what a selector knows of the round that it serves."""
    round_id = cohort.round_id
    reached = tuple(cohort.configured)
    events: list[Event] = [
        Configured(owner, round_id, reached),
        ClientsReturned(owner, round_id, reached),
        ClientsLeft(owner, tuple(cohort.away)),
        ClaimsReleased(owner, round_id, tuple(cohort.released)),
        ReportsFolded(owner, round_id, tuple(map(_folded, cohort.folded))),
    ]
    events += [ReportRejected(owner, round_id, r.client_id, r.reason) for r in cohort.rejected]
    events += [ReportDiscarded(owner, round_id, r.client_id, r.reason) for r in cohort.discarded]
    events += [Withdrawn(owner, round_id, r.client_id, r.reason) for r in cohort.withdrawn]
    return events


def event_of(owner: Owner, message: pb.SelectorEvent) -> Event:
    """Return what a message says; raises ``PeerError`` if it has no place after the hello."""
    said: Any = getattr(message, message.WhichOneof("event") or "", None)
    match said:
        case pb.ClientsCheckedIn():
            return checked_in(owner, said.clients)
        case pb.ClientsLeft():
            return ClientsLeft(owner, tuple(said.client_ids))
        case pb.ClientsReturned():
            return ClientsReturned(owner, said.round_id, tuple(said.client_ids))
        case pb.ClaimsReleased():
            return ClaimsReleased(owner, said.round_id, tuple(said.client_ids))
        case pb.ClientsConfigured():
            return Configured(owner, said.round_id, tuple(said.client_ids))
        case pb.ReportsFolded():
            return ReportsFolded(owner, said.round_id, tuple(map(_folded, said.reports)))
        case pb.ClientShapes():
            shapes = {client_id: s for client_id, s in said.shapes.items() if is_shape(s)}
            return ShapesSeen(owner, said.round_id, shapes)
        case pb.ReportRejected():
            return ReportRejected(owner, said.round_id, said.client_id, said.reason)
        case pb.ReportDiscarded():
            return ReportDiscarded(owner, said.round_id, said.client_id, said.reason)
        case pb.ClientWithdrew():
            return Withdrawn(owner, said.round_id, said.client_id, said.reason)
        case pb.Detach():
            return SelectorDetached(owner)
    raise PeerError(f"a selector event of kind {message.WhichOneof('event')} has no place here")


def checked_in(owner: Owner, clients: Any) -> CheckedIn:
    """Return a check-in; raises ``PeerError`` for a malformed client id."""
    return CheckedIn(
        owner,
        tuple(checked_client_id(client.client_id) for client in clients),
        tuple(client.session_id for client in clients),
    )


def _folded(report: pb.FoldedReport) -> FoldedReport:
    finite = {name: v for name, v in report.metrics.items() if math.isfinite(v)}
    metrics = dict(sorted(finite.items())[:METRICS_MAX])
    told = report.HasField("training_s") and math.isfinite(report.training_s)
    training_s = max(0.0, report.training_s) if told else None
    return FoldedReport(report.client_id, report.num_examples, metrics, training_s)
