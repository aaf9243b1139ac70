"""A side of the model check: a selector with its stream to the coordinator, and its file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.simulation.model_parts import Message, SelectorState

CLIENTS = ("c0", "c1")
OVERTAKEN = frozenset({"partial", "failed"})
"""The coordinator looks at the file first, and takes meanwhile what was said later."""


class Sent(NamedTuple):
    """A message on its way up, and the incarnation that said it."""

    incarnation: int
    message: Message


class Side(NamedTuple):
    """A selector, its stream in both directions, and its file.

    Attributes:
        selector: The process.
        link: The incarnation whose stream the coordinator has; None while it has none.
        up: What was said and the coordinator has not taken.
        down: What the coordinator ordered and the selector has not obeyed. It may obey on after
            its stream was cut, until it attaches again.
        file: The newest partial file: its incarnation, and whose reports were really added.
    """

    selector: SelectorState = SelectorState()
    link: int | None = 0
    up: tuple[Sent, ...] = ()
    down: tuple[Message, ...] = ()
    file: tuple[int, tuple[str, ...]] | None = None

    @property
    def is_settled(self) -> bool:
        """Nothing that this selector does makes a difference any more."""
        return self.selector.incarnation < 0

    @property
    def is_attached(self) -> bool:
        """The coordinator has a stream of this process, and not of an earlier one."""
        return self.link == self.selector.incarnation

    @property
    def here(self) -> frozenset[str]:
        """Clients that are on a stream of this selector, as far as they know."""
        return frozenset(s.client_id for s in self.selector.streams if s.alive)

    @property
    def is_idle(self) -> bool:
        """It holds nobody and knows nothing; what it says is that it is there, or was."""
        selector = self.selector
        is_empty = selector == SelectorState(selector.incarnation) and not self.down
        return is_empty and all(
            s.message in (("gone",), ("detached",), ("hello", ("attached",))) for s in self.up
        )

    @property
    def possible(self) -> frozenset[str]:
        """Clients that are in its file, or could still come into one."""
        ordered = {c for kind, *about in self.down if kind == "configure" for c in about}
        members = {client_id for client_id, _, _ in self.selector.members or ()}
        return frozenset(ordered | members | set(self.file[1] if self.file else ()))


def takes(side: Side) -> Iterator[tuple[Sent, Side]]:
    """Yield what the coordinator may take next."""
    for index, sent in enumerate(side.up):
        yield sent, side._replace(up=side.up[:index] + side.up[index + 1 :])
        if sent.message[0] not in OVERTAKEN:
            return


def restarted(side: Side) -> Side:
    """The coordinator is another process: it has no stream, and hears nothing of what was said."""
    return side if side.is_settled else side._replace(link=None, up=())


def settled(side: Side) -> Side:
    """Forget all but the file; the clients go elsewhere."""
    return Side(SelectorState(incarnation=-1), link=None, file=side.file)
