"""One client's life: check in, wait, fetch, train, ask, report, come back when told to.

Straight-line code. Two things run at a time only while a round is served: ``_hold`` keeps the
check-in stream open, also across a cut, and the contributor trains and reports. The first that
ends decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio

from client.artifacts import Artifacts
from client.contribution import Contributor
from client.kept import Tally
from client.place import Place, Seat, give_up_if_final, why_failed
from client.selectors import BACKOFF_MAX_S, BACKOFF_MIN_S, Selectors
from client.state import ClientState
from client.trainer import Trainer, TrainerThread
from federation.errors import FederationError, PeerError, SettingsError
from federation.plan import RetryWindow
from federation.runtime import wire
from federation.runtime.telemetry import get_logger
from federation.v1 import participation_pb2 as pb

log = get_logger()

TRAINER_FAILURES_MAX = 3
"""Rounds in a row in which the trainer failed; then the client gives up."""

CONNECT_TIMEOUT_S = 10.0
"""A selector that has not said "held" by then is left for the next one."""

GOODBYE_TIMEOUT_S = 1.0
"""A goodbye that is not answered by then is left."""

_TRY_ELSEWHERE = frozenset({"claimed-elsewhere", "draining", "full", "selector-failed"})
"""Reasons that hold for one selector: the next one of the list may have room."""

_ROUND_IS_OVER = frozenset({"reporting-closed", "round-over", "session-over"})
"""Reasons after which no selector wants what was trained for the round."""


class SessionOver(FederationError):
    """The session that this client took part in has ended."""

    reason = "session-over"


class _WasDone(Exception):
    """An earlier process of this client had all its reports accepted in this session."""


class _Dismissed(Exception):
    """The round goes on, or went, without this client; it comes back within the window."""

    def __init__(self, reason: str, window: RetryWindow, fallbacks: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.window = window
        self.fallbacks = fallbacks


@dataclass(frozen=True)
class SessionResult:
    """How a client ended.

    Attributes:
        accepted: Reports that were folded.
        session_id: The session that it took part in last; empty if in none.
        trainer_failed: The trainer failed in too many rounds in a row.
    """

    accepted: int
    session_id: str = ""
    trainer_failed: bool = False


class ClientSession:
    """One client.

    Args:
        client_id: Its name; counts once a round.
        selectors: HOST:PORT of selectors, tried in turn.
        trainer: What trains.
        rounds: Accepted reports after which it ends; None: it goes on.
        one_session: It also ends with the first session that it sees the end of.
        artifacts: What it fetched, closed by who gives them; None: its own, which go with it.
        state: What outlives its process, closed by who gives it; None: nothing does.
        keepalive_s: A silent connection is pinged after so long.
        keepalive_timeout_s: A connection whose ping is unanswered for so long is closed.
        thread: Where the trainer runs; None makes one.
        draw: Draws a pause in seconds between two bounds.

    Attributes:
        stop: Set when the client ends.
        wrong_setting: What the trainer cannot work with, which ends the client.
    """

    def __init__(  # noqa: PLR0913 - most have a default
        self,
        client_id: str,
        selectors: Sequence[str],
        trainer: Trainer,
        *,
        rounds: int | None = None,
        one_session: bool = False,
        artifacts: Artifacts | None = None,
        state: ClientState | None = None,
        keepalive_s: float = 10.0,
        keepalive_timeout_s: float = 5.0,
        thread: TrainerThread | None = None,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.client_id = client_id
        self.stop = threading.Event()
        self.wrong_setting: SettingsError | None = None
        self._selectors = Selectors(selectors, keepalive_s, keepalive_timeout_s)
        self._rounds = rounds
        self._one_session = one_session
        self._draw = draw
        self._thread = thread or TrainerThread(f"trainer-{client_id}")
        self._place = Place(draw)
        self._artifacts = artifacts or Artifacts()
        self._owns_artifacts = artifacts is None
        self._state = state or ClientState()
        self._contributor = Contributor(
            client_id, trainer, self._thread, self._place, self._artifacts, self._state
        )
        self._session_id = ""
        self._count_holds = not self.accepted
        self._log = log.bind(client_id=client_id)

    @property
    def accepted(self) -> int:
        """Rounds in which this client's report was folded."""
        return self._contributor.accepted

    # -- The whole ------------------------------------------------------------------------------

    async def run(self) -> SessionResult:
        """Take part until told to stop, the session is over, or ``rounds`` are accepted.

        Raises:
            SettingsError: The trainer cannot work with what the operator gave.
        """
        try:
            if await self._contributor.ask_for_receipt(self._selectors):
                self._count_holds = True
            while not self._is_done():
                window = await self._take_part()
                if self._contributor.failures >= TRAINER_FAILURES_MAX:
                    return SessionResult(self.accepted, self._session_id, trainer_failed=True)
                if not self._is_done():
                    await self._pause(window.delay_min_s, window.delay_max_s)
        except SessionOver:
            self._log.info("session over", accepted=self.accepted)
        except _WasDone:
            self._log.info("done already", accepted=self.accepted)
        result = SessionResult(self.accepted, self._session_id)
        self._state.forget()
        return result

    def _is_done(self) -> bool:
        return self._rounds is not None and self._count_holds and self.accepted >= self._rounds

    async def _leave_if_done(self, configured: pb.Configured) -> None:
        self._learn_session(configured.session_id)
        if self._is_done():
            self._take_seat(configured)
            await self._say_goodbye("client-stopped")
            raise _WasDone

    async def _settle(self, reason: str) -> None:
        """Find out what became of a report that has no receipt, before it is left behind."""
        self._log.info("sent away", reason=reason)
        if reason not in _TRY_ELSEWHERE:
            await self._contributor.ask_for_receipt(self._selectors)
        if reason in _ROUND_IS_OVER:
            self._state.drop()

    def _learn_session(self, session_id: str) -> None:
        """What an earlier process counted holds for the same session only."""
        if session_id and not self._count_holds:
            self._count_holds = True
            if session_id == self._state.tally.session_id:
                self._log.info("count goes on", accepted=self.accepted)
            else:
                self._state.count(Tally())

    async def close(self) -> None:
        """Give everything back; a trainer that still works is told to end."""
        self.stop.set()
        self._thread.close()
        if self._owns_artifacts:
            self._artifacts.close()
        await self._selectors.close()

    async def bow_out(self) -> None:
        """Tell the selector that this client ends, if it takes part in a round; never raises."""
        self.stop.set()
        await self._say_goodbye("client-stopped")

    async def _say_goodbye(self, reason: str) -> None:
        if self._place.seat is not None:
            with contextlib.suppress(grpc.aio.AioRpcError, PeerError, TimeoutError):
                async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                    await self._contributor.withdraw(reason)

    async def _take_part(self) -> RetryWindow:
        """Check in once, and serve the round that this leads to."""
        call, configured = None, None
        try:
            while configured is None:
                call, configured = await self._wait_for_round()
            await self._leave_if_done(configured)
            while True:
                try:
                    return await self._serve(call, configured)
                except _NextRound as following:
                    await self._contributor.ask_for_receipt(self._selectors)
                    call, configured = following.call, following.configured
        except _Dismissed as dismissed:
            await self._settle(dismissed.reason)
            if dismissed.reason == "session-over":
                if self._rounds is not None or self._one_session:
                    raise SessionOver("the session is over") from None
                self._session_id = ""
            if dismissed.reason in _TRY_ELSEWHERE:
                self._selectors.learn(dismissed.fallbacks)
                self._selectors.next()
            return dismissed.window
        finally:
            if call is not None:
                call.cancel()

    async def _serve(self, call: Any, configured: pb.Configured) -> RetryWindow:
        """Contribute to one round while the check-in stream is held."""
        stop_training = threading.Event()
        self._take_seat(configured)
        holding = asyncio.create_task(self._hold(call, configured))
        contributing = asyncio.create_task(self._contributor.contribute(configured, stop_training))
        try:
            await asyncio.wait({holding, contributing}, return_when=asyncio.FIRST_COMPLETED)
            if contributing.done():
                return contributing.result()
            holding.result()
            raise AssertionError("a held stream ends with an exception")
        except SettingsError as error:
            # Kept before the goodbye, which may end the round and with it all that awaits us.
            self.wrong_setting = error
            await self._say_goodbye("trainer-failed")
            raise
        finally:
            stop_training.set()
            if not self.stop.is_set():
                self._place.leave()
            for task in (holding, contributing):
                task.cancel()
            await asyncio.gather(holding, contributing, return_exceptions=True)

    # -- The check-in stream --------------------------------------------------------------------

    async def _wait_for_round(self) -> tuple[Any, pb.Configured | None]:
        """Be held until configured; None after a failure, to try again."""
        call = self._check_in()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                event = await call.read()
            while event is not grpc.aio.EOF:
                self._selectors.answered()
                match event.WhichOneof("event"):
                    case "held":
                        self._log.info("held", selector_id=event.held.selector_id)
                        self._selectors.learn(event.held.fallbacks)
                        self._learn_session(event.held.session_id)
                        if self._is_done():
                            call.cancel()
                            raise _WasDone
                        if self._one_session and not self._session_id:
                            # So that it hears of the end even if no round ever takes it.
                            self._session_id = event.held.session_id
                    case "configured":
                        return call, event.configured
                    case "declined":
                        raise _dismissed(event.declined)
                    case "aborted":
                        raise _dismissed(event.aborted)
                event = await call.read()
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            give_up_if_final(error)
            target = self._selectors.target
            self._log.warning("selector not reached", selector=target, why=why_failed(error))
        call.cancel()
        await self._pause_after_failure()
        return None, None

    async def _hold(self, call: Any, configured: pb.Configured) -> None:
        """Keep a stream open for this round until it is over for this client.

        Raises:
            _Dismissed: It is over.
            _NextRound: It is over, and the next one has begun.
        """
        round_id = configured.round_id
        until_s = time.monotonic() + wire.seconds_from_wire(configured.deadline_s)
        while True:
            event: Any = None
            try:
                event = await call.read()
            except grpc.aio.AioRpcError as error:
                give_up_if_final(error)
                self._log.warning(
                    "stream cut", selector=self._selectors.target, why=why_failed(error)
                )
            if event:
                self._selectors.answered()
            match event.WhichOneof("event") if event else None:
                case "configured" if event.configured.round_id == round_id:
                    self._take_seat(event.configured)
                case "configured":
                    raise _NextRound(call, event.configured)
                case "declined" if event.declined.reason == "claimed-elsewhere":
                    self._place.leave()
                    window = wire.retry_window_from_wire(event.declined.retry_window)
                    await self._pause(window.delay_min_s, window.delay_max_s)
                    self._selectors.next()
                    call = self._check_in()
                case "declined":
                    raise _dismissed(event.declined)
                case "aborted":
                    raise _dismissed(event.aborted)
                case "held":
                    pass
                case _:
                    self._place.leave()
                    call.cancel()
                    if time.monotonic() > until_s:
                        raise _Dismissed("round-over", RetryWindow(BACKOFF_MIN_S, BACKOFF_MAX_S))
                    await self._pause_after_failure()
                    call = self._check_in()

    def _take_seat(self, configured: pb.Configured) -> None:
        self._session_id = configured.session_id
        selectors, token = self._selectors, configured.session_token
        self._place.take(Seat(selectors.stub, token, selectors.target))

    # -- Small things ---------------------------------------------------------------------------

    async def _pause(self, at_least_s: float, at_most_s: float) -> None:
        await asyncio.sleep(self._draw(at_least_s, at_most_s))

    async def _pause_after_failure(self) -> None:
        pause_s = self._selectors.failed()
        await self._pause(pause_s / 2, pause_s)

    def _check_in(self) -> Any:
        request = pb.CheckInRequest(
            protocol_version=wire.PROTOCOL_VERSION,
            client_id=self.client_id,
            session_id=self._session_id,
        )
        return self._selectors.stub.CheckIn(request)


class _NextRound(Exception):
    """The stream brought the configuration of the following round."""

    def __init__(self, call: Any, configured: pb.Configured) -> None:
        super().__init__(configured.round_id)
        self.call = call
        self.configured = configured


def _dismissed(message: pb.Declined | pb.Aborted) -> _Dismissed:
    window = wire.retry_window_from_wire(message.retry_window)
    return _Dismissed(message.reason, window, message.fallbacks)
