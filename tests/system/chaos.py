"""A TCP proxy of the tests' own, which does to connections what networks do to them.

It forwards bytes between whoever dials it and its target until it is told of a fault; ``mend`` ends
the fault. What it held up flows on then, so that no byte of a connection that lives is ever lost:
as with TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

HOST = "127.0.0.1"

READ_BYTES_MAX = 1 << 18
"""Most bytes that are forwarded at a time."""

DRIP_BYTES = 1 << 12
"""Bytes of a drop."""

Dial = Callable[[], Awaitable[socket.socket]]
"""Returns a connection to the target."""

UP, DOWN = True, False
"""From whoever dialled to the target, and back."""


@dataclass(eq=False)
class _Connection:
    """Two sockets; ``near`` is that of whoever dialled, and may go on without the other one."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    near_alone: bool = False

    def reset(self) -> None:
        """End both with RST, which a peer notices at once."""
        for writer in (self.near, self.far):
            _reset(writer)


class ChaosProxy:
    """One address that stands for another.

    Args:
        dial: How the target is reached; None: at ``target``, which is set once it is known.

    Attributes:
        target: HOST:PORT to which bytes are forwarded.
        address: HOST:PORT at which it listens.
        happened: Set when a fault that waits for bytes has happened.
    """

    def __init__(self, dial: Dial | None = None) -> None:
        self.target = ""
        self.address = ""
        self.happened = asyncio.Event()
        self._dial = dial or self._dial_target
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        self._refuses = False
        self._delay_s = 0.0
        self._drip_bytes_per_s = 0.0
        self._bytes_to_reset = 0
        self.mend()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0, limit=READ_BYTES_MAX)
        self.address = f"{HOST}:{self.port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    # -- Faults -----------------------------------------------------------------------------------

    def mend(self) -> None:
        """Everything flows again; connections that ended stay so."""
        for flow in self._flows.values():
            flow.set()
        self._refuses = False
        self._delay_s = 0.0
        self._drip_bytes_per_s = 0.0
        self._bytes_to_reset = 0

    def cut(self) -> None:
        """Reset every connection, and each new one too."""
        self._refuses = True
        for connection in list(self._connections):
            connection.reset()

    def stall(self) -> None:
        """Nothing arrives any longer, and nobody is told; new connections are as silent."""
        for flow in self._flows.values():
            flow.clear()

    def one_way(self, *, open_way: bool) -> None:
        """Bytes arrive in one direction only."""
        self._flows[not open_way].clear()

    def half_open(self) -> None:
        """The target sees its connections end, whoever dialled does not; new ones work."""
        for connection in self._connections:
            connection.near_alone = True
            _reset(connection.far)

    def delay(self, seconds: float) -> None:
        """Everything arrives later."""
        self._delay_s = seconds

    def drip(self, bytes_per_s: float) -> None:
        """Each connection carries so little."""
        self._drip_bytes_per_s = bytes_per_s

    def reset_within(self, count: int) -> None:
        """Reset the first connection that has carried so many bytes from now on, once."""
        self._bytes_to_reset = count
        self.happened.clear()

    # -- Forwarding -------------------------------------------------------------------------------

    async def _dial_target(self) -> socket.socket:
        host, _, port = self.target.rpartition(":")
        dialled = socket.socket()
        dialled.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(dialled, (host, int(port)))
        except OSError:
            dialled.close()
            raise
        return dialled

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self._refuses:
            _reset(near)
            return
        try:
            dialled = await self._dial()
        except OSError:
            _reset(near)
            return
        back, far = await asyncio.open_connection(sock=dialled, limit=READ_BYTES_MAX)
        connection = _Connection(near, far)
        self._connections.add(connection)
        carried = _Carried()
        pumps = [
            asyncio.create_task(self._pump(reader, far, connection, carried, UP)),
            asyncio.create_task(self._pump(back, near, connection, carried, DOWN)),
        ]
        self._tasks.update(pumps)
        try:
            await asyncio.wait(pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            self._tasks.difference_update(pumps)
            self._connections.discard(connection)
            connection.reset()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: _Connection,
        carried: _Carried,
        way: bool,
    ) -> None:
        # A connection that a peer loses is this proxy's daily work.
        with contextlib.suppress(OSError):
            while data := await reader.read(READ_BYTES_MAX):
                await self._flows[way].wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if self._is_reset_due(carried, len(data)):
                    writer.write(data[: len(data) // 2])
                    break
                await self._write(writer, data)
        while connection.near_alone and way is UP and await reader.read(READ_BYTES_MAX):
            pass  # into the void
        if not connection.near_alone:
            connection.reset()

    def _is_reset_due(self, carried: _Carried, count: int) -> bool:
        if not self._bytes_to_reset:
            return False
        carried.count += count
        if carried.count < self._bytes_to_reset:
            return False
        self._bytes_to_reset = 0
        self.happened.set()
        return True

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        step = DRIP_BYTES if self._drip_bytes_per_s else len(data)
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            writer.write(piece)
            await writer.drain()
            if self._drip_bytes_per_s:
                await asyncio.sleep(len(piece) / self._drip_bytes_per_s)


@dataclass
class _Carried:
    """Bytes of a connection, both ways, since it waits for a reset."""

    count: int = 0


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
