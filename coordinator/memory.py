"""The coordinator's durable memory: the journal and the records, written by one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from coordinator.journal import Journal
from coordinator.ledger import Happening, Ledger
from coordinator.record import RoundOutcome
from coordinator.records import Records
from federation.runtime.disk import make_directory, store_errors
from federation.runtime.telemetry import get_logger

log = get_logger()

T = TypeVar("T")

RECORDS_BYTES_MAX = 4 << 20
"""Records that are read at a start, so that it takes no time that anybody notices."""


class Memory:
    """What outlives the process.

    Args:
        folder: The coordinator's own folder in the shared directory.
        last_round_number: Highest number of a round that the shared directory knows of.

    Attributes:
        ledger: As it was when the process before this one ended.
        at_s: Time has certainly reached this, Unix seconds.

    Raises:
        StoreError: The disk refused.
    """

    def __init__(self, folder: Path, last_round_number: int = 0) -> None:
        with store_errors(folder, "make"):
            make_directory(folder)
        self._journal = Journal(folder / "journal")
        recovered = self._journal.recover()
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
        self.ledger = recovered.ledger.numbered_from(highest)
        self.at_s = recovered.at_s
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")

    async def renew(self, ledger: Ledger, now_s: float) -> None:
        """Begin a new generation of the journal; see ``Journal.renew``."""
        await self._in_thread(lambda: self._journal.renew(ledger, now_s))

    async def append(
        self, happenings: Sequence[Happening], now_s: float, *, is_outcome: bool = False
    ) -> None:
        """Return once these are durable; see ``Journal.append``."""
        await self._in_thread(
            lambda: self._journal.append(happenings, now_s, is_outcome=is_outcome)
        )

    @property
    def has_grown(self) -> bool:
        """A new generation of the journal is due."""
        return self._journal.has_grown

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
