"""A side of the model check with the two clients in each other's place."""

from __future__ import annotations

from typing import Any

from tests.simulation.model_parts import Message, SelectorState
from tests.simulation.model_side import CLIENTS, Sent, Side

_OTHER = dict(zip(CLIENTS, reversed(CLIENTS), strict=True))


def swapped(side: Side) -> Side:
    """Return the side as it were if each client were the other one."""
    return side._replace(
        selector=_selector(side.selector),
        up=tuple(Sent(sent.incarnation, _message(sent.message)) for sent in side.up),
        down=tuple(map(_message, side.down)),
        file=None if side.file is None else (side.file[0], _clients(side.file[1])),
    )


def _selector(state: SelectorState) -> SelectorState:
    members = state.members
    return state._replace(
        streams=tuple(sorted(s._replace(client_id=_OTHER[s.client_id]) for s in state.streams)),
        members=None
        if members is None
        else tuple(sorted((_OTHER[c], s, given) for c, s, given in members)),
        added=_clients(state.added),
        partial=None if state.partial is None else _message(state.partial),
        late=_clients(state.late),
    )


def _message(message: Message) -> Message:
    kind, *about = message
    if kind == "hello":
        return (kind, *map(_message, about))
    return (kind, *_clients(about))


def _clients(client_ids: Any) -> tuple[str, ...]:
    return tuple(sorted(_OTHER[client_id] for client_id in client_ids))
