"""gRPC as every role uses it: measured options, servers, channels and the error boundary."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from federation.errors import (
    FederationError,
    PeerError,
    SettingsError,
    StoreError,
    TransferError,
    UpdateRejected,
)
from federation.runtime.metrics import count_refused
from federation.runtime.telemetry import get_logger

log = get_logger()

PENDING_REQUESTS_MAX = 100_000
"""Streams that wait for a handler; gRPC's default cancels a burst of about 1,000 check-ins."""

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_LIBRARY_SERVICES = ("/grpc.health.", "/grpc.reflection.")

CONNECT_TIMEOUT_MS = 5000
"""A connection that is not made by then is tried anew: gRPC means this by its least backoff, and
at 200 a busy machine or a far one was never reached."""

INTERNAL_ERROR = "internal-error"
"""The reason word of a bug: nothing more of it is shown to a peer."""

REASON_KEY = "headwater-reason"
"""Trailing metadata that carries an error's reason word."""

STATUS_OF_ERROR: dict[type[FederationError], grpc.StatusCode] = {
    TransferError: grpc.StatusCode.DATA_LOSS,
    UpdateRejected: grpc.StatusCode.INVALID_ARGUMENT,
    PeerError: grpc.StatusCode.INVALID_ARGUMENT,
    StoreError: grpc.StatusCode.UNAVAILABLE,
    SettingsError: grpc.StatusCode.FAILED_PRECONDITION,
    FederationError: grpc.StatusCode.UNKNOWN,
}
"""What a peer sees of each error class; the first class of its tree that is listed."""

OPERATOR_SERVICES = ("/federation.v1.Control/",)
"""Whoever calls these is the operator, and so may read which setting is wrong."""

STATUS_OF_REASON: dict[str, grpc.StatusCode] = {
    "impossible-plan": grpc.StatusCode.INVALID_ARGUMENT,
    "session-running": grpc.StatusCode.FAILED_PRECONDITION,
    "no-session": grpc.StatusCode.FAILED_PRECONDITION,
    "unknown-token": grpc.StatusCode.UNAUTHENTICATED,
    "claim-not-here": grpc.StatusCode.UNAUTHENTICATED,
    "foreign-token": grpc.StatusCode.PERMISSION_DENIED,
    "unknown-artifact": grpc.StatusCode.NOT_FOUND,
    "protocol-mismatch": grpc.StatusCode.FAILED_PRECONDITION,
    "not-attached": grpc.StatusCode.UNAVAILABLE,
    "draining": grpc.StatusCode.UNAVAILABLE,
    "full": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "no-permission": grpc.StatusCode.ABORTED,
}
"""Reasons with a status of their own."""


def _keepalive(interval_s: float, timeout_s: float) -> list[tuple[str, int]]:
    return [
        ("grpc.keepalive_time_ms", int(interval_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(timeout_s * 1000)),
        ("grpc.http2.ping_timeout_ms", int(timeout_s * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        # These pings go out amid the data, and a slow link was given up by their time-out.
        ("grpc.http2.bdp_probe", 0),
    ]


def _least_ping_ms(keepalive_s: float) -> int:
    """Peers that ping more often are sent away; half of our own interval leaves them room."""
    return min(5000, int(keepalive_s * 500))


def create_server(keepalive_s: float, keepalive_timeout_s: float) -> grpc.aio.Server:
    """Make a server that finds dead peers and never shows its insides.

    Args:
        keepalive_s: A silent connection is pinged after so long.
        keepalive_timeout_s: A connection whose ping is unanswered for so long is closed.
    """
    options = [
        *_keepalive(keepalive_s, keepalive_timeout_s),
        ("grpc.http2.min_ping_interval_without_data_ms", _least_ping_ms(keepalive_s)),
        ("grpc.so_reuseport", 0),
        ("grpc.server.max_pending_requests", PENDING_REQUESTS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", PENDING_REQUESTS_MAX),
    ]
    return grpc.aio.server(interceptors=[ErrorBoundary()], options=options)


def create_channel(target: str, keepalive_s: float, keepalive_timeout_s: float) -> grpc.aio.Channel:
    """Open a channel of its own that reconnects within a second.

    Args:
        target: HOST:PORT.
        keepalive_s: A silent connection is pinged after so long.
        keepalive_timeout_s: A connection whose ping is unanswered for so long is closed.
    """
    options = [
        *_keepalive(keepalive_s, keepalive_timeout_s),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
    ]
    return grpc.aio.insecure_channel(target, options=options)


def bind(server: grpc.aio.Server, host: str, port: int) -> int:
    """Bind the server and return its port.

    Raises:
        SettingsError: The address is in use or not this machine's.
    """
    address = f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise SettingsError(
            "port",
            f"{host}:{port}",
            "another process uses it, or the host is not an address of this machine; "
            "give another --port, or 0 for a free one",
            reason="port-in-use",
        )
    return bound


async def add_health(server: grpc.aio.Server, services: Sequence[str]) -> health.aio.HealthServicer:
    """Add grpc.health.v1 and reflection; everything is NOT_SERVING until it is set."""
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server)
    await set_serving(servicer, services, serving=False)
    return servicer


async def set_serving(
    servicer: health.aio.HealthServicer, services: Sequence[str], *, serving: bool
) -> None:
    """Tell the truth about readiness, for the process and each of its services."""
    response = health_pb2.HealthCheckResponse
    status = response.SERVING if serving else response.NOT_SERVING
    for service in ("", *services):
        await servicer.set(service, status)


def status_of(error: FederationError) -> grpc.StatusCode:
    """Return the gRPC status that a peer sees of this error."""
    if error.reason in STATUS_OF_REASON:
        return STATUS_OF_REASON[error.reason]
    return next(STATUS_OF_ERROR[cls] for cls in type(error).__mro__ if cls in STATUS_OF_ERROR)


def public_text(error: FederationError, *, to_operator: bool = False) -> str:
    """Return what the caller may read of this error: its own mistakes in full, ours as a word.

    A wrong setting is the operator's mistake, and nothing that other callers should read.
    """
    own = isinstance(error, (PeerError, SettingsError) if to_operator else PeerError)
    return error.detail if own else f"not possible now: {error.reason}"


def refusal_of(error: grpc.aio.AioRpcError) -> str | None:
    """Return the reason word that came with a failed call; None if the call was not answered."""
    for key, value in error.trailing_metadata() or ():
        if key == REASON_KEY:
            return str(value)
    return None


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the reason word that came with a failed call, else its status in lower case."""
    return refusal_of(error) or str(error.code().name).lower().replace("_", "-")


class ErrorBoundary(grpc.aio.ServerInterceptor):
    """Turns our errors into a status with a public text, and everything else into INTERNAL.

    Each is counted by service and reason.

    Handlers of streams are coroutines that use ``context.write``, so one boundary fits all kinds.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the handler of this method."""
        handler = await continuation(handler_call_details)
        if handler is None or str(handler_call_details.method).startswith(_LIBRARY_SERVICES):
            return handler
        kind = (handler.request_streaming, handler.response_streaming)
        inner, make = {
            (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
            (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
            (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
            (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
        }[kind]
        wrapped: _Handler = make(
            _bounded(inner, str(handler_call_details.method)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped


def _bounded(inner: Any, method: str) -> Callable[[Any, Any], Awaitable[Any]]:
    async def call(request: Any, context: Any) -> Any:
        try:
            return await inner(request, context)
        except Exception as error:  # noqa: BLE001 - the boundary: no exception goes beyond it
            await _abort(context, error, method)

    return call


async def _abort(context: Any, error: Exception, method: str) -> None:
    """End the call; an exception that is not ours is a bug, seen in the log only."""
    if isinstance(error, grpc.aio.BaseError):  # the call has ended, e.g. since the peer is gone
        raise error
    if isinstance(error, FederationError):
        count_refused(method, error.reason)
        log.info("call refused", method=method, reason=error.reason, detail=error.detail)
        metadata = ((REASON_KEY, error.reason),)
        text = public_text(error, to_operator=method.startswith(OPERATOR_SERVICES))
        await context.abort(status_of(error), text, trailing_metadata=metadata)
    count_refused(method, INTERNAL_ERROR)
    log.error("call failed", method=method, exc_info=error)
    metadata = ((REASON_KEY, INTERNAL_ERROR),)
    await context.abort(grpc.StatusCode.INTERNAL, "internal error", trailing_metadata=metadata)
