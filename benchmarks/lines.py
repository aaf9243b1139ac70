"""What far and slow lines make of a transfer: ``python -m benchmarks.lines``.

Bare gRPC with the options of ``federation.runtime.rpc``, and with gRPC's probing of the bandwidth
beside it, through a proxy that makes the way long or narrow. See docs/adr/0012-slow-lines.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from federation.chunking import CHUNK_BYTES, CHUNK_BYTES_MIN
from federation.runtime import rpc
from tests.system.chaos import HOST, READ_BYTES_MAX, ChaosProxy

KEEPALIVE_S, KEEPALIVE_TIMEOUT_S = 10.0, 5.0
"""The defaults of every role."""

FAR_BYTES = 32 << 20
ROUND_TRIPS_S = (0.02, 0.1)

SLOW = (
    (150_000, 2 << 20, CHUNK_BYTES),
    (100_000, 2 << 20, CHUNK_BYTES),
    (40_000, 1 << 20, CHUNK_BYTES),
    (40_000, 1 << 20, CHUNK_BYTES_MIN),
    (8_000, 1 << 18, CHUNK_BYTES_MIN),
    (4_000, 1 << 18, CHUNK_BYTES_MIN),
)
"""Bytes a second, of the transfer, of a chunk."""

PROBING = ("grpc.http2.bdp_probe", 1)


class _Transfers(grpc.GenericRpcHandler):
    """Sends and takes as many bytes as asked for."""

    def service(self, details: Any) -> Any:
        """Serve ``/Lines/Down`` and ``/Lines/Up``."""
        if details.method.endswith("Down"):
            return grpc.unary_stream_rpc_method_handler(self._down)
        return grpc.stream_unary_rpc_method_handler(self._up)

    async def _down(self, request: bytes, context: Any) -> None:
        size, chunk_bytes = map(int, request.split())
        for _ in range(size // chunk_bytes):
            await context.write(bytes(chunk_bytes))

    async def _up(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        async for _ in messages:
            pass
        return b"whole"


@asynccontextmanager
async def _far(target: str, round_trip_s: float) -> AsyncIterator[str]:
    """Stand for a target that is far away, and reached by a line of any width."""
    host, _, port = target.rpartition(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                at_s, data = await under_way.get()
                await asyncio.sleep(max(0.0, at_s - time.monotonic()))
                writer.write(data)
                await writer.drain()

        async with asyncio.TaskGroup() as group:
            arriving = group.create_task(arrive())
            while data := await reader.read(READ_BYTES_MAX):
                under_way.put_nowait((time.monotonic() + round_trip_s / 2, data))
            arriving.cancel()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            back, far = await asyncio.open_connection(host, int(port))
            try:
                await asyncio.gather(pump(reader, far), pump(back, writer))
            finally:
                far.close()
                writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        yield f"{HOST}:{server.sockets[0].getsockname()[1]}"


async def _transfer(target: str, way: str, size: int, chunk_bytes: int) -> None:
    """Transfer so many bytes.

    Raises:
        AioRpcError: The connection was given up.
    """
    async with rpc.create_channel(target, KEEPALIVE_S, KEEPALIVE_TIMEOUT_S) as channel:
        if way == "up":

            async def messages() -> AsyncIterator[bytes]:
                for _ in range(size // chunk_bytes):
                    yield bytes(chunk_bytes)

            up: Any = channel.stream_unary("/Lines/Up")
            await up(messages())
        else:
            down: Any = channel.unary_stream("/Lines/Down")
            async for _ in down(b"%d %d" % (size, chunk_bytes)):
                pass


@asynccontextmanager
async def _served(*, probing: bool) -> AsyncIterator[str]:
    """Serve, with every option of ours; and, if asked for, with the probing that is off."""
    ours = rpc._keepalive  # noqa: SLF001 - what is measured is one option of these
    if probing:
        rpc._keepalive = lambda *seconds: [  # noqa: SLF001
            *(option for option in ours(*seconds) if option[0] != PROBING[0]),
            PROBING,
        ]
    server = rpc.create_server(KEEPALIVE_S, KEEPALIVE_TIMEOUT_S)
    server.add_generic_rpc_handlers((_Transfers(),))
    port = rpc.bind(server, HOST, 0)
    await server.start()
    try:
        yield f"{HOST}:{port}"
    finally:
        await server.stop(0)
        rpc._keepalive = ours  # noqa: SLF001


async def _measure_far() -> None:
    print("32 MiB in chunks of 1 MiB, MiB/s: down, up")
    for round_trip_s in ROUND_TRIPS_S:
        for probing in (True, False):
            rates = []
            async with _served(probing=probing) as address:
                for way in ("down", "up"):
                    async with _far(address, round_trip_s) as target:
                        began_s = time.monotonic()
                        await _transfer(target, way, FAR_BYTES, CHUNK_BYTES)
                        rates.append(FAR_BYTES / (time.monotonic() - began_s) / 2**20)
            print(f"  {1000 * round_trip_s:3.0f} ms there and back, {_word(probing)}: ", end="")
            print(", ".join(f"{rate:.0f}" for rate in rates), flush=True)


async def _measure_slow() -> None:
    print("lines that carry little: what became of a transfer")
    for rate, size, chunk_bytes in SLOW:
        for probing in (True, False):
            told = []
            async with _served(probing=probing) as address, ChaosProxy() as proxy:
                proxy.target = address
                proxy.drip(rate)
                for way in ("down", "up"):
                    began_s = time.monotonic()
                    try:
                        await _transfer(proxy.address, way, size, chunk_bytes)
                        end = "whole"
                    except grpc.aio.AioRpcError:
                        end = "given up"
                    told.append(f"{way} {end} after {time.monotonic() - began_s:.0f} s")
            line = f"{rate // 1000:3} kB/s, {size >> 10} KiB in chunks of {chunk_bytes >> 10} KiB"
            print(f"  {line}, {_word(probing)}: {', '.join(told)}", flush=True)


def _word(probing: bool) -> str:
    return "probing" if probing else "ours"


async def main() -> None:
    """Print both tables."""
    await _measure_far()
    await _measure_slow()


if __name__ == "__main__":
    asyncio.run(main())
