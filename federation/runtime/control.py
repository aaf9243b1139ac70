"""Asking a coordinator: for its status and its rounds, and for sessions to start and stop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc.aio

from federation.errors import PeerError
from federation.runtime import wire
from federation.runtime.rpc import create_channel, reason_of, refusal_of
from federation.v1 import control_pb2 as pb
from federation.v1 import control_pb2_grpc

ANSWER_TIMEOUT_S = 10.0
"""A coordinator that has not answered by then is not there."""

KEEPALIVE_S, KEEPALIVE_TIMEOUT_S = 10.0, 5.0

T = TypeVar("T")


def _failed(target: str, error: grpc.aio.AioRpcError) -> PeerError:
    """Say why the coordinator refused, or that none is there."""
    reason = refusal_of(error)
    if reason is not None:
        return PeerError(str(error.details()), reason=reason)
    return PeerError(
        f"no coordinator answers at {target}: {error.details()}; is it running, and is "
        "--coordinator right?",
        reason=reason_of(error),
    )


async def _ask(target: str, call: Callable[[control_pb2_grpc.ControlAsyncStub], Awaitable[T]]) -> T:
    async with create_channel(target, KEEPALIVE_S, KEEPALIVE_TIMEOUT_S) as channel:
        try:
            return await call(control_pb2_grpc.ControlStub(channel))
        except grpc.aio.AioRpcError as error:
            raise _failed(target, error) from None


async def get_status(target: str) -> pb.Status:
    """Return the status of the coordinator at HOST:PORT.

    Raises:
        PeerError: There is no answer.
    """
    request = pb.GetStatusRequest()
    return await _ask(target, lambda stub: stub.GetStatus(request, timeout=ANSWER_TIMEOUT_S))


async def start_session(target: str, rounds: int, plan: Mapping[str, Any]) -> pb.SessionStatus:
    """Start a run of rounds.

    Args:
        target: HOST:PORT of the coordinator.
        rounds: How many.
        plan: What is to be other than the coordinator's settings, by their names.

    Raises:
        PeerError: There is no answer, or it is a refusal: ``session-running``,
            ``impossible-plan``.
    """
    request = wire.session_to_wire(rounds, plan)
    return await _ask(target, lambda stub: stub.StartSession(request, timeout=ANSWER_TIMEOUT_S))


async def stop_session(target: str, *, after_round: bool) -> pb.SessionStatus:
    """End the running session, at once or when its round has completed.

    Raises:
        PeerError: There is no answer, or it is a refusal: ``no-session``.
    """
    request = pb.StopSessionRequest(after_round=after_round)
    return await _ask(target, lambda stub: stub.StopSession(request, timeout=ANSWER_TIMEOUT_S))


async def get_rounds(target: str, from_round: int = 0, limit: int = 0) -> list[pb.RoundRecord]:
    """Return completed rounds, oldest first, as far back as the coordinator remembers.

    Args:
        target: HOST:PORT of the coordinator.
        from_round: The smallest round number.
        limit: The most rounds; 0: all.

    Raises:
        PeerError: There is no answer.
    """

    async def call(stub: control_pb2_grpc.ControlAsyncStub) -> list[pb.RoundRecord]:
        found: list[pb.RoundRecord] = []
        request = pb.GetRoundsRequest(from_round=from_round, limit=limit)
        while True:
            answer = await stub.GetRounds(request, timeout=ANSWER_TIMEOUT_S)
            found += answer.rounds
            left = limit - len(found)
            if not answer.next or (limit and left <= 0):
                return found
            request = pb.GetRoundsRequest(from_round=answer.next, limit=max(left, 0))

    return await _ask(target, call)


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
            raise _failed(target, error) from None
