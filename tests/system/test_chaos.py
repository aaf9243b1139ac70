"""The chaos proxy does to connections what it says: else the cases that use it prove nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.system.chaos import DOWN, DRIP_BYTES, UP, ChaosProxy
from tests.waiting import eventually, within

SOON_S = 0.1
"""What has not come by then is held up."""


class Line:
    """A connection through the proxy, with both of its ends."""

    def __init__(self, proxy: ChaosProxy) -> None:
        self.proxy = proxy
        self.writers: list[asyncio.StreamWriter] = []
        self.served: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
            asyncio.Queue()
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take what the proxy dials."""
        await self.served.put((reader, writer))

    async def dial(self) -> None:
        """Connect both ends."""
        host, _, port = self.proxy.address.rpartition(":")
        self.near, self.near_writer = await asyncio.open_connection(host, int(port))
        self.far, self.far_writer = await within(self.served.get())
        self.writers += [self.near_writer, self.far_writer]

    async def goes_up(self, data: bytes = b"up") -> bool:
        """Say whether this arrives at the far end soon."""
        self.near_writer.write(data)
        return await _arrives(self.far, data)

    async def goes_down(self, data: bytes = b"down") -> bool:
        """Say whether this arrives at the near end soon."""
        self.far_writer.write(data)
        return await _arrives(self.near, data)


async def _arrives(reader: asyncio.StreamReader, data: bytes) -> bool:
    try:
        async with asyncio.timeout(SOON_S):
            return await reader.readexactly(len(data)) == data
    except TimeoutError:
        return False


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    """A line on which everything flows."""
    async with ChaosProxy() as proxy:
        line = Line(proxy)
        server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
        proxy.target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await line.dial()
        assert await line.goes_up()
        assert await line.goes_down()
        yield line
        for writer in line.writers:
            writer.transport.abort()
        server.close()


async def test_cut_both_ends_see_a_reset_and_nobody_gets_through(line: Line) -> None:
    """As a firewall that rejects; mended, new connections work."""
    line.proxy.cut()

    for end in (line.near, line.far):
        with pytest.raises(ConnectionResetError):
            await within(end.read())
    host, _, port = line.proxy.address.rpartition(":")
    refused, writer = await asyncio.open_connection(host, int(port))
    with pytest.raises(ConnectionResetError):
        await within(refused.read())
    writer.close()
    line.proxy.mend()
    await line.dial()
    assert await line.goes_up()


async def test_stall_nothing_arrives_until_it_is_mended(line: Line) -> None:
    """Nothing is lost, either."""
    line.proxy.stall()

    assert not await line.goes_up()
    assert not await line.goes_down()
    line.proxy.mend()
    assert await within(line.far.readexactly(2)) == b"up"
    assert await within(line.near.readexactly(4)) == b"down"


@pytest.mark.parametrize("way", [UP, DOWN])
async def test_one_way_only_that_one_is_open(line: Line, way: bool) -> None:
    """The other end hears nothing, and is heard."""
    line.proxy.one_way(open_way=way)

    assert await line.goes_up() is (way is UP)
    assert await line.goes_down() is (way is DOWN)


async def test_half_open_only_the_far_end_knows(line: Line) -> None:
    """Whoever dialled has a connection to nobody; new ones work."""
    line.proxy.half_open()

    with pytest.raises(ConnectionResetError):
        await within(line.far.read())
    assert not await _arrives(line.near, b"anything")
    line.near_writer.write(b"into the void")
    assert not await _arrives(line.near, b"anything")
    await line.dial()
    assert await line.goes_up()


async def test_delay_all_of_it_arrives_later(line: Line) -> None:
    """In both directions."""
    line.proxy.delay(2 * SOON_S)

    assert not await line.goes_up()
    assert await within(line.far.readexactly(2)) == b"up"


async def test_drip_a_connection_carries_no_more(line: Line) -> None:
    """Bytes a second."""
    line.proxy.drip(bytes_per_s=20 * DRIP_BYTES)
    began_s = time.monotonic()

    line.near_writer.write(bytes(5 * DRIP_BYTES))
    await within(line.far.readexactly(5 * DRIP_BYTES))

    assert time.monotonic() - began_s >= 4 / 20


async def test_reset_within_so_many_bytes_the_connection_ends_in_their_midst(line: Line) -> None:
    """Once; the next connection is whole."""
    line.proxy.reset_within(5)
    assert await line.goes_up(b"1234")

    line.near_writer.write(b"567890")
    await eventually(line.proxy.happened.is_set)

    with pytest.raises(ConnectionResetError):
        await within(line.near.read())
    await line.dial()
    assert await line.goes_up(b"1234567890")
