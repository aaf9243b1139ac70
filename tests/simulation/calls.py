"""gRPC's channels and calls over the simulated network, for generated stubs and real services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from typing import Any, Self

import grpc
import grpc.aio

from federation.runtime.rpc import ErrorBoundary
from federation.v1.participation_pb2 import ReportFrame
from tests.simulation.loop import NOBODY, PROCESS, Process
from tests.simulation.network import KEEPALIVE_S, Lane, Network, Pipe, unavailable


class Call:
    """One call: a lane in each direction, and the task that handles it.

    Attributes:
        client: Who calls.
        server: Who handles it; None if nobody does.
        method: Its full name.
        request: The request of a call that has one only, once it arrived.
        token: Of the claim that it is about, once that arrived.
    """

    def __init__(
        self, network: Network, target: str, method: str, serialize: Any, deserialize: Any
    ) -> None:
        process = PROCESS.get()
        assert process is not None
        self.client: Process = process
        self.server: Process | None = None
        self.method = method
        self.request: Any = None
        self.token = ""
        self._network = network
        self._target = target
        self._serialize, self._deserialize = serialize, deserialize
        self._link = network.link(process.name, target)
        self._up, self._down = Lane(network, self._link), Lane(network, self._link)
        self._to_server, self._to_client = Pipe(), Pipe()
        self._is_over = False
        self._loses_answer = False
        self._handler: Any = None
        self._task: asyncio.Task[Any] | None = None
        self._link.calls[self] = None
        self._open()

    def _open(self) -> None:
        network, link = self._network, self._link
        now_s = network.loop.time()
        fate = network.rng.random() if now_s < link.flaky_until_s else 1.0
        found = network.server_at(self._target)
        if found is None or not self.client.is_alive:
            self.cut(network.rng.uniform(0.001, 0.05), 0.0)
        elif link.silent_until_s - now_s > KEEPALIVE_S:
            self.cut(network.rng.uniform(1.0, KEEPALIVE_S), 0.0)
        elif fate < 0.25:
            self.cut(network.rng.uniform(0.001, 1.0), 0.0)
        else:
            self._loses_answer = fate < 0.5
            self.server, handlers = found
            self._handler = handlers[self.method]
            self._up.carry(self._begin)

    def cut(self, client_notices_s: float, server_notices_s: float) -> None:
        """Nothing arrives any more; each end finds out after so many seconds."""
        if self._up.is_cut:
            return
        self._up.is_cut = self._down.is_cut = True
        self._link.calls.pop(self, None)
        loop = self._network.loop
        lost = unavailable("the connection was lost")
        loop.call_later(client_notices_s, self._break_client, lost, context=NOBODY)
        loop.call_later(server_notices_s, self._break_server, context=NOBODY)

    def _break_client(self, error: Exception) -> None:
        self._to_client.end(error, at_once=True)

    def _break_server(self) -> None:
        self._to_server.end(at_once=True)
        if self._task is not None:
            self._task.cancel()

    # -- The client's end -------------------------------------------------------------------------

    async def write(self, message: Any) -> None:
        """Send a request message."""
        if self._to_client.has_ended or not self.client.is_alive:
            raise asyncio.InvalidStateError("the call has ended")
        if self._handler is not None:
            data, parse = self._serialize(message), self._handler.request_deserializer
            self._up.carry(lambda: self._to_server.put(parse(data)))
        await asyncio.sleep(0)

    async def done_writing(self) -> None:
        """Send no more."""
        self._up.carry(self._to_server.end)

    async def read(self) -> Any:
        """Return the next response message, or ``EOF``."""
        return await self._to_client.get()

    def cancel(self) -> bool:
        """Give the call up."""
        if self._up.is_cut or self._is_over:
            return False
        self._to_client.end(unavailable("cancelled here"), at_once=True)
        self.cut(0.0, self._network.delay_s())
        return True

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    # -- The server's end -------------------------------------------------------------------------

    def _begin(self) -> None:
        assert self.server is not None
        if self.server.is_alive:
            self._task = self.server.spawn(self._serve())

    async def _serve(self) -> None:
        handler = self._handler

        async def continuation(_: Any) -> Any:
            return handler

        details: Any = _Details(self.method)
        bounded: Any = await ErrorBoundary().intercept_service(continuation, details)
        kinds = ("unary", "stream")
        name = f"{kinds[handler.request_streaming]}_{kinds[handler.response_streaming]}"
        status: BaseException | None = None
        try:
            request: Any = self._requests()
            if not handler.request_streaming:
                request = self.request = await self._to_server.get()
                self.token = getattr(request, "session_token", "")
            answer = await getattr(bounded, name)(request, _Context(self))
            if not handler.response_streaming:
                self.respond(answer)
        except _Aborted as aborted:
            status = aborted.status
        except asyncio.CancelledError:
            status = unavailable("the handler was cancelled")
        self._down.carry(lambda: self._finish(status))

    def _finish(self, status: BaseException | None) -> None:
        self._is_over = True
        self._link.calls.pop(self, None)
        self._to_client.end(status)
        self._to_server.end()

    async def _requests(self) -> AsyncIterator[Any]:
        while (message := await self._to_server.get()) is not grpc.aio.EOF:
            if isinstance(message, ReportFrame) and message.HasField("start"):
                self.token = message.start.session_token
            yield message

    def respond(self, message: Any) -> None:
        """Send a response message."""
        assert self.server is not None
        if not self.server.is_alive:
            return
        self._network.watch(self, message)
        if self._loses_answer and not self._handler.response_streaming:
            rng = self._network.rng
            self.cut(rng.uniform(0.01, 1.0), rng.uniform(0.01, 1.0))
        data, parse = self._handler.response_serializer(message), self._deserialize
        self._down.carry(lambda: self._to_client.put(parse(data)))


@dataclass(frozen=True)
class _Details:
    method: str


class _Context:
    """What a handler has of its call."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def write(self, message: Any) -> None:
        """Send a response message."""
        self._call.respond(message)
        await asyncio.sleep(0)

    async def abort(self, code: Any, details: str, trailing_metadata: Any = ()) -> None:
        """End the call with an error."""
        metadata = grpc.aio.Metadata(*trailing_metadata)
        raise _Aborted(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details=details))


class _Aborted(grpc.aio.AbortError):
    def __init__(self, status: grpc.aio.AioRpcError) -> None:
        super().__init__()
        self.status = status


class _Answer:
    """A call with one answer, to be awaited."""

    def __init__(self, call: Call, requests: Any, timeout_s: float | None) -> None:
        self._call = call
        self._requests = requests
        self._timeout_s = timeout_s

    def __await__(self) -> Generator[Any, None, Any]:
        return self._exchange().__await__()

    async def _exchange(self) -> Any:
        call = self._call
        feeding = asyncio.ensure_future(self._feed())
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await call.read()
        except TimeoutError:
            raise unavailable("deadline exceeded") from None
        finally:
            feeding.cancel()
            call.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        return answer

    async def _feed(self) -> None:
        async for message in self._requests:
            await self._call.write(message)
        await self._call.done_writing()


async def _only(message: Any) -> AsyncIterator[Any]:
    yield message


class Channel:
    """Makes calls to a target: what generated stubs ask for."""

    def __init__(self, network: Network, target: str) -> None:
        self._network = network
        self._target = target
        self._calls: list[Call] = []

    def _call(self, method: str, serialize: Any, deserialize: Any) -> Call:
        call = Call(self._network, self._target, method, serialize, deserialize)
        self._calls = [c for c in self._calls if not c._is_over and not c._up.is_cut]
        self._calls.append(call)
        return call

    def stream_stream(
        self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any
    ) -> Callable[[], Call]:
        return lambda: self._call(method, request_serializer, response_deserializer)

    def unary_stream(
        self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any
    ) -> Callable[[Any], Call]:
        def begin(request: Any) -> Call:
            call = self._call(method, request_serializer, response_deserializer)
            if call._handler is not None:
                data, parse = request_serializer(request), call._handler.request_deserializer
                call._up.carry(lambda: call._to_server.put(parse(data)))
            return call

        return begin

    def unary_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any
    ) -> Callable[..., _Answer]:
        def begin(request: Any, timeout: float | None = None) -> _Answer:
            call = self._call(method, request_serializer, response_deserializer)
            return _Answer(call, _only(request), timeout)

        return begin

    def stream_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any
    ) -> Callable[..., _Answer]:
        def begin(requests: Any, timeout: float | None = None) -> _Answer:
            call = self._call(method, request_serializer, response_deserializer)
            return _Answer(call, requests, timeout)

        return begin

    async def close(self) -> None:
        """Give up the calls under way."""
        for call in self._calls:
            call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
