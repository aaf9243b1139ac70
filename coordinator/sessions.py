"""The session as operators and selectors deal with it: started, stopped, drained, told of."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable

from coordinator.commands import session_news
from coordinator.events import Stopped
from coordinator.ledger import DRAINING, Happening, Ledger, Session, SessionStarted, SessionStopping
from coordinator.record import RoundOutcome
from coordinator.round import Closing
from coordinator.stages import SessionHandle
from federation.errors import PeerError
from federation.phases import Phase
from federation.plan import RoundPlan
from federation.runtime.telemetry import get_logger
from federation.v1 import coordination_pb2 as pb

log = get_logger()

STOP_WAIT_S = 5.0
"""Who stops a session waits so long for its end, which a commit that has begun delays."""

COMMIT_WAIT_S = 10.0
"""A commit that has begun when the coordinator drains is left to its next start after so long."""


class SessionRefused(PeerError):
    """An operator asked for what the session that runs, or its absence, does not allow."""


class Sessions:
    """Starts and stops runs of rounds.

    Args:
        ledger: As it is now, at each call.
        post: Hands an event to the driver.
        tell_changed: Called when there is something new to see that no event tells of.

    Attributes:
        newest: The session that runs, or ran last; None before the first.
        draining: The coordinator is about to end: no further round begins in this process.
        suspended: Set once the session rests or is over.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        post: Callable[[Happening], Awaitable[None]],
        tell_changed: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._post = post
        self._tell_changed = tell_changed
        self.newest: SessionHandle | None = None
        self.draining = False
        self.suspended = asyncio.Event()
        session = ledger().session
        if session is not None:
            self.newest = SessionHandle(session)
            self.newest.follow(session)

    @property
    def session_id(self) -> str:
        """Of the newest session; empty before the first."""
        return self.newest.session_id if self.newest is not None else ""

    def follow(self) -> None:
        """The ledger may say something new."""
        if self.newest is not None:
            self.newest.follow(self._ledger().session)

    def news(self) -> pb.CoordinatorCommand:
        """Tell a selector which session runs, or how the newest one ended."""
        session = self._ledger().session
        if session is None:
            return session_news("", "")
        return session_news(session.session_id, session.final_digest)

    async def start(
        self,
        plan: RoundPlan,
        rounds: int,
        on_outcome: Callable[[RoundOutcome], None] = lambda _: None,
    ) -> SessionHandle:
        """Start a run of rounds.

        Raises:
            SessionRefused: One is running already.
        """
        if self.newest is not None and not self.newest.over.is_set():
            raise SessionRefused(
                f"a session is running, with {self.newest.completed} of {self.newest.rounds} "
                "rounds completed; stop it or wait for its end",
                reason="session-running",
            )
        session = Session(secrets.token_hex(8), plan, rounds)
        handle = self.newest = SessionHandle(session, on_outcome)
        log.info(
            "session started",
            session_id=session.session_id,
            rounds=rounds,
            goal_count=plan.goal_count,
        )
        await self._post(SessionStarted(session.session_id, plan, rounds))
        return handle

    async def stop(self, *, after_round: bool) -> SessionHandle:
        """End the running session; returns once it is over, if that takes no more than seconds.

        Args:
            after_round: Let the running round complete, and return at once. Without it the round
                is abandoned, unless its commit has begun. May be asked for in this order.

        Raises:
            SessionRefused: None is running.
        """
        session = self.newest
        if session is None or session.over.is_set():
            raise SessionRefused("no session is running", reason="no-session")
        session.stop_asked = True
        self._tell_changed()
        log.info("session stopping", session_id=session.session_id, after_round=after_round)
        await self._post(SessionStopping())
        if not after_round:
            await self._post(Stopped("session-stopped"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_WAIT_S):
                    await session.over.wait()
        return session

    async def drain(self, drain_s: float) -> None:
        """Let the running round end within ``drain_s``, and start no other.

        Nothing is over: the next coordinator on this directory goes on with the session, and with
        the round if that has not ended.
        """
        if self.newest is None or self.newest.over.is_set():
            return
        self.draining = self.newest.stop_asked = True
        self._tell_changed()
        running = self._ledger().running
        if running is not None and running.phase is Phase.SELECTION:
            await self._post(Stopped(DRAINING))
        await self._rest_within(drain_s)
        if self._is_committing():
            await self._rest_within(COMMIT_WAIT_S)
        running = self._ledger().running
        if running is not None:
            log.info("round is left to the next start", round_number=running.number)

    async def _rest_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.suspended.wait()

    def _is_committing(self) -> bool:
        running = self._ledger().running
        return running is not None and running.closing in (Closing.WRITING, Closing.PUBLISHING)
