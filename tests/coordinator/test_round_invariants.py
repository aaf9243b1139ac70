"""What holds of every round, whatever happens: random events, nonsense among them, in any order."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from coordinator.effects import (
    Admit,
    Announce,
    Configure,
    Decline,
    Effect,
    EndRound,
    PublishCheckpoint,
    SettlePartial,
    WriteCheckpoint,
)
from coordinator.events import (
    CheckedIn,
    CheckpointWritten,
    CommitFinished,
    Event,
    Owner,
    PartialSubmitted,
    Ticked,
)
from coordinator.roster import FATES, OPEN, Counts, Standing
from coordinator.round import Closing, Round, start, step
from federation.phases import NEXT_PHASES, Outcome, Phase
from federation.plan import RoundPlan
from tests.coordinator.happenings import (
    Fitting,
    Happening,
    Wait,
    facts,
    fitting_event,
    happenings,
    plans,
    pools,
)
from tests.coordinator.rounds import (
    BASE,
    ROUND_ID,
    START_S,
    folded,
    standings,
    those,
)

EXAMPLES = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,  # a red build says something about the change, not about luck
    suppress_health_check=[HealthCheck.too_slow],
)

FINAL = FATES - {Standing.LOST}


@dataclass
class History:
    """A round, all that happened to it and all that it wanted done; checked after each step."""

    plan: RoundPlan
    pool: Mapping[str, Owner]
    now_s: float = START_S
    overslept: bool = False
    steps: list[tuple[Event, float]] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    published_s: float | None = None
    round_: Round = field(init=False)

    def __post_init__(self) -> None:
        self.round_, effects = start(
            1, self.plan, self.now_s, round_id=ROUND_ID, base_digest=BASE, waiting=self.pool
        )
        self.effects += effects
        check_settled(self.round_, self.now_s)
        check_stages(self.effects, self.round_)

    def happen(self, happening: Happening) -> None:
        """Take in what happens; the driver ticks at each deadline, unless it sleeps."""
        match happening:
            case Wait(seconds, asleep):
                self.overslept |= asleep
                until_s = self.now_s + seconds
                while not asleep and (self.round_.deadline_s or until_s) < until_s:
                    assert self.round_.deadline_s is not None
                    self.now_s = self.round_.deadline_s
                    self.take(Ticked())
                self.now_s = until_s
            case Fitting():
                self.take(fitting_event(happening, self.round_))
            case event:
                self.take(event)

    def take(self, event: Event) -> None:
        """Step, and check what must hold of every step."""
        before, now_s = self.round_, self.now_s
        copy = copy_of(before)
        after, effects = step(before, event, now_s)
        assert facts_of(before) == facts_of(copy), "the round before was changed"

        ticked, called_for = before, effects
        if before.deadline_s is not None and now_s >= before.deadline_s:
            # Deadlines that are due are handled before the event, and as if alone.
            ticked, due = step(before, Ticked(), now_s)
            again, called_for = step(ticked, event, now_s)
            assert facts_of(again) == facts_of(after)
            assert (*due, *called_for) == effects

        self.round_ = after
        self.steps.append((event, now_s))
        self.effects += effects
        check_settled(after, now_s)
        check_stages(self.effects, after)
        check_answers(event, ticked, after, called_for)
        check_admissions(ticked, after, called_for)
        check_claims(before, after)
        check_partials(after, effects)
        check_orders(self.steps, self.effects, after, effects)
        if those(PublishCheckpoint, effects):
            self.published_s = now_s

    def leave_alone(self) -> None:
        """Nobody says another word; only the commit point answers, since it is awaited."""
        while self.round_.deadline_s is not None:
            if self.round_.closing is Closing.PUBLISHING:
                self.take(CommitFinished(ROUND_ID))
            else:
                self.now_s = max(self.now_s, self.round_.deadline_s)
                self.take(Ticked())


def copy_of(round_: Round) -> Round:
    """Copy everything of a round that could be changed."""
    return dataclasses.replace(
        round_,
        entered_s=dict(round_.entered_s),
        claims=dict(round_.claims),
        away_until_s=dict(round_.away_until_s),
        duties=dict(round_.duties),
        waiting=dict(round_.waiting),
    )


def facts_of(round_: Round) -> list[tuple[str, Any]]:
    """List all that a round is, with its mappings in their order, which matters, too."""
    values = ((f.name, getattr(round_, f.name)) for f in dataclasses.fields(round_))
    return [(name, [*v.items()] if isinstance(v, dict) else v) for name, v in values]


# -- What must hold --------------------------------------------------------------------------------


def check_settled(round_: Round, now_s: float) -> None:
    """Unless Completed the deadline lies ahead, and until then nothing is left to do."""
    if round_.phase is Phase.COMPLETED:
        assert round_.deadline_s is None
    else:
        assert round_.deadline_s is not None
        assert round_.deadline_s > now_s
    unchanged, nothing = step(round_, Ticked(), now_s)
    assert (facts_of(unchanged), nothing) == (facts_of(round_), ())


def check_stages(effects: list[Effect], round_: Round) -> None:
    """A phase moves only along its transitions; each stage is announced exactly once, in order."""
    announced = those(Announce, effects)
    phases = [announcement.phase for announcement in announced]
    assert phases[0] is Phase.SELECTION
    assert all(b in NEXT_PHASES[a] for a, b in itertools.pairwise(phases))
    assert phases[-1] is round_.phase
    assert phases == list(round_.entered_s)
    assert (announced[-1].outcome, announced[-1].reason) == (round_.outcome, round_.reason)


def check_answers(event: Event, before: Round, after: Round, effects: tuple[Effect, ...]) -> None:
    """Every check-in and every partial gets exactly one answer."""
    settled = those(SettlePartial, effects)
    if isinstance(event, PartialSubmitted):
        assert [(s.owner, s.round_id) for s in settled] == [(event.owner, event.round_id)]
        assert bool(settled[0].reason) != settled[0].kept
    else:
        assert settled == []
    admitted = [(e.owner, client_id) for e in those(Admit, effects) for client_id in e.client_ids]
    declined = [(e.owner, client_id) for e in those(Decline, effects) for client_id in e.client_ids]
    answers = Counter(admitted + declined)
    if isinstance(event, CheckedIn):
        for client_id in event.client_ids:
            answer = answers.pop((event.owner, client_id), 0)
            waits = after.waiting.get(client_id) == event.owner
            assert answer + waits + took_up(event.owner, client_id, before, effects) == 1
    else:
        assert declined == []
    # Whoever else is answered had waited and got a place.
    assert all(client_id in before.waiting for _, client_id in answers)


def took_up(owner: Owner, client_id: str, before: Round, effects: tuple[Effect, ...]) -> bool:
    """Say whether a client took up the claim that it had, and so is configured once more."""
    claim = before.claims.get(client_id)
    ordered = any(
        order.owner == owner and client_id in order.client_ids
        for order in those(Configure, effects)
    )
    free = claim is not None and (claim.standing is Standing.HELD or claim.released)
    return ordered and claim is not None and claim.owner == owner and not free


def check_admissions(before: Round, after: Round, effects: tuple[Effect, ...]) -> None:
    """At the moment of an admission, admitted minus lost is within the limit."""
    admitted = {c for admission in those(Admit, effects) for c in admission.client_ids}
    lost = {c for c, standing in standings(before).items() if standing is Standing.LOST}
    newcomers = {c for c in admitted if c not in before.claims or c in lost}
    resumed = {c for c in lost - admitted if after.claims[c].standing is not Standing.LOST}
    if newcomers:
        counts = after.counts
        assert counts.admitted - counts.lost - len(resumed) <= after.plan.admit_limit


def check_claims(before: Round, after: Round) -> None:
    """Counts are right, fates final, claims moved only from owners that cannot fold any more."""
    by_standing = Counter(claim.standing.value for claim in after.claims.values())
    configured = sum(claim.configured for claim in after.claims.values())
    assert after.counts == Counts(len(after.claims), configured, **by_standing)

    for client_id, claim in before.claims.items():
        if claim.standing is Standing.HELD:
            continue
        now = after.claims[client_id]
        if claim.standing in FINAL or before.phase is Phase.COMPLETED:
            # That its configuration was written, and how far it came, may still be heard of.
            told = dataclasses.replace(now, configured=claim.configured, shape=claim.shape)
            assert told == claim
        if now.owner != claim.owner:
            assert claim.released or not after.duties[claim.owner].owing
    for client_id, claim in after.claims.items():
        assert (claim.standing is Standing.HELD) == (after.phase is Phase.SELECTION)
        assert claim.standing is Standing.HELD or claim.owner in after.duties
        if claim.standing is Standing.FOLDED:
            assert after.duties[claim.owner].owing
        if client_id in after.away_until_s:
            assert claim.standing is Standing.AWAY
    collecting = after.closing is Closing.OPEN and after.phase is not Phase.COMPLETED
    if collecting:
        away = {c for c, standing in standings(after).items() if standing is Standing.AWAY}
        assert away == set(after.away_until_s)
        # Who waits for the next round is not expected in this one, unless no selector can serve it.
        expected = {c for c in after.waiting if standings(after).get(c) in (*OPEN, Standing.HELD)}
        assert all(standings(after)[c] is Standing.AWAY for c in expected)
    elif after.phase is not Phase.COMPLETED:
        assert not after.away_until_s, "somebody is waited for after Close"
    if after.phase is Phase.COMPLETED:
        assert set(standings(after).values()) <= FATES
        reported = {c for c, standing in standings(after).items() if standing is Standing.REPORTED}
        assert reported == kept_clients(after).keys()


def check_partials(round_: Round, effects: tuple[Effect, ...]) -> None:
    """A client is in one kept partial at most; only enough of them make a checkpoint."""
    assert all(times == 1 for times in kept_clients(round_).values())
    assert all(not (duty.void and duty.partial) for duty in round_.duties.values())
    selector_ids = [owner.selector_id for owner in round_.duties]
    assert len(selector_ids) == len(set(selector_ids)), "two processes of one selector serve"
    for order in those(WriteCheckpoint, effects):
        clients = [c for _, partial in order.partials for c in partial.client_ids]
        assert len(clients) == len(set(clients)) == sum(p.count for _, p in order.partials)
        assert len(clients) >= round_.plan.min_reports
        assert sum(partial.weight for _, partial in order.partials) >= len(clients) > 0
        assert {round_.claims[c].standing for c in clients} == {Standing.REPORTED}


def kept_clients(round_: Round) -> Counter[str]:
    """Count in how many kept partials each client is."""
    partials = [duty.partial for duty in round_.duties.values() if duty.partial is not None]
    return Counter(client_id for partial in partials for client_id in partial.client_ids)


def check_orders(
    steps: list[tuple[Event, float]],
    effects: list[Effect],
    round_: Round,
    latest: tuple[Effect, ...],
) -> None:
    """At most one commit a round, step by step; selectors hear the end exactly when it comes."""
    assert len(those(WriteCheckpoint, effects)) <= 1
    assert len(those(PublishCheckpoint, effects)) <= len(those(WriteCheckpoint, effects))
    event = steps[-1][0]
    if those(PublishCheckpoint, latest):
        assert event == CheckpointWritten(ROUND_ID)
    if those(Announce, latest) and round_.outcome is Outcome.COMMITTED:
        assert event == CommitFinished(ROUND_ID)
        assert len(those(PublishCheckpoint, effects)) == 1
    if Phase.COMPLETED in [announcement.phase for announcement in those(Announce, latest)]:
        assert {end.owner for end in those(EndRound, latest)} == set(round_.duties)
    for configure in those(Configure, latest):
        assert {round_.claims[c].owner for c in configure.client_ids} == {configure.owner}


# -- The tests -------------------------------------------------------------------------------------


@EXAMPLES
@given(plans, pools, happenings)
def test_anything_happens_all_invariants_hold_and_left_alone_the_round_ends(
    plan: RoundPlan, pool: dict[str, Owner], what: list[Happening]
) -> None:
    """The invariants of the core hold after every step, and every round ends in its time."""
    history = History(plan, pool)
    for happening in what:
        history.happen(happening)
    history.leave_alone()
    for client_id, claim in history.round_.claims.items():
        history.take(folded(claim.owner, client_id))  # too late, which changes nothing

    round_ = history.round_
    counts = dataclasses.asdict(round_.counts)
    assert sum(counts[fate.value] for fate in FATES) == round_.counts.admitted
    assert round_.outcome is not None
    assert (round_.reason == "") == (round_.outcome is Outcome.COMMITTED)
    if not history.overslept:
        end_s = history.published_s or round_.entered_s[Phase.COMPLETED]
        configured_s = round_.entered_s.get(Phase.CONFIGURATION)
        longest_s = plan.report_window_s + plan.grace_s + plan.commit_timeout_s
        if configured_s is None:
            assert end_s <= START_S + plan.selection_timeout_s
        else:
            assert end_s <= configured_s + longest_s


@settings(EXAMPLES, max_examples=60)
@given(plans, pools, happenings)
def test_same_events_at_the_same_times_give_the_same_round(
    plan: RoundPlan, pool: dict[str, Owner], what: list[Happening]
) -> None:
    """A journal can be replayed: the round and its effects depend on nothing else."""
    history = History(plan, pool)
    for happening in what:
        history.happen(happening)

    round_, effects = start(1, plan, START_S, round_id=ROUND_ID, base_digest=BASE, waiting=pool)
    replayed = [*effects]
    for event, now_s in history.steps:
        journaled = from_json(type(event), to_json(event))
        round_, effects = step(round_, journaled, now_s)
        replayed += effects
    assert facts_of(round_) == facts_of(history.round_)
    assert replayed == history.effects


def test_kind_of_event_is_added_the_random_events_have_it() -> None:
    """No event is left out of the tests above."""
    assert set(facts) == set(get_args(Event))


@pytest.mark.parametrize("kind", list(facts), ids=lambda kind: kind.__name__)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.data())
def test_event_is_written_to_the_journal_it_is_read_back_equal(
    kind: type[Event], data: st.DataObject
) -> None:
    """Events are plain data: JSON and back changes nothing."""
    event = data.draw(facts[kind])

    assert from_json(kind, to_json(event)) == event


def to_json(event: Event) -> str:
    """Write an event as a journal would."""
    return json.dumps(dataclasses.asdict(event), allow_nan=False)


def from_json(kind: type[Any], text: str) -> Any:
    """Read an event as a journal would."""
    return ADAPTERS[kind].validate_json(text)


ADAPTERS = {kind: TypeAdapter(kind) for kind in get_args(Event)}
