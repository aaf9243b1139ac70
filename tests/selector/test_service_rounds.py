"""Clients by hand against a real selector and coordinator: bad reports cost only themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.app import Coordinator
from coordinator.record import RoundOutcome
from coordinator.stages import SessionHandle
from federation.plan import RoundPlan
from federation.runtime.hdf5 import read_weights
from federation.runtime.store import SharedDirectory
from federation.tensors import encode
from federation.v1 import participation_pb2 as pb
from selector.app import SelectorServer
from tests.raw_client import RawClient, report_frames
from tests.selector.stage import ZEROS, ones
from tests.selector.test_service_reports import BAD_UPDATES
from tests.servers import HOST, a_coordinator, a_selector, a_shared_directory
from tests.waiting import eventually, refused, within

ACCEPTED = pb.REPORT_OUTCOME_ACCEPTED


@dataclass
class Tree:
    """A coordinator, its selectors, and clients by hand."""

    coordinator: Coordinator
    selectors: list[SelectorServer]
    directory: SharedDirectory
    clients: AsyncExitStack
    processes: list[AsyncExitStack]

    async def lose(self, selector: int) -> None:
        """End a selector without a goodbye."""
        await self.processes[selector].aclose()

    async def start(self, rounds: int = 1, **plan: Any) -> tuple[SessionHandle, list[RoundOutcome]]:
        """Start a session; return it, and where its outcomes will be."""
        outcomes: list[RoundOutcome] = []
        times = {"retry_delay_min_s": 0.0, "retry_delay_max_s": 0.1, "return_s": 20.0}
        session = await self.coordinator.driver.sessions.start(
            RoundPlan(**(times | plan)), rounds, outcomes.append
        )
        return session, outcomes

    async def held(self, client_id: str, selector: int = 0) -> RawClient:
        """Check a client in."""
        address = f"{HOST}:{self.selectors[selector].port}"
        client = await self.clients.enter_async_context(RawClient(address, client_id))
        event = await client.check_in()
        assert event.WhichOneof("event") == "held", event
        return client

    async def over(self, session: SessionHandle) -> None:
        """Wait for the end of a session."""
        await within(session.over.wait())

    def checkpoint(self) -> list[float]:
        """The current global weights."""
        values: list[float] = read_weights(self.directory.checkpoint)["w"].ravel().tolist()
        return values


@asynccontextmanager
async def a_tree(shared_data: Path, selectors: int = 1) -> AsyncIterator[Tree]:
    """Plant it: selectors ``selector-1`` and on."""
    directory = a_shared_directory(shared_data, ZEROS)
    async with a_coordinator(shared_data) as coordinator, AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(AsyncExitStack()) for _ in range(selectors)]
        servers = [
            await process.enter_async_context(
                a_selector(shared_data, coordinator.port, f"selector-{number}")
            )
            for number, process in enumerate(processes, 1)
        ]
        for server in servers:
            await within(server.uplink.attached.wait())
        yield Tree(coordinator, servers, directory, stack, processes)


async def test_every_kind_of_bad_update_is_rejected_while_the_round_commits_with_the_others(
    tmp_path: Path,
) -> None:
    """Screening takes out what is bad, by name and reason, and nothing else."""
    goal_count = len(BAD_UPDATES) + 2
    async with a_tree(tmp_path) as tree:
        session, outcomes = await tree.start(goal_count=goal_count, min_reports=2, weight_max=1000)
        good = [await tree.held("ann"), await tree.held("ben")]
        bad = [await tree.held(f"bad-{number}") for number in range(len(BAD_UPDATES))]
        for client in [*good, *bad]:
            await client.configured()

        for client, (weights, num_examples, _) in zip(bad, BAD_UPDATES.values(), strict=True):
            await client.report(weights, num_examples)
        await good[0].report(ones(1.0), 1, loss=1.0)
        await good[1].report(ones(4.0), 2, loss=4.0)
        await tree.over(session)

        [outcome] = outcomes
        assert outcome.committed
        assert (outcome.counts.reported, outcome.counts.rejected) == (2, len(BAD_UPDATES))
        assert [outcome.clients[client.client_id].reason for client in bad] == [
            reason for _, _, reason in BAD_UPDATES.values()
        ]
        assert outcome.metrics == {"loss": 3.0}
        assert tree.checkpoint() == [3.0] * 6


async def test_goal_is_reached_the_client_that_still_trains_is_sent_away(tmp_path: Path) -> None:
    """Reporting closes once the goal count is folded; who is pending then has expired."""
    async with a_tree(tmp_path) as tree:
        session, outcomes = await tree.start(goal_count=1, over_selection=2.0)
        ann, ben = await tree.held("ann"), await tree.held("ben")
        await ann.configured()
        await ben.configured()

        await ann.report(ones())
        event = await ben.next_event()
        await tree.over(session)

        assert event is not None
        assert event.aborted.reason == "reporting-closed"
        assert outcomes[0].committed
        assert outcomes[0].clients["ben"].standing == "expired"


async def test_rejected_and_withdrawn_clients_take_part_in_the_next_round(tmp_path: Path) -> None:
    """A fate belongs to one round."""
    async with a_tree(tmp_path) as tree:
        session, outcomes = await tree.start(2, goal_count=3, min_reports=1)
        ann, ben, cleo = [await tree.held(name) for name in ("ann", "ben", "cleo")]
        for client in (ann, ben, cleo):
            await client.configured()
        await ann.report(ones(), 0)
        await ben.withdraw("trainer-failed")
        await cleo.report(ones())
        await eventually(lambda: outcomes)

        for client in (ann, ben, cleo):
            await client.check_in()
        for client in (ann, ben, cleo):
            await client.configured()
        receipts = [await client.report(ones(2.0)) for client in (ann, ben, cleo)]
        await tree.over(session)

        assert {receipt.outcome for receipt in receipts} == {ACCEPTED}
        assert [outcome.counts.reported for outcome in outcomes] == [1, 3]
        assert (outcomes[0].counts.rejected, outcomes[0].counts.withdrawn) == (1, 1)
        assert tree.checkpoint() == [2.0] * 6


async def test_selector_joins_while_a_round_runs_its_clients_take_part_in_the_next(
    tmp_path: Path,
) -> None:
    """Selectors come at any time, and serve from the next admission on."""
    async with a_tree(tmp_path) as tree:
        session, outcomes = await tree.start(2, goal_count=1)
        ann = await tree.held("ann")
        await ann.configured()

        newcomer = a_selector(tmp_path, tree.coordinator.port, "selector-2")
        tree.selectors.append(await tree.clients.enter_async_context(newcomer))
        await within(tree.selectors[1].uplink.attached.wait())
        await ann.report(ones(1.0))
        ben = await _configured_again(tree, "ben", 1)
        await ben.report(ones(3.0))
        await tree.over(session)

        assert [outcome.committed for outcome in outcomes] == [True, True]
        assert outcomes[1].clients["ben"].owner.selector_id == "selector-2"
        assert tree.checkpoint() == [3.0] * 6


async def test_client_moves_to_another_selector_it_has_one_claim_and_one_report(
    tmp_path: Path,
) -> None:
    """Its claim stays with the first selector as long as that one lives."""
    async with a_tree(tmp_path, selectors=2) as tree:
        session, outcomes = await tree.start(goal_count=2)
        ann, ben = await tree.held("ann", 0), await tree.held("ben", 1)
        await ann.configured()
        await ben.configured()
        first_token = ann.token

        elsewhere = await tree.held("ann", 1)
        declined = await elsewhere.next_event()
        await ann.check_in()
        await ann.configured()
        await ann.report(ones(1.0))
        await ben.report(ones(3.0))
        await tree.over(session)

        assert declined is not None
        assert declined.declined.reason == "claimed-elsewhere"
        assert ann.token == first_token
        assert outcomes[0].counts.reported == 2
        assert tree.checkpoint() == [2.0] * 6


async def test_token_of_one_selector_is_worth_nothing_at_another(tmp_path: Path) -> None:
    """A claim belongs to one process of one selector."""
    async with a_tree(tmp_path, selectors=2) as tree:
        await tree.start(goal_count=2)
        ann, ben = await tree.held("ann", 0), await tree.held("ben", 1)
        await ann.configured()
        await ben.configured()
        ben.token = ann.token

        with refused("claim-not-here"):
            await ben.send(report_frames(ben.token, encode(ones())))


async def test_selector_is_lost_its_client_reports_through_another(tmp_path: Path) -> None:
    """Once the coordinator has made it void; what it had folded is gone and not counted twice."""
    async with a_tree(tmp_path, selectors=2) as tree:
        session, outcomes = await tree.start(goal_count=2, return_s=0.3)
        ann, ben = await tree.held("ann", 0), await tree.held("ben", 1)
        await ann.configured()
        await ben.configured()
        await ann.report(ones(1.0))

        await tree.lose(0)
        moved = await _configured_again(tree, "ann", 1)
        await moved.report(ones(1.0))
        await ben.report(ones(3.0))
        await tree.over(session)

        assert outcomes[0].committed
        assert outcomes[0].counts.reported == 2
        assert outcomes[0].clients["ann"].owner.selector_id == "selector-2"
        assert tree.checkpoint() == [2.0] * 6


async def _configured_again(tree: Tree, client_id: str, selector: int) -> RawClient:
    """Check in until the claim is free."""
    while True:
        client = await tree.held(client_id, selector)
        event = await client.next_event()
        assert event is not None
        if event.WhichOneof("event") == "configured":
            client.token = event.configured.session_token
            return client
        assert event.declined.reason in ("goal-reached", "claimed-elsewhere")
        await asyncio.sleep(event.declined.retry_window.delay_max_s)
