"""The coordinator's durable memory: the journal and the records, written by one thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from coordinator.journal import Journal, JournalSize
from coordinator.ledger import Happening, Ledger
from coordinator.record import RoundOutcome
from coordinator.records import Records
from federation.phases import Phase
from federation.runtime.disk import make_directory, store_errors
from federation.runtime.telemetry import get_logger

log = get_logger()

T = TypeVar("T")

STAGES_OF_A_ROUND = len(Phase)

RECORDS_BYTES_MAX = 4 << 20
"""Records that are read at a start, so that it takes no time that anybody notices."""


def _ignore(seconds: float) -> None:
    pass


class Memory:
    """What outlives the process.

    Args:
        folder: The coordinator's own folder in the shared directory.
        last_round_number: Highest number of a round that the shared directory knows of.
        told: The number of the last stage that the outbox took; None where there is no outbox.

    Attributes:
        ledger: As it was when the process before this one ended.
        at_s: Time has certainly reached this, Unix seconds.
        untold: The stages that the outbox did not take, in order.
        told: Kept up to date by the announcer: what is not told stays in the journal.
        on_sync: Told how many seconds each entry took to become durable; called in a thread.

    Raises:
        StoreError: The disk refused.
    """

    def __init__(self, folder: Path, last_round_number: int = 0, told: int | None = None) -> None:
        with store_errors(folder, "make"):
            make_directory(folder)
        self._journal = Journal(folder / "journal")
        recovered = self._journal.recover(told)
        if recovered.set_aside is not None:
            log.error(
                "journal cannot be read and was set aside; the round that ran is abandoned",
                reason="journal-damaged",
                file=str(recovered.set_aside),
                detail=recovered.damage,
            )
        self._records = Records(folder / "rounds")
        highest = max(last_round_number, self._records.highest, recovered.ledger.last_round_number)
        if recovered.set_aside is not None:
            highest += 1  # of the round that ran; each before it left a record
        ledger = recovered.ledger.numbered_from(highest)
        if not ledger.sequence:
            # Without a journal, too, no stage has the number of an earlier one.
            ledger = replace(ledger, sequence=max(told or 0, STAGES_OF_A_ROUND * highest))
        self.ledger = ledger
        self.untold = recovered.untold
        self.told = told
        self.at_s = recovered.at_s
        self.on_sync: Callable[[float], object] = _ignore
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")

    async def renew(self, ledger: Ledger, now_s: float) -> None:
        """Begin a new generation of the journal; see ``Journal.renew``."""

        def renew() -> None:
            keep = self.told is not None and self.told < ledger.sequence
            self._journal.renew(ledger, now_s, keep_older=keep)

        await self._in_thread(renew)

    async def append(
        self, happenings: Sequence[Happening], now_s: float, *, is_outcome: bool = False
    ) -> None:
        """Return once these are durable; see ``Journal.append``."""

        def append() -> None:
            began_s = time.perf_counter()
            self._journal.append(happenings, now_s, is_outcome=is_outcome)
            self.on_sync(time.perf_counter() - began_s)

        await self._in_thread(append)

    @property
    def has_grown(self) -> bool:
        """A new generation of the journal is due."""
        return self._journal.has_grown

    @property
    def journal_size(self) -> JournalSize:
        """How long the newest generation of the journal is."""
        return self._journal.size

    async def save(self, record: RoundOutcome) -> None:
        """Make the record of a round durable; see ``Records.save``."""
        await self._in_thread(lambda: self._records.save(record))

    async def load(self, round_number: int) -> RoundOutcome | None:
        """Return what is remembered of a round; see ``Records.load``."""
        return await self._in_thread(lambda: self._records.load(round_number))

    async def newest(self, count: int) -> list[RoundOutcome]:
        """Return the newest records, oldest first; see ``Records.newest``."""
        return await self._in_thread(lambda: self._records.newest(count, RECORDS_BYTES_MAX))

    def remembered(self, from_round: int) -> list[int]:
        """Return the numbers of the rounds that are remembered, ascending, from this one on."""
        return self._records.numbers(from_round)

    def shut_down(self) -> None:
        """Write no more."""
        self._disk.shutdown(wait=True, cancel_futures=True)
        self._journal.close()

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, function)
