"""The selector's gRPC service for clients: streams and bytes in and out, verified."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from federation import shapes
from federation.chunking import CHUNK_BYTES
from federation.errors import PeerError, TransferError
from federation.identifiers import checked_client_id
from federation.runtime import wire
from federation.runtime.frames import Piece
from federation.v1 import participation_pb2 as pb
from federation.v1 import participation_pb2_grpc
from selector.artifacts import ModelFile
from selector.cohort import Cohort, Transfer
from selector.selector import Selector
from selector.sessions import Result
from selector.uploads import Upload

SESSION_ID_MAX = 64
"""Characters of a session id that a client may show."""

METRICS_MAX = 32
"""Metrics of one report that are kept, so that many reports fit into a message."""

METRIC_NAME_BYTES_MAX = 64
"""A metric with a longer name is not kept."""

_REASON = re.compile(r"[a-z][a-z0-9-]{0,63}")


class ParticipationService(participation_pb2_grpc.ParticipationServicer):
    """Speaks with clients; the selector decides."""

    def __init__(self, selector: Selector, report_stall_s: float) -> None:
        self._selector = selector
        self._desk = selector.desk
        self._report_stall_s = report_stall_s

    async def CheckIn(  # type: ignore[override]
        self, request: pb.CheckInRequest, context: Any
    ) -> None:
        """Hold the client until it is declined, aborted or has its receipt."""
        wire.require_protocol(request.protocol_version)
        client_id = checked_client_id(request.client_id)
        _check_session_id(request.session_id)
        stream = self._selector.check_in(client_id, request.session_id)
        try:
            while True:
                event, written = await stream.next()
                if event is None:
                    return
                await context.write(event)
                if written is not None:
                    written()
        finally:
            self._selector.stream_ended(stream)

    async def FetchArtifact(  # type: ignore[override]
        self, request: pb.FetchArtifactRequest, context: Any
    ) -> None:
        """Send the artifact's bytes from the offset on."""
        artifact = self._selector.find_artifact(request.sha256)
        size = artifact.descriptor().size_bytes
        if request.offset > size:
            raise PeerError(
                f"offset {request.offset} is beyond the artifact's {size} bytes",
                reason="wrong-offset",
            )
        frames = artifact.frames(request.offset, request.chunk_bytes)
        if isinstance(artifact, ModelFile):
            while (frame := await asyncio.to_thread(next, frames, None)) is not None:
                await context.write(frame)
        else:
            for frame in frames:
                await context.write(frame)
            self._desk.note_training(request.session_token)
        self._desk.metrics.sent_bytes.inc(size - request.offset)

    async def BeginReport(
        self, request: pb.BeginReportRequest, context: Any
    ) -> pb.BeginReportResponse:
        """Permit the report before its bytes are sent."""
        return await self._desk.begin_report(
            request.session_token, request.size_bytes, request.client_id
        )

    async def Report(
        self, request_iterator: AsyncIterator[pb.ReportFrame | Piece], context: Any
    ) -> pb.ReportReceipt:
        """Receive, verify and judge one report."""
        frames = aiter(request_iterator)
        start = await self._start(frames)
        cohort, member, upload = self._desk.find_upload(start.session_token, start.client_id)
        if upload is not None and not upload.complete:
            await self._receive(cohort, upload, start, frames)
        elif await self._desk.is_judged(member) and member.transfer is not None:
            repeated = await self._other_report(member.transfer, frames)
            if repeated is not None:
                return self._desk.repeated(repeated)
        if upload is not None and upload.refusal is not None:
            raise upload.refusal
        if not await self._desk.is_judged(member):
            raise PeerError("a report needs a permission first", reason="no-permission")
        return self._desk.receipt_for(member)

    async def _other_report(
        self, judged: Transfer, frames: AsyncIterator[pb.ReportFrame | Piece]
    ) -> Transfer | None:
        """Read a report that comes after one was judged; return it if it is another one."""
        received = 0
        with contextlib.suppress(TransferError):
            while received <= judged.size_bytes + CHUNK_BYTES:
                frame = await self._next(frames)
                if isinstance(frame, Piece):
                    received += len(frame.data)
                elif frame.WhichOneof("frame") == "end":
                    end = frame.end
                    other = Transfer(end.chunks, end.size_bytes, end.sha256)
                    return other if end.sha256 != judged.sha256 else None
        return None  # cut short: whoever sent it asks again

    async def _start(self, frames: AsyncIterator[pb.ReportFrame | Piece]) -> pb.ReportStart:
        first = await self._next(frames)
        if isinstance(first, Piece) or first.WhichOneof("frame") != "start":
            raise TransferError("a report begins with its start frame", reason="no-start")
        return first.start

    async def _receive(
        self,
        cohort: Cohort,
        upload: Upload,
        start: pb.ReportStart,
        frames: AsyncIterator[pb.ReportFrame | Piece],
    ) -> None:
        """Take the bytes in; the update is judged only once all of them are verified."""
        await upload.settle()
        assembler = upload.assembler
        if start.size_bytes != assembler.size or start.offset != assembler.received:
            raise TransferError(
                f"the permission was for {assembler.size} bytes from {assembler.received} on, not "
                f"{start.size_bytes} from {start.offset} on; ask for another",
                reason="wrong-offset",
            )
        upload.stream += 1
        stream = upload.stream
        upload.member.reach(shapes.SENDING)
        while True:
            frame = await self._next(frames)
            if cohort.closed:
                return  # the report was discarded as late
            if upload.stream != stream:
                raise TransferError("another stream sends this report now", reason="superseded")
            if upload.freed:
                raise TransferError("the permission was taken back; ask again", reason="stalled")
            upload.touched_s = time.monotonic()
            if not isinstance(frame, Piece) and frame.WhichOneof("frame") == "end":
                await self._finish(cohort, upload, start, frame.end)
                return
            await self._add(upload, frame)

    async def _next(self, frames: AsyncIterator[pb.ReportFrame | Piece]) -> pb.ReportFrame | Piece:
        try:
            async with asyncio.timeout(self._report_stall_s):
                return await anext(frames)
        except TimeoutError:
            raise TransferError("no byte came for too long", reason="stalled") from None
        except StopAsyncIteration:
            raise TransferError(
                "the stream ended before the report's end frame", reason="truncated"
            ) from None

    async def _add(self, upload: Upload, frame: pb.ReportFrame | Piece) -> None:
        try:
            if not isinstance(frame, Piece):
                raise TransferError("only data frames may follow here", reason="no-data")
            await upload.add(frame.offset, frame.data)
            self._desk.metrics.received_bytes.inc(len(frame.data))
        except TransferError:
            self._desk.free_upload(upload)
            raise

    async def _finish(
        self, cohort: Cohort, upload: Upload, start: pb.ReportStart, end: pb.ReportEnd
    ) -> None:
        assembler = upload.assembler
        try:
            assembler.finish(chunks=end.chunks, size=end.size_bytes, sha256=end.sha256)
        except TransferError:
            self._desk.free_upload(upload)
            raise
        upload.complete = True
        transfer = Transfer(assembler.chunks, assembler.received, end.sha256)
        metrics = _kept(start.metrics)
        training_s = start.training_s if _is_duration(start) else None
        await self._desk.judge(cohort, upload, transfer, start.num_examples, metrics, training_s)

    async def Withdraw(self, request: pb.WithdrawRequest, context: Any) -> pb.WithdrawResponse:
        """A client bows out."""
        reason = request.reason if _REASON.fullmatch(request.reason) else "not-given"
        window = self._desk.withdraw(request.session_token, reason, request.client_id)
        return pb.WithdrawResponse(retry_window=wire.retry_window_to_wire(window))

    async def GetCheckpoint(
        self, request: pb.GetCheckpointRequest, context: Any
    ) -> pb.GetCheckpointResponse:
        """Describe the current global checkpoint, or wait for the one that a session ends with."""
        selector, found = self._selector, Result("", running=False)
        if request.final:
            _check_session_id(request.session_id)
            wait_s = wire.seconds_from_wire(request.wait_s)
            found = await selector.sessions.result(request.session_id, wait_s)
        if found.running:
            return pb.GetCheckpointResponse(session_id=found.session_id, session_running=True)
        if found.digest:
            number, checkpoint = await selector.final_checkpoint(found.digest)
        else:
            number, checkpoint = await selector.current_checkpoint()
        model = await selector.model()
        return pb.GetCheckpointResponse(
            round_number=number,
            artifact=checkpoint.descriptor(),
            model=model.descriptor() if model is not None else None,
            session_id=found.session_id,
        )


def _check_session_id(session_id: str) -> None:
    if len(session_id) > SESSION_ID_MAX:
        raise PeerError("this is no session id", reason="malformed-session-id")


def _is_duration(start: pb.ReportStart) -> bool:
    seconds = start.training_s
    return start.HasField("training_s") and math.isfinite(seconds) and seconds >= 0


def _kept(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that can be told on: finite ones with short names, not too many."""
    fit = {
        name: value
        for name, value in metrics.items()
        if math.isfinite(value) and len(name.encode()) <= METRIC_NAME_BYTES_MAX
    }
    return dict(sorted(fit.items())[:METRICS_MAX])
