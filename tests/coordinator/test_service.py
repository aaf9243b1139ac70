"""The coordinator over real gRPC: selectors by hand, and the operators' questions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from coordinator.app import Coordinator, Limits
from coordinator.events import Owner
from coordinator.links import Link
from coordinator.record import RoundOutcome
from coordinator.roster import Standing
from coordinator.service import CoordinationService
from coordinator.stages import SessionHandle
from federation.phases import Phase
from federation.plan import RoundPlan
from federation.runtime import wire
from federation.runtime.rpc import create_channel
from federation.v1 import control_pb2, control_pb2_grpc
from federation.v1 import coordination_pb2 as pb
from tests.raw_selector import RawSelector
from tests.servers import HOST, a_coordinator, a_shared_directory
from tests.waiting import eventually, refused, within

ZEROS = {"w": np.zeros(3, np.float32)}
TIMES = {"retry_delay_min_s": 1.0, "retry_delay_max_s": 2.0, "return_s": 20.0}


@dataclass
class Stand:
    """A coordinator, and selectors by hand."""

    coordinator: Coordinator
    stack: AsyncExitStack

    async def selector(self, selector_id: str = "north", incarnation: str = "n1") -> RawSelector:
        """Open a connection for a selector."""
        selector = RawSelector(self.coordinator.port, selector_id, incarnation)
        return await self.stack.enter_async_context(selector)

    async def attached(self, selector_id: str = "north", incarnation: str = "n1") -> RawSelector:
        """Attach a selector."""
        selector = await self.selector(selector_id, incarnation)
        assert (await selector.attach()).WhichOneof("command") == "welcome"
        return selector

    async def start(self, rounds: int = 1, **plan: Any) -> tuple[SessionHandle, list[RoundOutcome]]:
        """Start a session; return it, and where its outcomes will be."""
        outcomes: list[RoundOutcome] = []
        session = await self.coordinator.driver.sessions.start(
            RoundPlan(**(TIMES | plan)), rounds, outcomes.append
        )
        return session, outcomes

    async def stands(self, client_id: str, standing: Standing) -> None:
        """Wait until the round knows this of a client."""

        def so() -> bool:
            round_ = self.coordinator.driver.round
            claim = round_.claims.get(client_id) if round_ is not None else None
            return claim is not None and claim.standing is standing

        await eventually(so)


@asynccontextmanager
async def a_stand(shared_data: Path, **limits: Any) -> AsyncIterator[Stand]:
    """Set it up."""
    a_shared_directory(shared_data, ZEROS)
    async with a_coordinator(shared_data, **limits) as coordinator, AsyncExitStack() as stack:
        yield Stand(coordinator, stack)


# -- Hello ------------------------------------------------------------------------------------


async def test_selector_is_welcomed_with_the_times_that_it_needs(tmp_path: Path) -> None:
    """Version, return time, and a heartbeat well within it."""
    async with a_stand(tmp_path, return_s=12.0) as stand:
        selector = await stand.selector()

        command = await selector.attach()

        assert command.welcome.protocol_version == wire.PROTOCOL_VERSION
        assert command.welcome.return_s == 12.0
        assert 0 < command.welcome.heartbeat_s < 3.0


async def test_heartbeat_is_answered_with_its_number(tmp_path: Path) -> None:
    """Also while nothing else happens."""
    async with a_stand(tmp_path) as stand:
        selector = await stand.attached()

        await selector.tell(heartbeat={"sequence": 7})

        assert (await selector.next("heartbeat_answer")).sequence == 7


@pytest.mark.parametrize(
    ("hello", "reason", "status"),
    [
        ({"protocol_version": 0}, "protocol-mismatch", grpc.StatusCode.FAILED_PRECONDITION),
        ({"protocol_version": 9}, "protocol-mismatch", grpc.StatusCode.FAILED_PRECONDITION),
        ({"selector_id": ""}, "malformed-selector-id", grpc.StatusCode.INVALID_ARGUMENT),
        ({"selector_id": "../up"}, "malformed-selector-id", grpc.StatusCode.INVALID_ARGUMENT),
        ({"selector_id": "history"}, "malformed-selector-id", grpc.StatusCode.INVALID_ARGUMENT),
        ({"incarnation": ""}, "malformed-hello", grpc.StatusCode.INVALID_ARGUMENT),
        ({"incarnation": "x" * 129}, "malformed-hello", grpc.StatusCode.INVALID_ARGUMENT),
        ({"address": "x" * 301}, "malformed-hello", grpc.StatusCode.INVALID_ARGUMENT),
        ({"version": "x" * 129}, "malformed-hello", grpc.StatusCode.INVALID_ARGUMENT),
        ({"directory_mark": "x" * 129}, "malformed-hello", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_hello_that_breaks_the_contract_is_refused(
    tmp_path: Path, hello: dict[str, Any], reason: str, status: grpc.StatusCode
) -> None:
    """Nothing is attached, and no folder is named after it."""
    async with a_stand(tmp_path) as stand:
        selector = await stand.selector()

        with refused(reason, status):
            await selector.attach(**hello)

        assert stand.coordinator.driver.links.attached() == ()


async def test_stream_that_begins_otherwise_is_refused(tmp_path: Path) -> None:
    """The first event is hello."""
    async with a_stand(tmp_path) as stand:
        selector = await stand.selector()
        await selector.open()

        with refused("no-hello", grpc.StatusCode.INVALID_ARGUMENT):
            await selector.tell(heartbeat={"sequence": 1})
            await within(selector.call.read())


async def test_stream_that_says_nothing_is_refused(tmp_path: Path) -> None:
    """It ends before its first event."""
    async with a_stand(tmp_path) as stand:
        selector = await stand.selector()
        await selector.open()

        with refused("no-hello", grpc.StatusCode.INVALID_ARGUMENT):
            await within(selector.call.done_writing())
            await within(selector.call.read())


@pytest.mark.parametrize(
    "event",
    [
        {"hello": {"selector_id": "north"}},
        {"clients_checked_in": {"clients": [{"client_id": "../up"}]}},
        {},
    ],
)
async def test_event_that_breaks_the_contract_ends_its_stream_only(
    tmp_path: Path, event: dict[str, Any]
) -> None:
    """Anything bad in the input: never the process."""
    async with a_stand(tmp_path) as stand:
        bad = await stand.attached("bad")
        good = await stand.attached("good")

        await bad.tell(**event)
        await bad.ended()
        await good.tell(heartbeat={"sequence": 1})

        assert (await good.next("heartbeat_answer")).sequence == 1


# -- One process a selector -------------------------------------------------------------------


async def test_newer_process_of_a_selector_supersedes_the_older(tmp_path: Path) -> None:
    """The older hears so and its stream ends; its clients are nobody's any more."""
    async with a_stand(tmp_path) as stand:
        older = await stand.attached("north", "n1")
        await stand.start(goal_count=2)
        await older.check_in("ann")
        await older.next("admit_clients")

        newer = await stand.attached("north", "n2")
        await older.next("superseded")
        await older.ended()
        await newer.check_in("ben", "cleo")

        order = await newer.after("configure_round")
        assert list(order.client_ids) == ["ben", "cleo"]


async def test_superseded_process_that_comes_back_is_told_so(tmp_path: Path) -> None:
    """It must not take its place back, or the two would take turns."""
    async with a_stand(tmp_path) as stand:
        older = await stand.attached("north", "n1")
        await stand.attached("north", "n2")

        command = await older.attach()

        assert command.WhichOneof("command") == "superseded"
        await older.ended()
        [link] = stand.coordinator.driver.links.attached()
        assert link.owner.incarnation == "n2"


async def test_newer_stream_of_the_same_process_takes_over(tmp_path: Path) -> None:
    """A broken connection is noticed late on this side; the older stream ends, nothing else."""
    async with a_stand(tmp_path) as stand:
        older = await stand.attached()
        await stand.start(goal_count=1)
        await older.check_in("ann")
        order = await older.after("configure_round")

        newer = await stand.selector()
        cohort = {"round_id": order.round_id, "round_number": 1, "configured": ["ann"]}
        await newer.attach(cohort=cohort)
        await older.ended()
        await newer.folded(order.round_id, "ann")

        assert (await newer.next("close_reporting")).round_id == order.round_id


async def test_newer_stream_of_the_same_process_does_not_hold_a_client_its_place_is_free(
    tmp_path: Path,
) -> None:
    """A selector with a spool comes back as the same one, and without its clients."""
    async with a_stand(tmp_path) as stand:
        older = await stand.attached()
        await stand.start(goal_count=2)
        await older.check_in("ann")
        await older.after("admit_clients")

        newer = await stand.attached()
        await older.ended()
        await newer.check_in("ben", "cleo")

        order = await newer.after("configure_round")
        assert list(order.client_ids) == ["ben", "cleo"]


async def test_what_an_older_stream_still_says_is_out_of_date(tmp_path: Path) -> None:
    """Its events come behind the newer hello, which knew better."""
    async with a_stand(tmp_path) as stand:
        newer = await stand.selector()
        service = CoordinationService(
            stand.coordinator.driver,
            stand.coordinator._inspector,
            stand.coordinator._tenure,
            return_s=20.0,
        )
        older = Link(Owner(newer.selector_id, newer.incarnation), "north.example:50051")
        await stand.start(goal_count=2)

        async def events() -> AsyncIterator[pb.SelectorEvent]:
            await newer.attach()
            await newer.check_in("ann")
            await newer.next("admit_clients")
            yield pb.SelectorEvent(clients_left=pb.ClientsLeft(client_ids=["ann"]))

        await service._read(older, pb.Hello(**newer.hello()), events())
        await newer.check_in("ben")

        order = await newer.after("configure_round")
        assert sorted(order.client_ids) == ["ann", "ben"]


# -- What a selector knows --------------------------------------------------------------------


async def test_hello_of_a_round_that_does_not_run_is_told_that_it_is_over(tmp_path: Path) -> None:
    """After a restart without a memory of it, or after the round ended meanwhile."""
    async with a_stand(tmp_path) as stand:
        selector = await stand.selector()

        await selector.attach(cohort={"round_id": "of-long-ago", "configured": ["ann"]})

        end = await selector.next("end_round")
        assert (end.round_id, end.committed, end.reason) == ("of-long-ago", False, "unknown-round")


async def test_hello_says_what_the_broken_stream_could_not(tmp_path: Path) -> None:
    """Only gaps are asked again: here a client whose order was lost."""
    async with a_stand(tmp_path) as stand:
        selector = await stand.attached()
        await stand.start(goal_count=5, min_reports=1)
        await selector.check_in("ann", "ben", "cleo", "dan", "eve")
        order = await selector.after("configure_round")
        selector.cut()

        await selector.attach(
            cohort={
                "round_id": order.round_id,
                "configured": ["ann"],
                "folded": [{"client_id": "ben", "num_examples": 7, "metrics": {"loss": 0.5}}],
                "rejected": [{"client_id": "cleo", "reason": "not-finite"}],
                "withdrawn": [{"client_id": "dan", "reason": "trainer-failed"}],
            }
        )
        again = await selector.next("configure_round")

        round_ = stand.coordinator.driver.round
        assert round_ is not None
        claims = round_.claims
        assert list(again.client_ids) == ["eve"]
        assert claims["ann"].configured
        assert (claims["ben"].standing, claims["ben"].num_examples) == (Standing.FOLDED, 7)
        assert (claims["cleo"].standing, claims["cleo"].reason) == ("rejected", "not-finite")
        assert (claims["dan"].standing, claims["dan"].reason) == ("withdrawn", "trainer-failed")


async def test_hello_names_released_claims_they_are_free_before_its_clients_are_asked_for(
    tmp_path: Path,
) -> None:
    """Its word of it may have been lost; a client that it holds again is ordered anew."""
    async with a_stand(tmp_path) as stand:
        selector = await stand.attached()
        other = await stand.attached("south", "s1")
        await stand.start(goal_count=2)
        await selector.check_in("ann", "ben")
        order = await selector.after("configure_round")
        selector.cut()

        await selector.attach(
            cohort={"round_id": order.round_id, "released": ["ann", "ben"]},
            held=[{"client_id": "ben"}],
        )
        again = await selector.after("configure_round")
        await other.check_in("ann")
        elsewhere = await other.after("configure_round")
        await selector.folded(order.round_id, "ben")
        await other.folded(order.round_id, "ann")
        closing = await other.after("close_reporting")

        assert list(again.client_ids) == ["ben"]
        assert list(elsewhere.client_ids) == ["ann"]
        assert closing.round_id == order.round_id


async def test_clients_that_a_hello_holds_are_asked_for_as_if_they_checked_in(
    tmp_path: Path,
) -> None:
    """A restarted coordinator knows nobody."""
    async with a_stand(tmp_path) as stand:
        await stand.start(goal_count=2)
        selector = await stand.selector()

        await selector.attach(held=[{"client_id": "ann"}, {"client_id": "ben"}])

        assert list((await selector.after("configure_round")).client_ids) == ["ann", "ben"]


async def test_partial_that_names_nothing_is_settled(tmp_path: Path) -> None:
    """Every partial gets exactly one answer: here of a round that nobody knows."""
    async with a_stand(tmp_path) as stand:
        session, _ = await stand.start(goal_count=1, selection_timeout_s=0.01)
        await within(session.over.wait())
        selector = await stand.attached()

        await selector.tell(partial_written={"round_id": "of-long-ago", "count": 0})

        settled = await selector.next("settle_partial")
        assert (settled.round_id, settled.kept) == ("of-long-ago", False)
        assert settled.reason == "stale"


async def test_metrics_that_no_mean_can_hold_are_left_out(tmp_path: Path) -> None:
    """NaN in a status page or a manifest would be no JSON."""
    metrics = {"nan": float("nan"), "loss": 0.5} | {f"x{n:02}": 1.0 for n in range(60)}
    async with a_stand(tmp_path) as stand:
        selector = await stand.attached()
        await stand.start(goal_count=2)
        await selector.check_in("ann", "ben")
        order = await selector.after("configure_round")

        report = {"client_id": "ann", "num_examples": 1, "metrics": metrics}
        await selector.tell(reports_folded={"round_id": order.round_id, "reports": [report]})
        await stand.stands("ann", Standing.FOLDED)

        round_ = stand.coordinator.driver.round
        assert round_ is not None
        assert "nan" not in round_.claims["ann"].metrics
        assert len(round_.claims["ann"].metrics) == 32


# -- Clients ----------------------------------------------------------------------------------


async def test_admission_is_first_come_first_served_over_all_selectors(tmp_path: Path) -> None:
    """The coordinator alone counts."""
    async with a_stand(tmp_path) as stand:
        north, south = await stand.attached("north"), await stand.attached("south", "s1")
        await stand.start(goal_count=3)

        await north.check_in("ann")
        await north.next("admit_clients")
        await south.check_in("ben", "cleo", "dan")
        order_north = await north.after("configure_round")
        declined = await south.after("decline_clients")
        order_south = await south.after("configure_round")

        assert list(order_north.client_ids) == ["ann"]
        assert list(order_south.client_ids) == ["ben", "cleo"]
        assert (list(declined.client_ids), declined.reason) == (["dan"], "goal-reached")
        assert declined.retry_window.delay_max_s == 2.0


async def test_selector_that_reads_nothing_delays_nobody(tmp_path: Path) -> None:
    """Each has its own bounded line of commands.

    Elsewhere: a prototype told its selectors of the round one after the other, and stopped at
    the first that it could not reach; those behind it waited for ever.
    """
    async with a_stand(tmp_path) as stand:
        deaf = await stand.attached("deaf", "d1")
        north = await stand.attached("north")
        await stand.start(goal_count=2, min_reports=1, return_s=60.0)
        await deaf.check_in("ann")
        for number in range(2000):
            await deaf.tell(heartbeat={"sequence": number})

        await north.check_in("ben")
        order = await north.after("configure_round")

        assert list(order.client_ids) == ["ben"]


async def test_clients_hear_when_the_session_is_over(tmp_path: Path) -> None:
    """Those that wait at its end, and those that took part and come back later."""
    async with a_stand(tmp_path) as stand:
        north = await stand.attached()
        await north.check_in("ann")
        await eventually(lambda: stand.coordinator.driver.lobby.waiting)
        session, _ = await stand.start(goal_count=2, min_reports=2, selection_timeout_s=0.01)
        await within(session.over.wait())

        held = await north.after("decline_clients")
        await north.check_in("ben", session_id=session.session_id)
        returning = await north.after("decline_clients")

        assert (list(held.client_ids), held.reason) == (["ann"], "session-over")
        assert (list(returning.client_ids), returning.reason) == (["ben"], "session-over")


# -- Operators --------------------------------------------------------------------------------


@asynccontextmanager
async def a_control(coordinator: Coordinator) -> AsyncIterator[Any]:
    """Open a stub of the control service."""
    async with create_channel(f"{HOST}:{coordinator.port}", 10.0, 5.0) as channel:
        yield control_pb2_grpc.ControlStub(channel)


async def test_status_before_anything_happened_says_so(tmp_path: Path) -> None:
    """No round, no session."""
    async with a_stand(tmp_path) as stand, a_control(stand.coordinator) as control:
        status = await within(control.GetStatus(control_pb2.GetStatusRequest()))

        assert not status.HasField("round")
        assert not status.HasField("session")
        assert status.shared_data == str(tmp_path)
        assert status.version


async def test_status_says_where_the_round_stands(tmp_path: Path) -> None:
    """Phase, counts, clients, selectors and what remains of the deadline."""
    async with a_stand(tmp_path) as stand, a_control(stand.coordinator) as control:
        north = await stand.attached()
        session, _ = await stand.start(goal_count=3, selection_timeout_s=100.0)
        await north.check_in("ann", "ben")
        await north.next("admit_clients")

        status = await within(control.GetStatus(control_pb2.GetStatusRequest()))

        assert wire.phase_from_wire(status.round.phase) is Phase.SELECTION
        assert status.round.counts.admitted == 2
        assert 0 < status.round.deadline_s <= 100.0
        assert [client.client_id for client in status.round.clients] == ["ann", "ben"]
        assert [(s.selector_id, s.attached, s.held) for s in status.selectors] == [
            ("north", True, 2)
        ]
        assert (status.session.session_id, status.session.running) == (session.session_id, True)
        assert [wire.phase_from_wire(stage.phase) for stage in status.recent_stages] == [
            Phase.SELECTION
        ]


async def test_watched_status_comes_at_once_and_after_each_change(tmp_path: Path) -> None:
    """Until the operator has seen enough."""
    async with a_stand(tmp_path) as stand, a_control(stand.coordinator) as control:
        north = await stand.attached()
        watch = control.WatchStatus(control_pb2.WatchStatusRequest())
        first = await within(watch.read())

        await stand.start(goal_count=1)
        await north.check_in("ann")
        seen = await within(watch.read())
        while not seen.HasField("round") or not seen.round.counts.admitted:
            seen = await within(watch.read())
        watch.cancel()

        assert not first.HasField("round")
        assert [client.client_id for client in seen.round.clients] == ["ann"]


async def test_stages_are_numbered_in_order_through_rounds(tmp_path: Path) -> None:
    """A receiver drops duplicates and sees gaps by their sequence.

    Elsewhere: a prototype told its stage from shared state that was read later, so that the end
    of a round was reported as the Selection of the next.
    """
    async with a_stand(tmp_path) as stand, a_control(stand.coordinator) as control:
        session, _ = await stand.start(3, goal_count=1, selection_timeout_s=0.01)
        await within(session.over.wait())

        status = await within(control.GetStatus(control_pb2.GetStatusRequest()))

        stages = [
            (stage.sequence, stage.round_number, wire.phase_from_wire(stage.phase))
            for stage in status.recent_stages
        ]
        assert stages == [
            (1, 1, Phase.SELECTION),
            (2, 1, Phase.COMPLETED),
            (3, 2, Phase.SELECTION),
            (4, 2, Phase.COMPLETED),
            (5, 3, Phase.SELECTION),
            (6, 3, Phase.COMPLETED),
        ]
        assert [record.reason for record in status.recent_rounds] == ["too-few-clients"] * 3


async def test_stream_that_comes_before_the_driver_runs_waits_for_it(tmp_path: Path) -> None:
    """A selector that dials a coordinator that just started is served, not refused."""
    a_shared_directory(tmp_path, ZEROS)
    coordinator = Coordinator(tmp_path, Limits())
    await coordinator.start(HOST, 0)
    async with RawSelector(coordinator.port) as selector:
        partial = {"round_id": "of-long-ago", "count": 1, "weight": 1, "client_ids": ["ann"]}
        await selector.open()
        await selector.tell(
            hello=selector.hello(cohort={"round_id": "of-long-ago", "partial": partial})
        )

        running = asyncio.create_task(coordinator.driver.run())
        await selector.next("welcome")
        end = await selector.next("end_round")

        assert end.round_id == "of-long-ago"
        assert coordinator.driver.links.attached()
        running.cancel()
    await coordinator.stop(grace_s=0.0)


async def test_selector_comes_and_goes_the_others_are_told_where_clients_find_which(
    tmp_path: Path,
) -> None:
    """For clients whose selector is gone."""
    async with a_stand(tmp_path) as stand:
        north = await stand.attached("north")
        alone = await north.after("selector_list")
        south = await stand.attached("south")
        both = await north.after("selector_list")
        south.cut()
        left = await north.after("selector_list")

        assert list(alone.addresses) == list(left.addresses) == ["north.example:50051"]
        assert list(both.addresses) == ["north.example:50051"] * 2
