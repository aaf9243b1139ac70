"""What a client knows that outlives its process: a trained update, and the count of its reports.

On disk it is written by a thread of its own, in order, so that nobody waits who does not want to,
and a disk that refuses costs the next process something, not this one. Where a report goes is
written before it is under way, and the count before the update is deleted: whenever the process is
killed, the next one can find out what became of the report, and counts it once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from client.kept import (
    Claim,
    Damaged,
    Record,
    Tally,
    lock_folder,
    read_record,
    read_update,
    remove_update,
    write_record,
    write_update,
)
from client.update import Update
from federation.errors import StoreError
from federation.runtime.telemetry import get_logger

log = get_logger()


class ClientState:
    """The state of one client; this one is gone with its process.

    Attributes:
        client_id: Whose it is; empty if it does not say.
        tally: The accepted reports.
        update: What was trained and has no receipt yet.
        claim: Where the report without a receipt goes.
    """

    def __init__(self) -> None:
        self.client_id = ""
        self.tally = Tally()
        self.update: Update | None = None
        self.claim: Claim | None = None

    def keep(self, update: Update, claim: Claim | None) -> Future[None] | None:
        """Keep a trained update until it is dropped; done when it is on disk, if it comes there.

        Args:
            update: What was trained.
            claim: Where it will be reported, if that is known.
        """
        self.update, self.claim = update, claim
        return None

    def report_at(self, claim: Claim) -> None:
        """It is reported there."""
        self.claim = claim

    def count(self, tally: Tally) -> None:
        """So many reports are accepted now."""
        self.tally = tally

    def drop(self) -> None:
        """The update is of no use any more: it has a receipt, or its round is over."""
        self.update = self.claim = None

    def forget(self) -> None:
        """The client did what it was to do: the next process begins anew."""
        self.drop()
        self.count(Tally())

    def close(self) -> None:
        """Wait until all is written, and let another process have it."""


class DiskState(ClientState):
    """The same in a folder; what an earlier process left there is here at once.

    Args:
        folder: One client's own; made if it is missing.
        client_id: Whose it is; None: the client's that it was before, else ``new_client_id``.
        new_client_id: See there.

    Raises:
        SettingsError: Another process has it (``state-in-use``).
        StateUnusable: The disk refused.
    """

    def __init__(self, folder: Path, client_id: str | None, new_client_id: str = "") -> None:
        super().__init__()
        self._folder = folder
        self._lock = lock_folder(folder)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._written: Record | None = None
        self._restore(client_id, new_client_id)
        self._note()  # also so that a client without a given name is the same one next time

    def keep(self, update: Update, claim: Claim | None) -> Future[None]:
        super().keep(update, claim)
        self._note()

        def write() -> None:
            wanted = write_update(
                self._folder, self.client_id, update, lambda: self.update is update
            )
            if wanted:
                log.debug("update kept", round_id=update.round_id)

        return self._do(write)

    def report_at(self, claim: Claim) -> None:
        super().report_at(claim)
        self._note()

    def count(self, tally: Tally) -> None:
        super().count(tally)
        self._note()

    def drop(self) -> None:
        was_kept = self.update is not None
        super().drop()
        self._note()
        if was_kept:
            self._do(lambda: remove_update(self._folder))

    def close(self) -> None:
        self._writer.shutdown()
        self._lock.close()

    def _restore(self, client_id: str | None, new_client_id: str) -> None:
        kept = None
        try:
            kept = self._written = read_record(self._folder)
        except Damaged as damage:
            log.warning("kept count not usable", state=str(self._folder), why=str(damage))
        if kept is not None and client_id not in (None, kept.client_id):
            log.warning("count of another client not used", client_id=kept.client_id)
            kept = None
        self.client_id = client_id or (kept.client_id if kept is not None else new_client_id)
        if kept is not None:
            self.tally, self.claim = kept.tally, kept.claim
        try:
            self.update = read_update(self._folder, self.client_id)
        except Damaged as damage:
            log.warning("kept update not usable", state=str(self._folder), why=str(damage))
            remove_update(self._folder)
        if self.update is not None:
            round_id = self.update.round_id
            log.info("kept update found", round_id=round_id)
            if self.claim is not None and self.claim.round_id != round_id:
                self.update = None  # of the round before

    def _note(self) -> None:
        """Write what is known now; by when it is its turn that may be more."""
        self._record = Record(self.client_id, self.tally, self.claim)
        self._do(self._write_record)

    def _write_record(self) -> None:
        record = self._record
        if record != self._written:
            write_record(self._folder, record)
            self._written = record

    def _do(self, job: Callable[[], None]) -> Future[None]:
        def tried() -> None:
            try:
                job()
            except StoreError as error:
                log.warning("state not kept", reason=error.reason, detail=error.detail)

        return self._writer.submit(tried)
