"""Coordinators and selectors for tests: real ones on loopback, and one that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc.aio
from numpy.typing import NDArray

from coordinator.app import Coordinator
from coordinator.app import Limits as CoordinatorLimits
from coordinator.settings import CoordinatorSettings
from federation.plan import RetryWindow
from federation.runtime import wire
from federation.runtime.initialise import initialise_with
from federation.runtime.rpc import bind, create_server
from federation.runtime.store import SharedDirectory
from federation.v1 import coordination_pb2 as pb
from federation.v1 import coordination_pb2_grpc, plan_pb2
from selector.app import Limits as SelectorLimits
from selector.app import SelectorServer
from tests.waiting import within

HOST = "127.0.0.1"
KEEPALIVE_S, KEEPALIVE_TIMEOUT_S = 10.0, 5.0


def a_shared_directory(root: Path, weights: Mapping[str, NDArray[Any]]) -> SharedDirectory:
    """Lay out a directory whose rounds start from these weights."""
    root.mkdir(exist_ok=True)
    initialise_with(root, weights)
    return SharedDirectory(root)


@asynccontextmanager
async def a_coordinator(
    shared_data: Path, *, port: int = 0, settings: CoordinatorSettings | None = None, **limits: Any
) -> AsyncIterator[Coordinator]:
    """Run the real coordinator; sessions and webservers are by these settings."""
    settings = settings or CoordinatorSettings()
    coordinator = Coordinator(
        shared_data, CoordinatorLimits(**limits), settings.plan, settings.push()
    )
    await coordinator.start(HOST, port)
    running = asyncio.create_task(coordinator.driver.run())
    try:
        yield coordinator
    finally:
        await _stop(running)
        await coordinator.stop(grace_s=0.0)


@asynccontextmanager
async def a_selector(
    shared_data: Path, coordinator_port: int, selector_id: str = "north", **limits: Any
) -> AsyncIterator[SelectorServer]:
    """Run the real selector; it need not be attached yet."""
    target = f"{HOST}:{coordinator_port}"
    server = SelectorServer(selector_id, shared_data, target, SelectorLimits(**limits))
    await server.start(HOST, 0)
    running = asyncio.create_task(server.run())
    try:
        yield server
    finally:
        await _stop(running)
        await server.stop(grace_s=0.0)


async def _stop(task: asyncio.Task[None]) -> None:
    """Cancel; a server that failed by itself fails the test."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class Attachment:
    """One selector's stream at a scripted coordinator."""

    def __init__(self, hello: pb.Hello, context: Any) -> None:
        self.hello = hello
        self.ended = asyncio.Event()
        self._context = context
        self._writing = asyncio.Lock()  # gRPC takes one message of a stream at a time
        self._events: asyncio.Queue[pb.SelectorEvent] = asyncio.Queue()

    async def send(self, **command: Any) -> None:
        """Send one command, named as in the contract."""
        async with self._writing:
            await self._context.write(pb.CoordinatorCommand(**command))

    def heard(self, event: pb.SelectorEvent) -> None:
        """Keep an event for the test."""
        self._events.put_nowait(event)

    async def next(self, kind: str) -> Any:
        """Return the next event, which must be of this kind."""
        event = await within(self._events.get())
        assert event.WhichOneof("event") == kind, event
        return getattr(event, kind)

    async def after(self, kind: str) -> Any:
        """Return the next event of this kind; those before it are passed over."""
        while (event := await within(self._events.get())).WhichOneof("event") != kind:
            pass
        return getattr(event, kind)


class ScriptedCoordinator(coordination_pb2_grpc.CoordinationServicer):
    """Welcomes selectors, and leaves all else to the test.

    Args:
        return_s: As in the welcome.

    Attributes:
        answers_heartbeats: Whether it is heard.
        first_command: Said instead of a welcome, if any.
        attachments: Each stream that a selector opened.
    """

    def __init__(self, return_s: float = 30.0) -> None:
        self.answers_heartbeats = True
        self.first_command: pb.CoordinatorCommand | None = None
        self.attachments: asyncio.Queue[Attachment] = asyncio.Queue()
        self._return_s = return_s
        self._server: grpc.aio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Serve; return the port."""
        self._server = create_server(KEEPALIVE_S, KEEPALIVE_TIMEOUT_S)
        coordination_pb2_grpc.add_CoordinationServicer_to_server(self, self._server)
        bound = bind(self._server, HOST, port)
        await self._server.start()
        return bound

    async def stop(self) -> None:
        """Be gone, as after a crash."""
        if self._server is not None:
            await self._server.stop(0.0)

    async def attachment(self) -> Attachment:
        """Return the next stream that a selector opens."""
        return await within(self.attachments.get())

    async def Attach(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.SelectorEvent], context: Any
    ) -> None:
        """Serve one stream until it or the test ends it."""
        events = aiter(request_iterator)
        attachment = Attachment((await anext(events)).hello, context)
        welcome = pb.Welcome(
            protocol_version=plan_pb2.PROTOCOL_VERSION_1,
            return_s=self._return_s,
            heartbeat_s=self._return_s / 10,
        )
        first = self.first_command
        if first is not None:
            await context.write(first)
            await attachment.ended.wait()
        await attachment.send(welcome=welcome)
        self.attachments.put_nowait(attachment)
        reading = asyncio.create_task(self._read(attachment, events))
        try:
            await attachment.ended.wait()
        finally:
            await _stop(reading)

    async def _read(self, attachment: Attachment, events: AsyncIterator[pb.SelectorEvent]) -> None:
        async for event in events:
            if event.WhichOneof("event") != "heartbeat":
                attachment.heard(event)
            elif self.answers_heartbeats:
                answer = pb.HeartbeatAnswer(sequence=event.heartbeat.sequence)
                await attachment.send(heartbeat_answer=answer)
        attachment.ended.set()


@asynccontextmanager
async def a_scripted_coordinator(
    return_s: float = 30.0,
) -> AsyncIterator[tuple[ScriptedCoordinator, int]]:
    """Run a coordinator that does as it is told, and say at which port."""
    coordinator = ScriptedCoordinator(return_s)
    port = await coordinator.start()
    try:
        yield coordinator, port
    finally:
        await coordinator.stop()


def an_order(
    *client_ids: str, base_digest: str, round_number: int = 1, **changes: Any
) -> pb.ConfigureRound:
    """What a coordinator orders for a round."""
    values: dict[str, Any] = {
        "round_id": f"round-{round_number}",
        "round_number": round_number,
        "session_id": "this-session",
        "client_ids": client_ids,
        "hyperparameters": plan_pb2.Hyperparameters(epochs=1, batch_size=8, learning_rate=0.5),
        "weighting": plan_pb2.WEIGHTING_EXAMPLES,
        "screening_limits": wire.limits_to_wire(1000, None),
        "base_digest": base_digest,
        "deadline_s": 60.0,
        "grace_s": 10.0,
        "retry_window": wire.retry_window_to_wire(RetryWindow(1.5, 2.5)),
    }
    return pb.ConfigureRound(**(values | changes))
