"""The selector's one stream to the coordinator: dialled, kept, and dialled again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Any

import grpc.aio

from federation.errors import FederationError, PeerError
from federation.runtime import wire
from federation.runtime.rpc import create_channel
from federation.runtime.tasks import until_first
from federation.runtime.telemetry import get_logger
from federation.runtime.version import VERSION
from federation.v1 import coordination_pb2 as pb
from federation.v1 import coordination_pb2_grpc
from selector.selector import Selector

log = get_logger()

EVENTS_MAX = 100_000
"""Events that may wait for the coordinator; a stream that is so far behind is ended."""

COMMANDS_MAX = 50_000
"""Commands that may wait to be obeyed; the stream waits beyond it."""

WELCOME_TIMEOUT_S = 10.0
"""A coordinator that has not answered hello by then is dialled anew."""

MARK_TIMEOUT_S = 2.0
"""A directory that has not shown its mark by then shows none."""

GOODBYE_TIMEOUT_S = 1.0
"""A goodbye that is not sent by then is left unsaid."""

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.1, 2.0
"""Pause before dialling again: doubles up to the largest, drawn evenly from half of it up."""

BATCH_BYTES_MAX = 1 << 20
"""Events are merged into one message up to this size, far from gRPC's limit of 4 MiB."""

_MERGEABLE = frozenset(
    {"clients_checked_in", "clients_left", "clients_configured", "reports_folded"}
)

_STREAM_FAILURES = (
    grpc.aio.AioRpcError,
    grpc.aio.UsageError,
    asyncio.InvalidStateError,
    TimeoutError,
    PeerError,
)
"""What a broken or refused stream raises; InvalidStateError is a write after its end."""


class Superseded(FederationError):
    """Another process serves under this selector id."""

    reason = "superseded"


class Uplink:
    """Keeps a selector attached to its coordinator.

    Args:
        selector: Whose events and commands these are.
        target: HOST:PORT of the coordinator.
        keepalive_s: A silent connection is pinged after so long.
        keepalive_timeout_s: A connection whose ping is unanswered for so long is closed.
        see_mark: Reads the mark of the shared directory, which the coordinator is told; blocks.
        draw: Draws a pause in seconds between two bounds.

    Attributes:
        attached: Set while the coordinator knows this selector.
        detached: Set while it does not, after it did or was tried.
    """

    def __init__(
        self,
        selector: Selector,
        target: str,
        keepalive_s: float,
        keepalive_timeout_s: float,
        *,
        see_mark: Callable[[], str] | None = None,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._selector = selector
        self._target = target
        self._draw = draw
        self._see_mark = see_mark
        self._keepalive = (keepalive_s, keepalive_timeout_s)
        self._events: asyncio.Queue[pb.SelectorEvent] | None = None
        self._commands: asyncio.Queue[pb.CoordinatorCommand] = asyncio.Queue(COMMANDS_MAX)
        self._heard_s = float("-inf")
        self._return_s = 0.0
        self._epoch = 0
        self._heartbeats: dict[int, float] = {}
        self.attached = asyncio.Event()
        self.detached = asyncio.Event()
        self._sent = asyncio.Event()
        self._last: pb.SelectorEvent | None = None
        selector.tell = self.tell
        selector.is_attached = self.is_heard

    def tell(self, event: pb.SelectorEvent) -> None:
        """Queue an event; without a stream it is left to the next hello."""
        if self._events is None:
            return
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            log.error("coordinator too far behind", events=EVENTS_MAX)
            self._events = None

    def is_heard(self) -> bool:
        """Say whether the newest answered heartbeat is young enough to act on."""
        return time.monotonic() - self._heard_s <= self._return_s / 2

    async def say_last(self, event: pb.SelectorEvent) -> None:
        """Tell the coordinator, if it is there, something before this process ends."""
        if self._events is not None:
            self._sent.clear()
            self._last = event
            self.tell(event)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                    await self._sent.wait()

    async def run(self) -> None:
        """Attach, and attach again, until cancelled.

        Raises:
            Superseded: Another process serves under this id.
        """
        await until_first(self._keep_attached(), self._obey())

    async def _keep_attached(self) -> None:
        backoff_s = BACKOFF_MIN_S
        while True:
            began_s = time.monotonic()
            try:
                await self._attach()
            except _STREAM_FAILURES as error:
                log.warning("coordinator not reached", target=self._target, why=_why(error))
            finally:
                self._events = None
                self._selector.sessions.lose()
                self.attached.clear()
                self.detached.set()
            if time.monotonic() - began_s > BACKOFF_MAX_S:
                backoff_s = BACKOFF_MIN_S
            await asyncio.sleep(self._draw(backoff_s / 2, backoff_s))
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    async def _attach(self) -> None:
        """Serve one stream to its end."""
        async with create_channel(self._target, *self._keepalive) as channel:
            call = coordination_pb2_grpc.CoordinationStub(channel).Attach()
            events: asyncio.Queue[pb.SelectorEvent] = asyncio.Queue(EVENTS_MAX)
            while not self._commands.empty():
                # What was not obeyed is asked again, by the answer to the hello.
                self._commands.get_nowait()
            mark = await self._mark()
            hello, *more = self._selector.hello()
            hello.hello.version = VERSION
            hello.hello.directory_mark = mark
            for event in more:
                events.put_nowait(event)
            self._events = events
            asked_s = time.monotonic()
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                await call.write(hello)
                welcome = await self._welcome(call)
            heartbeat_s = wire.seconds_from_wire(welcome.heartbeat_s)
            self._return_s = wire.seconds_from_wire(welcome.return_s)
            self._heard_s = asked_s
            self._heartbeats.clear()
            self.detached.clear()
            self.attached.set()
            log.info("attached", coordinator=self._target)
            await until_first(self._read(call), self._send(call, events), self._beat(heartbeat_s))

    async def _mark(self) -> str:
        """Look at the shared directory; one that hangs delays the hello, and no more."""
        if self._see_mark is None:
            return ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MARK_TIMEOUT_S):
                return await asyncio.to_thread(self._see_mark)
        return ""

    async def _welcome(self, call: Any) -> pb.Welcome:
        first: Any = await call.read()
        if first is grpc.aio.EOF:
            raise PeerError("the coordinator ended the stream", reason="no-welcome")
        kind = first.WhichOneof("command")
        if kind == "superseded":
            raise Superseded("another process serves under this selector id")
        if kind != "welcome":
            raise PeerError("a coordinator's stream begins with welcome", reason="no-welcome")
        wire.require_protocol(first.welcome.protocol_version)
        welcome: pb.Welcome = first.welcome
        if welcome.epoch < self._epoch:
            raise PeerError(
                f"the coordinator at {self._target} is of epoch {welcome.epoch}, and one of epoch "
                f"{self._epoch} was heard before: it is out of office, or its directory was laid "
                "out anew, and then this selector is to be restarted",
                reason="coordinator-superseded",
            )
        self._epoch = welcome.epoch
        if welcome.token_key:
            self._selector.use_token_key(welcome.token_key)
        return welcome

    async def _read(self, call: Any) -> None:
        while (command := await call.read()) is not grpc.aio.EOF:
            match command.WhichOneof("command"):
                case "heartbeat_answer":
                    sent_s = self._heartbeats.pop(command.heartbeat_answer.sequence, None)
                    if sent_s is not None:
                        self._heard_s = max(self._heard_s, sent_s)
                case "superseded":
                    raise Superseded("another process serves under this selector id")
                case _:
                    await self._commands.put(command)

    async def _obey(self) -> None:
        """One command after the other, also while the stream is down."""
        while True:
            command = await self._commands.get()
            try:
                if command.WhichOneof("command") == "configure_round":
                    # It may wait for its checkpoint, and is asked again if it is still wanted.
                    await until_first(self._selector.obey(command), self._cut())
                else:
                    await self._selector.obey(command)
            except FederationError as error:
                log.error("command failed", reason=error.reason, detail=error.detail)

    async def _cut(self) -> None:
        await self.detached.wait()

    async def _send(self, call: Any, events: asyncio.Queue[pb.SelectorEvent]) -> None:
        while True:
            event = await events.get()
            if self._events is not events:
                raise PeerError("too many events wait for the coordinator", reason="behind")
            held_over: pb.SelectorEvent | None = event
            while held_over is not None:
                batch, held_over = _batched(held_over, events)
                await call.write(batch)
                if batch is self._last:
                    self._sent.set()

    async def _beat(self, interval_s: float) -> None:
        sequence = 0
        while True:
            sequence += 1
            now_s = time.monotonic()
            if now_s - self._heard_s > self._return_s:
                raise TimeoutError("no heartbeat was answered")
            self._heartbeats[sequence] = now_s
            self.tell(pb.SelectorEvent(heartbeat=pb.Heartbeat(sequence=sequence)))
            await asyncio.sleep(interval_s)


def _batched(
    event: pb.SelectorEvent, events: asyncio.Queue[pb.SelectorEvent]
) -> tuple[pb.SelectorEvent, pb.SelectorEvent | None]:
    """Merge queued events of the same kind and round into this one; return what did not fit."""
    kind = event.WhichOneof("event")
    size = event.ByteSize()
    while kind in _MERGEABLE and not events.empty():
        following = events.get_nowait()
        size += following.ByteSize()
        other = following.WhichOneof("event") != kind or _round_of(following) != _round_of(event)
        if other or size > BATCH_BYTES_MAX:
            return event, following
        event.MergeFrom(following)
    return event, None


def _round_of(event: pb.SelectorEvent) -> str:
    return str(getattr(getattr(event, event.WhichOneof("event") or ""), "round_id", ""))


def _why(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
