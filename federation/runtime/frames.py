"""Chunks on the wire without needless copies: the two methods that carry models.

The bytes are those of ``federation.v1.Chunk`` and ``federation.v1.ReportFrame``, as any generated
code writes and reads them. Only the way there differs: protobuf copies a ``bytes`` field at least
twice in each direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from federation.tensors import Buffer
from federation.v1 import participation_pb2 as pb
from federation.v1 import participation_pb2_grpc

_SERVICE = "federation.v1.Participation"

_OFFSET_TAG = 0x08
_DATA_TAG = 0x12
"""Field numbers and wire types: ``Chunk.offset``, ``Chunk.data`` and ``ReportFrame.data``."""

_VARINT_BYTES_MAX = 9
"""A longer varint, of numbers from 2**63 on, is left to protobuf."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A ``Chunk`` whose bytes lie elsewhere: in the model that is sent, in the frame that came."""

    offset: int
    data: memoryview


def encode_chunk(offset: int, data: Buffer) -> bytes:
    """Return the bytes of a ``Chunk``."""
    return b"".join((_chunk_head(offset, len(data)), data))


def decode_chunk(message: bytes) -> Piece:
    """Return what a ``Chunk`` holds; raises ``DecodeError`` for what is none."""
    piece = _cut_out(message, 0)
    if piece is None:
        chunk = pb.Chunk.FromString(message)
        return Piece(chunk.offset, memoryview(chunk.data))
    return piece


def encode_report_frame(frame: pb.ReportFrame | Piece) -> bytes:
    """Return the bytes of a ``ReportFrame``; a piece is its data frame."""
    if not isinstance(frame, Piece):
        return frame.SerializeToString()
    head = _chunk_head(frame.offset, len(frame.data))
    tag = bytes((_DATA_TAG,)) + _varint(len(head) + len(frame.data))
    return b"".join((tag, head, frame.data))


def decode_report_frame(message: bytes) -> pb.ReportFrame | Piece:
    """Return a start or end frame, or a data frame's piece; raises ``DecodeError``."""
    if message[:1] == bytes((_DATA_TAG,)):
        size, start = _read_varint(message, 1)
        piece = _cut_out(message, start) if start + size == len(message) else None
        if piece is not None:
            return piece
    frame = pb.ReportFrame.FromString(message)
    if frame.WhichOneof("frame") == "data":
        return Piece(frame.data.offset, memoryview(frame.data.data))
    return frame


def participation_stub(channel: grpc.aio.Channel) -> Any:
    """Return the service's stub: ``FetchArtifact`` yields pieces, ``Report`` takes them."""
    stub: Any = participation_pb2_grpc.ParticipationStub(channel)
    stub.FetchArtifact = channel.unary_stream(
        f"/{_SERVICE}/FetchArtifact",
        request_serializer=pb.FetchArtifactRequest.SerializeToString,
        response_deserializer=decode_chunk,
    )
    stub.Report = channel.stream_unary(
        f"/{_SERVICE}/Report",
        request_serializer=encode_report_frame,
        response_deserializer=pb.ReportReceipt.FromString,
    )
    return stub


def add_participation(
    servicer: participation_pb2_grpc.ParticipationServicer, server: grpc.aio.Server
) -> None:
    """Serve the service: ``FetchArtifact`` writes encoded chunks, ``Report`` reads pieces."""
    registration: Any = _Registration(server)
    participation_pb2_grpc.add_ParticipationServicer_to_server(servicer, registration)


class _Registration:
    """Stands between the generated code and the server, and changes what the two methods take."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The registered methods say the same."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        fetch, report = handlers["FetchArtifact"], handlers["Report"]
        changed = {
            **handlers,
            "FetchArtifact": grpc.unary_stream_rpc_method_handler(
                fetch.unary_stream,
                request_deserializer=fetch.request_deserializer,
                response_serializer=bytes,
            ),
            "Report": grpc.stream_unary_rpc_method_handler(
                report.stream_unary,
                request_deserializer=decode_report_frame,
                response_serializer=report.response_serializer,
            ),
        }
        generic = grpc.method_handlers_generic_handler(service, changed)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_registered_method_handlers(service, changed)


def _chunk_head(offset: int, size: int) -> bytes:
    """Return what comes before a chunk's data; as protobuf does it leaves out what is zero."""
    head = bytes((_OFFSET_TAG,)) + _varint(offset) if offset else b""
    return head + bytes((_DATA_TAG,)) + _varint(size) if size else head


def _cut_out(message: bytes, start: int) -> Piece | None:
    """Return the chunk that lies in a message from ``start`` on; None unless it is plain.

    Plain: the offset if it is not zero, then the data up to the end, as every known writer has it.
    """
    offset = 0
    if message[start : start + 1] == bytes((_OFFSET_TAG,)):
        offset, start = _read_varint(message, start + 1)
    if message[start : start + 1] != bytes((_DATA_TAG,)):
        return None
    size, start = _read_varint(message, start + 1)
    if start + size != len(message):
        return None
    return Piece(offset, memoryview(message)[start:])


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(message: bytes, start: int) -> tuple[int, int]:
    """Return the number at ``start``, and where it ends: beyond the message if it does not."""
    number = 0
    for index, byte in enumerate(message[start : start + _VARINT_BYTES_MAX]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, start + index + 1
    return 0, len(message) + 1
