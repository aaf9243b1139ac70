"""The coordinator's gRPC services: the selectors' streams and the operators' questions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from coordinator.commands import selector_list
from coordinator.driver import Driver
from coordinator.events import (
    Owner,
    SelectorAttached,
    SelectorDetached,
    SelectorLeft,
)
from coordinator.facts import checked_in, event_of, facts_of
from coordinator.inspector import Inspector
from coordinator.ledger import NumberSeen
from coordinator.links import Link
from coordinator.status import Myself, rounds_of, session_status, status_of
from coordinator.tenure import Tenure
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

WORD_MAX = 128
"""Characters of a selector's incarnation, version and directory mark."""

ADDRESS_MAX = 300
"""Characters of a selector's HOST:PORT."""

ROUND_NUMBER_MAX = 10**12
"""A selector that speaks of a higher round number is not believed."""

HEARTBEATS_PER_RETURN = 6
"""Heartbeats of a selector within ``return_s``."""


class CoordinationService(coordination_pb2_grpc.CoordinationServicer):
    """Takes the selectors' events to the driver and its commands to the selectors."""

    def __init__(
        self, driver: Driver, inspector: Inspector, tenure: Tenure, *, return_s: float
    ) -> None:
        self._driver = driver
        self._inspector = inspector
        self._return_s = return_s
        self._tenure = tenure

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
        link = Link(owner, hello.address, hello.version, hello.directory_mark)
        link.send(pb.CoordinatorCommand(welcome=self._welcome()))
        reader = asyncio.create_task(self._read(link, hello, request_iterator))
        try:
            async for command in link.commands():
                await context.write(command)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            if self._driver.links.detach(link):
                self._tell_addresses()
                log.info("selector left", selector_id=owner.selector_id)
                await self._driver.post(SelectorLeft(owner))

    def _welcome(self) -> pb.Welcome:
        return pb.Welcome(
            protocol_version=wire.PROTOCOL_VERSION,
            return_s=self._return_s,
            heartbeat_s=self._return_s / HEARTBEATS_PER_RETURN,
            epoch=self._tenure.epoch,
            token_key=self._tenure.token_key,
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
        replaced = self._driver.links.attach(link)
        link.send(self._driver.sessions.news())
        self._tell_addresses()
        log.info("selector attached", selector_id=owner.selector_id, address=link.address)
        post = self._driver.post
        if replaced == owner:
            await post(SelectorLeft(owner))  # whom it held then, it may not hold now
        elif replaced is not None:
            await post(SelectorDetached(replaced))
        if hello.HasField("cohort"):
            for event in facts_of(owner, hello.cohort):
                await post(event)
            if hello.cohort.HasField("partial"):
                self._inspector.submit(owner, hello.cohort.partial)
            await self._note_number(hello.cohort.round_number)
            if not self._driver.knows(hello.cohort.round_id):
                end = pb.EndRound(round_id=hello.cohort.round_id, reason="unknown-round")
                link.send(pb.CoordinatorCommand(end_round=end))
        held = tuple(checked_client_id(client.client_id) for client in hello.held)
        await post(SelectorAttached(owner, None if hello.more else held))
        if hello.held:
            await post(checked_in(owner, hello.held))

    def _tell_addresses(self) -> None:
        links = self._driver.links.attached()
        command = selector_list(sorted(link.address for link in links if link.address))
        for link in links:
            link.send(command)

    async def _note_number(self, round_number: int) -> None:
        """A selector may remember a round that is nowhere on disk any more."""
        if self._driver.ledger.last_round_number < round_number <= ROUND_NUMBER_MAX:
            await self._driver.post(NumberSeen(round_number))

    async def _take(self, link: Link, message: pb.SelectorEvent) -> None:
        match message.WhichOneof("event"):
            case "partial_written":
                self._inspector.submit(link.owner, message.partial_written)
            case "heartbeat":
                answer = pb.HeartbeatAnswer(sequence=message.heartbeat.sequence)
                link.send(pb.CoordinatorCommand(heartbeat_answer=answer))
            case _:
                await self._driver.post(event_of(link.owner, message))


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
    words = (hello.incarnation, hello.version, hello.directory_mark)
    if not hello.incarnation or max(map(len, words)) > WORD_MAX or len(hello.address) > ADDRESS_MAX:
        raise PeerError(
            f"a selector has an incarnation of 1 to {WORD_MAX} characters, a version and a mark "
            f"of at most so many, and an address of at most {ADDRESS_MAX}",
            reason="malformed-hello",
        )
    return hello


PlanOf = Callable[..., RoundPlan]
"""Makes a plan of the coordinator's own settings and, by keyword, those that are given anew."""


class ControlService(control_pb2_grpc.ControlServicer):
    """Answers operators, who may read of a ``SettingsError`` which setting of theirs is wrong."""

    def __init__(self, driver: Driver, plan_of: PlanOf, myself: Myself) -> None:
        self._driver = driver
        self._plan_of = plan_of
        self._myself = myself

    async def GetStatus(
        self, request: control_pb2.GetStatusRequest, context: Any
    ) -> control_pb2.Status:
        """Return the status now."""
        return status_of(self._driver, self._myself)

    async def WatchStatus(  # type: ignore[override]
        self, request: control_pb2.WatchStatusRequest, context: Any
    ) -> None:
        """Send the status now and after each change."""
        async for _ in self._driver.changes(STATUS_PAUSE_S):
            await context.write(status_of(self._driver, self._myself))

    async def StartSession(
        self, request: control_pb2.StartSessionRequest, context: Any
    ) -> control_pb2.SessionStatus:
        """Start a run of rounds."""
        rounds, changes = wire.session_from_wire(request)
        if rounds < 1:
            expected = "it must be a whole number from 1"
            raise SettingsError("rounds", rounds, expected, reason=IMPOSSIBLE_PLAN)
        return session_status(await self._driver.sessions.start(self._plan_of(**changes), rounds))

    async def StopSession(
        self, request: control_pb2.StopSessionRequest, context: Any
    ) -> control_pb2.SessionStatus:
        """End the running session, at once or after its round."""
        return session_status(await self._driver.sessions.stop(after_round=request.after_round))

    async def GetRounds(
        self, request: control_pb2.GetRoundsRequest, context: Any
    ) -> control_pb2.GetRoundsResponse:
        """Return what is remembered of completed rounds, also of those before a restart."""
        return await rounds_of(self._driver, request.from_round, request.limit)
