"""Tells webservers of stages, sessions and progress, and never keeps a round waiting.

What the driver says is kept in memory at once, in the outbox soon, and delivered by a sender of its
own for each webserver. A stage that a crash took from memory is in the journal: the next start
tells of it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Any, TypeVar

from coordinator.driver import Driver
from coordinator.ledger import standing_of
from coordinator.memory import Memory
from coordinator.outbox import Letter, Outbox, Owed
from coordinator.picture import Picture, Stage, remembered
from coordinator.sender import Sender
from coordinator.updates import TURNS_MAX, Kind, Update, body_of, stage_update
from coordinator.webhook import Poster, Push
from federation.errors import StoreError
from federation.runtime.telemetry import get_logger
from federation.runtime.version import VERSION

log = get_logger()

T = TypeVar("T")

PROGRESS_PAUSE_S = 0.5
"""Least time between two updates of progress."""

HEARTBEAT_S = 10.0
"""Most time between them: who hears nothing for longer knows that something is wrong."""

UNSAVED_MAX = 1_000
"""Updates that are kept in memory while the disk refuses; the oldest are dropped beyond it."""

SAVED_AT_ONCE = 64
"""Updates that become durable together."""

SAVE_RETRY_S = 1.0
"""Pause before another try at what the disk refused."""

DEPTH_TIMEOUT_S = 5.0
"""Who asks how much waits is answered by then, or not at all."""

GOODBYE_S = 1.0
"""A coordinator that ends waits so long for the last updates to be delivered."""

_KEPT_TURNS = 10_000
"""Of the numbers between two stages so many are left to sessions, should progress use up all."""


class Announcer:
    """The coordinator's voice.

    Args:
        push: Who is told; at least one.
        outbox: What they are still to be told.
        memory: What the journal has; is told which stages need not stay in it.
        federation_id: Whose voice it is.
        epoch: Rises with each start of the coordinator.

    Attributes:
        senders: One for each webserver.
        dropped: Updates that the disk did not take for too long.
    """

    def __init__(
        self,
        push: Push,
        outbox: Outbox,
        memory: Memory,
        federation_id: str,
        epoch: int,
    ) -> None:
        self._push = push
        self._outbox = outbox
        self._memory = memory
        self._epoch = epoch
        self._stage, self._turn = 0, 0
        self._unsaved: deque[tuple[Update, str | None]] = deque()
        self._progress: Update | None = None
        self._news = asyncio.Event()
        self._saved = asyncio.Event()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._poster = Poster(push.secret)
        self._running: asyncio.Task[None] | None = None
        self.dropped = 0
        self.senders = [
            Sender(url, _Mailbox(self._in_thread, outbox, url), self._poster.post)
            for url in push.urls
        ]
        self._federation_id = federation_id

    # -- For the driver, which does not wait ----------------------------------------------------

    def stage_began(self, stage: Stage) -> None:
        """Tell of a stage."""
        self._keep(stage_update(stage))

    def session_changed(self, picture: Picture) -> None:
        """Tell where the session stands now."""
        update = self._numbered(Kind.SESSION, picture)
        self._keep(update, standing_of(picture.session))

    def _keep(self, update: Update, session: str | None = None) -> None:
        if len(self._unsaved) >= UNSAVED_MAX:
            self._unsaved.popleft()
            self.dropped += 1
            log.error("update dropped that the disk did not take", reason="outbox-full")
        self._unsaved.append((update, session))
        self._saved.clear()
        self._news.set()

    def _numbered(self, kind: Kind, picture: Picture) -> Update:
        if picture.sequence != self._stage:
            self._stage, self._turn = picture.sequence, 0
        self._turn += 1
        return Update(kind, picture, self._stage, epoch=self._epoch, turn=self._turn)

    def _note_progress(self, driver: Driver) -> None:
        picture = driver.picture()
        if picture.sequence != self._stage or self._turn < TURNS_MAX - _KEPT_TURNS:
            self._progress = self._numbered(Kind.PROGRESS, picture)
            self._news.set()

    # -- For metrics ----------------------------------------------------------------------------

    def depths(self) -> list[tuple[str, Owed, float]]:
        """Return for each webserver what it is still to be told, and its age in seconds.

        Blocks, and may be called in any thread. What cannot be read is left out.
        """
        try:
            owed = self._disk.submit(self._outbox.owed, self._push.urls).result(DEPTH_TIMEOUT_S)
        except (StoreError, TimeoutError, RuntimeError) as error:
            log.warning("outbox not read for metrics", detail=str(error) or type(error).__name__)
            return []
        now_s = time.time()
        return [
            (url, each, max(0.0, now_s - each.oldest_s) if each.oldest_s is not None else 0.0)
            for url, each in owed.items()
        ]

    @property
    def dropped_updates(self) -> int:
        """How many lasting updates were dropped, in this process."""
        return self.dropped + self._outbox.dropped

    # -- From start to stop ---------------------------------------------------------------------

    def begin(self) -> None:
        """Take up what the process before this one did not tell; raises ``StoreError``."""
        ledger = self._memory.ledger
        self._outbox.begin(self._push.urls, ledger.sequence)
        self._memory.told = self._outbox.told
        for stage in self._memory.untold:
            self.stage_began(stage)
        if standing_of(ledger.session) != self._outbox.session:
            self.session_changed(remembered(ledger, self._memory.at_s))

    def start(self, driver: Driver) -> None:
        """Tell what happens from here on; a failure of ours ends no round."""
        self._running = asyncio.create_task(self._run_for_ever(driver))

    async def stop(self) -> None:
        """Save what is not saved, give the webservers a moment, and end."""
        if self._running is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self._saved.wait()
                    for sender in self.senders:
                        await sender.rests()
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self._disk.shutdown(wait=True, cancel_futures=True)
        self._outbox.close()

    async def _run_for_ever(self, driver: Driver) -> None:
        while True:
            try:
                await self._run(driver)
            except Exception:
                log.exception("announcer failed and begins anew")
                await asyncio.sleep(SAVE_RETRY_S)

    async def _run(self, driver: Driver) -> None:
        async with self._poster, asyncio.TaskGroup() as tasks:
            everything: list[Coroutine[Any, Any, None]] = [
                self._save_for_ever(),
                self._follow(driver),
                self._beat(driver),
                *(sender.run() for sender in self.senders),
            ]
            for coroutine in everything:
                tasks.create_task(coroutine)
            for sender in self.senders:
                sender.look()

    async def _follow(self, driver: Driver) -> None:
        async for _ in driver.changes(PROGRESS_PAUSE_S):
            self._note_progress(driver)

    async def _beat(self, driver: Driver) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if self._progress is None:
                self._note_progress(driver)

    # -- Into the outbox ------------------------------------------------------------------------

    async def _save_for_ever(self) -> None:
        """Make durable what is to last, then offer the newest progress: never one before it."""
        while True:
            self._news.clear()
            while self._unsaved:
                await self._save()
            self._saved.set()
            progress, self._progress = self._progress, None
            if progress is not None:
                await self._offer(progress)
            await self._news.wait()

    async def _offer(self, progress: Update) -> None:
        letter = await self._in_thread(lambda: self._letter_of(progress))
        for sender in self.senders:
            sender.offer(letter)

    async def _save(self) -> None:
        batch = list(islice(self._unsaved, SAVED_AT_ONCE))
        dropped = self.dropped
        standings = [standing for _, standing in batch if standing is not None]

        def save() -> None:
            letters = [self._letter_of(update) for update, _ in batch]
            self._outbox.put(letters, standings[-1] if standings else None)

        try:
            await self._in_thread(save)
        except StoreError as error:
            log.error("updates not kept", reason=error.reason, detail=error.detail)
            await asyncio.sleep(SAVE_RETRY_S)
            return
        for _ in range(len(batch) - (self.dropped - dropped)):
            self._unsaved.popleft()
        self._memory.told = self._outbox.told
        for sender in self.senders:
            sender.look()

    def _letter_of(self, update: Update) -> Letter:
        body = body_of(update, self._federation_id, VERSION)
        return Letter(update.stage, update.at_s, update.sequence, body)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, function)


InThread = Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]


class _Mailbox:
    """One webserver's part of the outbox."""

    def __init__(self, in_thread: InThread, outbox: Outbox, url: str) -> None:
        self._in_thread = in_thread
        self._outbox = outbox
        self._url = url

    async def waiting(self, count_max: int, bytes_max: int) -> list[Letter]:
        letters: list[Letter] = await self._in_thread(
            lambda: self._outbox.waiting(self._url, count_max, bytes_max)
        )
        return letters

    async def delivered(self, position: int) -> None:
        await self._in_thread(lambda: self._outbox.delivered(self._url, position))
