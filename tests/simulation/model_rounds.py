"""A round in the model check: its key, its deadlines, its names, and how it is spoken to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import permutations
from typing import Any

from coordinator.effects import (
    CloseReporting,
    Configure,
    Decline,
    Effect,
    EndRound,
    Release,
    WriteCheckpoint,
)
from coordinator.events import (
    CheckedIn,
    ClientsLeft,
    ClientsReturned,
    Configured,
    FoldedReport,
    Owner,
    PartialReference,
    PartialSubmitted,
    ReportRejected,
    ReportsFolded,
    SelectorAttached,
    SelectorDetached,
    SelectorLeft,
)
from coordinator.ledger import Happening
from coordinator.roster import Duty
from coordinator.round import Round
from tests.simulation.model_parts import ROUND_ID, Message
from tests.simulation.model_side import CLIENTS

NOW_S = 0.0
"""It is always now."""

SELECTORS = ("a", "b")

Partials = tuple[tuple[int, int, tuple[str, ...]], ...]
"""Which partials are merged: of which selector and incarnation, with which clients."""


def events_of(owner: Owner, message: Message) -> list[Happening]:
    """Return what the coordinator takes for a message."""
    kind, *about = message
    client_ids = tuple(about)
    match kind:
        case "hello":
            return [event for said in about for event in events_of(owner, said)]
        case "attached":
            return [SelectorAttached(owner, client_ids)]
        case "gone":
            return [SelectorLeft(owner)]
        case "detached":
            return [SelectorDetached(owner)]
        case "checked_in":
            return [CheckedIn(owner, client_ids, ("",) * len(client_ids))]
        case "left":
            return [ClientsLeft(owner, client_ids)]
        case "returned":
            return [ClientsReturned(owner, ROUND_ID, client_ids)]
        case "configured":
            return [Configured(owner, ROUND_ID, client_ids)]
        case "folded":
            return [ReportsFolded(owner, ROUND_ID, tuple(FoldedReport(c, 1) for c in client_ids))]
        case "rejected":
            return [ReportRejected(owner, ROUND_ID, c, "fold-failed") for c in client_ids]
    count, failure = len(client_ids), "fold-failed" if kind == "failed" else ""
    partial = PartialReference("sum" if count else "", count, count, client_ids, failure)
    return [PartialSubmitted(owner, ROUND_ID, partial)]


def key_of(round_: Round) -> Any:
    """Say all of a round that decides what can follow.

    Neither does when a deadline is, here, nor in which order clients were admitted, once they are
    selected: there is a place for each. Nor does the note that a client was reached: it is asked
    for when a selector attaches, and the hello before has just said it anew.
    """
    return (
        round_.phase.value,
        round_.closing.value,
        tuple(sorted((c, m.owner, m.standing.value) for c, m in round_.claims.items())),
        tuple(sorted(round_.away_until_s)),
        tuple(sorted((owner, *_key_of_duty(duty)) for owner, duty in round_.duties.items())),
        tuple(round_.waiting.items()),
    )


def _key_of_duty(duty: Duty) -> tuple[bool, Any, bool]:
    return duty.void, duty.partial and duty.partial.client_ids, duty.away_until_s is None


Timer = Callable[[Round], Round]


def timers(round_: Round) -> dict[str, Timer]:
    """Return for each deadline that is set what makes it due."""

    def of_owner(owner: Owner) -> Timer:
        return lambda r: replace(
            r, duties={**r.duties, owner: replace(r.duties[owner], away_until_s=NOW_S)}
        )

    def of_client(client_id: str) -> Timer:
        return lambda r: replace(r, away_until_s={**r.away_until_s, client_id: NOW_S})

    timers: dict[str, Timer] = {"the phase": lambda r: replace(r, phase_deadline_s=NOW_S)}
    for owner, duty in round_.duties.items():
        if duty.away_until_s is not None:
            timers[owner.selector_id + owner.incarnation] = of_owner(owner)
    return timers | {client_id: of_client(client_id) for client_id in round_.away_until_s}


def orders(effects: Iterable[Effect]) -> Iterator[tuple[int, int, Message]]:
    """Yield what selectors are to be told: which one, which incarnation of it, and what."""
    for effect in effects:
        match effect:
            case Configure(owner, client_ids):
                message: Message = ("configure", *client_ids)
            case Decline(owner, client_ids) | Release(owner, client_ids):
                message = ("decline", *client_ids)
            case CloseReporting(owner):
                message = ("close",)
            case EndRound(owner):
                message = ("end",)
            case _:
                continue
        yield SELECTORS.index(owner.selector_id), int(owner.incarnation), message


def merged(effects: Iterable[Effect]) -> Partials | None:
    """Return what a commit is to merge, if one begins."""
    for effect in effects:
        if isinstance(effect, WriteCheckpoint):
            return tuple(
                (SELECTORS.index(owner.selector_id), int(owner.incarnation), partial.client_ids)
                for owner, partial in effect.partials
            )
    return None


def renamed(round_: Round, renaming: Mapping[str, str]) -> Round:
    """Return the round with other names for selectors and clients."""

    def name(client_id: str) -> str:
        return renaming.get(client_id, client_id)

    def names(owner: Owner) -> Owner:
        return Owner(name(owner.selector_id), owner.incarnation)

    duties = {names(owner): duty for owner, duty in round_.duties.items()}
    for owner, duty in duties.items():
        if duty.partial is not None:
            client_ids = tuple(sorted(map(name, duty.partial.client_ids)))
            duties[owner] = replace(duty, partial=replace(duty.partial, client_ids=client_ids))
    return replace(
        round_,
        claims={name(c): replace(m, owner=names(m.owner)) for c, m in round_.claims.items()},
        away_until_s={name(c): until_s for c, until_s in round_.away_until_s.items()},
        duties=duties,
        waiting={name(c): names(owner) for c, owner in round_.waiting.items()},
    )


def alike(round_: Round) -> str:
    """Return what is the same for rounds that differ in names and in restarts before them alone."""
    seen: dict[str, list[str]] = {selector_id: [] for selector_id in SELECTORS}
    for owner in sorted(round_.duties):
        seen[owner.selector_id].append(owner.incarnation)

    def counted(owner: Owner) -> Owner:
        return owner._replace(incarnation=str(seen[owner.selector_id].index(owner.incarnation)))

    round_ = replace(
        round_,
        claims={c: replace(m, owner=counted(m.owner)) for c, m in round_.claims.items()},
        duties={counted(owner): duty for owner, duty in round_.duties.items()},
    )
    return min(
        repr(key_of(renamed(round_, dict(zip((*SELECTORS, *CLIENTS), (*s, *c), strict=True)))))
        for s in permutations(SELECTORS)
        for c in permutations(CLIENTS)
    )
