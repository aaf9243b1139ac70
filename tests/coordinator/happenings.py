"""Random rounds for the tests of the invariants: what may happen to a round, nonsense included."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from coordinator.events import (
    CheckedIn,
    CheckpointWritten,
    ClaimsReleased,
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
    ShapesSeen,
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
class Fitting:
    """Something that fits the round as it stands then: a duty that is done, or a mishap."""

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


Happening = Event | Fitting | Wait

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
    ClaimsReleased: st.builds(ClaimsReleased, owners, round_ids, several),
    Configured: st.builds(Configured, owners, round_ids, several),
    ReportsFolded: st.builds(
        ReportsFolded, owners, round_ids, st.lists(reports, max_size=2).map(tuple)
    ),
    ShapesSeen: st.builds(
        ShapesSeen, owners, round_ids, st.dictionaries(client, st.sampled_from(["-v", "-v[!"]))
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


def claimed(round_: Round, *standings: Standing) -> list[tuple[Owner, str]]:
    """List the clients that stand so, or all, with the owners of their claims."""
    return [
        (claim.owner, client_id)
        for client_id, claim in round_.claims.items()
        if claim.standing in (standings or Standing)
    ]


def partials(round_: Round) -> list[Event]:
    """List what selectors would hand in that folded what they said."""
    done = claimed(round_, Standing.FOLDED)
    return [
        PartialSubmitted(owner, ROUND_ID, a_reference(*(c for o, c in done if o == owner)))
        for owner, duty in round_.duties.items()
        if duty.owing
    ]


Options = Callable[[Round], Sequence[Event]]

DUTIES: dict[str, Options] = {
    "check in": lambda r: [
        CheckedIn(owner, (c,))
        for c in CLIENTS
        if c not in {*r.claims, *r.waiting}
        for owner in (NORTH, SOUTH)
    ],
    "configured": lambda r: [
        Configured(owner, ROUND_ID, (c,)) for owner, c in claimed(r, Standing.PENDING)
    ],
    "fold": lambda r: [folded(owner, c) for owner, c in claimed(r, Standing.PENDING)],
    "partial": lambda r: partials(r) if r.closing is Closing.SEALING else [],
    "written": lambda _: [CheckpointWritten(ROUND_ID)],
    "finished": lambda _: [CommitFinished(ROUND_ID)],
}
MISHAPS: dict[str, Options] = {
    "leave": lambda r: [ClientsLeft(owner, (c,)) for owner, c in claimed(r, Standing.PENDING)],
    "return": lambda r: [ClientsReturned(owner, ROUND_ID, (c,)) for owner, c in claimed(r)],
    "release": lambda r: [ClaimsReleased(owner, ROUND_ID, (c,)) for owner, c in claimed(r)],
    "come back": lambda r: [CheckedIn(owner, (c,)) for owner, c in claimed(r)],
    "move": lambda r: [CheckedIn(o, (c,)) for _, c in claimed(r) for o in (NORTH, SOUTH, EAST)],
    "fold again": lambda r: [folded(owner, c) for owner, c in claimed(r)],
    "verdict": lambda r: [
        ReportRejected(owner, ROUND_ID, c, "not-finite") for owner, c in claimed(r)
    ],
    "drain": partials,
    "lie": lambda r: [
        PartialSubmitted(o, ROUND_ID, a_reference(*r.claims, failure=failure))
        for o in r.duties
        for failure in ("", "file-missing")
    ],
    "selector leaves": lambda r: [SelectorLeft(owner) for owner in r.duties],
    "selector detaches": lambda r: [SelectorDetached(owner) for owner in r.duties],
    "selector returns": lambda r: [SelectorAttached(owner) for owner in r.duties],
    "selector restarts": lambda _: [SelectorAttached(NORTH_RESTARTED)],
}
NEXT = {
    (Phase.SELECTION, Closing.OPEN): "check in",
    (Phase.CONFIGURATION, Closing.OPEN): "configured",
    (Phase.REPORTING, Closing.OPEN): "fold",
    (Phase.REPORTING, Closing.SEALING): "partial",
    (Phase.REPORTING, Closing.WRITING): "written",
    (Phase.REPORTING, Closing.PUBLISHING): "finished",
}
GO_ON = "go on"


def fitting_event(fitting: Fitting, round_: Round) -> Event:
    """Say what happens, as the round stands now; nothing where it can happen to nobody."""
    what = fitting.what
    if what == GO_ON:
        what = NEXT.get((round_.phase, round_.closing), "finished")
    options = (DUTIES | MISHAPS)[what](round_)
    return options[fitting.pick % len(options)] if options else Ticked()


fittings = st.builds(
    Fitting, st.sampled_from([*(GO_ON,) * 14, *DUTIES, *MISHAPS]), st.integers(0, 5)
)
waits = st.one_of(
    st.builds(Wait, st.sampled_from([0.5, 0.5, 3.0, 12.0, 30.0])),
    st.builds(Wait, st.sampled_from([0.5, 3.0, 500.0]), st.just(value=True)),
)
nonsense = st.one_of(*(fact for kind, fact in facts.items() if kind is not Stopped))
courses = st.lists(
    st.one_of(
        st.lists(fittings, min_size=2, max_size=5),
        st.lists(fittings, min_size=2, max_size=5),
        st.lists(st.one_of(nonsense, waits), min_size=1, max_size=2),
    ),
    min_size=3,
    max_size=9,
)
# Rounds would not get far by chance: what happens begins somewhere on the straight way, is mostly
# sense, and in some rounds ends with a stop.
happenings: st.SearchStrategy[list[Happening]] = st.builds(
    lambda way, courses, stop: [*way, *itertools.chain.from_iterable(courses), *stop],
    st.integers(0, 14).map(lambda steps: [Fitting(GO_ON, step) for step in range(steps)]),
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
    grace_s=st.sampled_from([5.0, 5.0, 15.0, 0.001]),
    return_s=st.sampled_from([10.0, 25.0]),
    commit_timeout_s=st.just(20.0),
    pipelined=st.booleans(),
)
pools = st.one_of(st.just({}), st.dictionaries(client, owners, min_size=3, max_size=6))
