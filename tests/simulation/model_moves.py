"""The moves of the model check: all that can happen at one selector, its clients and its stream.

Three moves are *prompt*, for they commute with all that could come between:

- A check-in that only the coordinator can answer is taken by it in the same move, once nothing is
  queued before it that it must not overtake. Until it is taken the client does nothing but wait,
  and no order in the queue names it; so whatever happens between the two could have happened
  before the client came. What the client's or the selector's end would do meanwhile is lost by
  this, and therefore a move of its own: see ``_come_and_lost``.
- That a client is gone is noticed when the coordinator takes the news of it, or by a selector
  without a stream. An unnoticed stream and a noticed one differ in nothing else: the report of an
  absent client is judged in both, and its return makes both the same.
- A decline is obeyed as soon as it is the next order, if its client takes no part in the round: it
  can only wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.simulation.model_parts import (
    Message,
    Said,
    SelectorState,
    Stream,
    check_in,
    claim,
    close,
    end,
    hello,
    is_open_to,
    leave,
    report,
)
from tests.simulation.model_side import CLIENTS, OVERTAKEN, Sent, Side

_STREAM_NEWS = frozenset({"hello", "gone", "detached"})


class Move(NamedTuple):
    """What can happen.

    Attributes:
        label: What it is.
        side: What is then.
        comes: The client that comes here; it is on no other stream before.
        tells: What the coordinator takes in the same move.
    """

    label: str
    side: Side
    comes: str = ""
    tells: Message | None = None


class Moves:
    """What can happen at a selector.

    Args:
        prompt: Some moves are, as it is said above; else each message waits like any other.
    """

    def __init__(self, *, prompt: bool) -> None:
        self._prompt = prompt

    # -- What happens by itself -----------------------------------------------------------------

    def without_fault(self, side: Side) -> Iterator[Move]:
        """Yield what can happen at this side, but for what the coordinator does."""
        if side.is_settled:
            return
        selector = side.selector
        if side.down:
            yield from self._obeyed(side._replace(down=side.down[1:]), side.down[0])
        if not side.is_attached:
            yield from self._attached(side)
        for stream in selector.streams:
            client_id = stream.client_id
            if stream.alive and stream.configured:
                yield Move(f"judges {client_id}", self._said(side, *report(selector, client_id)))
            if not stream.alive:
                yield from self._noticed(side, client_id)
        for client_id in CLIENTS:
            if client_id not in side.here:
                yield from self._came(side, client_id)
        for client_id in selector.late:
            arrived = selector.without_late(client_id)
            after = self._said(side, *report(arrived, client_id))
            yield Move(f"judges {client_id}, who is gone", after)

    def _obeyed(self, side: Side, order: Message) -> Iterator[Move]:
        selector = side.selector
        kind, *client_ids = order
        label = f"obeys {' '.join(order)}"
        match kind:
            case "configure":
                yield Move(label, self._said(side, *claim(selector, tuple(client_ids))))
            case "close":
                after = self._said(side, *close(selector))
                partial = after.selector.partial
                if selector.partial is None and partial is not None and partial[1:]:
                    after = after._replace(file=(selector.incarnation, after.selector.added))
                yield Move(label, after)
            case "end":
                yield Move(label, self._said(side, end(selector), ()))
            case _:
                sent_away = selector.without_streams(client_ids)
                yield Move(label, self._said(side, sent_away, ()))
                for client_id in client_ids:
                    if Stream(client_id, configured=True) in selector.streams:
                        late = self._said(side, sent_away.with_late(client_id), ())
                        yield Move(f"{label}, whose report is on its way", late)

    def _attached(self, side: Side) -> Iterator[Move]:
        now = side.selector
        side = side._replace(link=now.incarnation, down=())
        yield Move("attaches", self._said(side, now, hello(now)))
        if any(sent.message == ("gone",) for sent in side.up):
            # Who is back before its going was noticed was never gone; who is another supersedes.
            up = [
                sent if sent.message != ("gone",) else sent._replace(message=("detached",))
                for sent in side.up
                if sent != (now.incarnation, ("gone",))
            ]
            side = side._replace(up=tuple(up))
            yield Move("attaches before it is missed", self._said(side, now, hello(now)))

    def _noticed(self, side: Side, client_id: str) -> Iterator[Move]:
        label = f"notices that {client_id} is gone"
        after, said = leave(side.selector, client_id)
        if not self._prompt or not side.is_attached:
            yield Move(label, self._said(side, after, said))
        elif not _is_behind(side, client_id):
            yield Move(label, self._said(side, after, ()), tells=said[0])

    def _came(self, side: Side, client_id: str) -> Iterator[Move]:
        label = f"holds {client_id}"
        after, said = check_in(side.selector, client_id)
        is_named = any(client_id in about for _, *about in side.down)
        if not self._prompt or is_named or is_open_to(side.selector, client_id):
            yield Move(label, self._said(side, after, said), client_id)
        elif side.is_attached and not _is_behind(side, client_id):
            yield Move(label, self._said(side, after, ()), client_id, said[0])

    # -- Faults ---------------------------------------------------------------------------------

    def with_fault(self, side: Side) -> Iterator[Move]:
        """Yield what one fault does to this side."""
        if side.is_settled:
            return
        yield from self._broken_off(side)
        if self._prompt and side.is_attached:
            yield from self._come_and_lost(side)
        for stream in side.selector.streams:
            if stream.alive:
                yield from self._client_lost(side, stream)
        if side.down and side.down[0] == ("close",):
            rest = side._replace(down=side.down[1:])
            after = self._said(rest, *close(side.selector, is_refused=True))
            yield Move("closes, and the disk is full", after)

    def _broken_off(self, side: Side) -> Iterator[Move]:
        for lost in range(len(side.up) + 1 if side.is_attached else 1):
            after = _cut(side, lost)
            yield Move(f"crashes, {lost} messages lost", _crashed(after))
            if side.is_attached:
                yield Move(f"is cut off, {lost} messages lost", after)

    def _come_and_lost(self, side: Side) -> Iterator[Move]:
        """A client had come, and is gone again before the coordinator takes that."""
        for client_id in CLIENTS:
            if client_id in side.here or is_open_to(side.selector, client_id):
                continue
            after = self._said(side, *check_in(side.selector, client_id))
            gone = after.selector.with_stream(Stream(client_id, alive=False))
            yield Move(f"loses {client_id}, who came", after._replace(selector=gone), client_id)
            yield Move(f"crashes, after {client_id} came", _crashed(_cut(after, 0)), client_id)

    def _client_lost(self, side: Side, stream: Stream) -> Iterator[Move]:
        selector, client_id = side.selector, stream.client_id
        gone = selector.with_stream(stream._replace(alive=False))
        yield Move(f"loses {client_id}", self._said(side, gone, ()))
        if stream.configured:
            late = self._said(side, gone.with_late(client_id), ())
            yield Move(f"loses {client_id}, whose report is on its way", late)
            twice = self._said(side, *report(selector.with_late(client_id), client_id))
            yield Move(f"judges {client_id}, and a copy is on its way", twice)
            failed = self._said(side, *report(selector, client_id, fails=True))
            yield Move(f"judges {client_id}, and the fold fails", failed)

    # -- What is said ---------------------------------------------------------------------------

    def ordered(self, side: Side, incarnation: int, order: Message) -> Side:
        """Send an order to a selector process, if there is a stream to it."""
        if side.link != incarnation:
            return side
        return self._declined(side._replace(down=(*side.down, order)))

    def _said(self, side: Side, selector: SelectorState, said: Said) -> Side:
        """Queue what a selector says, if it has a stream; its next hello says everything else."""
        side = self._declined(side._replace(selector=_without_vain(selector)))
        if not side.is_attached:
            return side
        return side._replace(up=(*side.up, *(Sent(selector.incarnation, m) for m in said)))

    def _declined(self, side: Side) -> Side:
        while self._prompt and side.down and side.down[0][0] == "decline":
            client_ids = side.down[0][1:]
            if any(s.client_id in client_ids and s.configured for s in side.selector.streams):
                return side
            selector = side.selector.without_streams(client_ids)
            side = side._replace(selector=selector, down=side.down[1:])
        return side


def _is_behind(side: Side, client_id: str) -> bool:
    """Say whether news of this client must wait until more of the queue is taken."""
    return any(
        kind in _STREAM_NEWS or (client_id in about and kind not in OVERTAKEN)
        for kind, *about in (sent.message for sent in side.up)
    )


def _cut(side: Side, lost: int) -> Side:
    """The stream is no more; the coordinator hears all but the last messages, then notices."""
    if not side.is_attached:
        return side
    heard = side.up[: len(side.up) - lost]
    return side._replace(link=None, up=(*heard, Sent(side.selector.incarnation, ("gone",))))


def _crashed(side: Side) -> Side:
    return side._replace(selector=SelectorState(side.selector.incarnation + 1), down=())


def _without_vain(selector: SelectorState) -> SelectorState:
    """Forget the reports on their way that this process will not judge any more."""
    for client_id in selector.late:
        rest = selector.without_late(client_id)
        standings = {c: standing for c, standing, _ in selector.members or ()}
        is_over = selector.closed or standings.get(client_id) in ("accepted", "rejected")
        if is_over and report(rest, client_id) == (rest, ()):
            selector = rest
    return selector
