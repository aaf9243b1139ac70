"""A client's part in a round: fetch, train, ask, report.

The trained update is kept with its round, so that a selector that is lost after the training costs
no training, and neither does the client's own process where it has a state on disk.
"""

from __future__ import annotations

import asyncio
import threading
import time

import grpc.aio

from client.artifacts import Artifacts
from client.kept import Claim, Tally
from client.place import Place, Seat, source_at, why_failed
from client.selectors import Selectors
from client.state import ClientState
from client.trainer import (
    Trainer,
    TrainerFailed,
    TrainerThread,
    TrainingStopped,
    TrainingTask,
)
from client.update import Update, fit, frames
from federation.chunking import ChunkLimit
from federation.errors import PeerError, StoreError
from federation.plan import RetryWindow
from federation.runtime import wire
from federation.runtime.telemetry import get_logger
from federation.v1 import participation_pb2 as pb

log = get_logger()

CALL_TIMEOUT_S = 30.0
"""A short call without an answer for so long has failed."""

RECEIPT_TIMEOUT_S = 5.0
"""A receipt that was lost is asked for once, and waited for so long."""

KEEP_FIRST_S = 10.0
"""What was trained for longer is on disk before it is reported; else both go on at a time."""

KEEP_TIMEOUT_S = 15.0
"""A disk that takes longer is not waited for: the round's deadline is."""


class Contributor:
    """Takes part in one round after the other.

    Args:
        client_id: The name under which it does.
        trainer: What trains.
        thread: Where it does.
        place: Where the client sits; kept up to date by the session.
        artifacts: What it fetched.
        state: What outlives this process.

    Attributes:
        failures: Rounds in a row without a report.
    """

    def __init__(
        self,
        client_id: str,
        trainer: Trainer,
        thread: TrainerThread,
        place: Place,
        artifacts: Artifacts,
        state: ClientState,
    ) -> None:
        self.failures = 0
        self._client_id = client_id
        self._trainer = trainer
        self._thread = thread
        self._place = place
        self._artifacts = artifacts
        self._state = state
        self._update = state.update
        self._limit = ChunkLimit()
        self._log = log.bind(client_id=client_id)

    @property
    def accepted(self) -> int:
        """Rounds in which a report was folded."""
        return self._state.tally.accepted

    async def contribute(
        self, configured: pb.Configured, stop_training: threading.Event
    ) -> RetryWindow:
        """Fetch, train and report; return when to come back.

        Raises:
            SettingsError: The trainer cannot work with what the operator gave; it is still to be
                withdrawn.
        """
        try:
            if self._update is None or self._update.round_id != configured.round_id:
                self._update = None
                self._state.drop()
                self._update = await self._train(configured, stop_training)
            window = await self._report(self._update, configured.session_id)
        except (TrainerFailed, TrainingStopped) as error:
            self._log.error("trainer failed", exc_info=error.__cause__ or error)
            return await self._fail("trainer-failed")
        except (PeerError, StoreError) as error:
            self._log.error("round given up", reason=error.reason, detail=error.detail)
            return await self._fail(error.reason)
        self.failures = 0
        return window

    async def withdraw(self, reason: str) -> RetryWindow:
        """Bow out of the round; return when to come back."""

        async def call(seat: Seat) -> RetryWindow:
            request = pb.WithdrawRequest(
                session_token=seat.token, reason=reason, client_id=self._client_id
            )
            response = await seat.stub.Withdraw(request, timeout=CALL_TIMEOUT_S)
            if self._state.claim is None:  # else it may have a receipt, which is asked for
                self._state.drop()
            return wire.retry_window_from_wire(response.retry_window)

        return await self._place.persist(call)

    async def _fail(self, reason: str) -> RetryWindow:
        """Count a round without a report, and bow out of it."""
        self.failures += 1
        return await self.withdraw(reason)

    async def _train(self, configured: pb.Configured, stop_training: threading.Event) -> Update:
        deadline_s = time.monotonic() + configured.deadline_s
        by_kind = {artifact.kind: artifact for artifact in configured.artifacts}
        model_path = None
        if self._trainer.needs_model and pb.ARTIFACT_KIND_MODEL in by_kind:
            model = by_kind[pb.ARTIFACT_KIND_MODEL]
            model_path = await self._place.persist(
                lambda seat: self._artifacts.model(model, source_at(seat.stub, self._limit))
            )
        checkpoint = by_kind[pb.ARTIFACT_KIND_CHECKPOINT]
        base = await self._place.persist(
            lambda seat: self._artifacts.checkpoint(
                checkpoint, source_at(seat.stub, self._limit, seat.token)
            )
        )
        task = TrainingTask(
            round_number=configured.round_number,
            round_id=configured.round_id,
            hyperparameters=wire.hyperparameters_from_wire(configured.hyperparameters),
            deadline_s=deadline_s - time.monotonic(),
            model_path=model_path,
            stop=stop_training,
            client_id=self._client_id,
        )
        began_s = time.monotonic()
        update = await self._thread.run(fit, self._trainer, base, task)
        seconds = time.monotonic() - began_s
        self._log.info("trained", round_number=task.round_number, seconds=round(seconds, 3))
        seat, session_id = self._place.seat, configured.session_id
        claim = _claim(update, session_id, seat) if seat is not None else None
        kept = self._state.keep(update, claim)
        if kept is not None and seconds > KEEP_FIRST_S:
            await asyncio.wait({asyncio.wrap_future(kept)}, timeout=KEEP_TIMEOUT_S)
        return update

    async def _report(self, update: Update, session_id: str) -> RetryWindow:
        """Ask, then send; tried again until there is a receipt or the round is over."""

        async def call(seat: Seat) -> pb.ReportReceipt | pb.Aborted:
            claim = _claim(update, session_id, seat)
            if claim != self._state.claim:
                self._state.report_at(claim)
            return await _try_to_report(seat, update, self._limit)

        receipt = await self._place.persist(call)
        return self._settle(update.round_id, session_id, receipt)

    async def ask_for_receipt(self, selectors: Selectors) -> bool:
        """Ask once for the receipt of a report that was not answered; say whether it came."""
        claim = self._state.claim
        if claim is None or claim.selector not in selectors.known:
            return False
        request = pb.BeginReportRequest(
            session_token=claim.token, size_bytes=claim.size_bytes, client_id=self._client_id
        )
        try:
            stub = selectors.stub_of(claim.selector)
            begun = await stub.BeginReport(request, timeout=RECEIPT_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            self._log.info("receipt not found", why=why_failed(error))
            return False
        match begun.WhichOneof("answer"):
            case "receipt":
                self._settle(claim.round_id, claim.session_id, begun.receipt)
                return True
            case "aborted":
                self._settle(claim.round_id, claim.session_id, begun.aborted)
        return False  # permitted: it was not judged, and is reported once there is a seat

    def _settle(
        self, round_id: str, session_id: str, receipt: pb.ReportReceipt | pb.Aborted
    ) -> RetryWindow:
        """Note what became of the round's report; return when to come back."""
        tally = self._state.tally
        if isinstance(receipt, pb.Aborted):
            self._log.info("report not wanted", reason=receipt.reason)
        elif receipt.outcome == pb.REPORT_OUTCOME_ACCEPTED:
            # A report that went down with a selector is accepted once more by another, and a
            # receipt that went down with this process is given once more.
            if round_id != tally.round_id:
                self._state.count(Tally(tally.accepted + 1, round_id, session_id))
            self._log.info("report accepted", accepted=self.accepted)
        else:
            self._log.warning("report not accepted", reason=receipt.reason, detail=receipt.detail)
        self._state.drop()
        return wire.retry_window_from_wire(receipt.retry_window)


def _claim(update: Update, session_id: str, seat: Seat) -> Claim:
    return Claim(update.round_id, session_id, seat.selector, len(update.buffer), seat.token)


async def _try_to_report(
    seat: Seat, update: Update, limit: ChunkLimit
) -> pb.ReportReceipt | pb.Aborted:
    request = pb.BeginReportRequest(
        session_token=seat.token,
        size_bytes=len(update.buffer),
        client_id=update.start.client_id,
    )
    begun = await seat.stub.BeginReport(request)
    match begun.WhichOneof("answer"):
        case "receipt":
            receipt: pb.ReportReceipt = begun.receipt
            return receipt
        case "aborted":
            aborted: pb.Aborted = begun.aborted
            return aborted
    permission = begun.permission
    offset = permission.resume_offset
    largest = limit.begin(update.sha256, seat.selector, offset)
    began_s = time.monotonic()
    answer: pb.ReportReceipt = await seat.stub.Report(
        frames(update, seat.token, permission, largest)
    )
    limit.went(len(update.buffer) - offset, time.monotonic() - began_s)
    return answer
