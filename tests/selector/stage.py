"""A real selector on loopback, its clients by hand, and a coordinator that does as it is told."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.runtime.hdf5 import encode_checkpoint
from federation.runtime.store import SharedDirectory
from federation.v1 import coordination_pb2 as pb
from selector.app import SelectorServer
from tests.raw_client import RawClient
from tests.servers import (
    HOST,
    Attachment,
    ScriptedCoordinator,
    a_scripted_coordinator,
    a_selector,
    a_shared_directory,
    an_order,
)
from tests.waiting import eventually

ZEROS = {"w": np.zeros((2, 3), np.float32)}


def ones(factor: float = 1.0) -> dict[str, NDArray[Any]]:
    """An update of the model."""
    return {"w": np.full((2, 3), factor, np.float32)}


@dataclass
class Stage:
    """Everything around one selector.

    Attributes:
        coordinator: Does as it is told.
        port: Where it listens.
        attachment: The selector's first stream to it.
        server: The selector.
        directory: The shared directory.
        clients: Closes their channels at the end.
    """

    coordinator: ScriptedCoordinator
    port: int
    attachment: Attachment
    server: SelectorServer
    directory: SharedDirectory
    clients: AsyncExitStack

    @property
    def base_digest(self) -> str:
        """Of the current checkpoint."""
        return hashlib.sha256(encode_checkpoint(self.directory.checkpoint)).hexdigest()

    async def client(self, client_id: str) -> RawClient:
        """Open a channel of its own for a client."""
        client = RawClient(f"{HOST}:{self.server.port}", client_id)
        return await self.clients.enter_async_context(client)

    async def held(self, *client_ids: str) -> list[RawClient]:
        """Check these clients in."""
        clients = [await self.client(client_id) for client_id in client_ids]
        for client in clients:
            assert (await client.check_in()).WhichOneof("event") == "held"
        return clients

    async def order(self, *client_ids: str, **changes: Any) -> None:
        """Order a round with these clients."""
        order = an_order(*client_ids, **({"base_digest": self.base_digest} | changes))
        await self.attachment.send(configure_round=order)

    async def configured(self, *client_ids: str, **changes: Any) -> list[RawClient]:
        """Check these clients in and bring them to their configuration."""
        clients = await self.held(*client_ids)
        await self.order(*client_ids, **changes)
        for client in clients:
            await client.configured()
        for client_id in client_ids:
            await self.stands(client_id, "configured")
        return clients

    async def stands(self, client_id: str, standing: str) -> None:
        """Wait until the selector knows this of the client."""

        def so() -> bool:
            cohort = self.server.selector.cohort
            return cohort is not None and cohort.members[client_id].standing == standing

        await eventually(so)

    async def close(self, *, round_number: int = 1, grace_s: float = 20.0) -> pb.PartialWritten:
        """Close reporting, and return what the selector hands in."""
        close = pb.CloseReporting(round_id=f"round-{round_number}", grace_s=grace_s)
        await self.attachment.send(close_reporting=close)
        partial: pb.PartialWritten = await self.attachment.after("partial_written")
        return partial

    async def end(self, *, round_number: int = 1, reason: str = "") -> None:
        """End the round, and wait until the selector has."""
        end = pb.EndRound(round_id=f"round-{round_number}", committed=not reason, reason=reason)
        await self.attachment.send(end_round=end)
        await eventually(lambda: self.server.selector.cohort is None)


@asynccontextmanager
async def a_stage(
    shared_data: Path,
    *,
    weights: Mapping[str, NDArray[Any]] = ZEROS,
    return_s: float = 30.0,
    **limits: Any,
) -> AsyncIterator[Stage]:
    """Set the stage: the selector ``north``, attached."""
    directory = a_shared_directory(shared_data, weights)
    async with (
        a_scripted_coordinator(return_s) as (coordinator, port),
        a_selector(shared_data, port, **limits) as server,
        AsyncExitStack() as clients,
    ):
        attachment = await coordinator.attachment()
        await eventually(server.uplink.attached.is_set)
        yield Stage(coordinator, port, attachment, server, directory, clients)
