"""The check-in streams of clients: each client's newest stream and what is to be written to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from federation.plan import RetryWindow
from federation.runtime import wire
from federation.v1 import participation_pb2 as pb

SUPERSEDED_WINDOW = RetryWindow(1.0, 5.0)
"""When a superseded client may come back: two with one id must not chase each other."""

EVENTS_MAX = 16
"""Events that may wait for one client; a round has two. Who takes none for so long is cut off."""


@dataclass(eq=False)
class Stream:
    """One held client.

    Attributes:
        client_id: Who it is.
        session_id: The session whose end it hears of: the one that ran when it came, else the one
            that it last took part in; empty where none.
        token: Of the claim whose configuration was sent on it; empty before.
    """

    client_id: str
    session_id: str
    token: str = ""
    _events: asyncio.Queue[tuple[pb.CheckInEvent | None, Callable[[], None] | None]] = field(
        default_factory=lambda: asyncio.Queue(EVENTS_MAX + 1)
    )
    _ended: bool = False

    def send(self, event: pb.CheckInEvent, written: Callable[[], None] | None = None) -> None:
        """Queue an event; ``written`` is called once its write returned."""
        if self._ended:
            return
        if self._events.qsize() >= EVENTS_MAX:
            self.end()
            return
        self._events.put_nowait((event, written))

    def end(self, event: pb.CheckInEvent | None = None) -> None:
        """Queue a last event, if any, and end the stream."""
        if event is not None:
            self.send(event)
        if not self._ended:
            self._ended = True
            self._events.put_nowait((None, None))

    async def next(self) -> tuple[pb.CheckInEvent | None, Callable[[], None] | None]:
        """Wait for the next event; None ends the stream."""
        return await self._events.get()


class Streams:
    """The newest stream of each client."""

    def __init__(self) -> None:
        self._streams: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, client_id: str) -> bool:
        return client_id in self._streams

    def all(self) -> tuple[Stream, ...]:
        """Return every open stream, first come first."""
        return tuple(self._streams.values())

    def get(self, client_id: str) -> Stream | None:
        """Return the client's stream, if it has one."""
        return self._streams.get(client_id)

    def open(self, client_id: str, session_id: str) -> Stream:
        """Open a stream; an earlier one of the same client ends as superseded."""
        earlier = self._streams.pop(client_id, None)
        if earlier is not None:
            earlier.end(aborted("superseded", SUPERSEDED_WINDOW))
        stream = Stream(client_id, session_id)
        self._streams[client_id] = stream
        return stream

    def close(self, stream: Stream) -> bool:
        """Forget a stream that ended; False if a newer one took its place or it was ended here."""
        stream.end()
        if self._streams.get(stream.client_id) is not stream:
            return False
        del self._streams[stream.client_id]
        return True

    def finish(self, client_id: str, token: str) -> None:
        """End the stream on which this claim was configured: the client has its receipt."""
        stream = self._streams.get(client_id)
        if stream is not None and stream.token == token:
            self.end(client_id)

    def end(self, client_id: str, event: pb.CheckInEvent | None = None) -> bool:
        """End the client's stream from our side; False if it has none."""
        stream = self._streams.pop(client_id, None)
        if stream is None:
            return False
        stream.end(event)
        return True


def declined(reason: str, window: RetryWindow, fallbacks: Sequence[str] = ()) -> pb.CheckInEvent:
    """Tell a client that it is not needed now, and where else it may be."""
    wire_window = wire.retry_window_to_wire(window)
    message = pb.Declined(reason=reason, retry_window=wire_window, fallbacks=fallbacks)
    return pb.CheckInEvent(declined=message)


def aborted(reason: str, window: RetryWindow, fallbacks: Sequence[str] = ()) -> pb.CheckInEvent:
    """Tell a client that the round goes on, or went, without it, and where else it may be."""
    wire_window = wire.retry_window_to_wire(window)
    message = pb.Aborted(reason=reason, retry_window=wire_window, fallbacks=fallbacks)
    return pb.CheckInEvent(aborted=message)
