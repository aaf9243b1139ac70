"""The check-in streams by themselves: the newest wins, each ends once, none grows."""

from __future__ import annotations

from federation.plan import RetryWindow
from federation.v1 import participation_pb2 as pb
from selector.streams import EVENTS_MAX, Stream, Streams, declined
from tests.waiting import within

HELD = pb.CheckInEvent(held=pb.Held(selector_id="north"))


async def events_of(stream: Stream) -> list[str]:
    """Take all events until the end."""
    kinds = []
    while (event := (await within(stream.next()))[0]) is not None:
        kinds.append(str(event.WhichOneof("event")))
    return kinds


async def test_events_come_in_order_and_then_the_end() -> None:
    """The last one may be given with the end."""
    streams = Streams()
    stream = streams.open("ann", "")

    stream.send(HELD)
    ended = streams.end("ann", declined("full", RetryWindow(1.0, 2.0)))

    assert ended
    assert await events_of(stream) == ["held", "declined"]
    assert "ann" not in streams


async def test_stream_that_was_ended_takes_nothing_more() -> None:
    """And ends once."""
    streams = Streams()
    stream = streams.open("ann", "")
    streams.end("ann")

    stream.send(HELD)
    stream.end(HELD)

    assert await events_of(stream) == []
    assert not streams.end("ann")


async def test_client_that_takes_no_events_is_cut_off() -> None:
    """What waits for one client is bounded, and nobody else is held up by it."""
    streams = Streams()
    stream = streams.open("ann", "")

    for _ in range(10 * EVENTS_MAX):
        stream.send(HELD)

    assert await events_of(stream) == ["held"] * EVENTS_MAX
    assert streams.close(stream)


async def test_older_stream_that_ends_leaves_the_newer_one_alone() -> None:
    """Its handler may notice late."""
    streams = Streams()
    older = streams.open("ann", "")
    newer = streams.open("ann", "")

    forgotten = streams.close(older)

    assert not forgotten
    assert streams.get("ann") is newer
    assert await events_of(older) == ["aborted"]


async def test_only_the_stream_of_the_claim_ends_with_its_receipt() -> None:
    """The client may wait for the next round on another one."""
    streams = Streams()
    stream = streams.open("ann", "")
    stream.token = "of-this-round"

    streams.finish("ann", "of-the-round-before")
    streams.finish("ben", "of-this-round")
    before = streams.get("ann")
    streams.finish("ann", "of-this-round")

    assert before is stream
    assert len(streams) == 0
