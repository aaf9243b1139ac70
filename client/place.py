"""Where a client sits in a round: calls go to the selector of the moment until they work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio

from client.artifacts import Source
from client.selectors import BACKOFF_MAX_S, BACKOFF_MIN_S
from federation.chunking import ChunkLimit
from federation.errors import PeerError, TransferError
from federation.runtime.frames import Piece
from federation.runtime.rpc import reason_of
from federation.runtime.telemetry import get_logger
from federation.v1 import participation_pb2 as pb

log = get_logger()

T = TypeVar("T")

_FINAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Answers that another try does not change."""


@dataclass(frozen=True)
class Seat:
    """A place at a selector.

    Attributes:
        stub: The selector's service.
        token: Proof of the claim there.
        selector: HOST:PORT of the selector.
    """

    stub: Any
    token: str
    selector: str


class Place:
    """The seat of the moment; there is none while the check-in stream is cut.

    Args:
        draw: Draws a pause in seconds between two bounds.
    """

    def __init__(self, draw: Callable[[float, float], float]) -> None:
        self.seat: Seat | None = None
        self._draw = draw
        self._taken = asyncio.Event()

    def take(self, seat: Seat) -> None:
        """The client was configured there."""
        self.seat = seat
        self._taken.set()

    def leave(self) -> None:
        """The stream was cut, or the round is over."""
        self.seat = None
        self._taken.clear()

    async def taken(self) -> Seat:
        """Wait until there is a seat."""
        while self.seat is None:
            await self._taken.wait()
        return self.seat

    async def persist(self, call: Callable[[Seat], Awaitable[T]]) -> T:
        """Call with the seat of the moment until it works; who waits for it sets an end.

        Raises:
            PeerError: The answer is final: another try would get it again.
        """
        pause_s = BACKOFF_MIN_S
        while True:
            seat = await self.taken()
            try:
                return await call(seat)
            except grpc.aio.AioRpcError as error:
                give_up_if_final(error)
                why = why_failed(error)
            except TransferError as error:
                why = str(error)
            log.warning("call to the selector failed", why=why)
            await asyncio.sleep(self._draw(pause_s / 2, pause_s))
            pause_s = min(2 * pause_s, BACKOFF_MAX_S)


def source_at(stub: Any, limit: ChunkLimit, token: str = "") -> Source:
    """Fetch artifacts from the selector with this service, for the round of this token if any."""

    async def fetch(sha256: bytes, offset: int) -> AsyncIterator[Piece]:
        request = pb.FetchArtifactRequest(
            sha256=sha256,
            offset=offset,
            session_token=token,
            chunk_bytes=limit.begin(sha256, offset),
        )
        began_s, received = time.monotonic(), 0
        async for chunk in stub.FetchArtifact(request):
            received += len(chunk.data)
            yield chunk
        limit.went(received, time.monotonic() - began_s)

    return fetch


def give_up_if_final(error: Exception) -> None:
    """Raise ``PeerError`` for an answer that another try does not change."""
    if isinstance(error, grpc.aio.AioRpcError) and error.code() in _FINAL:
        raise PeerError(f"the selector refused: {error.details()}", reason=reason_of(error))


def why_failed(error: Exception) -> str:
    """Say in a line of the log why a call failed."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
