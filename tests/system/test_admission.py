"""Who takes part in a round and what counts: places, declines, bad updates, weights."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import numpy as np
import pytest

from federation.runtime import wire
from federation.runtime.hdf5 import read_weights
from federation.runtime.rpc import create_channel
from federation.v1 import control_pb2, participation_pb2_grpc
from federation.v1 import participation_pb2 as pb
from tests.system.processes import AT_ONCE, WITHIN_S, Federation, Process, standings
from tests.system.trainers import STEP


class Visitor:
    """A client by hand: one check-in stream, as any other language's client opens it."""

    def __init__(self, channel: grpc.aio.Channel, client_id: str) -> None:
        stub: Any = participation_pb2_grpc.ParticipationStub(channel)
        request = pb.CheckInRequest(protocol_version=wire.PROTOCOL_VERSION, client_id=client_id)
        self._call = stub.CheckIn(request)

    async def next(self) -> pb.CheckInEvent:
        """Wait for the next event on the stream."""
        async with asyncio.timeout(WITHIN_S):
            event: pb.CheckInEvent = await self._call.read()
            return event

    async def is_over(self) -> bool:
        """Wait for the end of the stream."""
        async with asyncio.timeout(WITHIN_S):
            return await self._call.read() is grpc.aio.EOF

    def leave(self) -> None:
        """Hang up."""
        self._call.cancel()


@contextlib.asynccontextmanager
async def visitor(selector: Process, client_id: str) -> AsyncIterator[Visitor]:
    """Check in at a selector and read ``held``."""
    async with create_channel(selector.address, 10.0, 5.0) as channel:
        checked_in = Visitor(channel, client_id)
        assert (await checked_in.next()).held.selector_id == selector.name
        yield checked_in
        checked_in.leave()


async def test_goal_is_reached_the_next_client_is_declined_at_once_with_a_retry_window(
    federation: Federation,
) -> None:
    """Beyond the limit nobody is held while the others train, unless selection is pipelined."""
    await federation.coordinator(
        goal_count=2, rounds=1, retry_delay_min_s=120, retry_delay_max_s=240
    )
    (selector,) = await federation.selectors("north")
    clients = await federation.clients(2, selector, trainer="Gated")
    for client in clients:
        await client.logs("training")

    async with visitor(selector, "third") as third:
        answer = await third.next()
        over = await third.is_over()

    assert answer.declined.reason == "goal-reached"
    assert answer.declined.retry_window.delay_min_s == 120
    assert answer.declined.retry_window.delay_max_s == 240
    assert over


async def test_held_client_disconnects_its_place_goes_to_the_next(federation: Federation) -> None:
    """The round begins with those that are there, and neither waits for nor remembers it."""
    await federation.coordinator(goal_count=2, rounds=1)
    (selector,) = await federation.selectors("north")
    async with visitor(selector, "fickle"):
        await federation.until(lambda s: s.round.counts.admitted == 1, "the first is admitted")
    await federation.until(lambda s: s.round.counts.admitted == 0, "its place is free")

    await federation.clients(2, selector)
    record = await federation.completed(1)

    assert record.outcome == control_pb2.OUTCOME_COMMITTED
    assert standings(record) == {"client-1": "reported", "client-2": "reported"}


@pytest.mark.slow
async def test_two_of_ten_clients_send_bad_updates_they_are_rejected_and_the_round_commits(
    federation: Federation,
) -> None:
    """Bad input is refused with a reason word and leaves no trace; the process goes on."""
    await federation.coordinator(goal_count=10, min_reports=8, rounds=1)
    north, south = await federation.selectors("north", "south")
    good = await federation.clients(8, north, south)
    bad = [
        await federation.client("not-a-number", north, trainer="NotANumber"),
        await federation.client("wrong-shape", south, trainer="WrongShape"),
    ]

    record = await federation.completed(1)
    reasons = [(await client.logs("report not accepted"))["reason"] for client in bad]

    assert record.outcome == control_pb2.OUTCOME_COMMITTED
    assert standings(record) == {
        **{client.name: "reported" for client in good},
        "not-a-number": "rejected",
        "wrong-shape": "rejected",
    }
    assert reasons == ["not-finite", "wrong-shape"]
    assert {c.client_id: c.reason for c in record.clients if c.reason} == {
        "not-a-number": "not-finite",
        "wrong-shape": "wrong-shape",
    }
    assert np.all(read_weights(federation.directory.checkpoint)["w"] == 0.5 + STEP)


async def test_rounds_of_different_weights_complete_the_weight_files_say_each_total(
    federation: Federation,
) -> None:
    """``fl_agg_checkpoint_weight`` is the sum of the examples in decimal, the mean is by them."""
    await federation.coordinator(goal_count=3, rounds=2, **AT_ONCE)
    north, south = await federation.selectors("north", "south")
    await federation.client("client-1", north, trainer="Gated", examples=1, steps=8)
    await federation.client("client-2", north, trainer="Gated", examples=2, steps=4)
    await federation.client("client-3", south, trainer="Gated", examples=5, steps=16)
    totals = []
    for round_number in (1, 2):
        federation.open_gate(round_number)
        await federation.completed(round_number)
        paths = [federation.directory.partial_weight(name) for name in ("north", "south")]
        totals.append([path.read_text() for path in paths])

    weights = read_weights(federation.directory.history / "round-000002" / "fl_checkpoint")

    assert totals == [["3", "5"], ["6", "10"]]
    assert np.all(weights["w"] == 0.5 + 2 * (1 * 8 + 2 * 4 + 5 * 16) / 8 * STEP)
