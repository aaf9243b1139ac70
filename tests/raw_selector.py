"""A selector by hand: one stream to a coordinator, with whatever events a test likes."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import grpc.aio

from federation.runtime.rpc import create_channel
from federation.v1 import coordination_pb2 as pb
from federation.v1 import coordination_pb2_grpc, plan_pb2
from tests.servers import HOST
from tests.waiting import within

NEWS = ("selector_list", "session_news")


class RawSelector:
    """One process of a selector.

    Args:
        port: The coordinator's.
        selector_id: Its name.
        incarnation: Of this process.
    """

    def __init__(self, port: int, selector_id: str = "north", incarnation: str = "n1") -> None:
        self.selector_id = selector_id
        self.incarnation = incarnation
        self._channel = create_channel(f"{HOST}:{port}", 10.0, 5.0)
        self._stub: Any = coordination_pb2_grpc.CoordinationStub(self._channel)
        self.call: Any = None
        self._writing = asyncio.Lock()  # gRPC takes one message of a stream at a time

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._channel.close()

    def hello(self, **changes: Any) -> dict[str, Any]:
        """What this process says first."""
        return {
            "protocol_version": plan_pb2.PROTOCOL_VERSION_1,
            "selector_id": self.selector_id,
            "incarnation": self.incarnation,
            "address": "north.example:50051",
        } | changes

    async def attach(self, **hello: Any) -> pb.CoordinatorCommand:
        """Open a new stream, say hello and return the first command."""
        self.call = self._stub.Attach()
        await self.tell(hello=self.hello(**hello))
        command: pb.CoordinatorCommand = await within(self.call.read())
        return command

    async def open(self) -> None:
        """Open a new stream and say nothing."""
        self.call = self._stub.Attach()

    async def tell(self, **event: Any) -> None:
        """Send one event, named as in the contract."""
        async with self._writing:
            await within(self.call.write(pb.SelectorEvent(**event)))

    async def check_in(self, *client_ids: str, session_id: str = "") -> None:
        """Say that these clients asked."""
        clients = [{"client_id": name, "session_id": session_id} for name in client_ids]
        await self.tell(clients_checked_in={"clients": clients})

    async def folded(self, round_id: str, *client_ids: str, num_examples: int = 1) -> None:
        """Say that the reports of these clients are in the sum."""
        reports = [{"client_id": name, "num_examples": num_examples} for name in client_ids]
        await self.tell(reports_folded={"round_id": round_id, "reports": reports})

    async def next(self, kind: str) -> Any:
        """Return the next command, which must be of this kind; mere news are passed over."""
        command = await within(self.call.read())
        while command is not grpc.aio.EOF and command.WhichOneof("command") in NEWS:
            command = await within(self.call.read())
        assert command is not grpc.aio.EOF
        assert command.WhichOneof("command") == kind, command
        return getattr(command, kind)

    async def after(self, kind: str) -> Any:
        """Return the next command of this kind; those before it are passed over."""
        while True:
            command = await within(self.call.read())
            assert command is not grpc.aio.EOF
            if command.WhichOneof("command") == kind:
                return getattr(command, kind)

    async def ended(self) -> None:
        """Wait until the coordinator ended the stream; commands before it are passed over."""
        while await within(self.call.read()) is not grpc.aio.EOF:
            pass

    def cut(self) -> None:
        """End the stream from this side."""
        self.call.cancel()
