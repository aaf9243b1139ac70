"""Chunks cover a buffer; an assembler takes exactly what was declared, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.chunking import (
    CHUNK_BYTES,
    CHUNK_BYTES_MIN,
    CHUNK_S,
    LARGE_CHUNK_BYTES,
    LARGE_MODEL_BYTES,
    SHRINK,
    Assembler,
    ChunkLimit,
    Verifier,
    chunk_bytes_for,
    chunks,
)
from federation.errors import TransferError
from federation.tensors import Buffer

FEW = settings(deadline=None, max_examples=40)
DATA = b"ten bytes!"


def an_assembler_with(*parts: Buffer, size: int = len(DATA)) -> Assembler:
    assembler = Assembler(size)
    for part in parts:
        assembler.add(assembler.received, part)
    return assembler


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class TestChunks:
    @FEW
    @given(st.binary(max_size=50), st.integers(1, 60), st.data())
    def test_chunks_cover_the_rest_of_the_buffer(
        self, data: bytes, chunk_bytes: int, draw: st.DataObject
    ) -> None:
        """From any offset on: in order, without holes, all of full size but the last."""
        offset = draw.draw(st.integers(0, len(data)))

        cut = list(chunks(data, offset=offset, chunk_bytes=chunk_bytes))

        assert b"".join(view for _, view in cut) == data[offset:]
        assert [start for start, _ in cut] == list(range(offset, len(data), chunk_bytes))
        assert all(len(view) == chunk_bytes for _, view in cut[:-1])
        assert all(len(view) > 0 for _, view in cut)

    def test_chunks_share_the_buffer(self) -> None:
        """Cutting copies nothing."""
        buffer = bytearray(DATA)
        (_, view), *_ = chunks(buffer, chunk_bytes=4)

        buffer[0] = ord("T")

        assert bytes(view) == b"Ten "

    @pytest.mark.parametrize("offset", [-1, len(DATA) + 1])
    def test_offset_outside_is_refused_at_once(self, offset: int) -> None:
        """An offset comes from a peer; a wrong one is refused before the first chunk is asked."""
        with pytest.raises(TransferError) as caught:
            chunks(DATA, offset=offset, chunk_bytes=4)

        assert caught.value.reason == "offset-out-of-range"

    def test_large_models_go_in_larger_chunks(self) -> None:
        """1 MiB, and 2 MiB from 64 MiB on, as measured."""
        assert chunk_bytes_for(0) == CHUNK_BYTES
        assert chunk_bytes_for(LARGE_MODEL_BYTES - 1) == CHUNK_BYTES
        assert chunk_bytes_for(LARGE_MODEL_BYTES) == LARGE_CHUNK_BYTES


class TestAssembler:
    @FEW
    @given(st.lists(st.binary(min_size=1, max_size=9), max_size=9))
    def test_any_splitting_gives_the_same_bytes(self, parts: list[bytes]) -> None:
        """However the bytes are cut, they are put together and verified."""
        data = b"".join(parts)

        assembler = an_assembler_with(*parts, size=len(data))
        assembler.finish(chunks=len(parts), size=len(data), sha256=digest(data))

        assert assembler.buffer == data

    @FEW
    @given(st.binary(max_size=40), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9))))
    def test_cut_transfer_resumes_where_it_stopped(
        self, data: bytes, attempts: list[tuple[int, int]]
    ) -> None:
        """After each cut the sender goes on from ``received``; chunks count over all attempts."""
        assembler = Assembler(len(data))
        sent = 0
        for chunk_bytes, until_cut in [*attempts, (4, len(data))]:
            rest = chunks(data, offset=assembler.received, chunk_bytes=chunk_bytes)
            for (offset, view), _ in zip(rest, range(until_cut), strict=False):
                assembler.add(offset, view)
                sent += 1

        assembler.finish(chunks=sent, size=len(data), sha256=digest(data))
        assert assembler.chunks == sent
        assert assembler.buffer == data

    @FEW
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("good"), st.integers(1, 4)),
                st.tuples(st.just("shifted"), st.integers(-20, 20).filter(bool)),
                st.tuples(st.just("empty"), st.just(0)),
                st.tuples(st.just("too long"), st.integers(1, 30)),
            )
        )
    )
    def test_refused_chunk_changes_nothing(self, tries: list[tuple[str, int]]) -> None:
        """Whatever wrong chunks come in between, the transfer goes on as if they never had."""
        assembler = Assembler(len(DATA))
        added = 0
        for kind, amount in tries:
            at = assembler.received
            if kind == "good":
                if at < len(DATA):
                    assembler.add(at, DATA[at : at + amount])
                    added += 1
                continue
            offset, part, reason = {
                "shifted": (at + amount, b"x", "chunk-out-of-order"),
                "empty": (at, b"", "empty-chunk"),
                "too long": (at, DATA[at:] + b"+" * amount, "more-bytes-than-declared"),
            }[kind]
            with pytest.raises(TransferError) as caught:
                assembler.add(offset, part)
            assert caught.value.reason == reason

        for offset, view in chunks(DATA, offset=assembler.received, chunk_bytes=3):
            assembler.add(offset, view)
            added += 1
        assembler.finish(chunks=added, size=len(DATA), sha256=digest(DATA))
        assert assembler.buffer == DATA

    def test_one_byte_too_many_is_refused(self) -> None:
        """The buffer never grows beyond what was declared and allowed."""
        assembler = an_assembler_with(DATA)

        with pytest.raises(TransferError) as caught:
            assembler.add(len(DATA), b"+")

        assert caught.value.reason == "more-bytes-than-declared"
        assert assembler.buffer == DATA

    def test_empty_transfer_finishes_at_once(self) -> None:
        """Nothing declared and nothing sent is complete."""
        assembler = Assembler(0)

        assembler.finish(chunks=0, size=0, sha256=digest(b""))

        assert bytes(assembler.buffer) == b""

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_chunk_is_copied(self, kind: Callable[[bytearray], Buffer]) -> None:
        """The frame that carried a chunk may be reused right away."""
        frame = bytearray(DATA)
        assembler = an_assembler_with(kind(frame))

        frame[:] = bytes(len(DATA))

        assert assembler.buffer == DATA


class TestFinish:
    @pytest.mark.parametrize(
        ("parts", "chunks", "size", "sent", "reason"),
        [
            ([DATA[:4]], 1, 10, DATA, "truncated"),
            ([DATA[:4]], 1, 4, DATA[:4], "truncated"),
            ([], 0, 0, b"", "truncated"),
            ([DATA], 1, 9, DATA, "truncated"),
            ([DATA], 1, -1, DATA, "truncated"),
            ([DATA], 1, 11, DATA + b"+", "more-bytes-than-declared"),
            ([DATA[:4], DATA[4:]], 1, 10, DATA, "wrong-chunk-count"),
            ([DATA[:4], DATA[4:]], 3, 10, DATA, "wrong-chunk-count"),
            ([DATA], 1, 10, b"Ten bytes!", "wrong-digest"),
        ],
    )
    def test_end_that_does_not_match_is_refused(
        self, parts: list[bytes], chunks: int, size: int, sent: bytes, reason: str
    ) -> None:
        """Bytes, chunks and digest must all be what the sender says, or nothing counts."""
        assembler = an_assembler_with(*parts)

        with pytest.raises(TransferError) as caught:
            assembler.finish(chunks=chunks, size=size, sha256=digest(sent))

        assert caught.value.reason == reason

    @pytest.mark.parametrize("sha256", [b"", digest(DATA)[:31], digest(DATA) + b"\0", bytes(10**6)])
    def test_digest_of_another_length_is_wrong(self, sha256: bytes) -> None:
        """A digest has 32 bytes; the error's text stays short whatever was sent."""
        assembler = an_assembler_with(DATA)

        with pytest.raises(TransferError) as caught:
            assembler.finish(chunks=1, size=len(DATA), sha256=sha256)

        assert caught.value.reason == "wrong-digest"
        assert len(caught.value.detail) < 300

    def test_truncated_transfer_resumes(self) -> None:
        """An end that came too early loses nothing of what arrived."""
        assembler = an_assembler_with(DATA[:4])
        with pytest.raises(TransferError):
            assembler.finish(chunks=1, size=len(DATA), sha256=digest(DATA))

        assembler.add(4, DATA[4:])

        assembler.finish(chunks=2, size=len(DATA), sha256=digest(DATA))
        assert assembler.buffer == DATA

    def test_wrong_digest_then_reset_starts_over(self) -> None:
        """Nobody knows which byte is wrong, so after a reset all are sent again."""
        assembler = an_assembler_with(b"Ten bytes!")
        with pytest.raises(TransferError):
            assembler.finish(chunks=1, size=len(DATA), sha256=digest(DATA))

        assembler.reset()

        assert (assembler.received, assembler.chunks) == (0, 0)
        assembler.add(0, DATA)
        assembler.finish(chunks=1, size=len(DATA), sha256=digest(DATA))
        assert assembler.buffer == DATA

    @FEW
    @given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
    def test_any_changed_byte_is_found(self, at: int, change: int) -> None:
        """The digest covers every byte."""
        changed = bytearray(DATA)
        changed[at] ^= change
        assembler = an_assembler_with(bytes(changed[:5]), bytes(changed[5:]))

        with pytest.raises(TransferError) as caught:
            assembler.finish(chunks=2, size=len(DATA), sha256=digest(DATA))

        assert caught.value.reason == "wrong-digest"


def test_verifier_keeps_no_bytes_and_knows_them_all_the_same() -> None:
    """Gigabytes go to a file, and only their hash stays."""
    verifier = Verifier(len(DATA))
    for offset, view in chunks(DATA, offset=0, chunk_bytes=4):
        verifier.take(verifier.check(offset, view))

    verifier.finish(chunks=verifier.chunks, size=len(DATA), sha256=digest(DATA))

    assert verifier.received == len(DATA)


def test_chunk_is_checked_and_not_taken_nothing_changes() -> None:
    """A disk that refuses it leaves the transfer where it was."""
    verifier = Verifier(len(DATA))

    verifier.check(0, DATA)

    assert (verifier.received, verifier.chunks) == (0, 0)


def test_offsets_beyond_4_gb_are_numbers_like_any_other() -> None:
    """No count in the way wraps at 2**31 or 2**32."""
    size = 5 << 30
    verifier = Verifier(size)
    verifier.received = size - 3

    assert bytes(verifier.check(size - 3, b"abc")) == b"abc"
    with pytest.raises(TransferError):
        verifier.check(size - 3, b"abcd")


class TestChunkLimit:
    """Chunks that a link carries."""

    def test_nothing_came_through_smaller_ones_are_tried_down_to_the_least(self) -> None:
        """A link too slow for a chunk between two signs of life carries smaller ones."""
        limit = ChunkLimit()

        tried = [limit.begin(b"digest", "selector:1", 0) for _ in range(5)]

        assert tried[0] == LARGE_CHUNK_BYTES
        assert tried == sorted(tried, reverse=True)
        assert tried[1] < CHUNK_BYTES
        assert tried[-2:] == [CHUNK_BYTES_MIN] * 2

    def test_some_came_through_the_size_stays(self) -> None:
        """Then the link was cut for another reason, or is just fast enough."""
        limit = ChunkLimit()

        tried = [limit.begin(b"digest", "selector:1", offset) for offset in (0, 1, 2, 0)]

        assert tried == [LARGE_CHUNK_BYTES] * 4

    @pytest.mark.parametrize(
        ("rate", "largest"),
        [
            (1_000, LARGE_CHUNK_BYTES // SHRINK),
            (100_000, int(100_000 * CHUNK_S)),
            (10**8, LARGE_CHUNK_BYTES),
        ],
    )
    def test_transfer_goes_well_at_last_its_rate_says_how_large_the_next_ones_are(
        self, rate: int, largest: int
    ) -> None:
        """Nobody behind a slow line waits again; whoever's selector had died is fast again."""
        limit = ChunkLimit()
        for _ in range(2):
            limit.begin(b"digest", 0)
        shrunk = limit.bytes
        limit.went(10 * rate, 10.0)

        assert shrunk == LARGE_CHUNK_BYTES // SHRINK
        assert limit.begin(b"another", 0) == limit.bytes == largest

    def test_transfer_is_done_the_same_bytes_once_more_are_no_second_try(self) -> None:
        """Who fetches a checkpoint again has lost it, and is not behind a slow line."""
        limit = ChunkLimit()
        for _ in range(3):
            assert limit.begin(b"digest", 0) == LARGE_CHUNK_BYTES
            limit.went(10**6, 1.0)

    def test_transfer_takes_no_time_at_all_it_was_a_fast_one(self) -> None:
        """A clock may stand still that long."""
        limit = ChunkLimit()
        for _ in range(2):
            limit.begin(b"digest", 0)
        limit.went(10**6, 0.0)

        assert limit.bytes == LARGE_CHUNK_BYTES
