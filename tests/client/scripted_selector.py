"""A selector that does as it is told, for tests of the client that it serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from numpy.typing import NDArray

from federation.chunking import chunks
from federation.runtime.rpc import bind, create_server
from federation.tensors import decode, encode
from federation.v1 import participation_pb2 as pb
from federation.v1 import participation_pb2_grpc, plan_pb2
from tests.raw_client import sha256
from tests.servers import HOST, KEEPALIVE_S, KEEPALIVE_TIMEOUT_S
from tests.waiting import within

CHUNK_BYTES = 1 << 20
WINDOW = plan_pb2.RetryWindow(delay_min_s=1.5, delay_max_s=2.5)


class Visit:
    """One check-in stream."""

    def __init__(self, request: pb.CheckInRequest, context: Any) -> None:
        self.request = request
        self.ended = asyncio.Event()
        self._context = context

    async def send(self, **event: Any) -> None:
        """Send one event, named as in the contract."""
        await self._context.write(pb.CheckInEvent(**event))

    async def hold(self, session_id: str = "") -> None:
        """Say that the client is held, and which session runs."""
        await self.send(held=pb.Held(selector_id="north", session_id=session_id))

    async def decline(self, reason: str = "goal-reached", *fallbacks: str) -> None:
        """Send the client away."""
        declined = pb.Declined(reason=reason, retry_window=WINDOW, fallbacks=fallbacks)
        await self.send(declined=declined)
        self.ended.set()

    async def abort(self, reason: str = "reporting-closed", *fallbacks: str) -> None:
        """Go on without the client."""
        aborted = pb.Aborted(reason=reason, retry_window=WINDOW, fallbacks=fallbacks)
        await self.send(aborted=aborted)
        self.ended.set()


@dataclass
class Report:
    """One report as it came.

    Attributes:
        start: Its first frame.
        data: Its bytes.
        chunks: Its data frames, with those that earlier streams brought.
        end: Its last frame.
    """

    start: pb.ReportStart
    data: bytes
    chunks: int
    end: pb.ReportEnd

    @property
    def weights(self) -> Mapping[str, NDArray[Any]]:
        """The update."""
        return decode(self.data)


def a_receipt(outcome: int = pb.REPORT_OUTCOME_ACCEPTED, reason: str = "") -> pb.ReportReceipt:
    """What a client is told of its report."""
    return pb.ReportReceipt(outcome=outcome, reason=reason, retry_window=WINDOW)  # type: ignore[arg-type]


Begin = Callable[[pb.BeginReportRequest], pb.BeginReportResponse]
Describe = Callable[[pb.GetCheckpointRequest], pb.GetCheckpointResponse]


def _none_is_asked_for(request: pb.GetCheckpointRequest) -> pb.GetCheckpointResponse:
    raise AssertionError("a client of a round asks for no checkpoint")


@dataclass
class ScriptedSelector(participation_pb2_grpc.ParticipationServicer):
    """Leaves everything to the test.

    Attributes:
        port: Where it listens.
        visits: Each check-in stream.
        reports: Each report that came whole.
        withdrawals: Each client that bowed out.
        artifacts: By digest.
        fetched: Digest and offset of each fetch.
        chunk_bytes: Largest chunk that each fetch asked for.
        cuts: Fetches that are cut before a chunk is through.
        begin: Answers those who ask for permission; may raise ``Refuse``.
        receipt: Answers reports.
        checkpoint: Answers those who ask for a checkpoint; may raise ``Refuse``.
        asked: What they asked.
        cut_after: Bytes after which a report's stream is cut, once.
    """

    port: int = 0
    visits: asyncio.Queue[Visit] = field(default_factory=asyncio.Queue)
    reports: asyncio.Queue[Report] = field(default_factory=asyncio.Queue)
    withdrawals: asyncio.Queue[pb.WithdrawRequest] = field(default_factory=asyncio.Queue)
    artifacts: dict[bytes, bytes] = field(default_factory=dict)
    fetched: list[tuple[bytes, int]] = field(default_factory=list)
    chunk_bytes: list[int] = field(default_factory=list)
    cuts: int = 0
    begin: Begin | None = None
    receipt: pb.ReportReceipt = field(default_factory=a_receipt)
    checkpoint: Describe = field(default_factory=lambda: _none_is_asked_for)
    asked: list[pb.GetCheckpointRequest] = field(default_factory=list)
    cut_after: int | None = None
    received: bytearray = field(default_factory=bytearray)
    chunks: int = 0
    server: grpc.aio.Server | None = None

    # -- What the test says ---------------------------------------------------------------------

    async def start(self, port: int = 0) -> None:
        """Serve."""
        self.server = create_server(KEEPALIVE_S, KEEPALIVE_TIMEOUT_S)
        participation_pb2_grpc.add_ParticipationServicer_to_server(self, self.server)
        self.port = bind(self.server, HOST, port)
        await self.server.start()

    async def stop(self) -> None:
        """Be gone, as after a crash."""
        if self.server is not None:
            await self.server.stop(0.0)

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{HOST}:{self.port}"

    async def visit(self, session_id: str = "") -> Visit:
        """Wait for the next check-in, and hold the client."""
        visit = await within(self.visits.get())
        await visit.hold(session_id)
        return visit

    def offer(self, weights: Mapping[str, NDArray[Any]]) -> pb.Artifact:
        """Have these global weights fetched."""
        return self.offer_bytes(bytes(encode(weights)), pb.ARTIFACT_KIND_CHECKPOINT)

    def offer_bytes(self, data: bytes, kind: pb.ArtifactKind.ValueType) -> pb.Artifact:
        """Have these bytes fetched."""
        digest = sha256(data)
        self.artifacts[digest] = data
        return pb.Artifact(kind=kind, sha256=digest, size_bytes=len(data))

    async def configured(
        self, weights: Mapping[str, NDArray[Any]], round_number: int = 1, **changes: Any
    ) -> Visit:
        """Wait for the next check-in, and configure the client for a round."""
        visit = await self.visit()
        await self.configure(visit, self.offer(weights), round_number, **changes)
        return visit

    async def configure(self, visit: Visit, *artifacts_and_number: Any, **changes: Any) -> None:
        """Configure a held client; the last argument is the number of the round."""
        *artifacts, round_number = artifacts_and_number
        values: dict[str, Any] = {
            "round_id": f"round-{round_number}",
            "round_number": round_number,
            "session_id": "this-session",
            "hyperparameters": plan_pb2.Hyperparameters(epochs=1, batch_size=8, learning_rate=0.5),
            "session_token": f"token-{self.port}",
            "artifacts": artifacts,
            "deadline_s": 60.0,
        }
        await visit.send(configured=pb.Configured(**(values | changes)))

    # -- What the client asks -------------------------------------------------------------------

    async def CheckIn(  # type: ignore[override]  # noqa: N802
        self, request: pb.CheckInRequest, context: Any
    ) -> None:
        visit = Visit(request, context)
        self.visits.put_nowait(visit)
        await visit.ended.wait()

    async def FetchArtifact(  # type: ignore[override]  # noqa: N802
        self, request: pb.FetchArtifactRequest, context: Any
    ) -> None:
        self.fetched.append((request.sha256, request.offset))
        self.chunk_bytes.append(request.chunk_bytes)
        data = self.artifacts[request.sha256]
        if self.cuts:
            self.cuts -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the test")
        size = min(CHUNK_BYTES, request.chunk_bytes)
        for offset, view in chunks(data, offset=request.offset, chunk_bytes=size):
            await context.write(pb.Chunk(offset=offset, data=bytes(view)))

    async def BeginReport(  # noqa: N802
        self, request: pb.BeginReportRequest, context: Any
    ) -> pb.BeginReportResponse:
        try:
            if self.begin is not None:
                return self.begin(request)
        except Refuse as refusal:
            await context.abort(refusal.status, "refused by the test")
        held = pb.Permission(resume_offset=len(self.received), resume_chunks=self.chunks)
        return pb.BeginReportResponse(permission=held)

    async def Report(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ReportFrame], context: Any
    ) -> pb.ReportReceipt:
        start = pb.ReportStart()
        async for frame in request_iterator:
            match frame.WhichOneof("frame"):
                case "start":
                    start = frame.start
                    assert start.offset == len(self.received)
                case "data":
                    assert frame.data.offset == len(self.received)
                    self.received += frame.data.data
                    self.chunks += 1
                    if self.cut_after is not None and len(self.received) >= self.cut_after:
                        self.cut_after = None
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the test")
                case "end":
                    data, self.received = bytes(self.received), bytearray()
                    count, self.chunks = self.chunks, 0
                    self.reports.put_nowait(Report(start, data, count, frame.end))
        return self.receipt

    async def GetCheckpoint(  # noqa: N802
        self, request: pb.GetCheckpointRequest, context: Any
    ) -> pb.GetCheckpointResponse:
        self.asked.append(request)
        try:
            return self.checkpoint(request)
        except Refuse as refusal:
            await context.abort(refusal.status, "refused by the test")
            raise

    async def Withdraw(  # noqa: N802
        self, request: pb.WithdrawRequest, context: Any
    ) -> pb.WithdrawResponse:
        self.withdrawals.put_nowait(request)
        return pb.WithdrawResponse(retry_window=WINDOW)


class Refuse(Exception):
    """Ends a call with this status."""

    def __init__(self, status: grpc.StatusCode) -> None:
        super().__init__(status)
        self.status = status


@asynccontextmanager
async def a_scripted_selector() -> AsyncIterator[ScriptedSelector]:
    """Run a selector that does as it is told."""
    selector = ScriptedSelector()
    await selector.start()
    try:
        yield selector
    finally:
        await selector.stop()
