"""Servers, channels and the boundary at which no inside is shown."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import pkgutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import client
import coordinator
import federation
import headwater
import selector
from federation.errors import (
    FederationError,
    PeerError,
    SettingsError,
    StoreError,
    TransferError,
    UpdateRejected,
)
from federation.runtime import rpc
from tests.waiting import eventually, within

HOST = "127.0.0.1"
SERVICE = "headwater.test.Service"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
SECRET = "/srv/secret/model.h5"

Raise = Callable[[], Exception | None]


async def answer(context: Any, kind: str, error: Exception | None) -> bytes | None:
    """Write something on a stream of answers, then fail, if that is wanted."""
    if kind.endswith("stream"):
        await context.write(b"first")
    if error is not None:
        raise error
    return None if kind.endswith("stream") else b"first"


def a_service(errors: dict[str, Exception | None]) -> grpc.GenericRpcHandler:
    """A service with a method of each kind, which raises what the test put there."""

    def a_method(kind: str) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def handle(_: Any, context: Any) -> bytes | None:
            return await answer(context, kind, errors.get(kind))

        make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
        handler: grpc.RpcMethodHandler[bytes, bytes] = make(handle)
        return handler

    return grpc.method_handlers_generic_handler(SERVICE, {kind: a_method(kind) for kind in KINDS})


@asynccontextmanager
async def a_server(
    errors: dict[str, Exception | None], port: int = 0
) -> AsyncIterator[tuple[grpc.aio.Channel, int]]:
    """Serve it as our roles do, and open a channel to it."""
    server = rpc.create_server(10.0, 5.0)
    server.add_generic_rpc_handlers((a_service(errors),))
    bound = rpc.bind(server, HOST, port)
    await server.start()
    try:
        async with rpc.create_channel(f"{HOST}:{bound}", 10.0, 5.0) as channel:
            yield channel, bound
    finally:
        await server.stop(0.0)


async def call(channel: grpc.aio.Channel, kind: str) -> list[bytes]:
    """Call a method; return all its answers."""

    async def requests() -> AsyncIterator[bytes]:
        yield b"request"

    method: Any = getattr(channel, kind)(f"/{SERVICE}/{kind}")
    sent = method(requests() if kind.startswith("stream") else b"request")
    if kind.endswith("stream"):
        return [response async for response in sent]
    return [await sent]


async def failed(error: Exception, kind: str = "unary_unary") -> grpc.aio.AioRpcError:
    """Return what a peer sees of an error."""
    async with a_server({kind: error}) as (channel, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(channel, kind))
    return caught.value


# -- The boundary -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_call_that_goes_well_passes_the_boundary(kind: str) -> None:
    """Whatever streams there are."""
    async with a_server({}) as (channel, _):
        assert await within(call(channel, kind)) == [b"first"]


@pytest.mark.parametrize("kind", KINDS)
async def test_bug_is_an_internal_error_and_nothing_of_it_is_shown(kind: str) -> None:
    """Neither its text nor its type; the log has both."""
    seen = await failed(RuntimeError(f"cannot read {SECRET}"), kind)

    assert seen.code() is grpc.StatusCode.INTERNAL
    assert seen.details() == "internal error"
    assert rpc.reason_of(seen) == "internal-error"
    assert SECRET not in repr(seen)
    assert "RuntimeError" not in repr(seen)


@pytest.mark.parametrize("kind", KINDS)
async def test_error_of_ours_has_its_status_and_reason(kind: str) -> None:
    """On streams, too."""
    seen = await failed(PeerError("a client id is missing", reason="malformed-client-id"), kind)

    assert seen.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert seen.details() == "a client id is missing"
    assert rpc.reason_of(seen) == "malformed-client-id"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PeerError("said wrong"), grpc.StatusCode.INVALID_ARGUMENT),
        (TransferError("cut short"), grpc.StatusCode.DATA_LOSS),
        (UpdateRejected("not finite"), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_peers_own_mistake_is_told_in_full(
    error: FederationError, status: grpc.StatusCode
) -> None:
    """So that a person on the other side can act on it."""
    seen = await failed(error)

    assert (seen.code(), seen.details()) == (status, error.detail)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreError(f"cannot write {SECRET}", reason="disk-full"), grpc.StatusCode.UNAVAILABLE),
        (
            SettingsError("shared_data", SECRET, "it must exist"),
            grpc.StatusCode.FAILED_PRECONDITION,
        ),
        (FederationError(f"something about {SECRET}"), grpc.StatusCode.UNKNOWN),
    ],
)
async def test_fault_of_this_side_is_told_as_a_word(
    error: FederationError, status: grpc.StatusCode
) -> None:
    """Paths and settings are nobody else's business."""
    seen = await failed(error)

    assert seen.code() is status
    assert seen.details() == f"not possible now: {error.reason}"
    assert SECRET not in repr(seen)


def test_operator_reads_which_setting_is_wrong() -> None:
    """It is their own."""
    error = SettingsError("goal_count", 0, "it must be at least 1")

    assert rpc.public_text(error, to_operator=True) == error.detail
    assert rpc.public_text(error) != error.detail
    assert rpc.public_text(StoreError(SECRET), to_operator=True) != SECRET


@pytest.mark.parametrize("reason", rpc.STATUS_OF_REASON)
def test_reason_with_a_status_of_its_own_has_it_in_whatever_class(reason: str) -> None:
    """The word decides before the class does."""
    expected = rpc.STATUS_OF_REASON[reason]

    assert rpc.status_of(PeerError("", reason=reason)) is expected
    assert rpc.status_of(StoreError("", reason=reason)) is expected


def every_error() -> list[type[FederationError]]:
    """Import all modules that need no extra, and return all classes of our errors."""
    for package in (federation, coordinator, selector, client, headwater):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)

    def below(cls: type[FederationError]) -> Iterator[type[FederationError]]:
        yield cls
        for subclass in cls.__subclasses__():
            yield from below(subclass)

    return list(below(FederationError))


def test_every_class_of_error_has_a_status() -> None:
    """One table; a class that is not in it has that of the class above."""
    for cls in every_error():
        error = cls.__new__(cls)
        error.reason = "no-word-of-its-own"
        assert isinstance(rpc.status_of(error), grpc.StatusCode), cls


def test_call_that_was_never_answered_has_its_status_as_a_reason() -> None:
    """There is no word from the other side."""
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.DEADLINE_EXCEEDED, grpc.aio.Metadata(), grpc.aio.Metadata()
    )

    assert rpc.reason_of(error) == "deadline-exceeded"
    assert rpc.refusal_of(error) is None


async def test_peer_that_goes_away_during_a_write_is_no_bug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is in no log as an error."""
    entered = asyncio.Event()
    ended: list[BaseException] = []

    async def handle(_: Any, context: Any) -> None:
        entered.set()
        with contextlib.suppress(asyncio.CancelledError):  # until the peer is gone
            await asyncio.Event().wait()
        try:
            await context.write(b"to nobody")
        except BaseException as error:
            ended.append(error)
            raise

    server = rpc.create_server(10.0, 5.0)
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(handle)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"unary_stream": method}),)
    )
    port = rpc.bind(server, HOST, 0)
    await server.start()
    async with rpc.create_channel(f"{HOST}:{port}", 10.0, 5.0) as channel:
        stream: Any = channel.unary_stream(f"/{SERVICE}/unary_stream")
        opened = stream(b"request")
        await within(entered.wait())
        opened.cancel()
        await eventually(lambda: ended)
    await server.stop(0.0)

    assert "call failed" not in caplog.text


# -- Ports ------------------------------------------------------------------------------------


async def test_port_that_is_in_use_is_a_wrong_setting() -> None:
    """A second server must not share it in silence."""
    async with a_server({}) as (_, port):
        second = rpc.create_server(10.0, 5.0)

        with pytest.raises(SettingsError) as refused:
            rpc.bind(second, HOST, port)

        await second.stop(0.0)
    assert refused.value.reason == "port-in-use"
    assert refused.value.value == f"{HOST}:{port}"


async def test_host_of_another_machine_is_a_wrong_setting() -> None:
    """192.0.2.0/24 is nobody's."""
    server = rpc.create_server(10.0, 5.0)

    with pytest.raises(SettingsError, match="--port"):
        rpc.bind(server, "192.0.2.1", 0)

    await server.stop(0.0)


async def test_host_may_be_of_ipv6() -> None:
    """Its colons are no port."""
    server = rpc.create_server(10.0, 5.0)
    try:
        port = rpc.bind(server, "::1", 0)
    except SettingsError:
        pytest.skip("this machine has no IPv6")
    finally:
        await server.stop(0.0)

    assert port > 0


async def test_channel_finds_a_server_that_came_back() -> None:
    """Within a second or two, not the 24 of gRPC's defaults."""
    async with a_server({}) as (channel, port):
        await within(call(channel, "unary_unary"))
    async with rpc.create_channel(f"{HOST}:{port}", 10.0, 5.0) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await within(call(channel, "unary_unary"))
        async with a_server({}, port):
            method: Any = channel.unary_unary(f"/{SERVICE}/unary_unary")

            answered = await within(method(b"request", wait_for_ready=True))

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert answered == b"first"


async def test_burst_of_calls_is_not_cut_down() -> None:
    """gRPC's default cancels a part of some thousand calls at once."""
    async with a_server({}) as (channel, _):
        answers = await within(asyncio.gather(*(call(channel, "unary_unary") for _ in range(2000))))

    assert answers == [[b"first"]] * 2000


# -- Health and reflection --------------------------------------------------------------------


@asynccontextmanager
async def a_healthy_server() -> AsyncIterator[tuple[Any, grpc.aio.Channel]]:
    """Serve health and reflection."""
    server = rpc.create_server(10.0, 5.0)
    servicer = await rpc.add_health(server, (SERVICE,))
    port = rpc.bind(server, HOST, 0)
    await server.start()
    async with rpc.create_channel(f"{HOST}:{port}", 10.0, 5.0) as channel:
        yield servicer, channel
    await server.stop(0.0)


async def status(channel: grpc.aio.Channel, service: str) -> int:
    """Ask for readiness."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    response = await within(stub.Check(health_pb2.HealthCheckRequest(service=service)))
    return int(response.status)


async def test_readiness_is_no_until_it_is_yes() -> None:
    """For the process and for each service."""
    response = health_pb2.HealthCheckResponse
    async with a_healthy_server() as (servicer, channel):
        before = [await status(channel, name) for name in ("", SERVICE)]
        await rpc.set_serving(servicer, (SERVICE,), serving=True)
        after = [await status(channel, name) for name in ("", SERVICE)]

        assert before == [response.NOT_SERVING] * 2
        assert after == [response.SERVING] * 2


async def test_readiness_of_an_unknown_service_is_not_found() -> None:
    """The health service's own answer passes the boundary untouched."""
    async with a_healthy_server() as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await status(channel, "nobody.Knows")

    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_services_can_be_listed() -> None:
    """So that tools such as grpcurl work without our files."""
    async with a_healthy_server() as (_, channel):
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stream = stub.ServerReflectionInfo(iter([request]))
        response = await within(stream.read())

        listed = {service.name for service in response.list_services_response.service}
        assert {SERVICE, "grpc.health.v1.Health"} <= listed
