"""SIGTERM and Ctrl-C: every role ends within its ``drain_s``, with status 0."""

from __future__ import annotations

import signal
import socket
import time

from federation.v1 import control_pb2 as pb
from tests.system.processes import HOST, Federation, Process, Settings

DRAIN_S = 0.5

SLACK_S = 10.0
"""What a loaded machine may add; far less than what an open-ended wait would take."""


def is_free(port: int) -> bool:
    """Say whether nobody listens on this port."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
        return True


async def told(process: Process, number: signal.Signals) -> tuple[int, float]:
    """Send the signal and return the exit status, and how long the end took."""
    began_s = time.monotonic()
    process.signal(number)
    return await process.end(), time.monotonic() - began_s


async def test_told_to_stop_while_nothing_runs_each_role_ends_at_once(
    federation: Federation,
) -> None:
    """Who waits has nothing to drain: a held client, its selector, a coordinator in between."""
    drain: Settings = {"drain_s": 10 * SLACK_S}
    coordinator = await federation.coordinator(**drain)
    (selector,) = await federation.selectors("north", **drain)
    clients = await federation.clients(2, selector, **drain)
    await federation.waiting(2)

    ends = [await told(clients[0], signal.SIGTERM), await told(selector, signal.SIGINT)]
    sent_away = await clients[1].logs("sent away")
    ends.append(await told(coordinator, signal.SIGTERM))

    assert [status for status, _ in ends] == [0, 0, 0]
    assert all(took_s < SLACK_S for _, took_s in ends)
    assert sent_away["reason"] == "draining"
    assert is_free(coordinator.port)
    assert is_free(selector.port)
    await told(clients[1], signal.SIGINT)
    assert federation.leftovers() == []


async def test_told_to_stop_while_a_stubborn_trainer_works_each_role_ends_within_drain_s(
    federation: Federation,
) -> None:
    """Who does not get done in time is left behind: its work, never the process, is lost."""
    drain: Settings = {"drain_s": DRAIN_S}
    coordinator = await federation.coordinator(goal_count=2, rounds=2, **drain)
    (selector,) = await federation.selectors("north", **drain)
    clients = await federation.clients(2, selector, trainer="Stubborn", **drain)
    for client in clients:
        await client.logs("training")

    ends = [
        await told(clients[0], signal.SIGINT),
        await told(selector, signal.SIGTERM),
        await told(coordinator, signal.SIGINT),
    ]

    assert [status for status, _ in ends] == [0, 0, 0]
    assert all(took_s < DRAIN_S + SLACK_S for _, took_s in ends)
    assert is_free(selector.port)
    assert is_free(coordinator.port)
    (left,) = coordinator.logged("round is left to the next start")
    assert left["round_number"] == 1
    await told(clients[1], signal.SIGTERM)
    assert federation.leftovers() == []


async def test_client_is_told_to_stop_while_it_trains_the_round_goes_on_without_it(
    federation: Federation,
) -> None:
    """It withdraws, so that nobody waits ``return_s`` for it, and cleans up after itself."""
    await federation.coordinator(goal_count=2, rounds=1, return_s=600)
    (selector,) = await federation.selectors("north")
    clients = await federation.clients(2, selector, trainer="Gated")
    for client in clients:
        await client.logs("training")

    status, _ = await told(clients[1], signal.SIGTERM)
    federation.open_gate()
    record = await federation.completed(1)

    assert status == 0
    assert record.outcome == pb.OUTCOME_COMMITTED
    fates = {client.client_id: (client.standing, client.reason) for client in record.clients}
    assert fates == {"client-1": ("reported", ""), "client-2": ("withdrawn", "client-stopped")}


async def test_coordinator_is_told_to_stop_the_running_round_may_end_first(
    federation: Federation,
) -> None:
    """Draining waits for a round that gets done in time; no other begins."""
    coordinator = await federation.coordinator(goal_count=2, rounds=5, drain_s=60)
    (selector,) = await federation.selectors("north")
    clients = await federation.clients(2, selector, trainer="Gated")
    for client in clients:
        await client.logs("training")

    coordinator.signal(signal.SIGTERM)
    federation.open_gate()
    status = await coordinator.end()

    assert status == 0
    (completed,) = coordinator.logged("round completed")
    assert completed["outcome"] == "committed"
    assert federation.directory.current_round_number() == 1
