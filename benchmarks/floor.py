"""The floor: the same bytes over bare grpc.aio, without rounds, checks, hashes or files.

Clients are held on a stream, are released together, take the model down, change it, send it up; the
server adds each to a float64 sum in a thread. Identity serialisers, 1 MiB frames (2 MiB from 64 MiB
on). ``python -m benchmarks.floor serve MEGABYTES CLIENTS ROUNDS`` prints a line with its port, then
a line for each exchange; ``python -m benchmarks.floor clients PORT FIRST COUNT MEGABYTES``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import numpy as np

from benchmarks.payload import changed, model
from federation.chunking import chunk_bytes_for
from federation.runtime.rpc import create_channel, create_server

SERVICE = "floor.Floor"
KEEPALIVE = (10.0, 5.0)
BLOCK = 1 << 15


def _flat(megabytes: int) -> bytes:
    return b"".join(array.tobytes() for array in model(megabytes).values())


class Floor:
    """The server's side."""

    def __init__(self, megabytes: int, clients: int) -> None:
        data = _flat(megabytes)
        size = chunk_bytes_for(len(data))
        self._frames = [data[at : at + size] for at in range(0, len(data), size)]
        self._size = len(data)
        self._sum = np.zeros(len(data) // 4, np.float64)
        self._scratch = np.empty(BLOCK, np.float64)
        self._clients = clients
        self._held = 0
        self._done = 0
        self.release = asyncio.Event()
        self.all_held = asyncio.Event()
        self.all_done = asyncio.Event()
        self._folder = ThreadPoolExecutor(1)
        self._uploads = asyncio.Semaphore(4)

    def start(self) -> None:
        """Release all that are held; whoever is held from here on is held for the next time."""
        self._held = self._done = 0
        self.all_held.clear()
        self.all_done.clear()
        release, self.release = self.release, asyncio.Event()
        release.set()

    async def hold(self, request: bytes, context: Any) -> None:
        """Hold a client until all are there."""
        release = self.release
        self._held += 1
        if self._held == self._clients:
            self.all_held.set()
        await release.wait()
        await context.write(b"go")

    async def down(self, request: bytes, context: Any) -> None:
        """Send the model."""
        for frame in self._frames:
            await context.write(frame)

    async def up(self, request_iterator: AsyncIterator[bytes], context: Any) -> bytes:
        """Receive an update and add it to the sum."""
        async with self._uploads:
            buffer = bytearray(self._size)
            at = 0
            async for frame in request_iterator:
                buffer[at : at + len(frame)] = frame
                at += len(frame)
            await asyncio.get_running_loop().run_in_executor(self._folder, self._fold, buffer)
        self._done += 1
        if self._done == self._clients:
            self.all_done.set()
        return b"ok"

    async def may(self, request: bytes, context: Any) -> bytes:
        """Nothing to ask: a call that costs what a permission costs."""
        return b"yes"

    def _fold(self, buffer: bytearray) -> None:
        update = np.frombuffer(buffer, np.float32)
        for at in range(0, update.size, BLOCK):
            block = update[at : at + BLOCK]
            scratch = self._scratch[: block.size]
            np.multiply(block, 3.0, out=scratch)
            self._sum[at : at + BLOCK] += scratch


async def serve(megabytes: int, clients: int, rounds: int) -> None:
    """Serve so many exchanges, and print how long each took."""
    floor = Floor(megabytes, clients)
    server = create_server(*KEEPALIVE)
    handlers: dict[str, Any] = {
        "Hold": grpc.unary_stream_rpc_method_handler(floor.hold),
        "Down": grpc.unary_stream_rpc_method_handler(floor.down),
        "Up": grpc.stream_unary_rpc_method_handler(floor.up),
        "May": grpc.unary_unary_rpc_method_handler(floor.may),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"port": port}), flush=True)
    for _ in range(rounds):
        await floor.all_held.wait()
        began_s = time.perf_counter()
        floor.start()
        await floor.all_done.wait()
        print(json.dumps({"seconds": time.perf_counter() - began_s}), flush=True)
    await asyncio.sleep(3600)


async def _client(port: int, number: int, megabytes: int, rounds: int) -> None:
    template = {name: array.size for name, array in model(megabytes).items()}
    async with create_channel(f"127.0.0.1:{port}", *KEEPALIVE) as channel:
        hold: Any = channel.unary_stream(f"/{SERVICE}/Hold")
        down: Any = channel.unary_stream(f"/{SERVICE}/Down")
        up: Any = channel.stream_unary(f"/{SERVICE}/Up")
        may: Any = channel.unary_unary(f"/{SERVICE}/May")
        for _ in range(rounds):
            async for _ in hold(b""):
                pass
            buffer = bytearray(sum(template.values()) * 4)
            at = 0
            async for frame in down(b""):
                buffer[at : at + len(frame)] = frame
                at += len(frame)
            update = await asyncio.to_thread(_changed, buffer, template, number)
            await may(b"")
            await up(_frames(update))


def _changed(buffer: bytearray, template: dict[str, int], number: int) -> bytes:
    weights, at = {}, 0
    for name, size in template.items():
        weights[name] = np.frombuffer(buffer, np.float32, size, at)
        at += size * 4
    return b"".join(array.tobytes() for array in changed(weights, number).values())


async def _frames(update: bytes) -> AsyncIterator[bytes]:
    size = chunk_bytes_for(len(update))
    for at in range(0, len(update), size):
        yield update[at : at + size]


async def clients(port: int, first: int, count: int, megabytes: int, rounds: int) -> None:
    """Be so many clients."""
    await asyncio.gather(
        *(_client(port, number, megabytes, rounds) for number in range(first, first + count))
    )


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[2:]]
    asyncio.run(serve(*numbers) if sys.argv[1] == "serve" else clients(*numbers))
