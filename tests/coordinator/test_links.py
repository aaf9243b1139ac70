"""The streams to the selectors: one line each, bounded, and one process a selector."""

from __future__ import annotations

from unittest.mock import patch

from coordinator import links as module
from coordinator.events import Owner
from coordinator.links import Link, Links
from federation.v1 import coordination_pb2 as pb
from tests.waiting import within

NORTH, NORTH_RESTARTED, SOUTH = Owner("north", "n1"), Owner("north", "n2"), Owner("south", "s1")


def a_link(owner: Owner = NORTH) -> Link:
    """A stream that is open."""
    return Link(owner, "north.example:50051")


def a_command(round_id: str = "this-round") -> pb.CoordinatorCommand:
    """Something to be told."""
    return pb.CoordinatorCommand(end_round=pb.EndRound(round_id=round_id))


async def told(link: Link) -> list[str]:
    """Take all commands until the end; name their kinds."""

    async def take() -> list[str]:
        return [str(command.WhichOneof("command")) async for command in link.commands()]

    return await within(take())


async def test_commands_are_taken_in_order_until_the_end() -> None:
    """What is queued before the end is sent."""
    link = a_link()
    link.send(pb.CoordinatorCommand(admit_clients=pb.AdmitClients(client_ids=["ann"])))
    link.send(a_command())
    link.close()

    assert await told(link) == ["admit_clients", "end_round"]
    assert link.closed


async def test_closed_stream_forgets_what_it_is_given() -> None:
    """The next hello settles everything."""
    link = a_link()
    link.close()

    link.send(a_command())
    link.close()

    assert await told(link) == []


async def test_selector_that_is_too_far_behind_is_cut_off() -> None:
    """Its line is bounded, and sending never waits: one unreachable selector delays nobody."""
    link = a_link()
    with patch.object(module, "COMMANDS_MAX", 3):
        for _ in range(10):
            link.send(a_command())

    assert link.closed
    assert await told(link) == ["end_round"] * 3


async def test_command_goes_to_the_process_that_it_is_for() -> None:
    """Not to another one of the same name, and to nobody who is away."""
    links = Links()
    north, south = a_link(NORTH), a_link(SOUTH)
    links.attach(north)
    links.attach(south)

    links.send(NORTH, a_command())
    links.send(NORTH_RESTARTED, a_command())
    links.send(Owner("nowhere", "x"), a_command())
    north.close()
    south.close()

    assert (await told(north), await told(south)) == (["end_round"], [])


async def test_newer_process_supersedes_the_older() -> None:
    """The older is told so, and its stream ends."""
    links = Links()
    older, newer = a_link(NORTH), a_link(NORTH_RESTARTED)

    first = links.attach(older)
    superseded = links.attach(newer)

    assert (first, superseded) == (None, NORTH)
    assert await told(older) == ["superseded"]
    assert links.attached() == (newer,)
    assert links.is_superseded(NORTH)
    assert not links.is_superseded(NORTH_RESTARTED)


async def test_newer_stream_of_the_same_process_supersedes_nobody() -> None:
    """The older stream just ends."""
    links = Links()
    older, newer = a_link(), a_link()

    links.attach(older)
    replaced = links.attach(newer)

    assert replaced == NORTH
    assert await told(older) == []
    assert not links.is_superseded(NORTH)


def test_stream_that_ends_late_leaves_the_newer_one_alone() -> None:
    """It is no news that an older stream ended."""
    links = Links()
    older, newer = a_link(), a_link()
    links.attach(older)
    links.attach(newer)

    news = (links.detach(older), links.detach(newer), links.detach(newer))

    assert news == (False, True, False)
    assert links.attached() == ()


def test_only_so_many_superseded_processes_are_remembered() -> None:
    """A selector that restarts for ever costs no memory."""
    links = Links()
    with patch.object(module, "SUPERSEDED_MAX", 2):
        for number in range(5):
            links.attach(a_link(Owner("north", f"n{number}")))

    remembered = [links.is_superseded(Owner("north", f"n{number}")) for number in range(5)]
    assert remembered == [False, False, True, True, False]
