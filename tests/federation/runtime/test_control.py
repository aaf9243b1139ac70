"""Asking a coordinator, and what is said when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from federation.errors import PeerError
from federation.runtime import control
from federation.runtime.control import get_status, watch_status
from federation.runtime.rpc import bind, create_server
from federation.v1 import control_pb2 as pb
from federation.v1 import control_pb2_grpc

NOBODY = "127.0.0.1:1"


class Coordinator(control_pb2_grpc.ControlServicer):
    """Answers with as many waiting clients as it was asked before."""

    def __init__(self) -> None:
        self.silent = False

    async def GetStatus(  # noqa: N802 - the contract's name
        self, request: pb.GetStatusRequest, context: Any
    ) -> pb.Status:
        if self.silent:
            await asyncio.Event().wait()
        return pb.Status(version="1.2.3")

    async def WatchStatus(  # type: ignore[override]  # noqa: N802 - the contract's name
        self, request: pb.WatchStatusRequest, context: Any
    ) -> None:
        for waiting in range(3):
            await context.write(pb.Status(waiting_clients=waiting))


@pytest.fixture
async def coordinator() -> AsyncIterator[tuple[Coordinator, str]]:
    """A coordinator's control service, and where it listens."""
    service = Coordinator()  # type: ignore[abstract]  # what it lacks is not asked for
    server = create_server(10.0, 5.0)
    control_pb2_grpc.add_ControlServicer_to_server(service, server)
    port = bind(server, "127.0.0.1", 0)
    await server.start()
    yield service, f"127.0.0.1:{port}"
    await server.stop(None)


async def test_status_is_asked_for_it_is_returned(coordinator: tuple[Coordinator, str]) -> None:
    """Once, as it is now."""
    status = await get_status(coordinator[1])

    assert status.version == "1.2.3"


async def test_coordinator_does_not_answer_asking_ends(
    coordinator: tuple[Coordinator, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command in a terminal does not hang."""
    coordinator[0].silent = True
    monkeypatch.setattr(control, "ANSWER_TIMEOUT_S", 0.1)

    with pytest.raises(PeerError) as caught:
        await get_status(coordinator[1])

    assert caught.value.reason == "deadline-exceeded"


async def test_nobody_is_there_the_error_names_the_address_and_the_flag() -> None:
    """The likeliest mistakes are a coordinator that does not run and a wrong address."""
    with pytest.raises(PeerError, match=NOBODY) as caught:
        await get_status(NOBODY)

    assert "--coordinator" in caught.value.detail


async def test_status_is_watched_each_snapshot_comes_and_the_end_ends_it(
    coordinator: tuple[Coordinator, str],
) -> None:
    """Whoever watches sees changes as they come."""
    seen = [status.waiting_clients async for status in watch_status(coordinator[1])]

    assert seen == [0, 1, 2]


async def test_nobody_is_there_to_watch_the_error_names_the_address() -> None:
    """As for a single question."""
    with pytest.raises(PeerError, match=NOBODY):
        await anext(watch_status(NOBODY))
