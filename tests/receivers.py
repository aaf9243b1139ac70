"""A webserver for tests: a real HTTP server on loopback that answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1"

TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


def answer(status: int, said: str = "") -> bytes:
    """Return an answer with this status and text."""
    body = said.encode()
    return b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@dataclass
class Receiver:
    """What was received, and how it is answered.

    Attributes:
        port: Where it listens.
        answers: Makes the answer to an update; None: there is none, however long it is waited for.
        asked: All updates that came.
        taken: Those that were answered with 204.
        headers: Of the newest request, by lower-case name.
        body: Of the newest request.
    """

    port: int
    answers: Callable[[dict[str, Any]], bytes | None] = lambda update: TAKEN
    asked: list[dict[str, Any]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def url(self) -> str:
        """Where updates are sent to."""
        return f"http://{HOST}:{self.port}/updates"

    def stages(self) -> list[tuple[int, str]]:
        """Return the number and name of each stage that was taken, as they came."""
        return [
            (int(update["id"]), update["data"]["round"]["stage"])
            for update in self.taken
            if update["type"] == "headwater.round.stage"
        ]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                pairs = [line.split(": ", 1) for line in head[1:] if line]
                self.headers = {name.lower(): value for name, value in pairs}
                self.body = await reader.readexactly(int(self.headers["content-length"]))
                update = json.loads(self.body)
                self.asked.append(update)
                said = self.answers(update)
                if said is None:
                    await asyncio.Event().wait()
                    return
                if said == TAKEN:
                    self.taken.append(update)
                writer.write(said)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def a_receiver(earlier: Receiver | None = None) -> AsyncIterator[Receiver]:
    """Run a webserver, or the same one again at its port."""
    receiver = earlier or Receiver(0)
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await receiver.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            connections.discard(task)

    server = await asyncio.start_server(connected, HOST, receiver.port)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
