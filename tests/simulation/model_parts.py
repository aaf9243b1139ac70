"""The parts of the model check: a selector and its streams in a few words, and what it says.

A selector's cohort is the real one, made anew from the words for each move.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from federation.errors import PeerError
from federation.plan import RetryWindow
from federation.screening import Limits
from federation.tensors import ModelSpec
from selector.cohort import UNSPENT, Cohort, CohortOrder, Member, Standing, Transfer

ROUND_ID, BASE = "round", "base"

Message = tuple[Any, ...]
"""A kind, and then what it is about: client ids, or for a hello the messages that it stands for."""

_ORDER = CohortOrder(ROUND_ID, 1, BASE, "equal", Limits(1_000, None), RetryWindow(0.0, 1.0))
_SPEC = ModelSpec.of({})
_TRANSFER = Transfer(1, 1, b"")
_FACTS = {
    Standing.CONFIGURED: ("configured", "returned"),
    Standing.AWAY: ("left",),
    Standing.ACCEPTED: ("folded",),
    Standing.REJECTED: ("rejected",),
}


class Stream(NamedTuple):
    """A client's check-in stream, as its selector has it.

    Attributes:
        client_id: Whose it is.
        configured: Its configuration was sent on it.
        alive: The client is at its other end; else the selector has not noticed that it is gone.
    """

    client_id: str
    configured: bool = False
    alive: bool = True


class SelectorState(NamedTuple):
    """A selector process; what has no order that matters is sorted.

    Attributes:
        incarnation: Rises with each restart.
        streams: The newest stream of each client that it holds.
        members: Its cohort's members: client, standing, whether the receipt was given; None
            without a cohort.
        added: Whose reports were added to the sum, each time.
        broken: A fold failed half-way.
        closed: The cohort is closed and sealed.
        partial: What it said of its sum.
        late: Reports that are still on their way, from clients that wait for no answer any more.
    """

    incarnation: int = 0
    streams: tuple[Stream, ...] = ()
    members: tuple[tuple[str, str, bool], ...] | None = None
    added: tuple[str, ...] = ()
    broken: bool = False
    closed: bool = False
    partial: Message | None = None
    late: tuple[str, ...] = ()

    def stream_of(self, client_id: str) -> Stream | None:
        """Return the client's newest stream, if it has one."""
        return next((s for s in self.streams if s.client_id == client_id), None)

    def with_stream(self, stream: Stream) -> SelectorState:
        """Return the same with this stream in place of an earlier one of the client."""
        others = self.without_streams([stream.client_id]).streams
        return self._replace(streams=tuple(sorted((*others, stream))))

    def without_streams(self, client_ids: Iterable[str]) -> SelectorState:
        """Return the same without the streams of these clients."""
        ended = set(client_ids)
        return self._replace(streams=tuple(s for s in self.streams if s.client_id not in ended))

    def with_late(self, client_id: str) -> SelectorState:
        """Return the same with a report of this client on its way."""
        return self._replace(late=tuple(sorted({*self.late, client_id})))

    def without_late(self, client_id: str) -> SelectorState:
        """Return the same with no report of this client on its way."""
        return self._replace(late=tuple(c for c in self.late if c != client_id))


Said = tuple[Message, ...]
"""What a selector tells the coordinator, in order."""

Answer = tuple[SelectorState, Said]
"""What a selector is after a move, and what it tells."""


def _cohort_of(state: SelectorState) -> Cohort:
    """Make the real cohort that the words stand for."""
    cohort = Cohort(_ORDER, _SPEC, None)
    for client_id, standing, receipt_given in state.members or ():
        member = cohort.claim(client_id, client_id)
        member.standing, member.receipt_given = Standing(standing), receipt_given
    cohort.closed = cohort.sealed = state.closed
    cohort.broken = "fold-failed" if state.broken else ""
    return cohort


def _in_words(state: SelectorState, cohort: Cohort) -> SelectorState:
    members = [(m.client_id, m.standing.value, m.receipt_given) for m in cohort.members.values()]
    return state._replace(members=tuple(sorted(members)))


@cache
def claim(state: SelectorState, client_ids: tuple[str, ...]) -> Answer:
    """Obey Configure, as ``Selector._take_in`` does."""
    cohort, said = _cohort_of(state), list[Message]()
    for client_id in client_ids:
        member = cohort.claim(client_id, client_id)
        stream = state.stream_of(client_id)
        if stream is not None and (cohort.is_open_to(member) or not stream.configured):
            cohort.mark_configured(client_id)
            state = state.with_stream(stream._replace(configured=True))
        if member.standing not in UNSPENT:
            said += _verdict(member)
        elif stream is None:
            cohort.leave(client_id)
            said.append(("left", client_id))
    return _in_words(state, cohort), tuple(said)


def _verdict(member: Member) -> Said:
    if not member.judged:
        return ()
    return tuple((kind, member.client_id) for kind in _FACTS[member.standing])


@cache
def check_in(state: SelectorState, client_id: str) -> Answer:
    """Take a client's new stream, as ``Selector.check_in`` does."""
    if is_open_to(state, client_id):
        cohort = _cohort_of(state)
        was_away = cohort.members[client_id].standing is Standing.AWAY
        cohort.claim(client_id, client_id)
        cohort.mark_configured(client_id)
        state = state.with_stream(Stream(client_id, configured=True))
        return _in_words(state, cohort), (("returned", client_id),) if was_away else ()
    return state.with_stream(Stream(client_id)), (("checked_in", client_id),)


@cache
def is_open_to(state: SelectorState, client_id: str) -> bool:
    """Say whether the cohort has something to do for this client, without the coordinator."""
    cohort = _cohort_of(state)
    member = cohort.members.get(client_id)
    return member is not None and cohort.is_open_to(member)


@cache
def report(state: SelectorState, client_id: str, *, fails: bool = False) -> Answer:
    """Judge a report, as desk and service do; its client's stream ends with the receipt.

    Whether the client reads its receipt makes no difference: it may come back in either case.

    Args:
        state: Before it.
        client_id: Whose report it is.
        fails: The fold fails half-way.
    """
    cohort, said = _cohort_of(state), Said()
    member = cohort.members.get(client_id)
    if member is None:
        return state, said
    if cohort.begin_fold(member, _TRANSFER, 1, {}):
        if fails:
            cohort.reject(member, PeerError("it failed", reason="fold-failed"))
            cohort.break_sum("fold-failed")
            state, said = _give_up(state._replace(broken=True), cohort)
        else:
            if not cohort.sealed:
                state = state._replace(added=tuple(sorted((*state.added, client_id))))
            cohort.accept(member)
        said += _verdict(member)
    stream = state.stream_of(client_id)
    if stream is not None and stream.configured:
        # A client that is sent away without a verdict ends its stream; that is noticed later.
        ended = state.without_streams([client_id])
        state = ended if member.judged else state.with_stream(stream._replace(alive=False))
    member.receipt_given |= member.judged
    return _in_words(state, cohort), said


def _give_up(state: SelectorState, cohort: Cohort) -> Answer:
    """Say that there is no sum, as ``Selector._give_up`` does."""
    state = _closed(state, cohort)
    if state.partial is None:
        state = state._replace(partial=("failed",))
    assert state.partial is not None
    return state, (state.partial,)


def _closed(state: SelectorState, cohort: Cohort) -> SelectorState:
    unreported = [member.client_id for member in cohort.close()]
    cohort.seal()
    return state.without_streams(unreported)._replace(closed=True)


@cache
def leave(state: SelectorState, client_id: str) -> Answer:
    """Notice that the client's stream ended."""
    state = state.without_streams([client_id])
    if state.members is not None:
        cohort = _cohort_of(state)
        cohort.leave(client_id)
        state = _in_words(state, cohort)
    return state, (("left", client_id),)


@cache
def close(state: SelectorState, *, is_refused: bool = False) -> Answer:
    """Obey CloseReporting.

    Args:
        state: Before it.
        is_refused: The disk does not take the sum.
    """
    if state.members is None:
        return state, (("partial",),)
    if state.partial is None:
        cohort = _cohort_of(state)
        state = _in_words(_closed(state, cohort), cohort)
        partial = ("partial", *sorted(member.client_id for member in cohort.accepted))
        state = state._replace(partial=("failed",) if is_refused else partial)
    assert state.partial is not None
    return state, (state.partial,)


@cache
def end(state: SelectorState) -> SelectorState:
    """Obey EndRound: those who were configured are sent away, unless they have a receipt."""
    if state.members is None:
        return state
    cohort = _cohort_of(state)
    state = _closed(state, cohort)
    return state._replace(members=None, added=(), broken=False, closed=False, partial=None, late=())


@cache
def hello(state: SelectorState) -> Said:
    """Say all that it knows, facts first, as ``CoordinationService`` takes it."""
    facts = list[Message]()
    members = [] if state.members is None else [*_cohort_of(state).members.values()]
    for standing, kinds in _FACTS.items():
        who = [m.client_id for m in members if m.standing is standing]
        facts += [(kind, *who) for kind in kinds if who]
    held = [stream.client_id for stream in state.streams if not stream.configured]
    last: list[Message] = [("attached", *held)]
    if held:
        last.append(("checked_in", *held))
    if state.partial is None:
        return (("hello", *facts, *last),)
    return ("hello", *facts), state.partial, ("hello", *last)


@cache
def wrong_sum(state: SelectorState) -> str:
    """Say what is wrong with what this selector has added up; empty where nothing is."""
    if len(set(state.added)) < len(state.added):
        return f"a sum has {state.added}"
    partial = close(state)[0].partial if state.partial is None else state.partial
    if partial is not None and partial[0] == "partial" and partial[1:] != state.added:
        return f"the partial lists {partial[1:]}, its sum has {state.added}"
    return ""


def forget() -> None:
    """Forget what was worked out: the real code may be another one now."""
    for worked_out in (claim, check_in, is_open_to, report, leave, close, end, hello, wrong_sum):
        worked_out.cache_clear()
