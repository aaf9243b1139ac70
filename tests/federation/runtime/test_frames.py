"""Chunks on the wire: the same messages as the generated code's, for any valid encoding."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from federation.runtime.frames import (
    Piece,
    decode_chunk,
    decode_report_frame,
    encode_chunk,
    encode_report_frame,
)
from federation.v1 import participation_pb2 as pb

OFFSETS = st.one_of(st.sampled_from([0, 1, 127, 128, 2**32, 2**63 - 1, 2**63, 2**64 - 1]))
DATA = st.one_of(st.binary(max_size=300), st.sampled_from([bytes(127), bytes(128), bytes(70_000)]))

START = pb.ReportFrame(start=pb.ReportStart(session_token="token", size_bytes=3))
END = pb.ReportFrame(end=pb.ReportEnd(chunks=1, size_bytes=3, sha256=b"digest"))


@given(OFFSETS, DATA)
def test_chunk_is_encoded_as_protobuf_encodes_it(offset: int, data: bytes) -> None:
    """A client generated in any language reads it."""
    encoded = encode_chunk(offset, memoryview(data))

    assert encoded == pb.Chunk(offset=offset, data=data).SerializeToString()


@given(OFFSETS, DATA)
def test_piece_is_encoded_as_protobuf_encodes_a_data_frame(offset: int, data: bytes) -> None:
    """A selector generated in any language reads it."""
    encoded = encode_report_frame(Piece(offset, memoryview(data)))

    frame = pb.ReportFrame(data=pb.Chunk(offset=offset, data=data))
    assert encoded == frame.SerializeToString()


@given(OFFSETS, DATA)
def test_chunk_of_generated_code_is_decoded(offset: int, data: bytes) -> None:
    """Whoever wrote it."""
    piece = decode_chunk(pb.Chunk(offset=offset, data=data).SerializeToString())

    assert piece == Piece(offset, memoryview(data))


@given(OFFSETS, DATA)
def test_data_frame_of_generated_code_is_decoded(offset: int, data: bytes) -> None:
    """Whoever wrote it."""
    frame = pb.ReportFrame(data=pb.Chunk(offset=offset, data=data))

    assert decode_report_frame(frame.SerializeToString()) == Piece(offset, memoryview(data))


@pytest.mark.parametrize("frame", [START, END, pb.ReportFrame()])
def test_other_frames_stay_messages(frame: pb.ReportFrame) -> None:
    """Only data frames carry models."""
    encoded = encode_report_frame(frame)

    assert encoded == frame.SerializeToString()
    assert decode_report_frame(encoded) == frame


UNUSUAL_CHUNKS = {
    "data before the offset": b"\x12\x03abc\x08\x05",
    "offset twice": b"\x08\x01\x08\x05\x12\x03abc",
    "data twice": b"\x08\x05\x12\x01z\x12\x03abc",
    "unknown field": b"\x08\x05\x12\x03abc\x18\x07",
    "padded varints": b"\x08\x85\x00\x12\x83\x80\x00abc",
    "padded to ten bytes": b"\x08\x85" + b"\x80" * 8 + b"\x00\x12\x03abc",
    "padded tag": b"\x88\x00\x05\x12\x03abc",
}


@pytest.mark.parametrize("chunk", UNUSUAL_CHUNKS.values(), ids=UNUSUAL_CHUNKS)
def test_chunk_is_encoded_in_an_unusual_way_it_is_decoded_all_the_same(chunk: bytes) -> None:
    """Any valid encoding of the message, as protobuf reads it."""
    frame = b"\x12" + bytes((len(chunk),)) + chunk

    assert decode_chunk(chunk) == Piece(5, memoryview(b"abc"))
    assert decode_report_frame(frame) == Piece(5, memoryview(b"abc"))


def test_data_frame_comes_in_two_parts_they_are_merged() -> None:
    """As protobuf merges a message that is there twice."""
    frame = b"\x12\x02\x08\x05" + b"\x12\x05\x12\x03abc"

    assert decode_report_frame(frame) == Piece(5, memoryview(b"abc"))


def test_data_frame_is_followed_by_an_end_frame_the_last_one_counts() -> None:
    """As protobuf reads a oneof."""
    frame = encode_report_frame(Piece(5, memoryview(b"abc"))) + END.SerializeToString()

    assert decode_report_frame(frame) == END


@given(st.binary(max_size=40))
def test_any_bytes_are_read_as_the_generated_code_reads_them(message: bytes) -> None:
    """What is refused there is refused here, and nothing else."""
    try:
        expected = pb.Chunk.FromString(message)
    except DecodeError:
        with pytest.raises(DecodeError):
            decode_chunk(message)
        return

    assert decode_chunk(message) == Piece(expected.offset, memoryview(expected.data))


def test_bytes_of_a_chunk_are_not_copied() -> None:
    """They are a window on the message."""
    message = encode_chunk(7, bytes(1000))

    assert decode_chunk(message).data.obj is message
