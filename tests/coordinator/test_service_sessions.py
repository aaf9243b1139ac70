"""What operators ask of a coordinator over real gRPC: sessions, and the rounds that were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from coordinator import status
from coordinator.app import Coordinator
from coordinator.settings import PLAN_SETTINGS, CoordinatorSettings
from federation.plan import Hyperparameters, RoundPlan
from federation.runtime import wire
from federation.runtime.rpc import create_channel
from federation.v1 import control_pb2 as pb
from federation.v1 import control_pb2_grpc
from tests.raw_selector import RawSelector
from tests.servers import HOST, a_coordinator, a_shared_directory
from tests.waiting import eventually, refused, within

ZEROS = {"w": np.zeros(3, np.float32)}
NO_TIME_S = 0.01
"""Of Selection: rounds that nobody takes part in are over at once."""


@dataclass
class Desk:
    """A coordinator, a selector by hand, and an operator's stub."""

    coordinator: Coordinator
    north: RawSelector
    control: Any

    async def start(self, rounds: int = 1, **plan: Any) -> pb.SessionStatus:
        """Ask for a session."""
        request = wire.session_to_wire(rounds, plan)
        session: pb.SessionStatus = await within(self.control.StartSession(request))
        return session

    async def stop(self, *, after_round: bool = False) -> pb.SessionStatus:
        """Ask for its end."""
        request = pb.StopSessionRequest(after_round=after_round)
        session: pb.SessionStatus = await within(self.control.StopSession(request))
        return session

    async def rounds(self, from_round: int = 0, limit: int = 0) -> pb.GetRoundsResponse:
        """Ask for rounds."""
        request = pb.GetRoundsRequest(from_round=from_round, limit=limit)
        answer: pb.GetRoundsResponse = await within(self.control.GetRounds(request))
        return answer

    async def over(self) -> None:
        """Wait for the end of the session."""
        assert self.coordinator.driver.session is not None
        await within(self.coordinator.driver.session.over.wait())


@asynccontextmanager
async def a_desk(shared_data: Path, **settings: Any) -> AsyncIterator[Desk]:
    """Set it up; the settings are the coordinator's own."""
    a_shared_directory(shared_data, ZEROS)
    async with (
        a_coordinator(shared_data, settings=CoordinatorSettings(**settings)) as coordinator,
        RawSelector(coordinator.port) as north,
        create_channel(f"{HOST}:{coordinator.port}", 10.0, 5.0) as channel,
    ):
        await north.attach()
        yield Desk(coordinator, north, control_pb2_grpc.ControlStub(channel))


# -- Starting ---------------------------------------------------------------------------------


async def test_session_is_started_with_nothing_given_its_rounds_are_by_the_own_settings(
    tmp_path: Path,
) -> None:
    """The operator who started the coordinator said what a round is."""
    async with a_desk(tmp_path, goal_count=1, epochs=7, learning_rate=0.25) as desk:
        session = await desk.start(rounds=3)

        await desk.north.check_in("ann")
        order = await desk.north.after("configure_round")

        assert (session.rounds, session.rounds_completed) == (3, 0)
        assert (session.running, session.stopping) == (True, False)
        assert order.session_id == session.session_id
        assert (order.hyperparameters.epochs, order.hyperparameters.learning_rate) == (7, 0.25)


async def test_session_is_started_with_a_goal_of_its_own_half_of_that_is_enough(
    tmp_path: Path,
) -> None:
    """What is not given is the setting, which says half, and not what it came to before."""
    async with a_desk(tmp_path, goal_count=2, batch_size=5) as desk:
        await desk.start(goal_count=9, epochs=3)

        session = desk.coordinator.driver.session
        assert session is not None
        assert session.plan == RoundPlan(
            goal_count=9, min_reports=5, hyperparameters=Hyperparameters(epochs=3, batch_size=5)
        )


async def test_every_part_of_the_plan_can_be_given(tmp_path: Path) -> None:
    """The request has a field for each setting of the plan, of the same name."""
    given: dict[str, Any] = {
        "goal_count": 4,
        "over_selection": 1.5,
        "min_reports": 3,
        "selection_timeout_s": 101.0,
        "report_window_s": 102.0,
        "grace_s": 103.0,
        "return_s": 104.0,
        "commit_timeout_s": 105.0,
        "weighting": "equal",
        "weight_max": 2**40,
        "update_norm_max": 1.25,
        "retry_delay_min_s": 0.0,
        "retry_delay_max_s": 0.5,
        "selection_pipelined": True,
        "epochs": 2,
        "batch_size": 3,
        "learning_rate": 0.5,
    }
    fields = {field.name for field in pb.StartSessionRequest.DESCRIPTOR.fields}
    async with a_desk(tmp_path) as desk:
        await desk.start(**given)

        session = desk.coordinator.driver.session
        assert session is not None
        assert session.plan == CoordinatorSettings(**given).plan()
        assert set(given) == set(PLAN_SETTINGS) == fields - {"rounds"}


async def test_session_runs_another_is_refused_in_words(tmp_path: Path) -> None:
    """The one that runs goes on."""
    async with a_desk(tmp_path) as desk:
        first = await desk.start(rounds=8)

        with refused("session-running", grpc.StatusCode.FAILED_PRECONDITION):
            await desk.start(rounds=1)
        with pytest.raises(grpc.aio.AioRpcError, match="0 of 8 rounds completed; stop it or wait"):
            await desk.start(rounds=1)

        session = desk.coordinator.driver.session
        assert session is not None
        assert session.session_id == first.session_id


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"rounds": 0}, "rounds = 0 is wrong: it must be a whole number from 1"),
        ({"min_reports": 3}, "min_reports = 3 is wrong: .* goal_count, which is 2"),
        ({"learning_rate": float("nan")}, "learning_rate = nan is wrong"),
        ({"report_window_s": -1.0}, "report_window_s = -1.0 is wrong"),
    ],
)
async def test_plan_is_impossible_the_operator_reads_which_setting_is_wrong(
    tmp_path: Path, plan: dict[str, Any], says: str
) -> None:
    """It is the operator's own; nothing has started."""
    async with a_desk(tmp_path, goal_count=2) as desk:
        with refused("impossible-plan", grpc.StatusCode.INVALID_ARGUMENT):
            await desk.start(**plan)
        with pytest.raises(grpc.aio.AioRpcError, match=says):
            await desk.start(**plan)

        assert desk.coordinator.driver.session is None


# -- Stopping ---------------------------------------------------------------------------------


async def test_session_is_stopped_its_round_is_abandoned_at_once_and_another_can_start(
    tmp_path: Path,
) -> None:
    """Selectors and clients hear why, and the next round has the next number."""
    async with a_desk(tmp_path, goal_count=1) as desk:
        await desk.start(rounds=5)
        await desk.north.check_in("ann")
        order = await desk.north.after("configure_round")

        stopped = await desk.stop()
        end = await desk.north.after("end_round")
        again = await desk.start(rounds=2)
        await desk.north.check_in("ann")
        following = await desk.north.after("configure_round")

        assert (stopped.rounds, stopped.rounds_completed) == (5, 1)
        assert (stopped.running, stopped.stopping) == (False, True)
        assert (end.round_id, end.committed, end.reason) == (
            order.round_id,
            False,
            "session-stopped",
        )
        assert (again.running, again.stopping) == (True, False)
        assert (following.round_number, following.session_id) == (2, again.session_id)


async def test_session_is_stopped_in_selection_those_who_are_held_hear_that_it_is_over(
    tmp_path: Path,
) -> None:
    """They come back, and wait for the next one."""
    async with a_desk(tmp_path, goal_count=2) as desk:
        await desk.start()
        await desk.north.check_in("ann")
        await desk.north.next("admit_clients")

        await desk.stop()
        declined = await desk.north.next("decline_clients")
        await desk.north.check_in("ann")
        await eventually(lambda: desk.coordinator.driver.lobby.waiting)

        assert (list(declined.client_ids), declined.reason) == (["ann"], "session-over")


async def test_session_is_stopped_after_its_round_the_round_completes_and_no_other_begins(
    tmp_path: Path,
) -> None:
    """Whoever watches sees at once that it will end."""
    async with a_desk(tmp_path, goal_count=1) as desk:
        await desk.start(rounds=5)
        await desk.north.check_in("ann")
        order = await desk.north.after("configure_round")

        stopping = await desk.stop(after_round=True)
        seen = await within(desk.control.GetStatus(pb.GetStatusRequest()))
        withdrew = {"round_id": order.round_id, "client_id": "ann", "reason": "trainer-failed"}
        await desk.north.tell(client_withdrew=withdrew)
        await desk.over()

        (record,) = (await desk.rounds()).rounds
        assert (stopping.running, stopping.stopping) == (True, True)
        assert (seen.session.running, seen.session.stopping) == (True, True)
        assert record.reason == "too-few-reports"


async def test_stopping_is_watched_it_shows_without_another_event(tmp_path: Path) -> None:
    """The status changed, though the round did not."""
    async with a_desk(tmp_path) as desk:
        await desk.start()
        watch = desk.control.WatchStatus(pb.WatchStatusRequest())
        while not (await within(watch.read())).HasField("round"):
            pass

        await desk.stop(after_round=True)
        seen = await within(watch.read())
        while not seen.session.stopping:
            seen = await within(watch.read())
        watch.cancel()

        assert seen.session.running


async def test_operator_cannot_wait_for_the_round_after_all_a_second_stop_abandons_it(
    tmp_path: Path,
) -> None:
    """A stop after the round can be followed by one at once."""
    async with a_desk(tmp_path) as desk:
        await desk.start()
        await eventually(lambda: desk.coordinator.driver.ledger.running)
        await desk.stop(after_round=True)

        stopped = await desk.stop()

        (record,) = (await desk.rounds()).rounds
        assert not stopped.running
        assert record.reason == "session-stopped"


async def test_nothing_runs_to_stop_it_is_refused_in_words(tmp_path: Path) -> None:
    """Before the first session, and after its end."""
    async with a_desk(tmp_path, selection_timeout_s=NO_TIME_S) as desk:
        with refused("no-session", grpc.StatusCode.FAILED_PRECONDITION):
            await desk.stop()
        await desk.start()
        await desk.over()

        with pytest.raises(grpc.aio.AioRpcError, match="no session is running"):
            await desk.stop(after_round=True)


# -- Rounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("from_round", "limit", "numbers", "following"),
    [
        (0, 0, [1, 2, 3, 4], 0),
        (0, 2, [1, 2], 3),
        (3, 0, [3, 4], 0),
        (3, 1, [3], 4),
        (3, 2, [3, 4], 0),
        (5, 0, [], 0),
    ],
)
async def test_rounds_are_asked_for_they_come_in_order_with_where_to_go_on(
    tmp_path: Path, from_round: int, limit: int, numbers: list[int], following: int
) -> None:
    """From a number on, at most so many."""
    async with a_desk(tmp_path, selection_timeout_s=NO_TIME_S) as desk:
        await desk.start(rounds=4)
        await desk.over()

        answer = await desk.rounds(from_round, limit)

        assert [record.round_number for record in answer.rounds] == numbers
        assert answer.next == following


async def test_round_completed_its_record_says_what_became_of_each_client(tmp_path: Path) -> None:
    """Fate and reason, examples and metrics, and how long each stage took."""
    async with a_desk(tmp_path, goal_count=4, min_reports=1) as desk:
        await desk.start()
        await desk.north.check_in("ann", "ben", "cleo", "dan")
        round_id = (await desk.north.after("configure_round")).round_id
        await desk.north.tell(
            reports_folded={
                "round_id": round_id,
                "reports": [{"client_id": "ann", "num_examples": 7, "metrics": {"loss": 0.5}}],
            }
        )
        bad = {"round_id": round_id, "client_id": "ben", "reason": "not-finite"}
        await desk.north.tell(report_rejected=bad)
        gone = {"round_id": round_id, "client_id": "cleo", "reason": "trainer-failed"}
        await desk.north.tell(client_withdrew=gone)
        driver = desk.coordinator.driver
        await eventually(lambda: driver.round is not None and driver.round.counts.withdrawn)

        await desk.stop()
        (record,) = (await desk.rounds()).rounds

        fates = {c.client_id: (c.selector_id, c.standing, c.reason) for c in record.clients}
        assert fates == {
            "ann": ("north", "discarded", "session-stopped"),
            "ben": ("north", "rejected", "not-finite"),
            "cleo": ("north", "withdrawn", "trainer-failed"),
            "dan": ("north", "expired", "session-stopped"),
        }
        assert record.clients[0].num_examples == 7
        assert dict(record.clients[0].metrics) == {"loss": 0.5}
        assert set(record.phase_seconds) == {"selection", "configuration", "reporting"}
        assert record.outcome == pb.OUTCOME_ABANDONED


async def test_rounds_have_many_clients_an_answer_ends_where_its_room_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round comes with all its clients, unless it is too large for a message of its own."""
    async with a_desk(tmp_path, goal_count=3) as desk:
        for _ in range(2):
            await desk.start()
            await desk.north.check_in("ann", "ben", "cleo")
            await desk.north.after("configure_round")
            await desk.stop()
        (one, other) = (await desk.rounds()).rounds
        size = sum(client.ByteSize() for client in one.clients)

        monkeypatch.setattr(status, "CLIENTS_BYTES_MAX", 2 * size - 1)
        first = await desk.rounds()
        second = await desk.rounds(first.next)
        monkeypatch.setattr(status, "CLIENTS_BYTES_MAX", size - 1)
        crowded = await desk.rounds()

        assert (list(first.rounds), first.next) == ([one], 2)
        assert (list(second.rounds), second.next) == ([other], 0)
        assert len(crowded.rounds[0].clients) == 2
        assert (crowded.rounds[0].counts.admitted, crowded.next) == (3, 2)
