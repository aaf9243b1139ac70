"""The moves of the model check: all that selectors, clients and their coordinator can do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from coordinator.draft import Closing
from coordinator.effects import (
    CloseReporting,
    Configure,
    Decline,
    EndRound,
    Release,
    WriteCheckpoint,
)
from coordinator.ledger import Ledger, Restarted, RoundBegan, SessionStarted, take
from federation.plan import RoundPlan
from tests.simulation.model_parts import (
    BASE,
    ROUND_ID,
    Client,
    Message,
    SelectorState,
    claim,
    close,
    events_of,
    hello,
    key_of_round,
    leave,
    owner_of,
    replaced_in,
    report,
    return_to,
)

PLAN = RoundPlan(
    goal_count=2,
    min_reports=1,
    selection_timeout_s=1_000.0,
    report_window_s=15.0,
    grace_s=10.0,
    return_s=7.0,
)
SELECTORS = (0, 1)
CLIENTS = ("c0", "c1")


@dataclass(frozen=True, eq=False)
class State:
    """Everything at one moment.

    Attributes:
        ledger: The coordinator's.
        now_s: Its clock.
        links: For each selector the process whose stream the coordinator has.
        up: What each selector said and the coordinator has not taken.
        down: What the coordinator said and each selector has not obeyed.
        sums: For each selector the newest partial file: its incarnation, and whose reports were
            really added to it.
        faults: How many may still happen.
        pristine: None has happened. Both sides are alike until then, so that the first one may
            as well happen on the first side.
    """

    ledger: Ledger
    now_s: float
    selectors: tuple[SelectorState, ...]
    clients: tuple[Client, ...]
    links: tuple[int | None, ...]
    up: tuple[tuple[Message, ...], ...]
    down: tuple[tuple[Message, ...], ...]
    sums: tuple[tuple[int, tuple[str, ...]], ...]
    faults: int
    pristine: bool = True

    @property
    def key(self) -> Any:
        """Equal for equal states."""
        round_ = key_of_round(self.ledger, self.now_s)
        rest = (self.selectors, self.clients, self.links, self.up, self.down, self.sums)
        return (round_, rest, self.faults)


def begin(faults: int) -> State:
    """A round has been configured, with one client at each selector."""
    ledger, now_s = Ledger(), 0.0
    waiting = tuple((c, owner_of(s, 0)) for s, c in zip(SELECTORS, CLIENTS, strict=True))
    ledger, _ = take(ledger, SessionStarted("session", PLAN, 1), now_s)
    ledger, effects = take(ledger, RoundBegan(ROUND_ID, BASE, waiting), now_s)
    state = State(
        ledger,
        now_s,
        tuple(SelectorState(streams=((c, False),)) for c in CLIENTS),
        tuple(Client(place=s) for s in SELECTORS),
        (0, 0),
        ((), ()),
        ((), ()),
        ((-1, ()), (-1, ())),
        faults,
    )
    return sent(state, effects)[0]


Move = tuple[str, State, WriteCheckpoint | None]


def moves(state: State) -> Iterator[Move]:
    """Yield all that can happen now and may still change what a sum holds."""
    if state.ledger.running is None:
        return
    for selector in SELECTORS:
        yield from _deliver(state, selector)
        if state.links[selector] != state.selectors[selector].incarnation:
            yield _attach(state, selector)
    for number in range(len(CLIENTS)):
        yield from _client_moves(state, number)
    deadline_s = state.ledger.running.deadline_s
    assert deadline_s is not None
    yield _taken(replace(state, now_s=deadline_s), ("tick", 0), 0, "a deadline passes")
    if state.faults > 0:
        sides = SELECTORS[:1] if state.pristine else SELECTORS
        yield from _faults(replace(state, faults=state.faults - 1, pristine=False), sides)


def _deliver(state: State, selector: int) -> Iterator[Move]:
    if state.up[selector]:
        message, *rest = state.up[selector]
        after = replace(state, up=replaced_in(state.up, selector, tuple(rest)))
        yield _taken(after, message, selector, f"coordinator takes {message} of {selector}")
    if state.down[selector]:
        message, *rest = state.down[selector]
        after = replace(state, down=replaced_in(state.down, selector, tuple(rest)))
        yield f"{selector} obeys {message}", _obeyed(after, selector, message), None


def _taken(state: State, message: Message, selector: int, label: str) -> Move:
    committed: list[WriteCheckpoint] = []
    for event in events_of(owner_of(selector, message[-1]), message):
        ledger, effects = take(state.ledger, event, state.now_s)
        state, commit = sent(replace(state, ledger=ledger), effects)
        committed += commit
    return label, state, committed[0] if committed else None


def sent(state: State, effects: Any) -> tuple[State, list[WriteCheckpoint]]:
    """Put a round's orders on their way, to selectors that have a stream."""
    committed = []
    for effect in effects:
        match effect:
            case WriteCheckpoint():
                committed.append(effect)
                continue
            case Configure(owner, client_ids):
                message: Message = ("configure", *client_ids)
            case CloseReporting(owner):
                message = ("close",)
            case EndRound(owner):
                message = ("end",)
            case Decline(owner, client_ids) | Release(owner, client_ids):
                message = ("decline", *client_ids)
            case _:
                continue
        selector = "ab".index(owner.selector_id)
        if state.links[selector] is not None and str(state.links[selector]) == owner.incarnation:
            queue = (*state.down[selector], message)
            state = replace(state, down=replaced_in(state.down, selector, queue))
    return state, committed


def _obeyed(state: State, selector: int, message: Message) -> State:
    kind, *client_ids = message
    before = state.selectors[selector]
    match kind:
        case "configure":
            after, said, seated = claim(before, client_ids)
            for client_id in seated:
                client = replace(state.clients[CLIENTS.index(client_id)], seated=True)
                state = _client(state, client_id, client)
        case "close":
            after, said, content, dismissed = close(before)
            if content is not None:
                state = replace(
                    state, sums=replaced_in(state.sums, selector, (before.incarnation, content))
                )
            state = _dismiss(state, dismissed)
        case "end":
            after, said = replace(before, members=None, closed=False, partial=None), []
            streams = tuple((c, False) for c, token in before.streams if not token)
            state = _dismiss(state, [c for c, token in before.streams if token])
            after = replace(after, streams=streams)
        case _:
            after, said = before, []
            streams = tuple(s for s in before.streams if s[0] not in client_ids)
            state = _dismiss(state, [c for c, _ in before.streams if c in client_ids])
            after = replace(after, streams=streams)
    return _said(
        replace(state, selectors=replaced_in(state.selectors, selector, after)), selector, said
    )


def _said(state: State, selector: int, said: Any) -> State:
    """Queue what a selector says, if it has a stream; its next hello says everything else."""
    incarnation = state.selectors[selector].incarnation
    if state.links[selector] != incarnation:
        return state
    messages = tuple((*message, incarnation) for message in said)
    return replace(state, up=replaced_in(state.up, selector, (*state.up[selector], *messages)))


def _attach(state: State, selector: int) -> Move:
    now = state.selectors[selector]
    # Who is back before its going was noticed was never gone; who is another supersedes it.
    queue = [
        message if message[0] != "gone" else ("detached", message[-1])
        for message in state.up[selector]
        if message != ("gone", now.incarnation)
    ]
    state = replace(
        state,
        links=replaced_in(state.links, selector, now.incarnation),
        up=replaced_in(state.up, selector, tuple(queue)),
        down=replaced_in(state.down, selector, ()),
    )
    return f"{selector} attaches", _said(state, selector, [hello(now)]), None


def _client_moves(state: State, number: int) -> Iterator[Move]:
    client, client_id = state.clients[number], CLIENTS[number]
    if client.place is None and not client.done:
        for selector in SELECTORS:
            after, said, seated = return_to(state.selectors[selector], client_id)
            if not seated and _is_closing(state):
                continue  # it would be declined, and try again
            moved = replace(state, selectors=replaced_in(state.selectors, selector, after))
            moved = _client(moved, client_id, Client(selector, seated))
            yield f"{client_id} checks in at {selector}", _said(moved, selector, said), None
    if client.place is not None and client.seated:
        may_be_lost = state.faults > 0 and not (state.pristine and number > 0)
        for is_lost in (False, True) if may_be_lost else (False,):
            selector = client.place
            after, said, accepted = report(state.selectors[selector], client_id)
            moved = replace(state, selectors=replaced_in(state.selectors, selector, after))
            if is_lost:
                moved = replace(moved, faults=state.faults - 1, pristine=False)
                moved = _client(moved, client_id, Client(None))
            else:
                moved = _client(moved, client_id, Client(None, done=accepted))
            label = f"{client_id} reports at {selector}{', unheard' if is_lost else ''}"
            yield label, _said(moved, selector, said), None


def _is_closing(state: State) -> bool:
    running = state.ledger.running
    return running is not None and running.closing is not Closing.OPEN


def _faults(state: State, sides: tuple[int, ...]) -> Iterator[Move]:
    for selector in sides:
        now = state.selectors[selector]
        for is_heard in (False, True):
            heard = "" if is_heard else ", and what it said is lost"
            cut = _cut(state, selector, is_heard)
            if state.links[selector] == now.incarnation:
                yield f"{selector} is cut off{heard}", cut, None
            new = SelectorState(incarnation=now.incarnation + 1)
            crashed = replace(cut, selectors=replaced_in(state.selectors, selector, new))
            yield (
                f"{selector} crashes{heard}",
                _dismiss(crashed, [client_id for client_id, _ in now.streams]),
                None,
            )
        for client_id, _ in now.streams:
            after, said = leave(now, client_id)
            left = replace(state, selectors=replaced_in(state.selectors, selector, after))
            left = _dismiss(left, [client_id])
            yield f"{client_id} is cut off from {selector}", _said(left, selector, said), None
    ledger, effects = take(state.ledger, Restarted(BASE), state.now_s)
    restarted = replace(state, ledger=ledger, links=(None, None), up=((), ()), down=((), ()))
    restarted, committed = sent(restarted, effects)
    yield "the coordinator restarts", restarted, committed[0] if committed else None


def _cut(state: State, selector: int, is_heard: bool) -> State:
    incarnation = state.selectors[selector].incarnation
    queue = state.up[selector] if is_heard else ()
    if state.links[selector] == incarnation:
        queue = (*queue, ("gone", incarnation))
    return replace(
        state,
        up=replaced_in(state.up, selector, queue),
        down=replaced_in(state.down, selector, ()),
        links=replaced_in(state.links, selector, None),
    )


def _dismiss(state: State, client_ids: list[str]) -> State:
    for client_id in client_ids:
        client = state.clients[CLIENTS.index(client_id)]
        state = _client(state, client_id, replace(client, place=None, seated=False))
    return state


def _client(state: State, client_id: str, client: Client) -> State:
    return replace(state, clients=replaced_in(state.clients, CLIENTS.index(client_id), client))
