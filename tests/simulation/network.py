"""A network without sockets: who answers where, and what happens to the ways in between.

A link between two names can be cut, be silent for a while, be found dead by its two ends at
different times, or lose single calls before or after they were handled.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from tests.simulation.loop import NOBODY, Process, VirtualLoop

if TYPE_CHECKING:
    from tests.simulation.calls import Call

KEEPALIVE_S = 15.0
"""After so long a silent link is found dead: interval and time-out of the defaults."""

DELAY_S = (0.0005, 0.02)
"""Seconds on the way, drawn evenly; seldom ten times as long."""


def unavailable(why: str) -> grpc.aio.AioRpcError:
    """Return what a call fails with whose other end is not reached."""
    empty = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, details=why)


@dataclass
class Link:
    """The way between two names, in both directions.

    Attributes:
        silent_until_s: Nothing arrives before.
        flaky_until_s: Until then single calls get lost.
        calls: Those under way.
    """

    silent_until_s: float = 0.0
    flaky_until_s: float = 0.0
    calls: dict[Call, None] = field(default_factory=dict)


class Network:
    """All names that processes answer at, and the links between them.

    Attributes:
        watch: Told of each message that a server sends, as it leaves: the call, the message.
    """

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        self.loop = loop
        self.rng = rng
        self.watch: Callable[[Call, Any], None] = lambda call, message: None
        self._servers: dict[str, tuple[Process, dict[str, Any]]] = {}
        self._links: dict[tuple[str, str], Link] = {}

    def serve(self, name: str, process: Process, add: Callable[[Any], None]) -> None:
        """Let a process answer at a name; ``add`` registers its services."""
        server = _Server()
        add(server)
        self._servers[name] = (process, server.handlers)

    def server_at(self, name: str) -> tuple[Process, dict[str, Any]] | None:
        """Return who answers there, if anybody does."""
        found = self._servers.get(name)
        return found if found is not None and found[0].is_alive else None

    def link(self, one: str, other: str) -> Link:
        """Return the way between two names."""
        return self._links.setdefault((min(one, other), max(one, other)), Link())

    def delay_s(self) -> float:
        """Draw how long a message is on its way."""
        delay_s = self.rng.uniform(*DELAY_S)
        return delay_s * 10 if self.rng.random() < 0.02 else delay_s

    def cut(self, one: str, other: str, notice_s: float) -> None:
        """Break all calls; each end finds out within ``notice_s``."""
        for call in list(self.link(one, other).calls):
            call.cut(self.rng.uniform(0, notice_s), self.rng.uniform(0, notice_s))

    def silence(self, one: str, other: str, seconds: float) -> None:
        """Let nothing through for so long; what lasts longer than keepalive is a cut."""
        link = self.link(one, other)
        link.silent_until_s = max(link.silent_until_s, self.loop.time() + seconds)
        if seconds > KEEPALIVE_S:
            for call in list(link.calls):
                call.cut(self.rng.uniform(5, KEEPALIVE_S), self.rng.uniform(5, KEEPALIVE_S))

    def make_flaky(self, one: str, other: str, seconds: float) -> None:
        """Lose single calls for so long."""
        self.link(one, other).flaky_until_s = self.loop.time() + seconds

    def heal(self) -> None:
        """Let everything through from now on."""
        for link in self._links.values():
            link.silent_until_s = min(link.silent_until_s, self.loop.time())
            link.flaky_until_s = 0.0

    def gone(self, process: Process) -> None:
        """A process died: the other ends find out, mostly at once."""
        late_s = KEEPALIVE_S if self.rng.random() < 0.2 else 0.05
        for ends, link in list(self._links.items()):
            if process.name in ends:
                for call in list(link.calls):
                    if process in (call.client, call.server):
                        call.cut(self.rng.uniform(0, late_s), self.rng.uniform(0, late_s))


class _Server:
    """Takes the registrations of generated code."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The registered methods say the same."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self.handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


class Pipe:
    """What arrived at one end of a call, in order, and then how it ended."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._error: BaseException | None = None
        self.has_ended = False
        self._waiter: asyncio.Future[None] | None = None

    def put(self, item: Any) -> None:
        """Something arrived."""
        if not self.has_ended:
            self._items.append(item)
            self._wake()

    def end(self, error: BaseException | None = None, *, at_once: bool = False) -> None:
        """Nothing more arrives; ``at_once``: what was not taken yet is lost."""
        if not self.has_ended:
            if at_once:
                self._items.clear()
            self._error, self.has_ended = error, True
            self._wake()

    async def get(self) -> Any:
        """Return the next item, or ``EOF``; raises how it ended."""
        while not self._items and not self.has_ended:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._items:
            return self._items.popleft()
        if self._error is not None:
            raise self._error
        return grpc.aio.EOF

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Lane:
    """One direction of one call: what is sent arrives in order, later, or never."""

    def __init__(self, network: Network, link: Link) -> None:
        self._network = network
        self._link = link
        self._on_the_way: deque[tuple[float, Callable[[], None]]] = deque()
        self.is_cut = False

    def carry(self, deliver: Callable[[], None]) -> None:
        """Deliver after a while."""
        now_s = self._network.loop.time()
        self._on_the_way.append((now_s + self._network.delay_s(), deliver))
        if len(self._on_the_way) == 1:
            self._await_next()

    def _await_next(self) -> None:
        arrival_s = max(self._on_the_way[0][0], self._link.silent_until_s)
        self._network.loop.call_at(arrival_s, self._arrive, context=NOBODY)

    def _arrive(self) -> None:
        if self.is_cut:
            return
        if self._network.loop.time() >= self._link.silent_until_s:
            _, deliver = self._on_the_way.popleft()
            deliver()
        if self._on_the_way:
            self._await_next()
