"""The streams to the selectors: one bounded queue of commands each, so that none delays another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from coordinator.events import Owner
from federation.runtime.telemetry import get_logger
from federation.v1 import coordination_pb2 as pb

log = get_logger()

COMMANDS_MAX = 50_000
"""Commands that may wait for one selector; a stream that is so far behind is ended."""

SUPERSEDED_MAX = 1_000
"""Superseded selector processes that are remembered."""


class Link:
    """The command stream of one selector process, and what that said of itself."""

    def __init__(
        self, owner: Owner, address: str, version: str = "", directory_mark: str = ""
    ) -> None:
        self.owner = owner
        self.address = address
        self.version = version
        self.directory_mark = directory_mark
        self._commands: asyncio.Queue[pb.CoordinatorCommand | None] = asyncio.Queue(
            COMMANDS_MAX + 1
        )
        self._closed = False

    @property
    def closed(self) -> bool:
        """Nothing more is sent, and what the selector still says on this stream is out of date."""
        return self._closed

    def send(self, command: pb.CoordinatorCommand) -> None:
        """Queue a command; a closed stream forgets it, since the next hello settles everything."""
        if self._closed:
            return
        if self._commands.qsize() >= COMMANDS_MAX:
            log.warning("selector too far behind", selector_id=self.owner.selector_id)
            self.close()
            return
        self._commands.put_nowait(command)

    def close(self) -> None:
        """End the stream after what is queued."""
        if not self._closed:
            self._closed = True
            self._commands.put_nowait(None)

    async def commands(self) -> AsyncIterator[pb.CoordinatorCommand]:
        """Yield the commands in order, until the link is closed."""
        while (command := await self._commands.get()) is not None:
            yield command


class Links:
    """All streams, by selector id: of two processes with one id the newer serves."""

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}
        self._superseded: dict[Owner, None] = {}

    def attached(self) -> tuple[Link, ...]:
        """Return the streams that are open."""
        return tuple(self._links.values())

    def is_superseded(self, owner: Owner) -> bool:
        """Say whether a newer process took this one's id."""
        return owner in self._superseded

    def attach(self, link: Link) -> Owner | None:
        """Make this the selector's stream; return whose open stream it replaces, if there was one.

        Another process is superseded; the same one's stream broke without being noticed.
        """
        earlier = self._links.get(link.owner.selector_id)
        self._links[link.owner.selector_id] = link
        if earlier is None:
            return None
        if earlier.owner == link.owner:
            earlier.close()
            return link.owner
        self._superseded[earlier.owner] = None
        while len(self._superseded) > SUPERSEDED_MAX:
            del self._superseded[next(iter(self._superseded))]
        earlier.send(pb.CoordinatorCommand(superseded=pb.Superseded()))
        earlier.close()
        return earlier.owner

    def detach(self, link: Link) -> bool:
        """Forget an ended stream; False if another took its place before."""
        link.close()
        if self._links.get(link.owner.selector_id) is not link:
            return False
        del self._links[link.owner.selector_id]
        return True

    def send(self, owner: Owner, command: pb.CoordinatorCommand) -> None:
        """Queue a command for this selector process, if it is attached."""
        link = self._links.get(owner.selector_id)
        if link is not None and link.owner == owner:
            link.send(command)
