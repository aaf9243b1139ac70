"""A coordinator dies and another begins on its directory: the same session and round go on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from coordinator.committer import Committer
from coordinator.events import CheckedIn, CommitFinished, SelectorAttached
from coordinator.journal import Journal
from coordinator.memory import Memory
from coordinator.records import Records
from federation.errors import StoreError
from federation.phases import Phase
from federation.runtime.store import SharedDirectory
from tests.coordinator.test_driver import NORTH, a_desk
from tests.waiting import eventually, within

FULL = StoreError("no space left", reason="disk-full")


async def test_session_goes_on_after_a_restart_with_what_is_left_of_its_rounds(
    tmp_path: Path,
) -> None:
    """And round numbers rise, also over abandoned rounds."""
    async with a_desk(tmp_path) as desk:
        await desk.start(3, goal_count=1)
        await desk.round_of("ann", value=2.0)
        await desk.command("end_round")
        await eventually(lambda: desk.in_phase(Phase.SELECTION))

    async with a_desk(tmp_path) as desk:
        session = desk.driver.session
        assert session is not None
        assert (session.completed, session.rounds, session.over.is_set()) == (1, 3, False)
        second = await desk.round_of("ann", value=3.0)
        await desk.command("end_round")
        third = await desk.round_of("ann", value=4.0)
        await desk.over(session)

        assert (second.round_number, third.round_number) == (2, 3)
        assert desk.checkpoint() == [4.0] * 3


async def test_round_goes_on_after_a_restart_with_what_was_folded(tmp_path: Path) -> None:
    """The selector says again what it knows; the coordinator had not forgotten."""
    async with a_desk(tmp_path) as desk:
        await desk.start(goal_count=2, min_reports=2)
        order = await desk.configured("ann", "ben")
        await desk.fold(order, "ann")
        await eventually(lambda: desk.driver.round and desk.driver.round.counts.folded == 1)

    async with a_desk(tmp_path) as desk:
        assert desk.driver.round is not None
        assert desk.driver.round.round_id == order.round_id
        assert desk.driver.round.counts.folded == 1
        await desk.fold(order, "ann")
        await desk.fold(order, "ben")
        await desk.command("close_reporting")
        await desk.hand_in(order, "ann", "ben", value=5.0)
        await eventually(lambda: desk.driver.rounds)

        assert desk.driver.rounds[0].counts.reported == 2
        await eventually(lambda: desk.checkpoint() == [5.0] * 3)


@pytest.mark.parametrize("step", ["write", "publish", "make_current"])
async def test_coordinator_dies_in_the_commit_the_next_one_finishes_it(
    tmp_path: Path, step: str
) -> None:
    """Before, at and behind the commit point: the same bytes, once."""
    stuck = asyncio.Event()
    finished: list[Any] = []

    async def never(self: Committer, *arguments: Any) -> Any:
        if step == "publish":  # the rename happened, and nobody heard of it
            await real_publish(self, *arguments)
        finished.append(arguments)
        await stuck.wait()

    real_publish = Committer.publish
    async with a_desk(tmp_path) as desk:
        session = await desk.start(1, goal_count=1)
        with patch.object(Committer, step, never):
            order = await desk.round_of("ann", value=6.0)
            await eventually(lambda: finished)

    SharedDirectory(tmp_path).recover()
    async with a_desk(tmp_path) as desk:
        restarted = desk.driver.session
        assert restarted is not None
        assert restarted.session_id == session.session_id
        await desk.over(restarted)

        assert desk.directory.rounds() == [1]
        manifest = desk.directory.manifest(1)
        assert manifest is not None
        assert manifest["round_id"] == order.round_id
        assert desk.checkpoint() == [6.0] * 3
        assert Records(desk.directory.coordinator / "rounds").numbers(0) == [1]


async def test_session_was_over_a_client_of_it_hears_so_from_the_next_coordinator(
    tmp_path: Path,
) -> None:
    """It exits instead of waiting for a session that does not come."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(goal_count=1, selection_timeout_s=0.01)
        await desk.over(session)

    async with a_desk(tmp_path) as desk:
        await desk.driver.post(CheckedIn(NORTH, ("ann",), (session.session_id,)))
        declined = await desk.command("decline_clients")

        assert declined.reason == "session-over"
        assert desk.driver.session is not None
        assert desk.driver.session.over.is_set()


async def test_journal_is_damaged_the_round_is_abandoned_and_no_number_repeats(
    tmp_path: Path,
) -> None:
    """Never the checkpoint; the journal is kept for people."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(2, goal_count=1)
        await desk.round_of("ann", value=2.0)
        await desk.command("end_round")
        await eventually(lambda: desk.in_phase(Phase.SELECTION))
        assert session.completed == 1
    [generation] = (desk.directory.coordinator / "journal").glob("*.jsonl")
    generation.write_bytes(generation.read_bytes().replace(b"selection", b"selektion"))

    async with a_desk(tmp_path) as desk:
        assert desk.driver.session is None
        assert desk.checkpoint() == [2.0] * 3
        await desk.start(1, goal_count=1)
        order = await desk.configured("ann")

        assert order.round_number == 3
        assert list((desk.directory.coordinator / "journal").glob("*.damaged"))


# -- The disk ---------------------------------------------------------------------------------


async def test_journal_cannot_be_written_the_round_is_abandoned_with_that_reason(
    tmp_path: Path,
) -> None:
    """Durably, from the space that was taken ahead; the next round works when the disk does."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(2, goal_count=1)
        await eventually(lambda: desk.in_phase(Phase.SELECTION))
        append = Journal.append

        def full(self: Journal, happenings: Any, now_s: float, *, is_outcome: bool = False) -> None:
            if not is_outcome:
                raise FULL
            append(self, happenings, now_s, is_outcome=True)

        with (
            patch.object(Journal, "append", full),
            patch.object(Journal, "renew", side_effect=FULL),
        ):
            await desk.check_in("ann")
            await eventually(lambda: desk.outcomes)
            await eventually(lambda: desk.driver.storage_failure)
            failure = desk.driver.storage_failure
            assert desk.driver.ledger.running is None
        await desk.round_of("ann", value=3.0)
        await desk.over(session)

        assert failure == "disk-full"
        assert [outcome.reason for outcome in desk.outcomes] == ["disk-full", ""]
        assert desk.checkpoint() == [3.0] * 3
        assert desk.driver.storage_failure == ""


async def test_outcome_cannot_be_written_nothing_is_said_of_it_until_it_is(tmp_path: Path) -> None:
    """Who was told of it would be told otherwise after a crash."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(1, goal_count=1)
        order = await desk.configured("ann")
        await desk.fold(order, "ann")
        await desk.command("close_reporting")
        with (
            patch("coordinator.durability.STORAGE_RETRY_S", 0.01),
            patch.object(Journal, "append", side_effect=FULL),
            patch.object(Journal, "renew", side_effect=FULL) as renewed,
        ):
            await desk.driver.post(SelectorAttached(NORTH))
            await eventually(lambda: renewed.call_count > 3)
            assert desk.driver.ledger.running is not None
            assert desk.outcomes == []
        await within(session.over.wait())

        assert [outcome.reason for outcome in desk.outcomes] == ["disk-full"]


async def test_burst_of_check_ins_becomes_durable_in_few_steps(tmp_path: Path) -> None:
    """Groups, not thousands of syncs."""
    async with a_desk(tmp_path) as desk:
        await desk.start(goal_count=6_000)
        await eventually(lambda: desk.in_phase(Phase.SELECTION))
        appends = 0
        append = Memory.append

        async def counting(self: Memory, *arguments: Any, **more: Any) -> None:
            nonlocal appends
            appends += 1
            await append(self, *arguments, **more)

        with patch.object(Memory, "append", counting):
            for number in range(5_000):
                await desk.driver.post(CheckedIn(NORTH, (f"client-{number}",)))
            await eventually(
                lambda: desk.driver.round and desk.driver.round.counts.admitted == 5_000
            )

        assert appends < 50


async def test_commit_finished_with_much_else_it_is_written_alone(tmp_path: Path) -> None:
    """The space that was taken for an outcome holds no crowd."""
    async with a_desk(tmp_path) as desk:
        session = await desk.start(goal_count=1)
        groups: list[list[str]] = []
        append = Memory.append

        async def noting(self: Memory, happenings: Any, *arguments: Any, **more: Any) -> None:
            groups.append([type(happening).__name__ for happening in happenings])
            await append(self, happenings, *arguments, **more)

        post = desk.driver.post

        async def in_a_crowd(event: Any) -> None:
            if isinstance(event, CommitFinished):
                for number in range(3):
                    await post(CheckedIn(NORTH, (f"before-{number}",)))
                await post(event)
                await post(CheckedIn(NORTH, ("behind",)))
            else:
                await post(event)

        with (
            patch.object(Memory, "append", noting),
            patch.object(desk.driver, "post", in_a_crowd),
        ):
            await desk.round_of("ann")
            await desk.over(session)

        assert ["CommitFinished"] in groups
        assert any("CheckedIn" in group for group in groups)
