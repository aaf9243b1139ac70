"""What happened, made durable: in groups, and in spite of a disk that refuses for a while."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

from coordinator.events import CommitFinished, Stopped
from coordinator.ledger import Happening, Ledger, Turn
from coordinator.memory import Memory
from coordinator.round import Closing
from federation.errors import StoreError
from federation.runtime.clock import Clock
from federation.runtime.telemetry import get_logger

log = get_logger()

STORAGE_RETRY_S = 1.0
"""Pause before another try at what the disk refused."""


class Durability:
    """Writes what must last, or says how the running round ends since it cannot be written.

    Args:
        memory: Where it is written.
        clock: Time.
        tell_changed: Called when ``failure`` changes.

    Attributes:
        failure: Why nothing can be made durable at the moment; empty while it can.
    """

    def __init__(self, memory: Memory, clock: Clock, tell_changed: Callable[[], None]) -> None:
        self.failure = ""
        self._memory = memory
        self._clock = clock
        self._tell_changed = tell_changed

    async def keep(
        self, ledger: Ledger, happenings: Sequence[Happening]
    ) -> tuple[Stopped | None, float]:
        """Return once these are durable, as far as they must be, and the time that they have.

        If the disk refuses while a round runs, that round's end is durable instead, and is returned
        to be taken first; the happenings are then to be kept again.
        """
        now_s = self._clock.now_s()
        lasting = [happening for happening in happenings if _must_last(ledger, happening)]
        if not lasting:
            return None, now_s
        is_outcome = any(isinstance(happening, CommitFinished) for happening in lasting)
        try:
            await self._memory.append(lasting, now_s, is_outcome=is_outcome)
        except StoreError as error:
            log.error("journal not written", reason=error.reason, detail=error.detail)
            self._failed(error)
            if _may_stop(ledger):
                # Space was taken for it, or a new generation has some.
                stopped = Stopped(error.reason)
                return stopped, await self._until_written(ledger, [stopped], is_outcome=True)
            await self._try_to_renew(ledger)
            now_s = await self._until_written(ledger, lasting, is_outcome=is_outcome)
        self.failure = ""
        return None, now_s

    async def _until_written(
        self, ledger: Ledger, happenings: Sequence[Happening], *, is_outcome: bool
    ) -> float:
        """Write these, in a new generation where one has failed; return the time that they have."""
        for attempt in itertools.count():
            if attempt > 1:
                await asyncio.sleep(STORAGE_RETRY_S)
            now_s = self._clock.now_s()
            try:
                await self._memory.append(happenings, now_s, is_outcome=is_outcome)
            except StoreError as error:
                self._failed(error)
                await self._try_to_renew(ledger)
            else:
                return now_s
        raise AssertionError("the count does not end")

    async def _try_to_renew(self, ledger: Ledger) -> None:
        try:
            await self._memory.renew(ledger, self._clock.now_s())
        except StoreError as error:
            self._failed(error)

    async def until_done(self, write: Callable[[], Awaitable[None]]) -> None:
        """Try to write until the disk takes it."""
        while True:
            try:
                await write()
            except StoreError as error:
                log.error("disk refuses", reason=error.reason, detail=error.detail)
                self._failed(error)
                await asyncio.sleep(STORAGE_RETRY_S)
            else:
                return

    def _failed(self, error: StoreError) -> None:
        self.failure = error.reason
        self._tell_changed()


def _must_last(ledger: Ledger, happening: Happening) -> bool:
    """Clients that wait for no round are named again by their selectors after a restart."""
    return ledger.running is not None or isinstance(happening, Turn)


def _may_stop(ledger: Ledger) -> bool:
    """A round whose commit point is being passed ends as the history says."""
    return ledger.running is not None and ledger.running.closing is not Closing.PUBLISHING
