"""The one task that owns the round: deadlines, sessions, commits and the way out."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from coordinator.announcer import Announcer
from coordinator.committer import Committer
from coordinator.driver import Driver
from coordinator.events import (
    CheckedIn,
    Configured,
    FoldedReport,
    Owner,
    PartialReference,
    PartialSubmitted,
    ReportsFolded,
    SelectorAttached,
    Stopped,
)
from coordinator.links import Link
from coordinator.memory import Memory
from coordinator.merging import merge
from coordinator.record import RoundOutcome
from coordinator.sessions import SessionRefused
from coordinator.stages import SessionHandle
from coordinator.takeover import federation_id_in, take_up
from coordinator.webhook import Push
from federation.errors import StoreError
from federation.phases import Outcome, Phase
from federation.plan import RetryWindow, RoundPlan
from federation.runtime.clock import Clock
from federation.runtime.hdf5 import read_weights
from federation.runtime.store import SharedDirectory
from federation.v1 import coordination_pb2 as pb
from tests.coordinator.partials import hand_in
from tests.servers import a_shared_directory
from tests.waiting import eventually, within

NORTH = Owner("north", "n1")
TIMES: dict[str, Any] = {"return_s": 20.0, "retry_delay_min_s": 0.0, "retry_delay_max_s": 0.1}

ONES = ({"w": np.ones(3, np.float32)}, 1)


@dataclass
class Desk:
    """A running driver, and one selector's stream to it."""

    driver: Driver
    directory: SharedDirectory
    link: Link
    announcer: Announcer | None = None
    outcomes: list[RoundOutcome] = field(default_factory=list)

    async def start(self, rounds: int = 1, **plan: Any) -> SessionHandle:
        """Start a session."""
        return await self.driver.sessions.start(
            RoundPlan(**(TIMES | plan)), rounds, self.outcomes.append
        )

    async def command(self, kind: str) -> Any:
        """Return the next command of this kind; those before it are passed over."""
        async with asyncio.timeout(30.0):
            async for command in self.link.commands():
                if command.WhichOneof("command") == kind:
                    return getattr(command, kind)
        raise AssertionError("the link was closed")

    async def check_in(self, *client_ids: str) -> None:
        """Clients ask."""
        await self.driver.post(CheckedIn(NORTH, client_ids))

    async def configured(self, *client_ids: str) -> pb.ConfigureRound:
        """Bring a round with these clients to Reporting."""
        await self.check_in(*client_ids)
        order: pb.ConfigureRound = await self.command("configure_round")
        await self.driver.post(Configured(NORTH, order.round_id, client_ids))
        return order

    async def fold(self, order: pb.ConfigureRound, *client_ids: str) -> None:
        """Their reports are in the sum."""
        reports = tuple(FoldedReport(client_id, 1) for client_id in client_ids)
        await self.driver.post(ReportsFolded(NORTH, order.round_id, reports))

    async def hand_in(self, order: pb.ConfigureRound, *client_ids: str, value: float = 1.0) -> None:
        """The selector's partial: this value from each client."""
        update = ({"w": np.full(3, value, np.float32)}, 1)
        reference: PartialReference = await asyncio.to_thread(
            hand_in, self.directory, NORTH, dict.fromkeys(client_ids, update), order.round_id
        )
        await self.driver.post(PartialSubmitted(NORTH, order.round_id, reference))

    async def round_of(self, *client_ids: str, value: float = 1.0) -> pb.ConfigureRound:
        """Play a whole round up to the partial."""
        order = await self.configured(*client_ids)
        await self.fold(order, *client_ids)
        await self.command("close_reporting")
        await self.hand_in(order, *client_ids, value=value)
        return order

    async def over(self, session: SessionHandle) -> None:
        """Wait for the end of a session."""
        await within(session.over.wait())

    def in_phase(self, phase: Phase) -> bool:
        """Say whether the round is there."""
        return self.driver.round is not None and self.driver.round.phase is phase

    def checkpoint(self) -> list[float]:
        """The current global weights."""
        values: list[float] = read_weights(self.directory.checkpoint)["w"].tolist()
        return values


@asynccontextmanager
async def a_desk(
    shared_data: Path, *, last_round_number: int = 0, push: Push | None = None, epoch: int = 1
) -> AsyncIterator[Desk]:
    """Run a driver, and tell webservers of it; a failure of the driver fails the test."""
    directory = SharedDirectory(shared_data)
    if not directory.checkpoint.exists():
        directory = a_shared_directory(shared_data, {"w": np.zeros(3, np.float32)})
    committer = Committer(directory, history_keep=5)
    folder = directory.coordinator
    folder.mkdir(exist_ok=True)
    memory, announcer = take_up(
        folder,
        last_round_number,
        push or Push(),
        epoch=epoch,
        federation_id=federation_id_in(folder),
    )
    driver = Driver(
        committer,
        memory,
        Clock(),
        held_max=100,
        retry_window=RetryWindow(1.0, 5.0),
        audience=() if announcer is None else (announcer,),
    )
    if announcer is not None:
        announcer.start(driver)
    running = asyncio.create_task(driver.run())
    link = Link(NORTH, "north.example:50051")
    driver.links.attach(link)
    await within(driver.ready.wait())
    await driver.post(SelectorAttached(NORTH))
    try:
        yield Desk(driver, directory, link, announcer)
    finally:
        running.cancel()
        [ended] = await asyncio.gather(running, return_exceptions=True)
        if announcer is not None:
            await announcer.stop()
        committer.shut_down()
        memory.shut_down()
    assert isinstance(ended, asyncio.CancelledError), ended


# -- Rounds -----------------------------------------------------------------------------------


async def test_round_commits_and_the_next_one_starts_from_its_checkpoint(tmp_path: Path) -> None:
    """From check-in to the current checkpoint, twice."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(2, goal_count=2)

        first = await desk.round_of("ann", "ben", value=2.0)
        await desk.command("end_round")
        second = await desk.round_of("ann", "ben", value=5.0)
        await desk.over(session)

        assert [outcome.outcome for outcome in desk.outcomes] == [Outcome.COMMITTED] * 2
        assert second.base_digest == desk.outcomes[0].checkpoint_digest != first.base_digest
        assert first.round_id != second.round_id
        assert desk.checkpoint() == [5.0] * 3
        assert desk.directory.current_round_number() == 2


async def test_deadline_ends_a_round_without_any_event(tmp_path: Path) -> None:
    """Deadlines are timers of the driver, not side effects of a request."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(3, goal_count=1, selection_timeout_s=0.01)

        await desk.over(session)

        assert [outcome.reason for outcome in desk.outcomes] == ["too-few-clients"] * 3
        assert [outcome.round_number for outcome in desk.outcomes] == [1, 2, 3]


async def test_deadline_that_is_due_is_handled_before_queued_events(tmp_path: Path) -> None:
    """A client whose check-in waited in the queue beyond the end of Selection joins late."""
    async with a_desk(tmp_path) as desk:
        await desk.start(goal_count=2, selection_timeout_s=0.05)
        await desk.check_in("ann")
        await desk.command("admit_clients")
        round_ = desk.driver.round
        assert round_ is not None

        while desk.driver.clock.now_s() < round_.phase_deadline_s:
            pass  # keeps the loop busy until the deadline has passed
        desk.driver._events.put_nowait(CheckedIn(NORTH, ("ben",)))
        orders = [await desk.command("configure_round") for _ in range(2)]

        assert [list(order.client_ids) for order in orders] == [["ann"], ["ben"]]


async def test_numbers_go_on_after_the_highest_that_is_known(tmp_path: Path) -> None:
    """No round number repeats, whatever the outcome."""
    async with a_desk(tmp_path, last_round_number=41) as desk:
        session = await desk.start(2, goal_count=1, selection_timeout_s=0.01)

        await desk.over(session)

        assert [outcome.round_number for outcome in desk.outcomes] == [42, 43]


async def test_clients_that_came_between_rounds_are_admitted_first(tmp_path: Path) -> None:
    """First come, first served."""
    async with a_desk(tmp_path) as desk:
        await desk.check_in("ann", "ben")
        await eventually(lambda: len(desk.driver.lobby.waiting) == 2)

        await desk.start(goal_count=2)
        order = await desk.command("configure_round")

        assert list(order.client_ids) == ["ann", "ben"]


# -- Sessions ---------------------------------------------------------------------------------


async def test_second_session_while_one_runs_is_refused(tmp_path: Path) -> None:
    """One at a time; the running one goes on."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(goal_count=1)

        with pytest.raises(SessionRefused) as refused:
            await desk.start(goal_count=1)

        assert refused.value.reason == "session-running"
        assert desk.driver.session is session


async def test_second_session_after_the_first_goes_on_with_its_numbers(tmp_path: Path) -> None:
    """And has another id."""
    async with a_desk(tmp_path) as desk:
        first = await desk.start(goal_count=1, selection_timeout_s=0.01)
        await desk.over(first)

        second = await desk.start(goal_count=1, selection_timeout_s=0.01)
        await desk.over(second)

        assert first.session_id != second.session_id
        assert [outcome.round_number for outcome in desk.outcomes] == [1, 2]


async def test_session_ends_clients_that_wait_hear_so(tmp_path: Path) -> None:
    """A client with ``--rounds`` then exits."""
    async with a_desk(tmp_path) as desk:
        await desk.check_in("ann")
        await eventually(lambda: desk.driver.lobby.waiting)

        await desk.start(goal_count=2, min_reports=2, selection_timeout_s=0.01)
        declined = await desk.command("decline_clients")

        assert (list(declined.client_ids), declined.reason) == (["ann"], "session-over")


# -- Commits ----------------------------------------------------------------------------------


async def test_checkpoint_that_cannot_be_written_abandons_the_round_with_its_reason(
    tmp_path: Path,
) -> None:
    """The disk's word; the current checkpoint stays, and the next round may commit."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(2, goal_count=1)
        full = StoreError("no space left", reason="disk-full")

        with patch("coordinator.committer.merge", side_effect=full):
            await desk.round_of("ann")
            end = await desk.command("end_round")
        await desk.round_of("ann", value=3.0)
        await desk.over(session)

        assert (end.committed, end.reason) == (False, "disk-full")
        assert [outcome.reason for outcome in desk.outcomes] == ["disk-full", ""]
        assert desk.outcomes[0].checkpoint_digest == ""
        assert desk.checkpoint() == [3.0] * 3


async def test_partial_that_changed_after_it_was_kept_abandons_the_round(tmp_path: Path) -> None:
    """Never averaged; the checkpoint stays whole."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(goal_count=1)
        order = await desk.configured("ann")
        await desk.fold(order, "ann")
        await desk.command("close_reporting")
        await asyncio.to_thread(hand_in, desk.directory, NORTH, {"ann": ONES}, order.round_id)
        other = PartialReference("00" * 32, 1, 1, ("ann",))
        await desk.driver.post(PartialSubmitted(NORTH, order.round_id, other))
        await desk.over(session)

        assert desk.outcomes[0].reason == "partial-changed"
        assert desk.checkpoint() == [0.0] * 3


async def test_write_that_takes_too_long_is_dropped_and_never_published(tmp_path: Path) -> None:
    """Only step (a) may time out; what it still writes belongs to no round.

    Elsewhere: a time-out of a deployment was counted as its success.
    """
    go_on = threading.Event()

    def slowly(*arguments: Any) -> Any:
        go_on.wait(60.0)
        return merge(*arguments)

    async with a_desk(tmp_path) as desk:
        session = await desk.start(2, goal_count=1, commit_timeout_s=0.05)

        def be_patient(outcome: RoundOutcome) -> None:
            desk.outcomes.append(outcome)
            ledger = desk.driver.ledger
            assert ledger.session is not None
            patient = dataclasses.replace(ledger.session, plan=RoundPlan(goal_count=1, **TIMES))
            desk.driver.ledger = dataclasses.replace(ledger, session=patient)

        session.on_outcome = be_patient
        with patch("coordinator.committer.merge", slowly):
            await desk.round_of("ann", value=7.0)
            await eventually(lambda: desk.outcomes)
        await desk.round_of("ann", value=3.0)
        go_on.set()
        await desk.over(session)

        assert desk.outcomes[0].reason == "commit-timeout"
        await eventually(lambda: not list(desk.directory.history.glob(".tmp-*")))
        assert desk.directory.manifest(1) is None


async def test_round_is_dropped_before_its_write_began_nothing_is_written(tmp_path: Path) -> None:
    """The stop and the last partial may wait in the queue together: no task runs in between."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(2, goal_count=1)
        order = await desk.configured("ann")
        await desk.fold(order, "ann")
        await desk.command("close_reporting")
        reference = await asyncio.to_thread(
            hand_in, desk.directory, NORTH, {"ann": ONES}, order.round_id
        )

        desk.driver._events.put_nowait(PartialSubmitted(NORTH, order.round_id, reference))
        desk.driver._events.put_nowait(Stopped("operator"))
        await eventually(lambda: desk.outcomes)
        await desk.round_of("ann", value=3.0)
        await desk.over(session)

        assert [outcome.reason for outcome in desk.outcomes] == ["operator", ""]
        assert desk.directory.manifest(1) is None
        assert desk.checkpoint() == [3.0] * 3
        await eventually(lambda: not list(desk.directory.history.glob(".tmp-*")))


async def test_checkpoint_that_cannot_be_made_current_is_tried_again_before_the_next_round(
    tmp_path: Path,
) -> None:
    """The commit point is passed: no Configure before step (c) is done."""
    make_current = SharedDirectory.make_current
    failures = [StoreError("no", reason="disk-full"), StoreError("no", reason="disk-full")]

    def at_last(self: SharedDirectory, round_number: int) -> None:
        if failures:
            raise failures.pop()
        make_current(self, round_number)

    async with a_desk(tmp_path) as desk:
        session = await desk.start(2, goal_count=1)
        with (
            patch.object(SharedDirectory, "make_current", at_last),
            patch("coordinator.durability.STORAGE_RETRY_S", 0.0),
        ):
            await desk.round_of("ann", value=4.0)
            await desk.command("end_round")
            await desk.check_in("ann")
            order = await desk.command("configure_round")

        assert failures == []
        assert order.base_digest == desk.outcomes[0].checkpoint_digest
        assert desk.checkpoint() == [4.0] * 3
        assert not session.over.is_set()


async def test_commit_that_fails_abandons_the_round(tmp_path: Path) -> None:
    """The rename was refused: the history decides, and the next round goes on from the old one."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(goal_count=1)
        exists = StoreError("there already", reason="round-exists")

        with patch.object(SharedDirectory, "publish", side_effect=exists):
            await desk.round_of("ann")
            await desk.over(session)

        assert desk.outcomes[0].reason == "round-exists"
        assert desk.checkpoint() == [0.0] * 3


async def test_partial_that_is_told_again_after_the_round_gets_its_answer(tmp_path: Path) -> None:
    """The selector was away when it was settled."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(goal_count=1)
        order = await desk.round_of("ann")
        await desk.command("settle_partial")
        await desk.over(session)

        await desk.driver.post(
            PartialSubmitted(NORTH, order.round_id, PartialReference("", 0, 0, ()))
        )

        settled = await desk.command("settle_partial")
        assert (settled.round_id, settled.kept) == (order.round_id, False)


# -- Draining ---------------------------------------------------------------------------------


async def test_drain_in_selection_ends_the_round_at_once(tmp_path: Path) -> None:
    """Nobody trains yet; held clients are told when to come back."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(5, goal_count=2)
        await desk.check_in("ann")
        await desk.command("admit_clients")

        await within(desk.driver.sessions.drain(60.0))
        declined = await desk.command("decline_clients")

        assert not session.over.is_set()
        assert (session.completed, session.stopping) == (0, True)
        assert [outcome.reason for outcome in desk.outcomes] == ["draining"]
        assert (list(declined.client_ids), declined.reason) == (["ann"], "draining")


async def test_drain_lets_the_running_round_end_and_starts_no_other(tmp_path: Path) -> None:
    """Within ``drain_s``."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(5, goal_count=1)
        order = await desk.configured("ann")

        draining = asyncio.create_task(desk.driver.sessions.drain(60.0))
        await eventually(lambda: session.stopping)
        await desk.fold(order, "ann")
        await desk.command("close_reporting")
        await desk.hand_in(order, "ann")
        await within(draining)

        assert [outcome.committed for outcome in desk.outcomes] == [True]
        assert desk.checkpoint() == [1.0] * 3


async def test_drain_takes_too_long_the_round_is_left_to_the_next_start(tmp_path: Path) -> None:
    """Nobody loses what was trained: the same round goes on."""
    async with a_desk(tmp_path) as desk:
        await desk.start(2, goal_count=1)
        order = await desk.configured("ann")
        await within(desk.driver.sessions.drain(0.01))
        assert desk.outcomes == []

    async with a_desk(tmp_path) as desk:
        await desk.fold(order, "ann")
        await desk.command("close_reporting")
        await desk.hand_in(order, "ann", value=2.0)
        await eventually(lambda: desk.driver.rounds)

        assert desk.driver.rounds[0].round_id == order.round_id
        assert desk.checkpoint() == [2.0] * 3


async def test_drain_ends_though_the_disk_does_not_answer(tmp_path: Path) -> None:
    """A committed checkpoint that cannot be made current is left to the next start."""
    full = StoreError("no", reason="disk-full")
    async with a_desk(tmp_path) as desk:
        await desk.start(5, goal_count=1)
        with (
            patch.object(SharedDirectory, "make_current", side_effect=full),
            patch("coordinator.sessions.COMMIT_WAIT_S", 0.01),
        ):
            await desk.round_of("ann")
            await eventually(lambda: desk.directory.manifest(1))

            await within(desk.driver.sessions.drain(0.01))

        assert desk.outcomes == []


async def test_drain_without_a_session_is_done(tmp_path: Path) -> None:
    """There is nothing to wait for."""
    async with a_desk(tmp_path) as desk:
        await within(desk.driver.sessions.drain(60.0))


# -- What watches -----------------------------------------------------------------------------


async def test_changes_are_seen_now_and_after_each_event(tmp_path: Path) -> None:
    """Those who watch need not ask."""
    async with a_desk(tmp_path) as desk:
        changes = desk.driver.changes(0.0)
        await within(anext(changes))

        waiting = asyncio.ensure_future(anext(changes))
        await desk.check_in("ann")

        await within(waiting)
        assert "ann" in desk.driver.lobby.waiting


async def test_checkpoint_that_cannot_be_read_is_said_at_the_start(tmp_path: Path) -> None:
    """Before anybody attaches."""
    directory = a_shared_directory(tmp_path, {"w": np.zeros(3, np.float32)})
    directory.checkpoint.write_bytes(b"not HDF5")
    committer = Committer(directory, history_keep=1)
    memory = Memory(directory.coordinator)
    driver = Driver(committer, memory, Clock(), held_max=1, retry_window=RetryWindow(1.0, 5.0))

    with pytest.raises(StoreError):
        await within(driver.prepare())

    committer.shut_down()
