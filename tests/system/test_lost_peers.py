"""Processes die, restart, double and stand still: what a round and its federation make of it."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from federation.runtime.hdf5 import read_weights
from federation.v1 import control_pb2 as pb
from tests.system.processes import (
    AT_ONCE,
    Federation,
    Process,
    Settings,
    seconds,
    standings,
)
from tests.system.trainers import STEP

WINDOW_S = 600.0
"""A report window that no test waits for."""

RETURN_S = 2.0
"""Short, and yet longer than a loaded machine lets a heartbeat wait."""

SOON_S = 30.0
"""Whoever waited for a dead peer's report would take ``WINDOW_S``."""


def reasons(record: pb.RoundRecord) -> dict[str, str]:
    """Return why clients stand where they stand."""
    return {client.client_id: client.reason for client in record.clients if client.reason}


async def all_train(clients: list[Process], round_number: int) -> None:
    """Wait until all clients train."""
    for client in clients:
        await client.logs("training", round_number=round_number)


async def test_client_is_killed_while_it_trains_the_round_commits_with_the_others(
    federation: Federation,
) -> None:
    """Who died is lost ``return_s`` later; nobody waits for the report window."""
    await federation.coordinator(
        goal_count=3, rounds=1, return_s=RETURN_S, report_window_s=WINDOW_S
    )
    (selector,) = await federation.selectors("north")
    clients = await federation.clients(3, selector, trainer="Gated")
    await all_train(clients, round_number=1)
    await clients[2].kill()
    federation.open_gate()

    record = await federation.completed(1)

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert standings(record) == {
        "client-1": "reported",
        "client-2": "reported",
        "client-3": "lost",
    }
    assert reasons(record) == {"client-3": "client-lost"}
    assert seconds(record) < SOON_S


@pytest.mark.prove
async def test_selector_is_killed_in_mid_round_it_costs_only_its_clients(
    federation: Federation,
) -> None:
    """The round commits with the rest, and the coordinator keeps serving."""
    await federation.coordinator(
        goal_count=3, rounds=1, return_s=RETURN_S, report_window_s=WINDOW_S
    )
    north, south = await federation.selectors("north", "south")
    clients = [
        await federation.client("client-1", north, trainer="Gated"),
        await federation.client("client-2", north, trainer="Gated"),
        await federation.client("client-3", south, trainer="Gated"),
    ]
    await all_train(clients, round_number=1)
    clients[2].signal(signal.SIGSTOP)  # else it would report through the other selector
    await south.kill()
    federation.open_gate()

    record = await federation.completed(1)

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert standings(record) == {
        "client-1": "reported",
        "client-2": "reported",
        "client-3": "lost",
    }
    assert reasons(record) == {"client-3": "selector-lost"}
    assert seconds(record) < SOON_S
    await federation.attached("north")


async def test_selector_restarts_in_mid_round_its_client_reports_through_the_other_one(
    federation: Federation,
) -> None:
    """The new process may not serve this round; it is there for the next one."""
    await federation.coordinator(
        goal_count=2, rounds=2, return_s=SOON_S, report_window_s=WINDOW_S, **AT_ONCE
    )
    north, south = await federation.selectors("north", "south")
    clients = [
        await federation.client("client-1", north, trainer="Gated"),
        await federation.client("client-2", south, trainer="Gated"),
    ]
    await all_train(clients, round_number=1)
    await south.kill()
    await federation.selectors("south", port=south.port)
    federation.open_gate()

    first, second = [await federation.completed(number) for number in (1, 2)]

    assert first.outcome == pb.OUTCOME_COMMITTED
    assert standings(first) == {"client-1": "reported", "client-2": "reported"}
    assert {client.selector_id for client in first.clients} == {"north"}
    assert second.outcome == pb.OUTCOME_COMMITTED
    assert second.counts.reported == 2
    await federation.attached("north", "south")


async def test_selector_is_killed_its_client_reports_through_the_other_without_training_again(
    federation: Federation,
) -> None:
    """A lost selector frees its clients' claims; what they trained counts elsewhere, once."""
    await federation.coordinator(
        goal_count=2, rounds=2, return_s=RETURN_S, report_window_s=WINDOW_S, **AT_ONCE
    )
    north, south = await federation.selectors("north", "south")
    clients = [
        await federation.client("client-1", north, trainer="Gated"),
        await federation.client("client-2", south, north, trainer="Gated"),
    ]
    await all_train(clients, round_number=1)
    await south.kill()
    await federation.until(both_are_pending_at_north, "both clients pending at north")
    federation.open_gate()

    records = [await federation.completed(number) for number in (1, 2)]

    for record in records:
        assert record.outcome == pb.OUTCOME_COMMITTED
        assert record.counts.reported == 2
        assert {client.selector_id for client in record.clients} == {"north"}
    assert [len(client.logged("training", round_number=1)) for client in clients] == [1, 1]


def both_are_pending_at_north(status: pb.Status) -> bool:
    """Say whether the round awaits two clients through north."""
    awaited = [c for c in status.round.clients if c.standing == "pending"]
    return [client.selector_id for client in awaited] == ["north", "north"]


async def test_second_process_with_a_selector_id_starts_the_older_ends(
    federation: Federation,
) -> None:
    """The newer wins; the older exits with status 1 and says ``superseded``."""
    await federation.coordinator()
    (older,) = await federation.selectors("north")
    await federation.attached("north")
    (newer,) = await federation.selectors("north")

    status = await older.end()

    assert status == 1
    assert "superseded" in older.log[-1]
    await federation.until(
        lambda status: [selector.address for selector in status.selectors] == [newer.address],
        "the newer process alone attached",
    )


async def test_coordinator_is_killed_and_restarted_rounds_go_on_from_the_last_commit(
    federation: Federation,
) -> None:
    """The checkpoint is whole, selectors re-attach by themselves, and numbers only rise."""
    coordinator = await federation.coordinator(goal_count=2, rounds=3, **AT_ONCE)
    selectors = await federation.selectors("north", "south")
    clients = await federation.clients(2, *selectors, trainer="Gated")
    federation.open_gate(1)
    await federation.completed(1)
    await all_train(clients, round_number=2)

    await coordinator.kill()
    kept = read_weights(federation.directory.checkpoint)
    federation.open_gate(2)
    federation.open_gate(3)
    await federation.coordinator(port=coordinator.port, goal_count=2, rounds=3, **AT_ONCE)
    await federation.attached("north", "south")
    records = [await federation.completed(number) for number in (2, 3)]

    assert np.all(kept["w"] == 0.5 + STEP)
    for record in records:
        assert record.outcome == pb.OUTCOME_COMMITTED
        assert record.counts.reported == 2
    assert sorted(path.name for path in federation.directory.history.iterdir()) == [
        "round-000001",
        "round-000002",
        "round-000003",
    ]
    newest = federation.directory.history / "round-000003" / "fl_checkpoint"
    assert np.all(read_weights(newest)["w"] == 0.5 + 3 * STEP)


@pytest.mark.prove
async def test_selector_stands_still_nobody_waits_for_it_and_it_comes_back(
    federation: Federation,
) -> None:
    """Keepalive finds it; the others are configured, report and commit; later it serves again."""
    alive: Settings = {"keepalive_s": 1, "keepalive_timeout_s": 2}
    await federation.coordinator(
        goal_count=3, rounds=2, return_s=RETURN_S, report_window_s=WINDOW_S, **alive, **AT_ONCE
    )
    north, south = await federation.selectors("north", "south", **alive)
    first_client = await federation.client("client-1", south, **alive)
    await federation.client("client-2", north, **alive)
    late = await federation.client("client-3", north, trainer="Late", **alive)
    await federation.until(lambda s: s.round.counts.admitted == 2, "two clients admitted")
    await late.logs("made soon")
    for process in (first_client, south):  # alone, the client would go to the other selector
        process.signal(signal.SIGSTOP)
    federation.open_gate("entry")

    first = await federation.completed(1)
    for process in (south, first_client):
        process.signal(signal.SIGCONT)
    second = await federation.completed(2)

    assert first.outcome == pb.OUTCOME_COMMITTED
    assert standings(first) == {
        "client-1": "lost",
        "client-2": "reported",
        "client-3": "reported",
    }
    assert seconds(first) < SOON_S
    assert second.counts.reported == 3
    await federation.attached("north", "south")
