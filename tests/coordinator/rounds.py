"""Rounds for the tests of the pure core: short plans, named selectors, short cuts to a phase.

Everything that :func:`a_round_in` does to get there happens at ``START_S``, so that ``after_s`` of
:func:`play` counts from the moment at which the phase (and each inner step of Reporting) began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from coordinator.effects import Effect
from coordinator.events import (
    CheckedIn,
    CheckpointWritten,
    Configured,
    Event,
    FoldedReport,
    Owner,
    PartialReference,
    PartialSubmitted,
    ReportsFolded,
    Ticked,
)
from coordinator.roster import Standing
from coordinator.round import Closing, Round, start, step
from federation.phases import Phase
from federation.plan import RetryWindow, RoundPlan

NORTH = Owner("north", "n1")
NORTH_RESTARTED = Owner("north", "n2")
SOUTH = Owner("south", "s1")
EAST = Owner("east", "e1")

ROUND_ID = "this-round"
BASE, DIGEST = "ba5e", "d16e57"
START_S = 1_000.0
SELECTION_TIMEOUT_S = 100.0
WINDOW_S = 60.0
GRACE_S = 5.0
RETURN_S = 10.0
COMMIT_TIMEOUT_S = 20.0
RETRY_WINDOW = RetryWindow(1.0, 5.0)

Clients = Mapping[Owner, Sequence[str]]

ONE_EACH: Clients = {NORTH: ("ann",), SOUTH: ("ben",)}

E = TypeVar("E", bound=Effect)


def a_plan(goal_count: int = 2, **changes: Any) -> RoundPlan:
    """Build a plan with short, distinct times."""
    times = {
        "selection_timeout_s": SELECTION_TIMEOUT_S,
        "report_window_s": WINDOW_S,
        "grace_s": GRACE_S,
        "return_s": RETURN_S,
        "commit_timeout_s": COMMIT_TIMEOUT_S,
    }
    return RoundPlan(goal_count=goal_count, **(times | changes))


def a_round_in(
    phase: Phase,
    closing: Closing = Closing.OPEN,
    *,
    clients: Clients = ONE_EACH,
    **plan: Any,
) -> Round:
    """Bring a round to this phase and inner step of Reporting, by events alone.

    Args:
        phase: Where it shall stand, not Completed.
        closing: How far Reporting shall be; from SEALING on everybody has reported.
        clients: Who is admitted, by selector.
        plan: Fields of the plan; ``goal_count`` is by default the number of clients, and one more
            in Selection.
    """
    number = sum(map(len, clients.values()))
    goal_count = plan.pop("goal_count", number + (phase is Phase.SELECTION))
    the_plan = a_plan(goal_count, **plan)
    # A round that does not fill up goes on when Selection times out, which shall be at START_S.
    waits = phase is not Phase.SELECTION and number < the_plan.admit_limit
    opened_s = START_S - SELECTION_TIMEOUT_S if waits else START_S
    round_, _ = start(1, the_plan, opened_s, round_id=ROUND_ID, base_digest=BASE)
    for owner, client_ids in clients.items():
        round_, _ = step(round_, CheckedIn(owner, tuple(client_ids)), opened_s)
    if phase is not Phase.SELECTION:
        round_, _ = step(round_, Ticked(), START_S)
    if phase is Phase.REPORTING:
        for owner, client_ids in clients.items():
            round_, _ = step(round_, configured(owner, *client_ids), START_S)
    if closing is not Closing.OPEN:
        for owner, client_ids in clients.items():
            round_, _ = step(round_, folded(owner, *client_ids), START_S)
    if closing in (Closing.WRITING, Closing.PUBLISHING):
        for owner, client_ids in clients.items():
            round_, _ = step(round_, partial(owner, *client_ids), START_S)
    if closing is Closing.PUBLISHING:
        round_, _ = step(round_, CheckpointWritten(ROUND_ID, digest=DIGEST), START_S)
    assert (round_.phase, round_.closing) == (phase, closing)
    return round_


def play(round_: Round, *events: Event, after_s: float = 0.0) -> tuple[Round, list[Effect]]:
    """Step through the events, all ``after_s`` seconds after ``START_S``; gather the effects."""
    gathered: list[Effect] = []
    for event in events:
        round_, effects = step(round_, event, START_S + after_s)
        gathered += effects
    return round_, gathered


def configured(owner: Owner, *client_ids: str, round_id: str = ROUND_ID) -> Configured:
    """The configuration reached these clients."""
    return Configured(owner, round_id, client_ids)


def folded(owner: Owner, *client_ids: str, round_id: str = ROUND_ID) -> ReportsFolded:
    """Reports of these clients, ten examples each, were folded."""
    return ReportsFolded(owner, round_id, tuple(FoldedReport(c, 10) for c in client_ids))


def a_reference(*client_ids: str, **changes: Any) -> PartialReference:
    """Build the reference to a sum of ten examples from each of these clients."""
    count = len(client_ids)
    facts: dict[str, Any] = {
        "sha256": "00ff" if count else "",
        "count": count,
        "weight": 10 * count,
        "client_ids": client_ids,
    }
    return PartialReference(**(facts | changes))


def partial(
    owner: Owner, *client_ids: str, round_id: str = ROUND_ID, **changes: Any
) -> PartialSubmitted:
    """A sum of these clients' reports was handed in."""
    return PartialSubmitted(owner, round_id, a_reference(*client_ids, **changes))


def standings(round_: Round) -> dict[str, Standing]:
    """Say where each admitted client stands."""
    return {client_id: claim.standing for client_id, claim in round_.claims.items()}


def those(kind: type[E], effects: Sequence[Effect]) -> list[E]:
    """Pick the effects of one kind, in order."""
    return [effect for effect in effects if isinstance(effect, kind)]


def deadline_after_s(round_: Round) -> float:
    """Say how long after ``START_S`` the round wants to be ticked."""
    assert round_.deadline_s is not None
    return round_.deadline_s - START_S
