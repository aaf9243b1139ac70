"""The one task that owns the round: takes events and deadlines, steps, hands effects out."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from coordinator import round as core
from coordinator.commands import command_of
from coordinator.committer import Committer
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
    Event,
    PartialSubmitted,
    SelectorDetached,
    SelectorLeft,
    Stopped,
    Ticked,
)
from coordinator.links import Links
from coordinator.lobby import Lobby
from coordinator.merging import Kept
from coordinator.record import RoundOutcome, manifest_of, record_of
from coordinator.roster import Counts
from federation.errors import PeerError, StoreError
from federation.phases import Outcome, Phase
from federation.plan import RoundPlan
from federation.runtime.clock import Clock
from federation.runtime.telemetry import get_logger
from federation.v1 import coordination_pb2 as pb

log = get_logger()

EVENTS_MAX = 20_000
"""Events that may wait for the driver; streams wait beyond it."""

KEPT_MAX = 64
"""Newest stages and completed rounds that the status shows."""

STOP_WAIT_S = 5.0
"""Who stops a session waits so long for its end, which a commit that has begun delays."""

COMMIT_WAIT_S = 10.0
"""A commit that has begun when the coordinator drains is left to its next start after so long."""

CURRENT_RETRY_S = 1.0
"""Pause before another try to make a committed checkpoint the current one."""


class SessionRefused(PeerError):
    """An operator asked for what the session that runs, or its absence, does not allow."""


@dataclass
class Session:
    """A run of rounds that an operator started.

    Attributes:
        session_id: Random; clients show it when they come back.
        plan: What is asked of each round.
        rounds: How many rounds to complete, whatever their outcomes.
        completed: How many have.
        stopping: No further round begins.
        on_outcome: Called with the outcome of each round.
        end_reason: What held clients are told at the end.
        over: Set when the session has ended.
    """

    session_id: str
    plan: RoundPlan
    rounds: int
    completed: int = 0
    stopping: bool = False
    on_outcome: Callable[[RoundOutcome], None] = lambda _: None
    end_reason: str = "session-over"
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class StageRecord:
    """One announced stage; ``sequence`` rises by one with each."""

    sequence: int
    round_number: int
    phase: Phase
    time_s: float
    counts: Counts
    plan: RoundPlan
    selectors: int
    outcome: Outcome | None
    reason: str


@dataclass(frozen=True)
class _RoundMayStart:
    """The committed checkpoint is the current one, so that the next round may configure."""


@dataclass(frozen=True)
class _SessionAsked:
    session: Session


class Driver:
    """Runs sessions of rounds on one shared directory.

    Args:
        committer: Writes checkpoints.
        clock: Time.
        held_max: Most clients that are held while no round admits.
        last_round_number: Highest number that any round on this directory had.

    Attributes:
        ready: Set once events are taken.
        base_digest: Hex SHA-256 of the current checkpoint's wire form.
    """

    def __init__(
        self, committer: Committer, clock: Clock, *, held_max: int, last_round_number: int
    ) -> None:
        self.clock = clock
        self.links = Links()
        self.lobby = Lobby(held_max)
        self.round: core.Round | None = None
        self.session: Session | None = None
        self.base_digest = ""
        self.stages: deque[StageRecord] = deque(maxlen=KEPT_MAX)
        self.rounds: deque[RoundOutcome] = deque(maxlen=KEPT_MAX)
        self._sequence = 0
        self._committer = committer
        self._last_round_number = last_round_number
        self._events: asyncio.Queue[Event | _RoundMayStart | _SessionAsked] = asyncio.Queue(
            EVENTS_MAX
        )
        self._tasks: asyncio.TaskGroup
        self.ready = asyncio.Event()
        self._changed = asyncio.Event()
        self._next_digest = ""

    # -- For the services -----------------------------------------------------------------------

    async def post(self, event: Event) -> None:
        """Hand in an event; waits while too many are queued."""
        await self._events.put(event)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as a task of the driver, so that its failure is seen."""
        self._tasks.create_task(coroutine)

    def is_running(self, round_id: str) -> bool:
        """Say whether this is the round that runs now."""
        running = self.round is not None and self.round.phase is not Phase.COMPLETED
        return running and self.round is not None and self.round.round_id == round_id

    async def changes(self, pause_s: float) -> AsyncIterator[None]:
        """Yield now, and then after each change, at most once per ``pause_s``."""
        while True:
            changed = self._changed
            yield
            await changed.wait()
            await asyncio.sleep(pause_s)

    async def start_session(
        self,
        plan: RoundPlan,
        rounds: int,
        on_outcome: Callable[[RoundOutcome], None] = lambda _: None,
    ) -> Session:
        """Start a run of rounds.

        Raises:
            SessionRefused: One is running already.
        """
        if self.session is not None and not self.session.over.is_set():
            raise SessionRefused(
                f"a session is running, with {self.session.completed} of {self.session.rounds} "
                "rounds completed; stop it or wait for its end",
                reason="session-running",
            )
        self.session = Session(secrets.token_hex(8), plan, rounds, on_outcome=on_outcome)
        log.info(
            "session started",
            session_id=self.session.session_id,
            rounds=rounds,
            goal_count=plan.goal_count,
        )
        await self._events.put(_SessionAsked(self.session))
        return self.session

    async def stop_session(self, *, after_round: bool) -> Session:
        """End the running session; returns once it is over, if that takes no more than seconds.

        Args:
            after_round: Let the running round complete, and return at once. Without it the round
                is abandoned, unless its commit has begun. May be asked for in this order.

        Raises:
            SessionRefused: None is running.
        """
        session = self.session
        if session is None or session.over.is_set():
            raise SessionRefused("no session is running", reason="no-session")
        session.stopping = True
        self._tell_changed()
        log.info("session stopping", session_id=session.session_id, after_round=after_round)
        if not after_round:
            await self.post(Stopped("session-stopped"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_WAIT_S):
                    await session.over.wait()
        return session

    async def drain(self, drain_s: float) -> None:
        """Let the running round end within ``drain_s``, abandon it then, and start no other."""
        session = self.session
        if session is None or session.over.is_set():
            return
        session.end_reason = "draining"
        session.stopping = True
        running = self.round is not None and self.round.phase is not Phase.COMPLETED
        training = running and self.round is not None and self.round.phase is not Phase.SELECTION
        try:
            async with asyncio.timeout(drain_s if training else 0.0):
                await session.over.wait()
        except TimeoutError:
            await self.post(Stopped("draining"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMMIT_WAIT_S):
                    await session.over.wait()

    # -- The loop -------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Read the current checkpoint; raises ``StoreError`` if it cannot be read."""
        self.base_digest = await self._committer.current_digest()

    async def run(self) -> None:
        """Step until cancelled."""
        if not self.base_digest:
            await self.prepare()
        async with asyncio.TaskGroup() as self._tasks:
            self.ready.set()
            while True:
                self._take(await self._next_event())
                self._tell_changed()

    def _tell_changed(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _next_event(self) -> Event | _RoundMayStart | _SessionAsked:
        deadline_s = self.round.deadline_s if self.round is not None else None
        if deadline_s is None:
            return await self._events.get()
        remaining_s = deadline_s - self.clock.now_s()
        if remaining_s <= 0:
            return Ticked()
        try:
            async with asyncio.timeout(remaining_s):
                return await self._events.get()
        except TimeoutError:
            return Ticked()

    def _take(self, event: Event | _RoundMayStart | _SessionAsked) -> None:
        if isinstance(event, _SessionAsked | _RoundMayStart):
            self._start_round()
        elif self.round is not None and self.round.phase is not Phase.COMPLETED:
            self._became(*core.step(self.round, event, self.clock.now_s()))
        else:
            self._between_rounds(event)

    def _became(self, round_: core.Round, effects: tuple[Effect, ...]) -> None:
        self.round = round_
        for effect in effects:
            self._carry_out(effect)
        if round_.phase is Phase.COMPLETED:
            self._finish_round(round_)

    def _between_rounds(self, event: Event) -> None:
        match event:
            case CheckedIn():
                plan = self.session.plan if self.session else RoundPlan(goal_count=1)
                for effect in self.lobby.check_in(event, plan.retry_window):
                    self._carry_out(effect)
            case ClientsLeft(owner, client_ids):
                self.lobby.leave(owner, client_ids)
            case SelectorLeft(owner) | SelectorDetached(owner):
                self.lobby.selector_left(owner)
            case PartialSubmitted() if self.round is not None:
                # A selector that asks again gets the answer that it got, or "round-over".
                for effect in core.step(self.round, event, self.clock.now_s())[1]:
                    self._carry_out(effect)
            case _:
                log.debug("event without a round", kind=type(event).__name__)

    # -- Rounds and sessions --------------------------------------------------------------------

    def _start_round(self) -> None:
        assert self.session is not None
        if self.session.stopping or self.session.completed >= self.session.rounds:
            self._end_session(self.session)
            return
        self._last_round_number += 1
        self._became(
            *core.start(
                self._last_round_number,
                self.session.plan,
                self.clock.now_s(),
                round_id=secrets.token_hex(16),
                waiting=self.lobby.take(),
            )
        )

    def _finish_round(self, round_: core.Round) -> None:
        assert self.session is not None
        committed = round_.outcome is Outcome.COMMITTED
        if committed:
            self.base_digest = self._next_digest
        record = record_of(round_, self._next_digest if committed else "")
        self.rounds.append(record)
        self.session.completed += 1
        self.session.on_outcome(record)
        self.lobby.waiting = dict(round_.waiting)
        log.info(
            "round completed",
            round_number=round_.number,
            outcome=record.outcome.value,
            reason=record.reason,
            reported=record.counts.reported,
            seconds=round(record.seconds, 3),
        )
        if committed:
            self._tasks.create_task(self._make_current(round_.number))
        else:
            self._tasks.create_task(self._events.put(_RoundMayStart()))

    def _end_session(self, session: Session) -> None:
        window = session.plan.retry_window
        for effect in self.lobby.end_session(session.session_id, session.end_reason, window):
            self._carry_out(effect)
        log.info("session over", session_id=session.session_id, rounds=session.completed)
        session.over.set()

    # -- Effects --------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Announce(phase, outcome, reason):
                self._announce(phase, outcome, reason)
            case WriteCheckpoint(partials):
                self._write_checkpoint(partials)
            case PublishCheckpoint():
                self._publish_checkpoint()
            case DropCheckpoint():
                self._committer.drop()
            case _:
                self.links.send(effect.owner, self._command(effect))

    def _command(self, effect: Effect) -> pb.CoordinatorCommand:
        session_id = self.session.session_id if self.session else ""
        return command_of(
            effect, self.round, session_id, self.base_digest, now_s=self.clock.now_s()
        )

    def _announce(self, phase: Phase, outcome: Outcome | None, reason: str) -> None:
        assert self.round is not None
        self._sequence += 1
        stage = StageRecord(
            sequence=self._sequence,
            round_number=self.round.number,
            phase=phase,
            time_s=self.round.entered_s[phase],
            counts=self.round.counts,
            plan=self.round.plan,
            selectors=len({claim.owner for claim in self.round.claims.values()}),
            outcome=outcome,
            reason=reason,
        )
        self.stages.append(stage)
        log.info("stage began", round_number=stage.round_number, phase=phase.value, reason=reason)

    def _write_checkpoint(self, partials: Kept) -> None:
        # Here, not in the task: a task begins later, when the round may have been dropped.
        round_ = self.round
        assert round_ is not None
        manifest = manifest_of(round_, self.base_digest)
        writing = self._committer.write(partials, round_.number, manifest)
        self._tasks.create_task(self._written(round_.round_id, writing))

    async def _written(self, round_id: str, writing: Awaitable[str]) -> None:
        failure = ""
        try:
            digest = await writing
        except StoreError as error:
            failure = error.reason
            log.error("checkpoint not written", reason=error.reason, detail=error.detail)
        else:
            if self.is_running(round_id):
                self._next_digest = digest
        await self.post(CheckpointWritten(round_id, failure))

    def _publish_checkpoint(self) -> None:
        assert self.round is not None
        publishing = self._committer.publish(self.round.number)
        self._tasks.create_task(self._published(self.round.round_id, publishing))

    async def _published(self, round_id: str, publishing: Awaitable[None]) -> None:
        failure = ""
        try:
            await publishing
        except StoreError as error:
            failure = error.reason
            log.error("checkpoint not committed", reason=error.reason, detail=error.detail)
        await self.post(CommitFinished(round_id, failure))

    async def _make_current(self, number: int) -> None:
        """Redo it until it is done: no round configures before it."""
        while True:
            try:
                await self._committer.make_current(number)
                break
            except StoreError as error:
                log.error("checkpoint not current", reason=error.reason, detail=error.detail)
                await asyncio.sleep(CURRENT_RETRY_S)
        await self._events.put(_RoundMayStart())
