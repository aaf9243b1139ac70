"""A client's part in a round: fetch, train, ask, report.

The trained update is kept with its round, so that a selector that is lost after the training costs
no training.
"""

from __future__ import annotations

import threading
import time

from client.artifacts import Artifacts
from client.place import Place, Seat, source_at
from client.trainer import (
    Trainer,
    TrainerFailed,
    TrainerThread,
    TrainingStopped,
    TrainingTask,
)
from client.update import Update, fit, frames
from federation.errors import PeerError, StoreError
from federation.plan import RetryWindow
from federation.runtime import wire
from federation.runtime.telemetry import get_logger
from federation.v1 import participation_pb2 as pb

log = get_logger()

CALL_TIMEOUT_S = 30.0
"""A short call without an answer for so long has failed."""


class Contributor:
    """Takes part in one round after the other.

    Args:
        client_id: The name under which it does.
        trainer: What trains.
        thread: Where it does.
        place: Where the client sits; kept up to date by the session.
        artifacts: What it fetched.

    Attributes:
        accepted: Rounds in which a report was folded.
        failures: Rounds in a row without a report.
    """

    def __init__(
        self,
        client_id: str,
        trainer: Trainer,
        thread: TrainerThread,
        place: Place,
        artifacts: Artifacts,
    ) -> None:
        self.accepted = 0
        self.failures = 0
        self._client_id = client_id
        self._trainer = trainer
        self._thread = thread
        self._place = place
        self._artifacts = artifacts
        self._update: Update | None = None
        self._accepted_round_id = ""
        self._log = log.bind(client_id=client_id)

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
                self._update = await self._train(configured, stop_training)
            window = await self._report(self._update)
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
                lambda seat: self._artifacts.model(model, source_at(seat.stub))
            )
        checkpoint = by_kind[pb.ARTIFACT_KIND_CHECKPOINT]
        base = await self._place.persist(
            lambda seat: self._artifacts.checkpoint(checkpoint, source_at(seat.stub, seat.token))
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
        self._log.info(
            "trained", round_number=task.round_number, seconds=round(time.monotonic() - began_s, 3)
        )
        return update

    async def _report(self, update: Update) -> RetryWindow:
        """Ask, then send; tried again until there is a receipt or the round is over."""
        receipt = await self._place.persist(lambda seat: _try_to_report(seat, update))
        if isinstance(receipt, pb.Aborted):
            self._log.info("report not wanted", reason=receipt.reason)
            return wire.retry_window_from_wire(receipt.retry_window)
        if receipt.outcome == pb.REPORT_OUTCOME_ACCEPTED:
            # A report that went down with a selector is accepted once more by another.
            self.accepted += update.round_id != self._accepted_round_id
            self._accepted_round_id = update.round_id
            self._log.info("report accepted", accepted=self.accepted)
        else:
            self._log.warning("report not accepted", reason=receipt.reason, detail=receipt.detail)
        return wire.retry_window_from_wire(receipt.retry_window)


async def _try_to_report(seat: Seat, update: Update) -> pb.ReportReceipt | pb.Aborted:
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
    offset = begun.permission.resume_offset
    answer: pb.ReportReceipt = await seat.stub.Report(frames(update, seat.token, offset))
    return answer
