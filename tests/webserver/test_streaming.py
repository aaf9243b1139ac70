"""Tests of ``webserver.streaming``: what a watcher is told, over real HTTP where it matters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.waiting import eventually, within
from tests.webserver.sites import a_browser_at, a_site, a_webserver, tell, url_of
from tests.webserver.telling import Teller, a_round, update
from webserver import streaming
from webserver.counters import STREAMS
from webserver.streaming import messages


class Watcher:
    """Reads a stream as a browser does."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()

    async def next(self) -> tuple[int, dict[str, Any]]:
        """Return id and data of the next message."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(30):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                elif "data" in fields:
                    assert fields["event"] == "update"
                    return int(fields["id"]), json.loads(fields["data"])
        raise EOFError


@asynccontextmanager
async def watching(
    browser: httpx.AsyncClient, last_event_id: int | None = None, query: str = ""
) -> AsyncIterator[Watcher]:
    """Open a stream."""
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    async with browser.stream("GET", f"/api/v1/stream{query}", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Watcher(answer)


async def test_round_runs_each_of_its_stages_is_pushed_as_it_begins(tmp_path: Path) -> None:
    """With the whole overview; progress comes as an overview alone, under the last stage's id."""
    teller = Teller()
    async with (
        a_webserver(tmp_path) as webserver,
        browser_of(webserver) as browser,
        watching(browser) as watcher,
    ):
        first_id, first = await watcher.next()
        stages = []
        for told in teller.whole_round(1):
            await tell(browser, told)
            stages.append(await watcher.next())
        await tell(browser, teller.progress(a_round(1, "completed"), waiting_clients=9))
        progress_id, progress = await watcher.next()

    assert (first_id, first["event"]) == (0, None)
    assert first["overview"]["words"] == "Waiting for a coordinator"
    assert [event_id for event_id, _ in stages] == [1, 2, 3, 4]
    assert [data["event"]["stage"] for _, data in stages] == [
        data["overview"]["round"]["stage"] for _, data in stages
    ]
    assert (progress_id, progress["event"]) == (4, None)
    assert progress["overview"]["waiting_clients"] == 9


async def test_webserver_is_killed_and_started_again_the_watcher_misses_no_stage(
    tmp_path: Path,
) -> None:
    """What it missed comes one by one, in order; the overview with the last of them."""
    teller = Teller()
    async with a_webserver(tmp_path) as webserver, browser_of(webserver) as browser:
        await tell(browser, *teller.whole_round(1))
        async with watching(browser) as watcher:
            last_event_id, _ = await watcher.next()
        await tell(browser, *teller.whole_round(2))

    async with a_webserver(tmp_path) as webserver, browser_of(webserver) as browser:
        await tell(browser, teller.stage(a_round(3)))
        async with watching(browser, last_event_id) as watcher:
            missed = [await watcher.next() for _ in range(5)]
            await tell(browser, teller.stage(a_round(3, "configuration")))
            then = await watcher.next()

    assert last_event_id == 4
    assert [event_id for event_id, _ in [*missed, then]] == [5, 6, 7, 8, 9, 10]
    assert [data["event"]["stage"] for _, data in missed[:4]] == [
        *("selection", "configuration", "reporting", "completed")
    ]
    assert [data["overview"] is None for _, data in missed] == [True] * 4 + [False]
    assert then[1]["overview"]["round"]["stage"] == "configuration"


async def test_page_was_rendered_and_opens_its_stream_it_misses_nothing_in_between(
    tmp_path: Path,
) -> None:
    """It knows the last event of the overview that it has, and says so in the address."""
    teller = Teller()
    async with a_webserver(tmp_path) as webserver, browser_of(webserver) as browser:
        await tell(browser, *teller.whole_round(1))
        async with watching(browser, query="?after=2") as watcher:
            seen = [await watcher.next() for _ in range(2)]

    assert [event_id for event_id, _ in seen] == [3, 4]


async def test_server_ends_its_streams_end_at_once(tmp_path: Path) -> None:
    """A browser that watches does not keep the process."""
    async with (
        a_webserver(tmp_path) as webserver,
        browser_of(webserver) as browser,
        watching(browser) as watcher,
    ):
        await watcher.next()
        async with asyncio.timeout(10):
            await webserver.drain(60.0)
        with pytest.raises(EOFError):
            await watcher.next()


async def test_watcher_leaves_its_stream_is_given_back(tmp_path: Path) -> None:
    """As many may come again, and no more at a time than the limit."""
    async with a_webserver(tmp_path) as webserver, browser_of(webserver) as browser:
        before = STREAMS._value.get()
        async with watching(browser) as watcher:
            await watcher.next()
            assert STREAMS._value.get() == before + 1
        await eventually(lambda: STREAMS._value.get() == before)


async def test_too_many_watch_one_more_is_asked_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs a connection and a share of every update."""
    monkeypatch.setattr(streaming, "STREAMS_MAX", 1)
    async with (
        a_webserver(tmp_path) as webserver,
        browser_of(webserver) as browser,
        watching(browser) as watcher,
    ):
        await watcher.next()
        refused = await browser.get("/api/v1/stream")

    assert (refused.status_code, refused.json()["reason"]) == (503, "full")


async def test_watcher_is_slow_it_gets_every_stage_and_one_picture(tmp_path: Path) -> None:
    """What it did not take is kept nowhere: pictures are coalesced, stages are remembered."""
    teller = Teller()
    async with a_site(tmp_path) as site, aclosing(messages(site, None, None)) as watched:
        await within(anext(watched))
        for number in range(1, 101):
            await site.take(update(teller.stage(a_round(number, "completed"))))
            await site.take(update(teller.progress(a_round(number, "completed"))))
        seen = [await within(anext(watched)) for _ in range(100)]
        waiting = asyncio.ensure_future(anext(watched))
        await asyncio.sleep(0)

        assert [message.id for message in seen] == [str(number) for number in range(1, 101)]
        overviews = [json.loads(str(message.data))["overview"] for message in seen]
        assert overviews[:-1] == [None] * 99
        assert overviews[-1]["round"]["round_number"] == 100
        assert not waiting.done()
        site.live.close()
        with pytest.raises(StopAsyncIteration):
            await within(waiting)


@pytest.mark.parametrize("last_event_id", ["nonsense", "-1", "99999999999999999999", "²"])
async def test_last_event_is_none_of_ours_the_stream_begins_now(
    tmp_path: Path, last_event_id: str
) -> None:
    """As after another database was put in place."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        await tell(browser, *Teller().whole_round(1))
        site.live.closed = True  # so that the stream ends, and with it the answer
        headers = {b"Last-Event-ID": last_event_id.encode()}
        answer = await browser.get("/api/v1/stream", headers=headers)

    assert answer.status_code == 200


@asynccontextmanager
async def browser_of(webserver: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Talk to a webserver over HTTP."""
    async with httpx.AsyncClient(base_url=url_of(webserver), timeout=30) as client:
        yield client
