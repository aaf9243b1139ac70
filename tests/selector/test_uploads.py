"""The reports that are being received: buffers, and chunks that are added on a thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from federation.chunking import Assembler
from federation.errors import TransferError
from federation.tensors import Buffer
from selector.cohort import Member
from selector.uploads import HOP_BYTES, Upload, Uploads
from tests.raw_client import sha256
from tests.waiting import within

CHUNK = bytes(range(256)) * (HOP_BYTES // 256)


class Slow(Assembler):
    """Adds each chunk only once it may."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.begun = threading.Event()
        self.may = threading.Event()

    def add(self, offset: int, data: Buffer) -> None:
        self.begun.set()
        assert self.may.wait(20.0)
        super().add(offset, data)


def a_member(token: str = "token") -> Member:
    """Whose report it is."""
    return Member("ann", token)


@pytest.mark.parametrize("chunk", [CHUNK, CHUNK[:100]])
async def test_chunks_are_added_whether_on_a_thread_or_here(chunk: bytes) -> None:
    """Large ones are hashed on a thread."""
    upload = Upload(a_member(), Assembler(2 * len(chunk)))

    await upload.add(0, chunk)
    await upload.add(len(chunk), chunk)

    assembler = upload.assembler
    assembler.finish(chunks=2, size=2 * len(chunk), sha256=sha256(2 * chunk))
    assert assembler.buffer == 2 * chunk


async def test_chunk_is_wrong_who_adds_it_hears_so() -> None:
    """As if there were no thread."""
    upload = Upload(a_member(), Assembler(len(CHUNK)))

    with pytest.raises(TransferError) as refused:
        await upload.add(1, CHUNK)

    assert refused.value.reason == "chunk-out-of-order"


async def test_stream_is_cut_while_a_chunk_is_added_the_next_waits_for_that() -> None:
    """Else both would add at once, and the bytes would not be those that were hashed."""
    slow = Slow(2 * len(CHUNK))
    uploads = Uploads(in_flight_max=1, stall_s=30.0)
    upload = await uploads.permit(a_member(), slow.size)
    upload.assembler = slow
    cut = asyncio.create_task(upload.add(0, CHUNK))
    await asyncio.to_thread(slow.begun.wait, 20.0)
    cut.cancel()
    again = asyncio.create_task(uploads.permit(upload.member, slow.size))
    await asyncio.gather(cut, return_exceptions=True)
    settled_early = again.done()

    slow.may.set()
    permitted = await within(again)

    assert not settled_early
    assert permitted is upload
    assert permitted.assembler.received == len(CHUNK)


async def test_buffers_are_all_in_use_the_next_report_waits_for_one() -> None:
    """Back-pressure, not failure."""
    uploads = Uploads(in_flight_max=1, stall_s=30.0)
    first = await uploads.permit(a_member(), 10)
    waiting: asyncio.Task[Any] = asyncio.create_task(uploads.permit(a_member("other"), 10))
    await asyncio.sleep(0)
    waited = not waiting.done()

    uploads.free(first)

    assert waited
    assert (await within(waiting)).member.token == "other"
    assert len(uploads) == 1
