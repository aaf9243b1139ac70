"""Random rounds for the tests of the invariants: what may happen to a round, nonsense included."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from coordinator.events import (
    CheckedIn,
    CheckpointWritten,
    ClientsLeft,
    ClientsReturned,
    CommitFinished,
    Configured,
    Event,
    FoldedReport,
    Owner,
    PartialReference,
    PartialSubmitted,
    ReportDiscarded,
    ReportRejected,
    ReportsFolded,
    SelectorAttached,
    SelectorDetached,
    SelectorLeft,
    Stopped,
    Ticked,
    Withdrawn,
)
from coordinator.roster import Standing
from coordinator.round import Closing, Round
from federation.phases import Phase
from federation.plan import RoundPlan
from tests.coordinator.rounds import (
    EAST,
    NORTH,
    NORTH_RESTARTED,
    ROUND_ID,
    SOUTH,
    a_reference,
    folded,
)


@dataclass(frozen=True)
class Honestly:
    """What a good client, selector or disk would say next, as the round stands then."""

    what: str
    pick: int


@dataclass(frozen=True)
class Wait:
    """Time passes.

    Attributes:
        seconds: How long.
        asleep: The driver sleeps all the while, and finds the deadlines due afterwards.
    """

    seconds: float
    asleep: bool = False


Happening = Event | Honestly | Wait

CLIENTS = [*"abcdef"]

owners = st.sampled_from([NORTH, NORTH, SOUTH, SOUTH, EAST, NORTH_RESTARTED])
client = st.sampled_from(CLIENTS)
several = st.lists(client, max_size=4, unique=True).map(tuple)
round_ids = st.sampled_from([ROUND_ID] * 9 + ["earlier-round"])
words = st.sampled_from(["not-finite", "trainer-failed", "closed"])
failures = st.sampled_from(["", "", "", "disk-full"])
metrics = st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False, allow_infinity=False))
reports = st.builds(FoldedReport, client, st.integers(1, 9), metrics)
references = st.one_of(
    several.map(lambda ids: a_reference(*ids)),
    several.map(lambda ids: a_reference(*ids, failure="file-missing")),
    st.builds(PartialReference, st.just("00"), st.integers(0, 3), st.integers(0, 9), several),
)
facts: dict[type[Event], st.SearchStrategy[Event]] = {
    CheckedIn: st.builds(CheckedIn, owners, several),
    ClientsLeft: st.builds(ClientsLeft, owners, several),
    ClientsReturned: st.builds(ClientsReturned, owners, round_ids, several),
    Configured: st.builds(Configured, owners, round_ids, several),
    ReportsFolded: st.builds(
        ReportsFolded, owners, round_ids, st.lists(reports, max_size=2).map(tuple)
    ),
    ReportRejected: st.builds(ReportRejected, owners, round_ids, client, words),
    ReportDiscarded: st.builds(ReportDiscarded, owners, round_ids, client, words),
    Withdrawn: st.builds(Withdrawn, owners, round_ids, client, words),
    PartialSubmitted: st.builds(PartialSubmitted, owners, round_ids, references),
    SelectorAttached: st.builds(SelectorAttached, owners),
    SelectorLeft: st.builds(SelectorLeft, owners),
    SelectorDetached: st.builds(SelectorDetached, owners),
    CheckpointWritten: st.builds(CheckpointWritten, round_ids, failures),
    CommitFinished: st.builds(CommitFinished, round_ids, failures),
    Stopped: st.builds(Stopped, words),
    Ticked: st.just(Ticked()),
}
NEXT = {
    (Phase.SELECTION, Closing.OPEN): "check in",
    (Phase.CONFIGURATION, Closing.OPEN): "configured",
    (Phase.REPORTING, Closing.OPEN): "fold",
    (Phase.REPORTING, Closing.SEALING): "partial",
    (Phase.REPORTING, Closing.WRITING): "written",
    (Phase.REPORTING, Closing.PUBLISHING): "finished",
}
KINDS = [
    *("go on",) * 10,
    *("check in", "configured", "fold", "leave", "return", "come back", "move", "partial", "drain"),
    *("selector leaves", "selector returns", "selector restarts"),
]
honestly = st.builds(Honestly, st.sampled_from(KINDS), st.integers(0, 5))
waits = st.one_of(
    st.builds(Wait, st.sampled_from([0.5, 0.5, 3.0, 12.0, 30.0])),
    st.builds(Wait, st.sampled_from([0.5, 3.0, 500.0]), st.just(value=True)),
)
nonsense = st.one_of(*(fact for kind, fact in facts.items() if kind is not Stopped))
courses = st.lists(
    st.one_of(
        st.lists(honestly, min_size=2, max_size=5),
        st.lists(honestly, min_size=2, max_size=5),
        st.lists(st.one_of(nonsense, waits), min_size=1, max_size=2),
    ),
    min_size=3,
    max_size=9,
)
# Rounds would not get far by chance: what happens begins somewhere on the straight way, is mostly
# sense, and in some rounds ends with a stop.
happenings: st.SearchStrategy[list[Happening]] = st.builds(
    lambda way, courses, stop: [*way, *itertools.chain.from_iterable(courses), *stop],
    st.integers(0, 14).map(lambda steps: [Honestly("go on", step) for step in range(steps)]),
    courses,
    st.one_of(st.just([]), st.just([]), st.lists(facts[Stopped], max_size=1)),
)

plans = st.builds(
    RoundPlan,
    goal_count=st.just(3),
    over_selection=st.sampled_from([1.0, 1.5]),
    min_reports=st.sampled_from([1, 1, 2, 3]),
    selection_timeout_s=st.just(40.0),
    report_window_s=st.sampled_from([20.0, 60.0]),
    grace_s=st.sampled_from([5.0, 5.0, 15.0, 0.0]),
    return_s=st.sampled_from([10.0, 25.0]),
    commit_timeout_s=st.just(20.0),
    pipelined=st.booleans(),
)
pools = st.one_of(st.just({}), st.dictionaries(client, owners, min_size=3, max_size=6))


def honest_event(honest: Honestly, round_: Round) -> Event:
    """Say what would come next of one that does its duty; nothing if nobody has this duty."""
    goes_on = NEXT.get((round_.phase, round_.closing), "")
    options = honest_events(goes_on if honest.what == "go on" else honest.what, round_)
    return options[honest.pick % len(options)] if options else Ticked()


def honest_events(what: str, round_: Round) -> Sequence[Event]:  # noqa: C901, PLR0912 - a table
    """List what could come of this kind, as the round stands now."""
    claims = [(claim.owner, c, claim.standing) for c, claim in round_.claims.items()]
    pending = [(owner, c) for owner, c, standing in claims if standing is Standing.PENDING]
    match what:
        case "check in":
            absent = [c for c in CLIENTS if c not in {*round_.claims, *round_.waiting}]
            return [CheckedIn(owner, (c,)) for c in absent for owner in (NORTH, SOUTH)]
        case "configured":
            return [Configured(owner, ROUND_ID, (c,)) for owner, c in pending]
        case "fold":
            return [folded(owner, c) for owner, c in pending]
        case "leave":
            return [ClientsLeft(owner, (c,)) for owner, c in pending]
        case "return":
            away = [(owner, c) for owner, c, standing in claims if standing is Standing.AWAY]
            return [ClientsReturned(owner, ROUND_ID, (c,)) for owner, c in away]
        case "come back":
            return [CheckedIn(owner, (c,)) for owner, c, _ in claims]
        case "move":
            return [
                CheckedIn(owner, (c,))
                for claimed_by, c, _ in claims
                for owner in (NORTH, SOUTH, EAST)
                if owner != claimed_by
            ]
        case "selector leaves":
            return [gone(o) for o in round_.duties for gone in (SelectorLeft, SelectorDetached)]
        case "selector returns":
            return [SelectorAttached(owner) for owner in round_.duties]
        case "selector restarts":
            return [SelectorAttached(NORTH_RESTARTED)]
        case "partial" if round_.closing is not Closing.SEALING:
            return []
        case "partial" | "drain":
            owing = [owner for owner, duty in round_.duties.items() if duty.owing]
            return [partial_of(round_, owner) for owner in owing]
        case "written":
            return [CheckpointWritten(ROUND_ID)]
        case "finished":
            return [CommitFinished(ROUND_ID)]
    return []


def partial_of(round_: Round, owner: Owner) -> PartialSubmitted:
    """Build what a selector hands in that folded what it said."""
    done = [
        client_id
        for client_id, claim in round_.claims.items()
        if claim.owner == owner and claim.standing is Standing.FOLDED
    ]
    return PartialSubmitted(owner, ROUND_ID, a_reference(*done))
