"""Tests of ``webserver.receiving``: what is sent as an update, whoever sends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.webserver.sites import CLOUD_EVENT, a_browser_at, a_site, tell
from tests.webserver.telling import Teller, a_client, a_round, body, signed
from webserver import updates
from webserver.site import Site
from webserver.store import probe
from webserver.updates import SIGNATURE_HEADER

SECRET = "a secret of some length"


async def refused(
    browser: httpx.AsyncClient, content: Any, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """Send something; return status and reason."""
    answer = await browser.post(
        "/api/v1/updates", content=content, headers=CLOUD_EVENT | (headers or {})
    )
    return answer.status_code, answer.json()["reason"]


@pytest.mark.parametrize("path", ["/api/v1/updates", "/"])
async def test_update_is_sent_it_is_taken_and_shown(tmp_path: Path, path: str) -> None:
    """To either address; with an empty answer."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        content = body(Teller().stage(a_round(3)))
        answer = await browser.post(path, content=content, headers=CLOUD_EVENT)

        shown = (await browser.get("/api/v1/overview")).json()

    assert (answer.status_code, answer.content) == (204, b"")
    assert shown["round"]["round_number"] == 3


async def test_update_is_sent_again_it_is_answered_alike_and_nothing_changes(
    tmp_path: Path,
) -> None:
    """Its sender did not hear the first answer."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        told = Teller().whole_round(1)
        statuses = await tell(browser, *told, *told)
        events = (await browser.get("/api/v1/events")).json()["events"]

    assert statuses == [204] * 8
    assert len(events) == 4


async def test_update_is_of_a_later_release_s_type_it_is_passed_over(tmp_path: Path) -> None:
    """And not sent for ever."""
    document = Teller().stage(a_round()) | {"type": "headwater.something.new"}
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        assert await tell(browser, document) == [204]
        assert (await browser.get("/api/v1/overview")).json()["federation"] is None


async def test_secret_is_set_only_what_is_signed_with_it_is_taken(tmp_path: Path) -> None:
    """Nobody else can tell stories."""
    content = body(Teller().stage(a_round()))
    async with a_site(tmp_path, secret=SECRET) as site, a_browser_at(site) as browser:
        wrong = {SIGNATURE_HEADER: signed(content, "another secret")}
        right = CLOUD_EVENT | {SIGNATURE_HEADER: signed(content, SECRET)}

        assert await refused(browser, content) == (401, "signature-needed")
        assert await refused(browser, content, wrong) == (401, "wrong-signature")
        assert await refused(browser, content + b" ", right) == (401, "wrong-signature")
        assert (await browser.get("/api/v1/overview")).json()["federation"] is None
        answer = await browser.post("/api/v1/updates", content=content, headers=right)

    assert answer.status_code == 204


async def test_body_is_nonsense_it_is_malformed(tmp_path: Path) -> None:
    """And says so."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        for content in (b"", b"{", b"\xff" * 100, b"[[[[", b'{"specversion":"1.0"}'):
            assert await refused(browser, content) == (400, "malformed-update")


async def test_names_are_hostile_they_stay_text(tmp_path: Path) -> None:
    """As they were sent, in JSON that a browser takes for nothing else."""
    hostile = "</script><img src=x onerror=alert(1)>\x00\u202e"
    clients = [a_client(hostile, reason=hostile, metrics={hostile: 1.0})]
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        told = Teller().stage(a_round(1, "completed", clients=clients, reason=hostile))
        assert await tell(browser, told) == [204]
        answer = await browser.get("/api/v1/rounds/1")

    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["clients"][0]["client_id"] == hostile


async def test_form_of_another_site_is_sent_it_is_refused(tmp_path: Path) -> None:
    """A browser sends these across sites without asking us."""
    content = body(Teller().stage(a_round()))
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        for form in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            headers = {"Content-Type": form}
            assert await refused(browser, content, headers) == (415, "malformed-update")


async def test_page_sends_an_update_it_is_refused(tmp_path: Path) -> None:
    """Coordinators are no pages."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        content = body(Teller().stage(a_round()))
        headers = {"Origin": "http://127.0.0.1:8050"}

        assert await refused(browser, content, headers) == (403, "cross-site-request")


async def test_update_is_too_large_it_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its size was declared or not."""
    monkeypatch.setattr("webserver.receiving.BODY_BYTES_MAX", 1000)
    assert updates.BODY_BYTES_MAX == 32 * 2**20

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100

    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        assert await refused(browser, b" " * 1001) == (413, "body-too-large")
        assert await refused(browser, pieces()) == (413, "body-too-large")


async def test_sender_stalls_its_place_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a few of them would keep all coordinators out."""
    monkeypatch.setattr("webserver.receiving.BODY_TIMEOUT_S", 0.05)

    async def stalling() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        assert await refused(browser, stalling()) == (408, "too-slow")


async def fill_the_disk(site: Site, *, full: bool) -> None:
    """Have SQLite find no room, or room again."""
    pages = 1 if full else 100_000
    await site.database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}"))


async def test_disk_is_full_the_sender_is_asked_to_come_again_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    """503 is no refusal of this update; what could not be remembered is not shown either."""
    many = [a_client(f"client-{number}") for number in range(500)]
    told = Teller().stage(a_round(1, "completed", clients=many))
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        await fill_the_disk(site, full=True)

        assert await refused(browser, body(told)) == (503, "database-unavailable")
        assert (await browser.get("/api/v1/overview")).json()["federation"] is None
        assert (await browser.get("/api/v1/events")).json()["events"] == []

        await fill_the_disk(site, full=False)
        await site.database.write(probe)
        assert await tell(browser, told) == [204]
        assert len((await browser.get("/api/v1/rounds/1")).json()["clients"]) == 200
