"""Waiting in tests: for a result or a condition, never for a time, and never for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc
import grpc.aio
import pytest

from federation.runtime.rpc import reason_of

T = TypeVar("T")

WAIT_S = 30.0
"""Far beyond what anything here takes, also on a loaded machine."""

LOOK_S = 0.005


async def within(awaitable: Awaitable[T]) -> T:
    """Await, or fail."""
    async with asyncio.timeout(WAIT_S):
        return await awaitable


async def eventually(condition: Callable[[], object]) -> None:
    """Return once the condition holds, or fail."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - not all that is waited for has an event
            await asyncio.sleep(LOOK_S)


@contextmanager
def refused(reason: str, status: grpc.StatusCode | None = None) -> Iterator[None]:
    """Expect that a call is refused with this reason word, and with this status."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert reason_of(caught.value) == reason, caught.value
    assert status is None or caught.value.code() is status
