"""Selectors with a spool die, come back or not, and are told to stop."""

from __future__ import annotations

import pytest

from federation.runtime.control import start_session
from federation.v1 import control_pb2 as pb
from tests.prove.trial import CLIENTS, CRASHING, digest_after, digest_of
from tests.system.processes import AT_ONCE, Federation, Process, standings
from tests.waiting import eventually

WINDOW_S = 600.0
"""A report window that no test waits for."""

POINTS = [
    "before-spooling#2",
    "after-spooling#2",
    "before-partial",
    "in-partial",
    "after-partial",
    "before-noting",
    "after-noting",
]
"""Where a selector dies: around its second update, and from its sum to the word of it."""


async def the_clients(federation: Federation, selector: Process, trainer: str) -> list[Process]:
    """Start the three whose round is known to the bit; the last trains as this one."""
    return [
        await federation.client(
            name,
            selector,
            trainer=trainer if name == "client-3" else "Exact",
            steps=steps,
            examples=examples,
            rounds=1,
        )
        for name, (steps, examples) in CLIENTS.items()
    ]


def check(federation: Federation, record: pb.RoundRecord, clients: list[Process]) -> None:
    """Everybody is counted once, and nobody trained again."""
    assert record.outcome == pb.OUTCOME_COMMITTED
    assert standings(record) == dict.fromkeys(CLIENTS, "reported")
    assert digest_of(federation.directory.checkpoint) == digest_after(1)
    assert [len(client.logged("training")) for client in clients] == [1, 1, 1]


async def test_selector_is_killed_after_its_receipts_its_successor_commits_them_all(
    federation: Federation,
) -> None:
    """Clients that have their receipts are gone by then, and need not come back."""
    await federation.coordinator(goal_count=3, min_reports=3, rounds=1, return_s=60)
    (north,) = await federation.selectors("north", spool=True)
    clients = await the_clients(federation, north, "Gated")
    assert [await client.end() for client in clients[:2]] == [0, 0]
    await clients[2].logs("training")

    await north.kill()
    (again,) = await federation.selectors("north", port=north.port, spool=True)
    federation.open_gate()
    record = await federation.completed(1)
    status = await clients[2].end()

    assert status == 0
    (resumed,) = again.logged("round goes on after a restart")
    assert (resumed["accepted"], resumed["away"]) == (2, 1)
    check(federation, record, clients)


@pytest.mark.prove
@pytest.mark.parametrize("point", POINTS)
async def test_selector_dies_at_a_point_its_successor_commits_the_same_round(
    federation: Federation, point: str
) -> None:
    """Between each two steps there is nothing that is lost, or folded twice."""
    await federation.coordinator(goal_count=3, min_reports=3, rounds=1, return_s=60, grace_s=60)
    (north,) = await federation.selectors("north", command=(*CRASHING, point), spool=True)
    clients = await the_clients(federation, north, "Exact")
    assert await north.end() == -9

    await federation.selectors("north", port=north.port, spool=True)
    record = await federation.completed(1)
    statuses = [await client.end() for client in clients]

    assert statuses == [0, 0, 0]
    check(federation, record, clients)


@pytest.mark.prove
async def test_selector_is_back_after_it_was_given_up_nothing_in_its_spool_counts(
    federation: Federation,
) -> None:
    """Its clients report elsewhere or are lost; what they reported before is not counted twice."""
    await federation.coordinator(
        goal_count=3, min_reports=2, rounds=1, return_s=2, report_window_s=WINDOW_S, **AT_ONCE
    )
    north, south = await federation.selectors("north", "south", spool=True)
    gone = await federation.client("client-1", north, rounds=1)
    stays = await federation.client("client-2", north, south, steps=2)
    await federation.client("client-3", south, trainer="Gated", steps=4)
    assert await gone.end() == 0
    await stays.logs("report accepted")
    await north.kill()
    await federation.until(
        lambda s: standings(s.round) == {**BOTH_SETTLED, "client-3": "pending"},
        "client-1 lost, client-2 folded through the other selector",
    )

    await federation.selectors("north", port=north.port, spool=True)
    await federation.attached("north", "south")
    await eventually(lambda: not (federation.shared_data / "north/spool/round").exists())
    federation.open_gate()
    record = await federation.completed(1)

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert standings(record) == {
        "client-1": "lost",
        "client-2": "reported",
        "client-3": "reported",
    }
    assert {c.client_id: c.reason for c in record.clients if c.reason} == {
        "client-1": "selector-lost"
    }
    manifest = federation.directory.manifest(1)
    assert manifest is not None
    assert list(manifest["selectors"]) == ["south"]


BOTH_SETTLED = {"client-1": "lost", "client-2": "folded"}


async def test_one_of_two_selectors_is_told_to_stop_its_client_goes_to_the_other(
    federation: Federation,
) -> None:
    """A client that was never told of the other selector takes part in the next round there."""
    coordinator = await federation.coordinator(goal_count=2, **AT_ONCE)
    (south,) = await federation.selectors("south")
    client = await federation.client("client-1", south, rounds=1)
    await federation.waiting(1)
    (north,) = await federation.selectors("north")  # of which the client was not told yet
    other = await federation.client("client-2", north, rounds=1)
    await federation.waiting(2)

    south.terminate()
    assert await south.end() == 0
    await federation.waiting(2)
    await start_session(coordinator.address, 1, {})
    record = await federation.completed(1)

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert {c.client_id: c.selector_id for c in record.clients} == {
        "client-1": "north",
        "client-2": "north",
    }
    assert [await client.end(), await other.end()] == [0, 0]
