"""A client by hand: the stub of the wire contract and nothing of ours, to send anything at all."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import grpc.aio
from numpy.typing import NDArray

from federation.runtime.rpc import create_channel
from federation.tensors import decode, encode
from federation.v1 import participation_pb2 as pb
from federation.v1 import participation_pb2_grpc, plan_pb2
from tests.waiting import within

Weights = Mapping[str, NDArray[Any]]

CHUNK_BYTES = 1 << 20


def sha256(data: bytes | bytearray) -> bytes:
    """The digest as it goes over the wire."""
    return hashlib.sha256(data).digest()


def start_frame(
    token: str,
    size: int,
    *,
    offset: int = 0,
    num_examples: int = 1,
    metrics: Mapping[str, float] | None = None,
) -> pb.ReportFrame:
    """The first frame of a report."""
    return pb.ReportFrame(
        start=pb.ReportStart(
            session_token=token,
            size_bytes=size,
            offset=offset,
            num_examples=num_examples,
            metrics=metrics or {},
        )
    )


def data_frames(
    data: bytes | bytearray, *, offset: int = 0, chunk_bytes: int = CHUNK_BYTES
) -> list[pb.ReportFrame]:
    """The bytes of a report from an offset on."""
    return [
        pb.ReportFrame(data=pb.Chunk(offset=at, data=bytes(data[at : at + chunk_bytes])))
        for at in range(offset, len(data), chunk_bytes)
    ]


def end_frame(data: bytes | bytearray, *, chunks: int = 1) -> pb.ReportFrame:
    """The last frame of a report."""
    end = pb.ReportEnd(chunks=chunks, size_bytes=len(data), sha256=sha256(data))
    return pb.ReportFrame(end=end)


def report_frames(
    token: str, data: bytes | bytearray, num_examples: int = 1, **metrics: float
) -> list[pb.ReportFrame]:
    """A whole report in one stream."""
    pieces = data_frames(data)
    return [
        start_frame(token, len(data), num_examples=num_examples, metrics=metrics),
        *pieces,
        end_frame(data, chunks=len(pieces)),
    ]


class RawClient:
    """One client of one selector.

    Args:
        address: HOST:PORT of the selector.
        client_id: Its name.
    """

    def __init__(self, address: str, client_id: str) -> None:
        self.client_id = client_id
        self.token = ""
        self._channel = create_channel(address, 10.0, 5.0)
        self.stub: Any = participation_pb2_grpc.ParticipationStub(self._channel)
        self._call: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._channel.close()

    # -- The check-in stream --------------------------------------------------------------------

    async def check_in(self, session_id: str = "", **changes: Any) -> pb.CheckInEvent:
        """Open a new stream and return its first event."""
        request: dict[str, Any] = {
            "protocol_version": plan_pb2.PROTOCOL_VERSION_1,
            "client_id": self.client_id,
            "session_id": session_id,
        }
        self._call = self.stub.CheckIn(pb.CheckInRequest(**(request | changes)))
        event = await self.next_event()
        assert event is not None
        return event

    async def next_event(self) -> pb.CheckInEvent | None:
        """Return the next event of the stream; None at its end."""
        event = await within(self._call.read())
        return None if event is grpc.aio.EOF else event

    async def configured(self) -> pb.Configured:
        """Wait for the configuration, and keep its token."""
        event = await self.next_event()
        assert event is not None
        assert event.WhichOneof("event") == "configured", event
        self.token = event.configured.session_token
        return event.configured

    def cut(self) -> None:
        """End the stream from this side."""
        self._call.cancel()

    # -- Artifacts ------------------------------------------------------------------------------

    async def fetch(self, digest: bytes, offset: int = 0, chunk_bytes: int = 0) -> bytes:
        """Fetch an artifact's bytes from an offset on, in chunks of the size that was asked for."""
        request = pb.FetchArtifactRequest(sha256=digest, offset=offset, chunk_bytes=chunk_bytes)
        data = bytearray()

        async def receive() -> None:
            async for chunk in self.stub.FetchArtifact(request):
                assert chunk.offset == offset + len(data)
                assert len(chunk.data) <= (chunk_bytes or CHUNK_BYTES)
                data.extend(chunk.data)

        await within(receive())
        return bytes(data)

    async def base(self, configured: pb.Configured) -> Weights:
        """Fetch and decode the global weights."""
        kinds = {artifact.kind: artifact for artifact in configured.artifacts}
        return decode(await self.fetch(kinds[pb.ARTIFACT_KIND_CHECKPOINT].sha256))

    # -- Reports --------------------------------------------------------------------------------

    async def begin(self, size: int) -> pb.BeginReportResponse:
        """Ask for permission."""
        request = pb.BeginReportRequest(
            session_token=self.token, size_bytes=size, client_id=self.client_id
        )
        response: pb.BeginReportResponse = await within(self.stub.BeginReport(request))
        return response

    async def send(self, frames: Iterable[pb.ReportFrame]) -> pb.ReportReceipt:
        """Send frames as they are, and return the receipt."""

        async def stream() -> AsyncIterator[pb.ReportFrame]:
            for frame in frames:
                yield frame

        receipt: pb.ReportReceipt = await within(self.stub.Report(stream()))
        return receipt

    async def report(
        self, weights: Weights, num_examples: int = 1, **metrics: float
    ) -> pb.ReportReceipt:
        """Ask, send an update, and return the receipt."""
        data = encode(weights)
        begun = await self.begin(len(data))
        assert begun.WhichOneof("answer") == "permission", begun
        return await self.send(report_frames(self.token, data, num_examples, **metrics))

    def open_report(self) -> Any:
        """Open a stream for frames that are written one by one."""
        return self.stub.Report()

    async def withdraw(self, reason: str) -> pb.WithdrawResponse:
        """Bow out."""
        request = pb.WithdrawRequest(session_token=self.token, reason=reason)
        response: pb.WithdrawResponse = await within(self.stub.Withdraw(request))
        return response
