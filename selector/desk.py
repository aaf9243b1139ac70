"""The desk for reports: permission, buffer, verdict, receipt.

What is decided about a report is in the cohort; here are the waiting, the thread that folds, and
what client and coordinator are told of the verdict.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from numpy.typing import NDArray

from federation import shapes
from federation.errors import PeerError, StoreError
from federation.plan import RetryWindow
from federation.runtime import wire
from federation.runtime.telemetry import get_logger
from federation.tensors import Buffer, decode
from federation.tokens import read
from federation.v1 import coordination_pb2, participation_pb2
from selector import reports
from selector.cohort import Cohort, Member, Standing, Transfer
from selector.metrics import SelectorMetrics
from selector.streams import Streams, aborted
from selector.uploads import Upload, Uploads

log = get_logger()

UPDATE_SLACK_BYTES = 1 << 20
"""A report may be so much larger than the checkpoint, for another writer's header."""

STALL_LOOK_S = 1.0
"""Pause between two looks for reports that stalled."""

_DEFAULT_WINDOW = RetryWindow(1.0, 5.0)


@dataclass
class Served:
    """The rounds that a selector knows: the running one, and the one before for its receipts.

    Attributes:
        cohort: Of the running round.
        ended: Of the one before.
        expected_end_s: When the running round is expected to be over, on the monotonic clock.
        token_key: Of the coordinator.
        fallbacks: HOST:PORT of other selectors, for clients that cannot be served here.
    """

    token_key: bytes
    cohort: Cohort | None = None
    ended: Cohort | None = None
    expected_end_s: float = 0.0
    fallbacks: list[str] = field(default_factory=list)

    def find(self, token: str, client_id: str = "") -> tuple[Cohort, Member]:
        """Return whose token this is; raises ``PeerError`` if it is nobody's, or not this one's."""
        for cohort in (self.cohort, self.ended):
            member = cohort.member_of(token) if cohort is not None else None
            if cohort is not None and member is not None:
                if client_id not in ("", member.client_id):
                    raise PeerError("this token is another client's", reason="foreign-token")
                return cohort, member
        if read(self.token_key, token) is not None:
            raise PeerError(
                "this claim is not with this selector, or its round is over: check in again",
                reason="claim-not-here",
            )
        raise PeerError("no claim has this token", reason="unknown-token")

    def end(self) -> None:
        """The running round is over; its receipts are kept until the next one is."""
        self.ended, self.cohort = self.cohort, None

    @property
    def soon(self) -> RetryWindow:
        """When clients come back that are wanted, though not here."""
        known = self.cohort or self.ended
        return known.order.retry_window if known is not None else _DEFAULT_WINDOW

    @property
    def retry_window(self) -> RetryWindow:
        """When clients come back that are done, or not wanted: when the next round selects."""
        if self.cohort is not None:
            left_s = self.expected_end_s - time.monotonic()
            return self.cohort.order.retry_window.not_before(left_s)
        return self.ended.order.retry_window if self.ended is not None else _DEFAULT_WINDOW


@dataclass(frozen=True)
class Messenger:
    """How the desk reaches the rest of the selector.

    Attributes:
        tell: Hands an event to the coordinator's stream.
        is_attached: Says whether the coordinator is heard.
        keep: Keeps an accepted update for an audit; None: it is not kept.
        broke: Called when a fold failed half-way, so that the cohort's sum cannot be used.
        spool: Makes a screened update outlive this process, before it is folded; blocks, and
            raises ``StoreError``. None: updates do not.
    """

    tell: Callable[[coordination_pb2.SelectorEvent], None]
    is_attached: Callable[[], bool]
    keep: Callable[[Cohort, Member, Buffer], Awaitable[None]] | None
    broke: Callable[[Cohort], None]
    spool: Callable[[Cohort, Member, Buffer], None] | None = None


def decoded(cohort: Cohort, buffer: Buffer) -> dict[str, NDArray[Any]]:
    """Return an update's tensors; raises ``MalformedTensors``."""
    header_bytes_max = cohort.spec.encoded_bytes - cohort.spec.nbytes + UPDATE_SLACK_BYTES
    return decode(buffer, header_bytes_max=header_bytes_max)


class ReportDesk:
    """Takes the reports of the rounds that a selector serves.

    Args:
        served: The rounds.
        streams: The check-in streams; one ends with its client's receipt.
        messenger: The rest of the selector.
        reports_in_flight_max: Reports that are received at once.
        report_stall_s: A permitted report without bytes for so long loses its place.

    Attributes:
        metrics: What was counted.
    """

    def __init__(
        self,
        served: Served,
        streams: Streams,
        messenger: Messenger,
        *,
        reports_in_flight_max: int,
        report_stall_s: float,
    ) -> None:
        self._served = served
        self._streams = streams
        self._messenger = messenger
        self._uploads = Uploads(reports_in_flight_max, report_stall_s)
        self._closed = asyncio.Event()
        self._verdicts: dict[str, asyncio.Task[None]] = {}
        self._folder = ThreadPoolExecutor(1, thread_name_prefix="fold")
        self.metrics = SelectorMetrics()

    # -- What clients ask -----------------------------------------------------------------------

    async def begin_report(
        self, token: str, size: int, client_id: str = ""
    ) -> participation_pb2.BeginReportResponse:
        """Permit a report before its bytes are sent, or say why not.

        Raises:
            PeerError: The token or the size is none of ours, or the coordinator is not heard.
        """
        cohort, member = self._served.find(token, client_id)
        if await self.is_judged(member) or not cohort.may_report(member):
            return self._not_wanted(cohort, member)
        member.reach(shapes.TRAINED)
        self._require_attached()
        size_max = cohort.spec.encoded_bytes + UPDATE_SLACK_BYTES
        if not 0 < size <= size_max:
            raise PeerError(
                f"a report of {size} bytes is not possible here: at most {size_max} are taken",
                reason="update-too-large",
            )
        upload = await self._permit(member, size)
        if await self.is_judged(member) or upload is None or not cohort.may_report(member):
            if upload is not None:
                self._uploads.free(upload)
            return self._not_wanted(cohort, member)
        self._require_attached()
        held = upload.assembler
        permission = participation_pb2.Permission(
            resume_offset=held.received, resume_chunks=held.chunks
        )
        return participation_pb2.BeginReportResponse(permission=permission)

    async def _permit(self, member: Member, size: int) -> Upload | None:
        """Wait for a buffer; None if reporting closed before there was one."""
        waiting = asyncio.ensure_future(self._uploads.permit(member, size))
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({waiting, closed}, return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            waiting.cancel()
            closed.cancel()

    def _not_wanted(self, cohort: Cohort, member: Member) -> participation_pb2.BeginReportResponse:
        """Hand out the receipt that there is, or say why no bytes are wanted."""
        if member.judged:
            return participation_pb2.BeginReportResponse(receipt=self.receipt_for(member))
        reason = "reporting-closed" if cohort is self._served.cohort else "round-over"
        window = wire.retry_window_to_wire(self._served.retry_window)
        not_now = participation_pb2.Aborted(reason=reason, retry_window=window)
        return participation_pb2.BeginReportResponse(aborted=not_now)

    def note_training(self, token: str) -> None:
        """The client with this token, if it is one's, has what it needs to train."""
        with contextlib.suppress(PeerError):
            self._served.find(token)[1].reach(shapes.TRAINING)

    def find_upload(self, token: str, client_id: str = "") -> tuple[Cohort, Member, Upload | None]:
        """Return the permitted report of this token, if it still is one."""
        cohort, member = self._served.find(token, client_id)
        return cohort, member, self._uploads.find(token)

    def free_upload(self, upload: Upload) -> None:
        """Give the report's buffer back: its bytes are of no use."""
        self._uploads.free(upload)

    def withdraw(self, token: str, reason: str, client_id: str = "") -> RetryWindow:
        """A client bows out of the round; a verdict that there is stays."""
        cohort, member = self._served.find(token, client_id)
        if cohort.withdraw(member, reason):
            self.metrics.judged(member)
            self._forget_bytes(member)
            self._tell_verdict(cohort, member)
        self._streams.finish(member.client_id, token)
        return self._served.retry_window

    @property
    def uploads_in_flight(self) -> int:
        """Buffers that reports have."""
        return len(self._uploads)

    # -- Verdicts -------------------------------------------------------------------------------

    async def judge(
        self,
        cohort: Cohort,
        upload: Upload,
        transfer: Transfer,
        num_examples: int,
        metrics: Mapping[str, float],
        training_s: float | None = None,
    ) -> None:
        """Screen and fold a verified report; whoever goes away meanwhile changes nothing."""
        member = upload.member
        if cohort.begin_fold(member, transfer, num_examples, metrics, training_s):
            self._follow(member, self._fold(cohort, upload))
        else:
            self._uploads.free(upload)
        await self.is_judged(member)

    async def is_judged(self, member: Member) -> bool:
        """Wait for a verdict that is under way; say whether there is one."""
        task = self._verdicts.get(member.token)
        if task is not None:
            await asyncio.shield(task)
        return member.judged

    def receipt_for(self, member: Member) -> participation_pb2.ReportReceipt:
        """Return a judged member's receipt; its check-in stream has lasted until here.

        Raises:
            PeerError: The coordinator is not heard, so that the verdict may not count.
        """
        self._require_attached()
        member.receipt_given = True
        self._streams.finish(member.client_id, member.token)
        return reports.receipt_of(member, self._served.retry_window)

    def repeated(self, transfer: Transfer) -> participation_pb2.ReportReceipt:
        """Return the receipt of another report than the one that was judged."""
        return participation_pb2.ReportReceipt(
            chunks=transfer.chunks,
            size_bytes=transfer.size_bytes,
            sha256=transfer.sha256,
            outcome=participation_pb2.REPORT_OUTCOME_DISCARDED,
            reason="repeated",
            detail="another report of this client was judged in this round",
            retry_window=wire.retry_window_to_wire(self._served.retry_window),
        )

    def fold_again(self, cohort: Cohort, member: Member, load: Callable[[], Buffer]) -> None:
        """Fold a report that an earlier process accepted; those asked for first come first.

        Args:
            cohort: Of the running round.
            member: Whose report it is; its claim is marked.
            load: Returns the update's bytes, verified; blocks, and raises ``StoreError``.
        """
        self._follow(member, self._fold_again(cohort, member, load))

    def _follow(self, member: Member, verdict: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(verdict)
        self._verdicts[member.token] = task
        task.add_done_callback(lambda _: self._verdicts.pop(member.token, None))

    async def _fold(self, cohort: Cohort, upload: Upload) -> None:
        member, buffer = upload.member, upload.assembler.buffer
        spool = self._messenger.spool
        keep = partial(spool, cohort, member, buffer) if spool is not None else None

        def fold() -> None:
            with self.metrics.fold_seconds.time():
                cohort.fold(member, decoded(cohort, buffer), keep)

        upload.refusal = await self._refusal(cohort, member, fold)
        if self._messenger.keep is not None and member.standing is Standing.ACCEPTED:
            await self._messenger.keep(cohort, member, buffer)
        self._uploads.free(upload)
        self._conclude(cohort, member)

    async def _fold_again(self, cohort: Cohort, member: Member, load: Callable[[], Buffer]) -> None:
        def fold() -> None:
            if not cohort.sealed:  # else the round is over, and its files may be gone
                cohort.fold(member, decoded(cohort, load()))

        await self._refusal(cohort, member, fold)
        self._conclude(cohort, member)

    async def _refusal(
        self, cohort: Cohort, member: Member, fold: Callable[[], None]
    ) -> StoreError | None:
        """Fold and judge; return the disk's refusal for which the claim was released instead."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._folder, fold)
        except PeerError as error:
            cohort.reject(member, error)
        except StoreError as error:
            log.error(
                "report not kept",
                client_id=member.client_id,
                reason=error.reason,
                detail=error.detail,
            )
            if cohort.unable(member, error.reason, "the selector could not keep it"):
                self.give_up_claims(cohort, [member], "selector-failed")
                return error
        except Exception:
            log.exception("fold failed", client_id=member.client_id)
            cohort.reject(member, PeerError("the selector could not fold it", reason="fold-failed"))
            cohort.break_sum("fold-failed")
            self._messenger.broke(cohort)
        else:
            cohort.accept(member)
        return None

    def _conclude(self, cohort: Cohort, member: Member) -> None:
        """Tell of the verdict, if there is one."""
        if not member.judged:
            return
        log.info(
            "report judged",
            client_id=member.client_id,
            verdict=member.standing.value,
            reason=member.reason,
            detail=member.detail,
            weight=member.num_examples,
        )
        self.metrics.judged(member)
        self._tell_verdict(cohort, member)

    def give_up_claims(self, cohort: Cohort, members: Iterable[Member], reason: str) -> None:
        """Tell the coordinator and the clients that others may take these reports."""
        client_ids = [member.client_id for member in members]
        self._messenger.tell(reports.released_event(cohort.order.round_id, client_ids))
        for client_id in client_ids:
            self._streams.end(client_id, aborted(reason, self._served.soon, self._served.fallbacks))

    def _tell_verdict(self, cohort: Cohort, member: Member) -> None:
        event = reports.verdict_event(cohort.order.round_id, member)
        if event is not None and cohort is self._served.cohort:
            self._messenger.tell(event)

    # -- What the selector asks -----------------------------------------------------------------

    def open(self) -> None:
        """A round begins."""
        self._closed.clear()

    def close(
        self, cohort: Cohort, reason: str, window: RetryWindow, fallbacks: Sequence[str] = ()
    ) -> None:
        """Give no more permissions, and send away those whose reports did not come.

        Reports whose end frame had not arrived do not count; their bytes are forgotten.
        """
        self._closed.set()
        for member in cohort.close():
            received = self._forget_bytes(member)
            if received is not None:
                cohort.discard(member, "late", "reporting closed before the report was complete")
                member.transfer = received
                self.metrics.judged(member)
                self._tell_verdict(cohort, member)
            self._streams.end(member.client_id, aborted(reason, window, fallbacks))

    def tell_again(self, cohort: Cohort, member: Member) -> None:
        """Tell the coordinator a verdict that it does not know, if there is one."""
        self._tell_verdict(cohort, member)

    async def finish_folds(self, cohort: Cohort) -> None:
        """Wait for the verdicts of all that is being folded."""
        while cohort.folding and self._verdicts:
            await asyncio.wait(set(self._verdicts.values()))

    async def watch_stalls(self) -> None:
        """Take back the permissions of reports that stalled; runs until cancelled."""
        while True:
            await asyncio.sleep(min(STALL_LOOK_S, self._uploads.stall_s / 2))
            for upload in self._uploads.free_stalled():
                log.warning("report stalled", client_id=upload.member.client_id)

    def shut_down(self) -> None:
        """Give the thread back."""
        self._folder.shutdown(wait=False, cancel_futures=True)

    # -- Small things ---------------------------------------------------------------------------

    def _forget_bytes(self, member: Member) -> Transfer | None:
        """Free the member's buffer; return what had arrived of its report, if it was begun."""
        upload = self._uploads.find(member.token)
        if upload is None:
            return None
        self._uploads.free(upload)
        return Transfer(upload.assembler.chunks, upload.assembler.received, b"")

    def _require_attached(self) -> None:
        if not self._messenger.is_attached():
            raise PeerError("the coordinator is not heard from here", reason="not-attached")
