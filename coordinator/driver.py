"""The one task that owns the ledger: what happened becomes durable, is taken, and has its effects.

What happened goes into the journal in groups before it is taken, so that nobody hears of anything
that a crash could undo. A disk that refuses ends the running round; nothing else begins before the
disk takes what it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from typing import Any, Protocol

from coordinator.commands import command_of
from coordinator.committer import Committer
from coordinator.durability import Durability
from coordinator.effects import (
    Announce,
    DropCheckpoint,
    Effect,
    PublishCheckpoint,
    WriteCheckpoint,
)
from coordinator.events import (
    CheckedIn,
    CheckpointWritten,
    ClientsLeft,
    CommitFinished,
    SelectorDetached,
    SelectorLeft,
    Ticked,
)
from coordinator.ledger import (
    DRAINING,
    Happening,
    Ledger,
    Restarted,
    RoundBegan,
    SessionEnded,
    SessionStarted,
    standing_of,
    take,
)
from coordinator.links import Links
from coordinator.lobby import Lobby
from coordinator.memory import Memory
from coordinator.merging import Kept
from coordinator.picture import Picture, Stage, numbered, selectors_of, waiting_in
from coordinator.record import RoundOutcome, manifest_of, record_of
from coordinator.round import Round
from coordinator.sessions import Sessions
from coordinator.stages import SessionHandle, StageRecord, stage_of
from coordinator.tenure import SUPERSEDED
from federation.errors import StoreError
from federation.plan import RetryWindow
from federation.runtime.clock import Clock
from federation.runtime.telemetry import get_logger
from federation.v1 import coordination_pb2 as pb

log = get_logger()

EVENTS_MAX = 20_000
"""Events that may wait for the driver; streams wait beyond it."""

GROUP_MAX = 1_024
"""Events that become durable together at most."""

KEPT_MAX = 64
"""Newest stages and completed rounds that the status shows."""

LOOK_S = 5.0
"""Longest sleep while a round runs.

A machine that was suspended finds its deadlines due within so long. And the journal knows the time:
should the wall clock be set back, a restart loses no more of it.
"""


class Audience(Protocol):
    """Who is told of stages and sessions, at once and without waiting."""

    def stage_began(self, stage: Stage) -> None:
        """A stage began; it is durable."""

    def session_changed(self, picture: Picture) -> None:
        """A session began, stops, or is over; it is durable."""


class _MayGoOn:
    """What the last round left is durable: the next one may begin, or the session end."""


class Driver:
    """Runs sessions of rounds on one shared directory.

    Args:
        committer: Writes checkpoints.
        memory: Keeps what happens.
        clock: Time, not before ``memory.at_s``.
        held_max: Most clients that are held while no round admits.
        retry_window: When clients come back that are sent away before the first session.
        audience: Who is told what happens.

    Attributes:
        ready: Set once events are taken.
        ledger: The session and its round.
        sessions: Starts and stops them.
        base_digest: Hex SHA-256 of the current checkpoint's wire form.
    """

    def __init__(
        self,
        committer: Committer,
        memory: Memory,
        clock: Clock,
        *,
        held_max: int,
        retry_window: RetryWindow,
        audience: Sequence[Audience] = (),
    ) -> None:
        self.clock = clock
        self.links = Links()
        self.lobby = Lobby(held_max)
        self.ledger: Ledger = memory.ledger
        self.sessions = Sessions(lambda: self.ledger, self.post, self._tell_changed)
        self.base_digest = ""
        self.stages: deque[StageRecord] = deque(maxlen=KEPT_MAX)
        self.rounds: deque[RoundOutcome] = deque(maxlen=KEPT_MAX)
        self.memory = memory
        self._durability = Durability(memory, clock, self._tell_changed)
        self.ready = asyncio.Event()
        self._committer = committer
        self._retry_window = retry_window
        self._audience = audience
        self._events: asyncio.Queue[Happening | _MayGoOn] = asyncio.Queue(EVENTS_MAX)
        self._held_back: Happening | _MayGoOn | None = None
        self._tasks: asyncio.TaskGroup
        self._changed = asyncio.Event()
        self._going_on = False
        self._settled = 0
        if self.ledger.session is not None and self.ledger.session.over:
            self.lobby.ended_session_id = self.ledger.session.session_id

    # -- For the services -----------------------------------------------------------------------

    @property
    def storage_failure(self) -> str:
        """Why nothing can be made durable at the moment; empty while it can."""
        return self._durability.failure

    @property
    def session(self) -> SessionHandle | None:
        """The session that runs, or ran last."""
        return self.sessions.newest

    @property
    def round(self) -> Round | None:
        """The newest round."""
        return self.ledger.round

    async def post(self, event: Happening) -> None:
        """Hand in an event; waits while too many are queued."""
        await self._events.put(event)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as a task of the driver, so that its failure is seen."""
        self._tasks.create_task(coroutine)

    @property
    def waiting_events(self) -> int:
        """Events that are queued."""
        return self._events.qsize()

    def knows(self, round_id: str) -> bool:
        """Say whether this is the newest round, running or completed."""
        return self.round is not None and self.round.round_id == round_id

    def picture(self) -> Picture:
        """Return what there is to see now."""
        waiting = waiting_in(self.round, self.lobby.waiting)
        addresses = {link.owner.selector_id: link.address for link in self.links.attached()}
        return Picture(
            at_s=self.clock.now_s(),
            sequence=self.ledger.sequence,
            session=self.ledger.session,
            stopping=self.session is not None and self.session.stopping,
            round=self.round,
            selectors=selectors_of(self.round, waiting, addresses),
            waiting_clients=len(waiting),
            storage_failure=self.storage_failure,
        )

    async def changes(self, pause_s: float) -> AsyncIterator[None]:
        """Yield now, and then after each change, at most once per ``pause_s``."""
        while True:
            changed = self._changed
            yield
            await changed.wait()
            await asyncio.sleep(pause_s)

    # -- The loop -------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Take up where the process before this one ended.

        Raises:
            StoreError: The current checkpoint cannot be read, or the journal not be written.
        """
        self.base_digest = await self._committer.current_digest()
        self.rounds.extend(await self.memory.newest(KEPT_MAX))
        await self.memory.renew(self.ledger, self.clock.now_s())

    async def run(self) -> None:
        """Step until cancelled.

        Raises:
            StoreError: Another coordinator began on this directory (``coordinator-superseded``).
        """
        if not self.base_digest:
            await self.prepare()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self._resume()
                self.ready.set()
                while True:
                    await self._take_all(await self._next_events())
        except BaseExceptionGroup as group:
            known = group.subgroup(StoreError)
            if known is None:
                raise
            raise known.exceptions[0] from None

    async def _resume(self) -> None:
        running = self.ledger.running
        if running is not None:
            committed = await self._committer.holds(running.number, running.round_id)
            log.info(
                "round goes on after a restart",
                round_number=running.number,
                phase=running.phase.value,
                committed=committed,
            )
            await self._take_all([Restarted(self.base_digest, committed)])
        else:
            self._go_on()

    def _tell_changed(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _next_events(self) -> list[Happening]:
        """Wait for what is next, and take what else has happened; a deadline is an event."""
        first = self._held_back or await self._next_event()
        self._held_back = None
        if isinstance(first, _MayGoOn):
            return self._next_turn()
        if isinstance(first, CommitFinished):
            return [first]
        group: list[Happening] = [first]
        while len(group) < GROUP_MAX and not self._events.empty():
            following = self._events.get_nowait()
            if isinstance(following, _MayGoOn | CommitFinished):
                # What the one leads to depends on what is taken before; the other is an outcome,
                # and fits the space that was taken for it if it is alone.
                self._held_back = following
                break
            group.append(following)
        return group

    async def _next_event(self) -> Happening | _MayGoOn:
        deadline_s = self.round.deadline_s if self.round is not None else None
        if deadline_s is None:
            return await self._events.get()
        remaining_s = deadline_s - self.clock.now_s()
        if remaining_s <= 0:
            return Ticked()
        try:
            async with asyncio.timeout(min(remaining_s, LOOK_S)):
                return await self._events.get()
        except TimeoutError:
            return Ticked()

    async def _take_all(self, happenings: Sequence[Happening]) -> None:
        """Make durable what must be, then take all."""
        stopped, now_s = await self._durability.keep(self.ledger, happenings)
        while stopped is not None:
            self._take(stopped, now_s)
            stopped, now_s = await self._durability.keep(self.ledger, happenings)
        for happening in happenings:
            self._take(happening, now_s)
        if self.memory.has_grown:
            with contextlib.suppress(StoreError):  # the journal says so at its next line
                await self.memory.renew(self.ledger, now_s)
        self._go_on()
        self._tell_changed()

    # -- Rounds and sessions --------------------------------------------------------------------

    def _take(self, happening: Happening, now_s: float) -> None:
        before = self.ledger
        if before.running is None:
            self._between_rounds(happening)
        self.ledger, effects = take(before, happening, now_s)
        for sequence, announced in numbered(before.sequence, effects):
            self._announce(announced, sequence)
        for effect in effects:
            if not isinstance(effect, Announce):
                self._carry_out(effect)
        if before.running is not None and self.ledger.running is None:
            self._round_completed()
        self.sessions.follow()
        if isinstance(happening, SessionStarted | SessionEnded):
            for link in self.links.attached():
                link.send(self.sessions.news())
        self._tell_audience(before, effects)

    def _tell_audience(self, before: Ledger, effects: Sequence[Effect]) -> None:
        changed = standing_of(before.session) != standing_of(self.ledger.session)
        if self._audience and (changed or before.sequence != self.ledger.sequence):
            picture = self.picture()
            for sequence, announced in numbered(before.sequence, effects):
                for listener in self._audience:
                    listener.stage_began(Stage(sequence, announced, picture))
            if changed:
                for listener in self._audience:
                    listener.session_changed(picture)

    def _between_rounds(self, happening: Happening) -> None:
        match happening:
            case CheckedIn():
                window = self.session.state.plan.retry_window if self.session else None
                for effect in self.lobby.check_in(happening, window or self._retry_window):
                    self._carry_out(effect)
            case ClientsLeft(owner, client_ids):
                self.lobby.leave(owner, client_ids)
            case SelectorLeft(owner) | SelectorDetached(owner):
                self.lobby.selector_left(owner)
            case RoundBegan():
                if self.ledger.wants_round:
                    self.lobby.take()
            case SessionEnded():
                if self.ledger.wants_end:
                    self._send_all_away("session-over")
                    self.sessions.suspended.set()

    def _round_completed(self) -> None:
        round_ = self.ledger.round
        assert round_ is not None
        record = record_of(round_)
        self.rounds.append(record)
        self.lobby.waiting = dict(round_.waiting)
        if record.committed:
            self.base_digest = round_.checkpoint_digest
        log.info(
            "round completed",
            round_number=round_.number,
            outcome=record.outcome.value,
            reason=record.reason,
            reported=record.counts.reported,
            seconds=round(record.seconds, 3),
        )
        self.sessions.follow()
        if self.session is not None:
            self.session.on_outcome(record)

    def _send_all_away(self, reason: str) -> None:
        session = self.ledger.session
        assert session is not None
        window = session.plan.retry_window
        for effect in self.lobby.end_session(session.session_id, reason, window):
            self._carry_out(effect)
        what = "session rests" if reason == DRAINING else "session over"
        log.info(what, session_id=session.session_id, rounds=session.completed)

    def _go_on(self) -> None:
        """Between rounds, see to it that the next one begins, or that the session ends."""
        if not self._going_on and (self.ledger.wants_round or self.ledger.wants_end):
            self._going_on = True
            self._tasks.create_task(self._settle())

    async def _settle(self) -> None:
        """Finish what the last round left; no round configures before it."""
        round_ = self.ledger.round
        if round_ is not None and self._settled != round_.number:
            record = record_of(round_)
            await self._durability.until_done(lambda: self.memory.save(record))
            self._settled = round_.number
        await self._events.put(_MayGoOn())

    def _next_turn(self) -> list[Happening]:
        self._going_on = False
        if self.ledger.wants_end:
            return [SessionEnded(self.base_digest)]
        if not self.ledger.wants_round:
            return []
        if self.sessions.draining:
            self._going_on = True  # for good
            self._send_all_away(DRAINING)
            self.sessions.suspended.set()
            return []
        waiting = tuple(self.lobby.waiting.items())
        return [RoundBegan(secrets.token_hex(16), self.base_digest, waiting)]

    # -- Effects --------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Announce():
                raise AssertionError("announced where its number is known")
            case WriteCheckpoint(partials):
                self._write_checkpoint(partials)
            case PublishCheckpoint():
                self._publish_checkpoint()
            case DropCheckpoint():
                self._committer.drop()
            case _:
                self.links.send(effect.owner, self._command(effect))

    def _command(self, effect: Effect) -> pb.CoordinatorCommand:
        now_s = self.clock.now_s()
        return command_of(effect, self.round, self.sessions.session_id, now_s=now_s)

    def _announce(self, effect: Announce, sequence: int) -> None:
        assert self.round is not None
        stage = stage_of(self.round, sequence, effect.phase, effect.outcome, effect.reason)
        self.stages.append(stage)
        log.info(
            "stage began",
            round_number=stage.round_number,
            phase=stage.phase.value,
            reason=stage.reason,
        )

    def _write_checkpoint(self, partials: Kept) -> None:
        # Here, not in the task: a task begins later, when the round may have been dropped.
        round_ = self.round
        assert round_ is not None
        writing = self._committer.write(partials, round_.number, manifest_of(round_))
        self._tasks.create_task(self._written(round_.round_id, writing))

    async def _written(self, round_id: str, writing: Awaitable[str]) -> None:
        try:
            digest = await writing
        except StoreError as error:
            log.error("checkpoint not written", reason=error.reason, detail=error.detail)
            await self.post(CheckpointWritten(round_id, failure=error.reason))
        else:
            await self.post(CheckpointWritten(round_id, digest=digest))

    def _publish_checkpoint(self) -> None:
        assert self.round is not None
        self._tasks.create_task(self._publish(self.round.round_id, self.round.number))

    async def _publish(self, round_id: str, round_number: int) -> None:
        """Pass the commit point; who hears of it finds the checkpoint in its place."""
        failure = ""
        try:
            await self._committer.publish(round_number)
        except StoreError as error:
            if error.reason == SUPERSEDED:
                raise  # this coordinator has no say any more
            failure = error.reason
            log.error("checkpoint not committed", reason=error.reason, detail=error.detail)
        else:
            await self._durability.until_done(lambda: self._committer.make_current(round_number))
        await self.post(CommitFinished(round_id, failure))
