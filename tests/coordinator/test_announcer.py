"""Webservers are told of every stage, once and in order, whatever breaks; and no round waits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from coordinator.driver import Driver
from coordinator.journal import Journal
from coordinator.outbox import Outbox
from coordinator.takeover import federation_id_in
from coordinator.webhook import Push
from federation.errors import StoreError
from federation.phases import Phase
from tests.coordinator.test_driver import Desk
from tests.coordinator.test_driver import a_desk as a_driver
from tests.receivers import HOST, TAKEN, Receiver, a_receiver, answer
from tests.waiting import eventually

FULL = StoreError("no space left", reason="disk-full")
ROUND = ["selection", "configuration", "reporting", "completed"]

epochs = itertools.count(1)


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    """Who is not reached is tried again soon."""
    with (
        patch("coordinator.sender.BACKOFF_MIN_S", 0.01),
        patch("coordinator.sender.BACKOFF_MAX_S", 0.02),
        patch("coordinator.announcer.SAVE_RETRY_S", 0.01),
    ):
        yield


@asynccontextmanager
async def a_desk(folder: Path, *urls: str, secret: str = "") -> AsyncIterator[Desk]:
    """Run the next coordinator on this directory, which tells these webservers."""
    async with a_driver(folder, push=Push(urls, secret), epoch=next(epochs)) as desk:
        yield desk


async def rounds(desk: Desk, count: int) -> None:
    """Run a session of so many rounds."""
    session = await desk.start(count, goal_count=1)
    for _ in range(count):
        await desk.round_of("ann")
        await desk.command("end_round")
    await desk.over(session)


def numbers(receiver: Receiver) -> list[int]:
    """Return the numbers of the stages that were taken, as they came."""
    return [number for number, _ in receiver.stages()]


def in_order(receiver: Receiver) -> bool:
    """Say whether the sequence of what was taken rises, whatever it is about."""
    sequences = [update["sequence"] for update in receiver.taken]
    return sequences == sorted(set(sequences))


async def test_round_is_run_each_stage_is_told_once_and_in_order(tmp_path: Path) -> None:
    """With what there was to see as it began."""
    async with a_receiver() as receiver, a_desk(tmp_path, receiver.url) as desk:
        await rounds(desk, 1)
        await eventually(lambda: len(receiver.stages()) == 4)

        stages = [u for u in receiver.taken if u["type"] == "headwater.round.stage"]

    assert receiver.stages() == list(enumerate(ROUND, 1))
    assert in_order(receiver)
    assert {update["source"] for update in receiver.taken} == {
        f"urn:headwater:{federation_id_in(desk.directory.coordinator)}"
    }
    assert [update["subject"] for update in stages] == ["round/1"] * 4
    done = stages[-1]["data"]
    assert (done["round"]["outcome"], done["round"]["counts"]["reported"]) == ("committed", 1)
    assert done["session"]["rounds_completed"] == 1
    assert done["selectors"][0]["selector_id"] == "north"


async def test_session_starts_stops_and_ends_each_change_is_told(tmp_path: Path) -> None:
    """Also those between which no stage lies."""
    async with a_receiver() as receiver, a_desk(tmp_path, receiver.url) as desk:
        session = await desk.start(3, goal_count=1)
        await eventually(lambda: desk.in_phase(Phase.SELECTION))
        await desk.driver.sessions.stop(after_round=False)
        await desk.over(session)

        def changes() -> list[Any]:
            told = [u for u in receiver.taken if u["type"] == "headwater.session.changed"]
            return [
                (u["data"]["session"]["running"], u["data"]["session"]["stopping"]) for u in told
            ]

        await eventually(lambda: len(changes()) == 3)

    assert changes() == [(True, False), (True, True), (False, True)]


async def test_round_goes_on_between_stages_progress_is_told(tmp_path: Path) -> None:
    """Coalesced, and complete at its moment."""
    with patch("coordinator.announcer.PROGRESS_PAUSE_S", 0.01):
        async with a_receiver() as receiver, a_desk(tmp_path, receiver.url) as desk:
            await desk.start(1, goal_count=3)
            await desk.check_in("ann", "ben")

            def admitted() -> list[int]:
                told = [u for u in receiver.taken if u["type"] == "headwater.round.progress"]
                shown = [u["data"]["round"] for u in told if u["data"]["round"]]
                return [round_["counts"]["admitted"] for round_ in shown]

            await eventually(lambda: 2 in admitted())

    assert in_order(receiver)


async def test_nothing_happens_for_long_a_sign_of_life_is_sent(tmp_path: Path) -> None:
    """Who hears nothing knows that something is wrong."""
    with patch("coordinator.announcer.HEARTBEAT_S", 0.02):
        async with a_receiver() as receiver, a_desk(tmp_path, receiver.url):
            await eventually(lambda: len(receiver.taken) > 3)

    assert {update["type"] for update in receiver.taken} == {"headwater.round.progress"}
    assert in_order(receiver)


async def test_webserver_is_down_for_rounds_and_restarts_all_stages_arrive_once_in_order(
    tmp_path: Path,
) -> None:
    """Rounds go on without it, and over two restarts of the coordinator nothing is lost."""
    async with a_receiver() as receiver:
        receiver.answers = lambda update: answer(503)
        async with a_desk(tmp_path, receiver.url) as desk:
            await rounds(desk, 1)
    for _ in range(2):
        async with a_desk(tmp_path, receiver.url) as desk:
            await rounds(desk, 1)
    receiver.answers = lambda update: TAKEN
    async with a_desk(tmp_path, receiver.url) as desk, a_receiver(receiver):
        await rounds(desk, 1)
        await eventually(lambda: len(receiver.stages()) >= 16)

    assert receiver.stages() == list(enumerate(ROUND * 4, 1))
    assert in_order(receiver)


async def test_webserver_never_answers_rounds_are_not_delayed(tmp_path: Path) -> None:
    """Slow is no worse than down.

    Elsewhere: a prototype pushed its status from within the round, and stood still while the
    webserver was down.
    """
    async with a_receiver() as receiver, a_desk(tmp_path, receiver.url) as desk:
        receiver.answers = lambda update: None
        async with asyncio.timeout(10.0):
            await rounds(desk, 2)

    assert len(desk.outcomes) == 2


async def test_one_of_two_webservers_is_down_the_other_is_told_at_once(tmp_path: Path) -> None:
    """Each has a sender of its own."""
    async with a_receiver() as down:
        pass
    async with a_receiver() as up, a_desk(tmp_path, down.url, up.url) as desk:
        await rounds(desk, 1)
        await eventually(lambda: len(up.stages()) == 4)

    assert numbers(up) == [1, 2, 3, 4]


async def test_webserver_refuses_a_stage_the_others_arrive(tmp_path: Path) -> None:
    """A receiver that cannot read one update is not stuck with it."""
    async with a_receiver() as receiver, a_desk(tmp_path, receiver.url) as desk:
        receiver.answers = lambda update: answer(422, "no") if update["id"] == "2" else TAKEN
        await rounds(desk, 1)
        await eventually(lambda: 4 in numbers(receiver))

    assert numbers(receiver) == [1, 3, 4]


async def test_coordinator_ends_the_last_stages_are_still_delivered(tmp_path: Path) -> None:
    """A session's end is not left to the next start."""
    async with a_receiver() as receiver:
        async with a_desk(tmp_path, receiver.url) as desk:
            await rounds(desk, 1)

        assert numbers(receiver) == [1, 2, 3, 4]
        assert receiver.taken[-1]["data"]["session"]["running"] is False


async def test_process_dies_before_the_outbox_has_a_stage_the_journal_tells_it(
    tmp_path: Path,
) -> None:
    """Also when a new generation of the journal began meanwhile, and for the session's end."""
    async with a_receiver() as receiver:
        with patch.object(Outbox, "put", side_effect=FULL):
            async with a_desk(tmp_path, receiver.url) as desk:
                await rounds(desk, 1)
                await desk.driver.memory.renew(desk.driver.ledger, desk.driver.clock.now_s())
                await rounds(desk, 1)
        assert receiver.stages() == []

        async with a_desk(tmp_path, receiver.url) as desk:
            await eventually(lambda: len(receiver.stages()) == 8)
            folder = desk.directory.coordinator / "journal"
            await desk.driver.memory.renew(desk.driver.ledger, desk.driver.clock.now_s())
            assert len(list(folder.iterdir())) == 1

    assert receiver.stages() == list(enumerate(ROUND * 2, 1))
    ends = [u for u in receiver.taken if u["type"] == "headwater.session.changed"]
    assert ends[-1]["data"]["session"]["running"] is False
    assert in_order(receiver)


async def test_disk_refuses_the_outbox_rounds_go_on_and_all_is_told_later(tmp_path: Path) -> None:
    """Kept in memory meanwhile."""
    async with a_receiver() as receiver, a_desk(tmp_path, receiver.url) as desk:
        with patch.object(Outbox, "put", side_effect=FULL):
            await rounds(desk, 2)
        await eventually(lambda: len(receiver.stages()) == 8)

    assert numbers(receiver) == list(range(1, 9))
    assert [outcome.committed for outcome in desk.outcomes] == [True, True]


async def test_disk_refuses_for_too_long_memory_keeps_the_newest(tmp_path: Path) -> None:
    """What is kept in memory has a limit."""
    with patch("coordinator.announcer.UNSAVED_MAX", 5):
        async with a_receiver() as receiver, a_desk(tmp_path, receiver.url) as desk:
            with patch.object(Outbox, "put", side_effect=FULL):
                await rounds(desk, 2)
            await eventually(lambda: 8 in numbers(receiver))
            assert desk.announcer is not None
            assert desk.announcer.dropped > 0

    assert len(numbers(receiver)) < 8
    assert in_order(receiver)


async def test_announcer_has_a_bug_rounds_go_on_and_it_begins_anew(tmp_path: Path) -> None:
    """What nobody thought of must not end a round."""
    changes = Driver.changes
    bugs = iter([RuntimeError("nobody thought of it")] * 2)

    def with_a_bug(self: Driver, pause_s: float) -> AsyncIterator[None]:
        for bug in bugs:
            raise bug
        return changes(self, pause_s)

    with patch.object(Driver, "changes", with_a_bug):
        async with a_receiver() as receiver, a_desk(tmp_path, receiver.url) as desk:
            await rounds(desk, 1)
            await eventually(lambda: len(receiver.stages()) == 4)


async def test_webservers_are_named_later_they_hear_from_then_on(tmp_path: Path) -> None:
    """Numbers go on, and what nobody was to hear stays untold; the session is told of."""
    async with a_desk(tmp_path) as desk:
        await rounds(desk, 1)
    async with a_receiver() as receiver, a_desk(tmp_path, receiver.url) as desk:
        await rounds(desk, 1)
        await eventually(lambda: len(receiver.stages()) == 4)

    assert numbers(receiver) == [5, 6, 7, 8]
    assert receiver.taken[0]["type"] == "headwater.session.changed"


@pytest.mark.parametrize("what", ["damaged", "deleted"])
async def test_journal_is_lost_no_stage_has_the_number_of_an_earlier_one(
    tmp_path: Path, what: str
) -> None:
    """A webserver would take it for a repeated one, and drop it."""
    async with a_receiver() as receiver:
        async with a_desk(tmp_path, receiver.url) as desk:
            await rounds(desk, 1)
            await eventually(lambda: len(receiver.stages()) == 4)
        [generation] = (desk.directory.coordinator / "journal").glob("*.jsonl")
        if what == "damaged":
            generation.write_bytes(b"no journal")
        else:
            generation.unlink()
        (desk.directory.coordinator / "outbox.sqlite").unlink()
        async with a_desk(tmp_path, receiver.url) as desk:
            await rounds(desk, 1)
            await eventually(lambda: len(receiver.stages()) == 8)

    assert numbers(receiver) == sorted(set(numbers(receiver)))
    assert in_order(receiver)


async def test_federation_goes_on_it_keeps_its_name(tmp_path: Path) -> None:
    """Sixteen hexadecimal digits that no other federation has."""
    first = federation_id_in(tmp_path)

    assert federation_id_in(tmp_path) == first
    assert len(bytes.fromhex(first)) == 8


async def test_journal_grows_while_stages_are_untold_the_generations_are_kept(
    tmp_path: Path,
) -> None:
    """And go when the stages in them are told."""
    async with a_receiver() as receiver:
        with patch("coordinator.journal.GENERATION_LINES_MAX", 3):
            with patch.object(Outbox, "put", side_effect=FULL):
                async with a_desk(tmp_path, f"http://{HOST}:{receiver.port}/") as desk:
                    await rounds(desk, 2)
                    folder = desk.directory.coordinator / "journal"
                    assert len(list(folder.glob("*.jsonl"))) > 2
            assert len(Journal(folder).recover(0).untold) == 8
