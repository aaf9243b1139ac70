"""The updates to one webserver: in order, whatever it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from unittest.mock import patch

import pytest

from coordinator.outbox import Letter
from coordinator.sender import BACKOFF_MAX_S, Sender
from coordinator.webhook import Answer, Verdict
from federation.errors import StoreError
from tests.waiting import eventually

TAKEN = Answer(Verdict.TAKEN)
LATER = Answer(Verdict.LATER, "connection refused")
REFUSED = Answer(Verdict.REFUSED, "400 what is this")


def stage(number: int) -> Letter:
    """Tell of a stage."""
    return Letter(number, 1.0, f"{number:012}.000000.000000", b"stage %d" % number, number)


def progress(stage: int, turn: int) -> Letter:
    """Tell of progress."""
    return Letter(stage, 1.0, f"{stage:012}.000001.{turn:06}", b"progress %d.%d" % (stage, turn))


class Desk:
    """A sender, its mailbox in memory, and a webserver that answers as it is told."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []
        self.position = 0
        self.asked: list[bytes] = []
        self.taken: list[bytes] = []
        self.pauses: list[tuple[float, float]] = []
        self.answer: Callable[[bytes], Answer] = lambda body: TAKEN
        self.broken = 0
        self.sender = Sender("http://far.example/", self, self.post, draw=self.draw)

    async def waiting(self, count_max: int, bytes_max: int) -> list[Letter]:
        if self.broken:
            self.broken -= 1
            raise StoreError("the disk refuses", reason="io-error")
        return [letter for letter in self.letters if letter.position > self.position][:count_max]

    async def delivered(self, position: int) -> None:
        self.position = position

    async def post(self, url: str, body: bytes) -> Answer:
        await asyncio.sleep(0)
        self.asked.append(body)
        answer = self.answer(body)
        if answer.verdict is Verdict.TAKEN:
            self.taken.append(body)
        return answer

    def draw(self, least_s: float, most_s: float) -> float:
        self.pauses.append((least_s, most_s))
        return 0.0

    def put(self, *numbers: int) -> None:
        self.letters += map(stage, numbers)
        self.sender.look()


@asynccontextmanager
async def a_desk() -> AsyncIterator[Desk]:
    """Run a sender."""
    desk = Desk()
    running = asyncio.create_task(desk.sender.run())
    try:
        yield desk
    finally:
        running.cancel()
        [ended] = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), ended


def failing(times: int, how: Answer = LATER) -> Callable[[bytes], Answer]:
    """Answer so many times like this, and then take everything."""
    answers = iter([how] * times)
    return lambda body: next(answers, TAKEN)


async def test_stages_come_they_are_sent_in_order_each_once() -> None:
    """Those before it first."""
    async with a_desk() as desk:
        desk.put(1, 2)
        await eventually(lambda: desk.position == 2)
        desk.put(3)
        await eventually(lambda: desk.position == 3)

    assert desk.asked == [b"stage 1", b"stage 2", b"stage 3"]
    assert desk.sender.tally.delivered == 3


async def test_webserver_is_down_the_same_stage_is_tried_until_it_is_taken() -> None:
    """Nothing overtakes it, and the pauses grow to a limit."""
    async with a_desk() as desk:
        desk.answer = failing(10)
        desk.put(1, 2)
        await eventually(lambda: desk.position == 2)

    assert desk.asked == [b"stage 1"] * 11 + [b"stage 2"]
    assert [most_s for _, most_s in desk.pauses[:4]] == [0.25, 0.5, 1.0, 2.0]
    assert desk.pauses[-1] == (BACKOFF_MAX_S / 2, BACKOFF_MAX_S)
    assert (desk.sender.tally.failed, desk.sender.failing) == (10, False)


async def test_webserver_was_back_the_next_pause_is_short_again() -> None:
    """An outage does not make the following one worse."""
    async with a_desk() as desk:
        desk.answer = failing(5)
        desk.put(1)
        await eventually(lambda: desk.position == 1)
        desk.answer = failing(1)
        desk.put(2)
        await eventually(lambda: desk.position == 2)

    assert desk.pauses[-1][1] == desk.pauses[0][1]


async def test_webserver_refuses_one_stage_it_is_left_out_and_the_next_is_sent() -> None:
    """What it cannot read today it cannot read tomorrow."""
    async with a_desk() as desk:
        desk.answer = lambda body: REFUSED if body == b"stage 1" else TAKEN
        desk.put(1, 2)
        await eventually(lambda: desk.position == 2)

    assert desk.asked == [b"stage 1", b"stage 2"]
    assert (desk.sender.tally.refused, desk.sender.tally.delivered) == (1, 1)


async def test_progress_is_offered_while_stages_wait_they_go_first_and_it_is_the_newest() -> None:
    """Progress that is out of date by then is not sent at all."""
    async with a_desk() as desk:
        desk.answer = failing(3)
        desk.put(1)
        desk.sender.offer(progress(1, 1))
        desk.sender.offer(progress(1, 2))
        await eventually(lambda: b"progress 1.2" in desk.taken)

    assert desk.taken == [b"stage 1", b"progress 1.2"]


async def test_progress_is_older_than_the_last_stage_it_is_dropped() -> None:
    """A webserver would refuse it as out of order."""
    async with a_desk() as desk:
        desk.put(1, 2)
        await eventually(lambda: desk.position == 2)
        desk.sender.offer(progress(1, 9))
        await asyncio.sleep(0)
        desk.sender.offer(progress(2, 1))
        await eventually(lambda: b"progress 2.1" in desk.taken)

    assert desk.taken == [b"stage 1", b"stage 2", b"progress 2.1"]


async def test_progress_fails_a_stage_that_came_meanwhile_is_sent_instead() -> None:
    """What is not lasting is not tried again."""
    async with a_desk() as desk:
        desk.put(1)
        await eventually(lambda: desk.position == 1)
        desk.answer = failing(1)
        desk.sender.offer(progress(1, 1))
        await eventually(lambda: desk.sender.tally.failed)
        desk.put(2)
        await eventually(lambda: desk.position == 2)

    assert desk.taken == [b"stage 1", b"stage 2"]


async def test_outbox_cannot_be_read_it_is_tried_again() -> None:
    """A disk that refuses delays what is told, and loses nothing."""
    with patch("coordinator.sender.BACKOFF_MIN_S", 0.001):
        async with a_desk() as desk:
            desk.broken = 3
            desk.put(1)
            await eventually(lambda: desk.position == 1)

    assert desk.taken == [b"stage 1"]


async def test_process_ends_amid_a_batch_what_was_delivered_is_noted() -> None:
    """The next process begins with the first that was not."""
    stuck = asyncio.Event()
    async with a_desk() as desk:
        desk.answer = failing(0)
        post = desk.post

        async def stuck_at_three(url: str, body: bytes) -> Answer:
            if body == b"stage 3":
                stuck.set()
                await asyncio.Event().wait()
            return await post(url, body)

        with patch.object(desk.sender, "_post", stuck_at_three):
            desk.put(1, 2, 3)
            await stuck.wait()

    assert desk.position == 2


@pytest.mark.parametrize("answers", [TAKEN, LATER])
async def test_end_is_near_it_waits_until_all_is_delivered_or_a_try_failed(answers: Answer) -> None:
    """Not for a webserver that is down."""
    async with a_desk() as desk:
        desk.answer = lambda body: answers
        desk.put(1)
        async with asyncio.timeout(5.0):
            await desk.sender.rests()

    assert desk.asked[0] == b"stage 1"
