"""Asking a coordinator: its status, once or for as long as it changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import grpc.aio

from federation.errors import PeerError
from federation.runtime.rpc import create_channel, reason_of
from federation.v1 import control_pb2 as pb
from federation.v1 import control_pb2_grpc

ANSWER_TIMEOUT_S = 10.0
"""A coordinator that has not answered by then is not there."""

KEEPALIVE_S, KEEPALIVE_TIMEOUT_S = 10.0, 5.0


def _unreachable(target: str, error: grpc.aio.AioRpcError) -> PeerError:
    return PeerError(
        f"no coordinator answers at {target}: {error.details()}; is it running, and is "
        "--coordinator right?",
        reason=reason_of(error),
    )


async def get_status(target: str) -> pb.Status:
    """Return the status of the coordinator at HOST:PORT.

    Raises:
        PeerError: There is no answer.
    """
    async with create_channel(target, KEEPALIVE_S, KEEPALIVE_TIMEOUT_S) as channel:
        stub = control_pb2_grpc.ControlStub(channel)
        try:
            return await stub.GetStatus(pb.GetStatusRequest(), timeout=ANSWER_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise _unreachable(target, error) from None


async def watch_status(target: str) -> AsyncGenerator[pb.Status, None]:
    """Yield the status now and after each change, until the coordinator ends.

    Raises:
        PeerError: There is no answer, or the stream broke.
    """
    async with create_channel(target, KEEPALIVE_S, KEEPALIVE_TIMEOUT_S) as channel:
        stub = control_pb2_grpc.ControlStub(channel)
        try:
            async for status in stub.WatchStatus(pb.WatchStatusRequest()):
                yield status
        except grpc.aio.AioRpcError as error:
            raise _unreachable(target, error) from None
