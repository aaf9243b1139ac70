"""All that a coordinator must not forget: the session, its round, and the numbers given so far.

``take`` is the one step from a ledger to the next. It is pure, and it takes every happening in
every state: what does not fit changes nothing. So a journal needs to hold nothing but happenings
and their times; to replay them is to be where one was.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from coordinator import round as core
from coordinator.effects import Announce, Effect
from coordinator.events import Event, Owner, PartialSubmitted, SelectorAttached
from coordinator.pacing import Pace
from coordinator.round import Round
from federation.phases import Phase
from federation.plan import RoundPlan

DRAINING = "draining"
"""Reason of a round that its coordinator gave up since it was stopped; it is not counted."""


@dataclass(frozen=True, slots=True)
class Session:
    """A run of rounds that an operator started.

    Attributes:
        session_id: Random; clients show it when they come back.
        plan: What is asked of each round.
        rounds: How many rounds to complete, whatever their outcomes.
        completed: How many have, without those that a coordinator gave up since it was stopped.
        stopping: No further round begins.
        over: It has ended.
        final_digest: Hex SHA-256 of the checkpoint that it ended with; empty before.
    """

    session_id: str
    plan: RoundPlan
    rounds: int
    completed: int = 0
    stopping: bool = False
    over: bool = False
    final_digest: str = ""


def standing_of(session: Session | None) -> str:
    """Return where a session stands, as a word that another moment can be compared with."""
    if session is None:
        return ""
    return f"{session.session_id} {'over' if session.over else session.stopping}"


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the journal keeps; replaced, never changed.

    Attributes:
        last_round_number: The highest number that any round had.
        sequence: How many stages were announced.
        session: The newest session.
        round: The newest round.
        pace: What was observed of the rounds.
    """

    last_round_number: int = 0
    sequence: int = 0
    session: Session | None = None
    round: Round | None = None
    pace: Pace = field(default_factory=Pace)

    @property
    def running(self) -> Round | None:
        """The round that has not completed, if there is one."""
        round_ = self.round
        return round_ if round_ is not None and round_.phase is not Phase.COMPLETED else None

    @property
    def session_runs(self) -> bool:
        """A session was started and has not ended."""
        return self.session is not None and not self.session.over

    @property
    def wants_round(self) -> bool:
        """The session goes on with another round."""
        session = self.session
        if session is None or session.over or session.stopping or self.running is not None:
            return False
        return session.completed < session.rounds

    @property
    def wants_end(self) -> bool:
        """The session has nothing left to do."""
        return self.session_runs and self.running is None and not self.wants_round

    def numbered_from(self, round_number: int) -> Ledger:
        """Return the same with this number given already."""
        highest = max(self.last_round_number, round_number)
        return replace(self, last_round_number=highest)


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """An operator asked for a run of rounds."""

    session_id: str
    plan: RoundPlan
    rounds: int


@dataclass(frozen=True, slots=True)
class SessionStopping:
    """No further round begins in this session."""


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """All rounds of the session completed, or it was stopped.

    Attributes:
        final_digest: Hex SHA-256 of the current checkpoint.
    """

    final_digest: str


@dataclass(frozen=True, slots=True)
class RoundBegan:
    """The current checkpoint is in place, and the next round starts from it.

    Attributes:
        round_id: Random text that no other round has.
        base_digest: Hex SHA-256 of the current checkpoint.
        waiting: Clients that are held already, first come first.
    """

    round_id: str
    base_digest: str
    waiting: tuple[tuple[str, Owner], ...] = ()


@dataclass(frozen=True, slots=True)
class NumberSeen:
    """Somebody remembers a round with this number: it is not given again."""

    round_number: int


@dataclass(frozen=True, slots=True)
class Restarted:
    """The coordinator is there again.

    Attributes:
        base_digest: Hex SHA-256 of the current checkpoint.
        committed: Whether the history holds the checkpoint of the round that ran.
    """

    base_digest: str
    committed: bool = False


Turn = SessionStarted | SessionStopping | SessionEnded | RoundBegan | NumberSeen | Restarted
Happening = Event | Turn


def take(ledger: Ledger, happening: Happening, now_s: float) -> tuple[Ledger, tuple[Effect, ...]]:
    """Take one happening.

    Args:
        ledger: The ledger so far; unchanged.
        happening: What happened.
        now_s: Unix seconds, never less than at the step before.
    """
    running = ledger.running
    match happening:
        case RoundBegan() if ledger.wants_round:
            return _begin_round(ledger, happening, now_s)
        case Restarted(base_digest, committed) if running is not None:
            resumed = core.resume(running, now_s, base_digest=base_digest, committed=committed)
            return _became(ledger, *resumed)
        case NumberSeen(round_number):
            return ledger.numbered_from(round_number), ()
        case SessionStarted() | SessionStopping() | SessionEnded():
            return replace(ledger, session=_session_after(ledger, happening)), ()
        case RoundBegan() | Restarted():
            return ledger, ()
        case _ if running is not None:
            return _became(ledger, *core.step(running, happening, now_s))
        case PartialSubmitted() | SelectorAttached() if ledger.round is not None:
            # A selector that asks again hears how it ended.
            return ledger, core.step(ledger.round, happening, now_s)[1]
    return ledger, ()


def _session_after(
    ledger: Ledger, turn: SessionStarted | SessionStopping | SessionEnded
) -> Session | None:
    session = ledger.session
    match turn:
        case SessionStarted(session_id, plan, rounds) if not ledger.session_runs:
            return Session(session_id, plan, rounds)
        case SessionStopping() if session is not None:
            return replace(session, stopping=True)
        case SessionEnded(final_digest) if session is not None and ledger.wants_end:
            return replace(session, over=True, final_digest=final_digest)
    return session


def _begin_round(
    ledger: Ledger, began: RoundBegan, now_s: float
) -> tuple[Ledger, tuple[Effect, ...]]:
    assert ledger.session is not None
    number = ledger.last_round_number + 1
    round_, effects = core.start(
        number,
        ledger.session.plan,
        now_s,
        round_id=began.round_id,
        base_digest=began.base_digest,
        waiting=dict(began.waiting),
        pace=ledger.pace,
    )
    return _became(replace(ledger, last_round_number=number), round_, effects)


def _became(
    ledger: Ledger, round_: Round, effects: tuple[Effect, ...]
) -> tuple[Ledger, tuple[Effect, ...]]:
    announced = sum(isinstance(effect, Announce) for effect in effects)
    session = ledger.session
    if round_.phase is Phase.COMPLETED and round_.reason != DRAINING and session is not None:
        session = replace(session, completed=session.completed + 1)
    if round_.phase is Phase.COMPLETED:
        ledger = replace(ledger, pace=ledger.pace.after(_work_s(round_), round_.sent_away))
    ledger = replace(ledger, round=round_, session=session, sequence=ledger.sequence + announced)
    return ledger, effects


def _work_s(round_: Round) -> float | None:
    """Return the seconds from Configure to Completed; None if it never configured.

    What is beyond the round's own time-outs was no work: the coordinator was down, or found
    another wall clock when it came back.
    """
    configured_s = round_.entered_s.get(Phase.CONFIGURATION)
    if configured_s is None:
        return None
    plan = round_.plan
    longest_s = plan.report_window_s + plan.grace_s + plan.commit_timeout_s
    return min(round_.entered_s[Phase.COMPLETED] - configured_s, longest_s)
