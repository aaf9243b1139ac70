"""What a selector says to clients that wait for the end of a session."""

from __future__ import annotations

import asyncio

import pytest

from federation.errors import PeerError
from federation.v1 import coordination_pb2 as pb
from selector import sessions as module
from selector.sessions import Result, Sessions
from tests.waiting import within

RUNS = pb.SessionNews(session_id="first")
OVER = pb.SessionNews(session_id="first", over=True, final_digest="d1")
NEXT = pb.SessionNews(session_id="second")
NONE = pb.SessionNews()


def sessions_after(*news: pb.SessionNews) -> Sessions:
    """What a selector knows that was told this."""
    sessions = Sessions()
    for each in news:
        sessions.learn(each)
    return sessions


@pytest.mark.parametrize(
    ("news", "asked", "answer"),
    [
        ([RUNS], "first", Result("first", running=True)),
        ([RUNS], "", Result("first", running=True)),
        ([OVER], "first", Result("first", running=False, digest="d1")),
        ([OVER], "", Result("first", running=False, digest="d1")),
        ([OVER, NEXT], "first", Result("first", running=False, digest="d1")),
        ([OVER, NEXT], "", Result("second", running=True)),
        ([OVER, NONE], "first", Result("first", running=False, digest="d1")),
        ([RUNS, NONE], "first", Result("", running=False)),
        ([NONE], "first", Result("", running=False)),
        ([NONE], "", Result("", running=False)),
    ],
)
async def test_answer_is_as_the_table_says(
    news: list[pb.SessionNews], asked: str, answer: Result
) -> None:
    """One line of the module's table each."""
    assert await sessions_after(*news).result(asked, wait_s=0.0) == answer


@pytest.mark.parametrize("news", [[NEXT], [RUNS, NEXT]])
async def test_end_is_not_known_and_another_ran_since_it_is_refused(
    news: list[pb.SessionNews],
) -> None:
    """What is current now may be the other one's."""
    with pytest.raises(PeerError) as refused:
        await sessions_after(*news).result("first", wait_s=0.0)

    assert refused.value.reason == "session-unknown"


async def test_coordinator_is_not_heard_one_asks_again() -> None:
    """What ended stays ended; whether it runs nobody knows."""
    sessions = sessions_after(OVER, NEXT)
    sessions.lose()

    assert (await sessions.result("first", 0.0)).digest == "d1"
    for asked in ("", "second"):
        with pytest.raises(PeerError) as refused:
            await sessions.result(asked, 0.0)
        assert refused.value.reason == "not-attached"


async def test_who_waits_hears_of_the_end_at_once() -> None:
    """Also who asked for any session: it is the one that ran then."""
    sessions = sessions_after(RUNS)
    waiting = [asyncio.create_task(sessions.result(asked, 30.0)) for asked in ("first", "")]
    await asyncio.sleep(0)

    sessions.learn(OVER)
    sessions.learn(NEXT)

    for answer in waiting:
        assert await within(answer) == Result("first", running=False, digest="d1")


async def test_coordinator_comes_back_while_one_waits() -> None:
    """A restart costs nobody the result."""
    sessions = sessions_after(RUNS)
    waiting = asyncio.create_task(sessions.result("first", 30.0))
    await asyncio.sleep(0)

    sessions.lose()
    sessions.learn(RUNS)
    sessions.learn(OVER)

    assert (await within(waiting)).digest == "d1"


async def test_wait_has_an_end_whatever_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client soon sees that a selector is gone."""
    monkeypatch.setattr(module, "WAIT_MAX_S", 0.0)

    answer = await within(sessions_after(RUNS).result("first", 1e9))

    assert answer.running


async def test_old_ends_are_forgotten() -> None:
    """Memory does not grow with the number of sessions."""
    sessions = Sessions()
    for number in range(module.ENDS_MAX + 2):
        sessions.learn(pb.SessionNews(session_id=f"s{number}", over=True, final_digest="d"))

    with pytest.raises(PeerError):
        await sessions.result("s0", 0.0)
    assert not (await sessions.result("s2", 0.0)).running


def test_running_session_is_known_by_its_id() -> None:
    """Held clients are told of it."""
    assert sessions_after(RUNS).running_id == "first"
    assert sessions_after(OVER).running_id == ""
    assert sessions_after().running_id == ""
