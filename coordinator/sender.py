"""Tells one webserver everything, in order, for as long as it takes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from coordinator.outbox import Letter
from coordinator.webhook import Post, Verdict, shown
from federation.errors import StoreError
from federation.runtime.telemetry import get_logger

log = get_logger()

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.25, 30.0
"""Pause before another try: doubles up to the largest, drawn evenly from half of it up."""

LETTERS_AT_ONCE = 32
"""Updates that are taken from the outbox at a time; so many a restart may repeat."""

BYTES_AT_ONCE = 8 << 20
"""As well, their bytes."""


class Mailbox(Protocol):
    """What is to be delivered to one webserver."""

    async def waiting(self, count_max: int, bytes_max: int) -> list[Letter]:
        """Return the oldest updates that it is owed; raises ``StoreError``."""

    async def delivered(self, position: int) -> None:
        """Up to there it has everything; raises ``StoreError``."""


@dataclass
class Tally:
    """What became of the updates to one webserver, in this process."""

    delivered: int = 0
    refused: int = 0
    failed: int = 0


class Sender:
    """The updates to one webserver.

    Progress is sent only to who has all stages, and only the newest: the next one says more.

    Args:
        url: Where it is.
        mailbox: Its stages and session changes.
        post: Sends one.
        draw: Draws a pause in seconds between two bounds.

    Attributes:
        tally: What became of them.
        failing: The last try failed.
    """

    def __init__(
        self,
        url: str,
        mailbox: Mailbox,
        post: Post,
        *,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.url = url
        self.tally = Tally()
        self.failing = False
        self._mailbox = mailbox
        self._post = post
        self._draw = draw
        self._news = asyncio.Event()
        self._rests = asyncio.Event()
        self._progress: Letter | None = None
        self._sent = ""
        self._backoff_s = 0.0
        self._log = log.bind(webserver=shown(url))

    def look(self) -> None:
        """There may be something new in the mailbox."""
        if not self.failing:
            self._rests.clear()
        self._news.set()

    def offer(self, progress: Letter) -> None:
        """Send this unless something newer is there when its turn comes.

        All stages before it are in the mailbox.
        """
        self._progress = progress
        self.look()

    async def rests(self) -> None:
        """Wait until everything is delivered, or a try failed."""
        await self._rests.wait()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            self._news.clear()
            progress = self._progress  # before the look: what is in there now is older
            letters = await self._until_read()
            if letters:
                await self._deliver_all(letters)
            elif progress is not None:
                if self._progress is progress:
                    self._progress = None
                if progress.sequence > self._sent:
                    await self._try_to_deliver(progress)
            else:
                self._rests.set()
                await self._news.wait()

    async def _until_read(self) -> list[Letter]:
        letters: list[Letter] = []

        async def read() -> None:
            letters[:] = await self._mailbox.waiting(LETTERS_AT_ONCE, BYTES_AT_ONCE)

        await self._until_done(read)
        return letters

    async def _deliver_all(self, letters: list[Letter]) -> None:
        last = 0
        try:
            for letter in letters:
                while not await self._try_to_deliver(letter):
                    last = await self._note_delivered(last)
                last = letter.position
            last = await self._note_delivered(last)
        finally:
            if last:  # cancelled in between: what is not noted is sent once more
                with suppress(StoreError):
                    await self._mailbox.delivered(last)

    async def _note_delivered(self, last: int) -> int:
        """Note what was delivered up to there, if it is not; return 0."""
        if last:
            await self._until_done(lambda: self._mailbox.delivered(last))
        return 0

    async def _until_done(self, do: Callable[[], Awaitable[None]]) -> None:
        """Try until the disk does it."""
        pause_s = BACKOFF_MIN_S
        while True:
            try:
                await do()
            except StoreError as error:
                self._log.error("outbox not used", reason=error.reason, detail=error.detail)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, BACKOFF_MAX_S)
            else:
                return

    async def _try_to_deliver(self, letter: Letter) -> bool:
        """Send it; if that failed, wait. Say whether it is done with."""
        answer = await self._post(self.url, letter.body)
        if answer.verdict is Verdict.LATER:
            self.tally.failed += 1
            if not self.failing:
                self._log.warning("webserver not reached; tried again", why=answer.detail)
            self.failing = True
            self._rests.set()
            self._backoff_s = min(max(2 * self._backoff_s, BACKOFF_MIN_S), BACKOFF_MAX_S)
            await asyncio.sleep(self._draw(self._backoff_s / 2, self._backoff_s))
            return False
        if self.failing:
            self._log.info("webserver reached again")
        self.failing, self._backoff_s = False, 0.0
        self._sent = letter.sequence
        if answer.verdict is Verdict.REFUSED:
            self.tally.refused += 1
            self._log.error(
                "webserver refused an update, which is left out",
                reason="update-refused",
                sequence=letter.sequence,
                detail=answer.detail,
            )
        else:
            self.tally.delivered += 1
        return True
