"""The coordinator's gRPC services: the selectors' streams and the operators' questions."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

from coordinator.driver import Driver
from coordinator.events import (
    CheckedIn,
    ClientsLeft,
    ClientsReturned,
    Configured,
    Event,
    FoldedReport,
    Owner,
    ReportDiscarded,
    ReportRejected,
    ReportsFolded,
    SelectorAttached,
    SelectorDetached,
    SelectorLeft,
    Withdrawn,
)
from coordinator.inspector import Inspector
from coordinator.links import Link
from coordinator.status import rounds_of, session_status, status_of
from federation.errors import PeerError, SettingsError
from federation.identifiers import SELECTOR_ID_RULE, checked_client_id, is_selector_id
from federation.plan import IMPOSSIBLE_PLAN, RoundPlan
from federation.runtime import wire
from federation.runtime.telemetry import get_logger
from federation.v1 import control_pb2, control_pb2_grpc, coordination_pb2_grpc
from federation.v1 import coordination_pb2 as pb

log = get_logger()

HELLO_TIMEOUT_S = 10.0
"""A stream without a hello for so long is ended."""

STATUS_PAUSE_S = 0.1
"""Least time between two snapshots of a watched status."""

METRICS_MAX = 32
"""Metrics of one report that are kept."""

WORD_MAX = 128
"""Characters of a selector's incarnation."""

ADDRESS_MAX = 300
"""Characters of a selector's HOST:PORT."""

HEARTBEATS_PER_RETURN = 6
"""Heartbeats of a selector within ``return_s``."""


class CoordinationService(coordination_pb2_grpc.CoordinationServicer):
    """Takes the selectors' events to the driver and its commands to the selectors."""

    def __init__(self, driver: Driver, inspector: Inspector, *, return_s: float) -> None:
        self._driver = driver
        self._inspector = inspector
        self._return_s = return_s

    async def Attach(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.SelectorEvent], context: Any
    ) -> None:
        """Serve one selector for as long as its stream lives."""
        hello = await _hello(request_iterator)
        await self._driver.ready.wait()
        owner = Owner(hello.selector_id, hello.incarnation)
        if self._driver.links.is_superseded(owner):
            await context.write(pb.CoordinatorCommand(superseded=pb.Superseded()))
            return
        link = Link(owner, hello.address)
        link.send(pb.CoordinatorCommand(welcome=self._welcome()))
        reader = asyncio.create_task(self._read(link, hello, request_iterator))
        try:
            async for command in link.commands():
                await context.write(command)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            if self._driver.links.detach(link):
                log.info("selector left", selector_id=owner.selector_id)
                await self._driver.post(SelectorLeft(owner))

    def _welcome(self) -> pb.Welcome:
        return pb.Welcome(
            protocol_version=wire.PROTOCOL_VERSION,
            return_s=self._return_s,
            heartbeat_s=self._return_s / HEARTBEATS_PER_RETURN,
        )

    async def _read(
        self, link: Link, hello: pb.Hello, events: AsyncIterator[pb.SelectorEvent]
    ) -> None:
        try:
            await self._greet(link, hello)
            async for message in events:
                if link.closed:
                    return  # a newer stream of this selector has said more since
                await self._take(link, message)
        except PeerError as error:
            log.warning(
                "selector event refused", selector_id=link.owner.selector_id, detail=error.detail
            )
        except Exception:
            log.exception("selector stream failed", selector_id=link.owner.selector_id)
        finally:
            link.close()

    async def _greet(self, link: Link, hello: pb.Hello) -> None:
        """Take over what the selector knows; facts first, so that only gaps are asked again."""
        owner = link.owner
        superseded = self._driver.links.attach(link)
        log.info("selector attached", selector_id=owner.selector_id, address=link.address)
        post = self._driver.post
        if superseded is not None:
            await post(SelectorDetached(superseded))
        if hello.HasField("cohort"):
            for event in self._facts_of(owner, hello.cohort):
                await post(event)
            if hello.cohort.HasField("partial"):
                self._inspector.submit(owner, hello.cohort.partial)
            if not self._driver.is_running(hello.cohort.round_id):
                end = pb.EndRound(round_id=hello.cohort.round_id, reason="unknown-round")
                link.send(pb.CoordinatorCommand(end_round=end))
        await post(SelectorAttached(owner))
        if hello.held:
            await post(_checked_in(owner, hello.held))

    def _facts_of(self, owner: Owner, cohort: pb.CohortState) -> list[Event]:
        round_id = cohort.round_id
        reached = tuple(cohort.configured)
        events: list[Event] = [
            Configured(owner, round_id, reached),
            ClientsReturned(owner, round_id, reached),
            ClientsLeft(owner, tuple(cohort.away)),
            ReportsFolded(owner, round_id, tuple(_folded(r) for r in cohort.folded)),
        ]
        events += [ReportRejected(owner, round_id, r.client_id, r.reason) for r in cohort.rejected]
        events += [
            ReportDiscarded(owner, round_id, r.client_id, r.reason) for r in cohort.discarded
        ]
        events += [Withdrawn(owner, round_id, r.client_id, r.reason) for r in cohort.withdrawn]
        return events

    async def _take(self, link: Link, message: pb.SelectorEvent) -> None:
        owner = link.owner
        post = self._driver.post
        match message.WhichOneof("event"):
            case "clients_checked_in":
                await post(_checked_in(owner, message.clients_checked_in.clients))
            case "clients_left":
                await post(ClientsLeft(owner, tuple(message.clients_left.client_ids)))
            case "clients_returned":
                returned = message.clients_returned
                await post(ClientsReturned(owner, returned.round_id, tuple(returned.client_ids)))
            case "clients_configured":
                done = message.clients_configured
                await post(Configured(owner, done.round_id, tuple(done.client_ids)))
            case "reports_folded":
                folded = message.reports_folded
                reports = tuple(_folded(report) for report in folded.reports)
                await post(ReportsFolded(owner, folded.round_id, reports))
            case "report_rejected":
                bad = message.report_rejected
                await post(ReportRejected(owner, bad.round_id, bad.client_id, bad.reason))
            case "report_discarded":
                late = message.report_discarded
                await post(ReportDiscarded(owner, late.round_id, late.client_id, late.reason))
            case "client_withdrew":
                gone = message.client_withdrew
                await post(Withdrawn(owner, gone.round_id, gone.client_id, gone.reason))
            case "partial_written":
                self._inspector.submit(owner, message.partial_written)
            case "heartbeat":
                answer = pb.HeartbeatAnswer(sequence=message.heartbeat.sequence)
                link.send(pb.CoordinatorCommand(heartbeat_answer=answer))
            case "detach":
                await post(SelectorDetached(owner))
            case other:
                raise PeerError(f"a selector event of kind {other} has no place here")


async def _hello(events: AsyncIterator[pb.SelectorEvent]) -> pb.Hello:
    try:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            first = await anext(aiter(events))
    except (TimeoutError, StopAsyncIteration):
        raise PeerError("a selector's stream begins with hello", reason="no-hello") from None
    if first.WhichOneof("event") != "hello":
        raise PeerError("a selector's stream begins with hello", reason="no-hello")
    hello = first.hello
    wire.require_protocol(hello.protocol_version)
    if not is_selector_id(hello.selector_id):
        raise PeerError(SELECTOR_ID_RULE, reason="malformed-selector-id")
    if not 1 <= len(hello.incarnation) <= WORD_MAX or len(hello.address) > ADDRESS_MAX:
        raise PeerError(
            f"a selector has an incarnation of 1 to {WORD_MAX} characters and an address of at "
            f"most {ADDRESS_MAX}",
            reason="malformed-hello",
        )
    return hello


def _checked_in(owner: Owner, clients: Any) -> CheckedIn:
    return CheckedIn(
        owner,
        tuple(checked_client_id(client.client_id) for client in clients),
        tuple(client.session_id for client in clients),
    )


def _folded(report: pb.FoldedReport) -> FoldedReport:
    finite = {name: v for name, v in report.metrics.items() if math.isfinite(v)}
    metrics = dict(sorted(finite.items())[:METRICS_MAX])
    return FoldedReport(report.client_id, report.num_examples, metrics)


PlanOf = Callable[..., RoundPlan]
"""Makes a plan of the coordinator's own settings and, by keyword, those that are given anew."""


class ControlService(control_pb2_grpc.ControlServicer):
    """Answers operators, who may read of a ``SettingsError`` which setting of theirs is wrong."""

    def __init__(self, driver: Driver, plan_of: PlanOf, shared_data: str, version: str) -> None:
        self._driver = driver
        self._plan_of = plan_of
        self._shared_data = shared_data
        self._version = version

    async def GetStatus(
        self, request: control_pb2.GetStatusRequest, context: Any
    ) -> control_pb2.Status:
        """Return the status now."""
        return status_of(self._driver, self._shared_data, self._version)

    async def WatchStatus(  # type: ignore[override]
        self, request: control_pb2.WatchStatusRequest, context: Any
    ) -> None:
        """Send the status now and after each change."""
        async for _ in self._driver.changes(STATUS_PAUSE_S):
            await context.write(status_of(self._driver, self._shared_data, self._version))

    async def StartSession(
        self, request: control_pb2.StartSessionRequest, context: Any
    ) -> control_pb2.SessionStatus:
        """Start a run of rounds."""
        rounds, changes = wire.session_from_wire(request)
        if rounds < 1:
            expected = "it must be a whole number from 1"
            raise SettingsError("rounds", rounds, expected, reason=IMPOSSIBLE_PLAN)
        return session_status(await self._driver.start_session(self._plan_of(**changes), rounds))

    async def StopSession(
        self, request: control_pb2.StopSessionRequest, context: Any
    ) -> control_pb2.SessionStatus:
        """End the running session, at once or after its round."""
        return session_status(await self._driver.stop_session(after_round=request.after_round))

    async def GetRounds(
        self, request: control_pb2.GetRoundsRequest, context: Any
    ) -> control_pb2.GetRoundsResponse:
        """Return what is remembered of completed rounds."""
        return rounds_of(self._driver, request.from_round, request.limit)
