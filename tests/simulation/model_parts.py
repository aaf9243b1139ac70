"""The parts of the model check: a selector and its cohort in a few words, messages, and keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from coordinator.events import (
    CheckedIn,
    ClientsLeft,
    ClientsReturned,
    FoldedReport,
    Owner,
    PartialReference,
    PartialSubmitted,
    ReportsFolded,
    SelectorAttached,
    SelectorDetached,
    SelectorLeft,
    Ticked,
)
from coordinator.ledger import Happening, Ledger
from federation.plan import RetryWindow
from federation.screening import Limits
from federation.tensors import ModelSpec
from selector.cohort import UNSPENT, Cohort, CohortOrder, Member, Standing, Transfer

ROUND_ID, BASE = "round", "base"

Message = tuple[Any, ...]
"""A kind, client ids, and last the incarnation of the selector that said it."""

_ORDER = CohortOrder(ROUND_ID, 1, BASE, "equal", Limits(1_000, None), RetryWindow(0.0, 1.0))
_SPEC = ModelSpec.of({})
_TRANSFER = Transfer(1, 1, b"")


@dataclass(frozen=True)
class Client:
    """Where a client is.

    Attributes:
        place: The selector that its stream is at; None while it is nowhere.
        seated: It has its configuration from there.
        done: It has its receipt.
    """

    place: int | None = None
    seated: bool = False
    done: bool = False


@dataclass(frozen=True)
class SelectorState:
    """A selector process.

    Attributes:
        incarnation: Rises with each restart.
        streams: The clients that it holds, and whether their configuration was sent.
        members: Its cohort's members: client, standing, whether the receipt was given; None
            without a cohort.
        added: Whose reports were added to the sum, each time.
        closed: The cohort is closed and sealed.
        partial: What it handed in.
    """

    incarnation: int = 0
    streams: tuple[tuple[str, bool], ...] = ()
    members: tuple[tuple[str, str, bool], ...] | None = None
    added: tuple[str, ...] = ()
    closed: bool = False
    partial: tuple[str, ...] | None = None


def _cohort_of(state: SelectorState) -> Cohort:
    """Make the real cohort that the words stand for."""
    cohort = Cohort(_ORDER, _SPEC, None)
    for client_id, standing, receipt_given in state.members or ():
        member = cohort.claim(client_id, client_id)
        member.standing, member.receipt_given = Standing(standing), receipt_given
    cohort.closed = cohort.sealed = state.closed
    return cohort


def _in_words(state: SelectorState, cohort: Cohort) -> SelectorState:
    members = tuple(
        (m.client_id, m.standing.value, m.receipt_given) for m in cohort.members.values()
    )
    return replace(state, members=members)


def _streaming(state: SelectorState, client_id: str, *, token: bool) -> SelectorState:
    others = tuple(stream for stream in state.streams if stream[0] != client_id)
    return replace(state, streams=(*others, (client_id, token)))


def claim(
    state: SelectorState, client_ids: Sequence[str]
) -> tuple[SelectorState, list[Message], list[str]]:
    """Obey Configure, as ``Selector._take_in`` does; return who was configured."""
    cohort, said, seated = _cohort_of(state), list[Message](), list[str]()
    streams = dict(state.streams)
    for client_id in client_ids:
        member = cohort.claim(client_id, client_id)
        held = client_id in streams
        if held and (cohort.is_open_to(member) or not streams[client_id]):
            cohort.mark_configured(client_id)
            state = _streaming(state, client_id, token=True)
            seated.append(client_id)
        if member.standing is Standing.ACCEPTED:
            said.append(("folded", client_id))
        elif member.standing in UNSPENT and not held:
            cohort.leave(client_id)
            said.append(("left", client_id))
    return _in_words(state, cohort), said, seated


def return_to(state: SelectorState, client_id: str) -> tuple[SelectorState, list[Message], bool]:
    """Check in, as ``Selector.check_in`` does; say whether the client was configured at once."""
    if state.members is not None:
        cohort = _cohort_of(state)
        member = cohort.members.get(client_id)
        if member is not None and cohort.is_open_to(member):
            was_away = member.standing is Standing.AWAY
            cohort.claim(client_id, client_id)
            cohort.mark_configured(client_id)
            said: list[Message] = [("returned", client_id)] if was_away else []
            state = _streaming(_in_words(state, cohort), client_id, token=True)
            return state, said, True
    return _streaming(state, client_id, token=False), [("checked_in", client_id)], False


def report(state: SelectorState, client_id: str) -> tuple[SelectorState, list[Message], bool]:
    """Hand in a report, as desk and service have it; its stream ends with the receipt."""
    cohort = _cohort_of(state)
    streams = tuple(stream for stream in state.streams if stream[0] != client_id)
    state = replace(state, streams=streams)
    member = cohort.members.get(client_id)
    if member is None:
        return state, [], False
    said: list[Message] = []
    if cohort.begin_fold(member, _TRANSFER, 1, {}):
        cohort.accept(member)
        state = replace(state, added=(*state.added, client_id))
        said = [("folded", client_id)]
    accepted = member.standing is Standing.ACCEPTED
    member.receipt_given |= accepted
    return _in_words(state, cohort), said, accepted


def leave(state: SelectorState, client_id: str) -> tuple[SelectorState, list[Message]]:
    """The client's stream was cut."""
    streams = tuple(stream for stream in state.streams if stream[0] != client_id)
    state = replace(state, streams=streams)
    if state.members is not None:
        cohort = _cohort_of(state)
        cohort.leave(client_id)
        state = _in_words(state, cohort)
    return state, [("left", client_id)]


def close(
    state: SelectorState,
) -> tuple[SelectorState, list[Message], tuple[str, ...] | None, list[str]]:
    """Obey CloseReporting; return what was written, if anything was, and who was sent away."""
    if state.members is None:
        return state, [("partial",)], None, []
    dismissed: list[str] = []
    content = None
    if state.partial is None:
        cohort = _cohort_of(state)
        unreported = {member.client_id for member in cohort.close()}
        cohort.seal()
        dismissed = [c for c, _ in state.streams if c in unreported]
        streams = tuple(stream for stream in state.streams if stream[0] not in unreported)
        partial = tuple(member.client_id for member in cohort.accepted)
        content = state.added or None
        state = replace(_in_words(state, cohort), streams=streams, closed=True, partial=partial)
    return state, [("partial", *(state.partial or ()))], content, dismissed


def hello(state: SelectorState) -> Message:
    """Say all that it knows, in one message: facts first, as ``CoordinationService`` takes it."""
    said: list[Message] = []
    members: list[Member] = [] if state.members is None else [*_cohort_of(state).members.values()]
    words = {
        Standing.CONFIGURED: "returned",
        Standing.AWAY: "left",
        Standing.ACCEPTED: "folded",
    }
    said += [(words[m.standing], m.client_id) for m in members if m.standing in words]
    if state.partial is not None:
        said.append(("partial", *state.partial))
    held = [client_id for client_id, token in state.streams if not token]
    said.append(("attached", *held))
    said += [("checked_in", client_id) for client_id in held]
    return ("hello", *said)


def events_of(owner: Owner, message: Message) -> list[Happening]:
    """Return what the coordinator takes for a message."""
    kind, client_ids = message[0], tuple(message[1:-1])
    match kind:
        case "tick":
            return [Ticked()]
        case "hello":
            return [event for said in client_ids for event in events_of(owner, (*said, 0))]
        case "detached":
            return [SelectorDetached(owner)]
        case "returned":
            return [ClientsReturned(owner, ROUND_ID, client_ids)]
        case "left":
            return [ClientsLeft(owner, client_ids)]
        case "checked_in":
            return [CheckedIn(owner, client_ids, ("",) * len(client_ids))]
        case "folded":
            return [ReportsFolded(owner, ROUND_ID, tuple(FoldedReport(c, 1) for c in client_ids))]
        case "partial":
            count = len(client_ids)
            partial = PartialReference("sum" if count else "", count, count, client_ids)
            return [PartialSubmitted(owner, ROUND_ID, partial)]
        case "attached":
            return [SelectorAttached(owner, client_ids)]
    assert kind == "gone"
    return [SelectorLeft(owner)]


def key_of_round(ledger: Ledger, now_s: float) -> Any:
    """Say what a round is, in values that are equal for equal rounds; time counts from now."""
    round_ = ledger.round
    assert round_ is not None
    return (
        round_.phase.value,
        round_.closing.value,
        round_.phase_deadline_s - now_s,
        tuple((c, m.owner, m.standing.value, m.configured) for c, m in round_.claims.items()),
        tuple(sorted((c, at_s - now_s) for c, at_s in round_.away_until_s.items())),
        tuple(
            (owner, duty.void, duty.partial, duty.away_until_s and duty.away_until_s - now_s)
            for owner, duty in round_.duties.items()
        ),
        tuple(round_.waiting.items()),
    )


def owner_of(selector: int, incarnation: int) -> Owner:
    """Return a selector process as the coordinator knows it."""
    return Owner("ab"[selector], str(incarnation))


def replaced_in(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    """Return the same with another value at one place."""
    return (*values[:index], value, *values[index + 1 :])
