"""Tests of ``webserver.page``, apart from what a browser does with it."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from tests.webserver.sites import a_browser_at, a_site, tell
from tests.webserver.telling import FEDERATION, Teller, a_client, a_round
from webserver.access import CSRF_COOKIE

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def token_in(answer: httpx.Response) -> str:
    """Return the page's token."""
    found = re.search(r'name="headwater-csrf" content="([0-9a-f]+)"', answer.text)
    assert found is not None
    return found[1]


async def test_page_is_asked_for_it_has_a_token_that_goes_with_its_cookie(tmp_path: Path) -> None:
    """The cookie is sent to no other site's request and read by no script; it stays the same."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        first = await browser.get("/")
        second = await browser.get("/")

    cookie = first.headers["set-cookie"]
    assert cookie.startswith(f"{CSRF_COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie
    assert token_in(first) == token_in(second)
    assert token_in(first) == site.access.page_token(first.cookies[CSRF_COOKIE])


async def test_two_browsers_ask_each_has_a_token_of_its_own(tmp_path: Path) -> None:
    """One cannot use the other's."""
    async with a_site(tmp_path) as site, a_browser_at(site) as one, a_browser_at(site) as other:
        assert token_in(await one.get("/")) != token_in(await other.get("/"))


async def test_webserver_starts_again_an_open_page_s_token_is_still_good(tmp_path: Path) -> None:
    """Nobody has to load it again."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        before = await browser.get("/")

    async with a_site(tmp_path) as site:
        assert site.access.page_token(before.cookies[CSRF_COOKIE]) == token_in(before)


async def test_client_has_a_hostile_name_the_page_has_it_as_text(tmp_path: Path) -> None:
    """Neither in the markup nor in the facts for the script does anything end or begin."""
    clients = [a_client(HOSTILE[:128], selector_id=HOSTILE[:128], reason=HOSTILE[:128])]
    told = Teller().stage(a_round(1, "reporting", clients=clients), storage_failure=HOSTILE)
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        assert await tell(browser, told) == [204]
        page = (await browser.get("/")).text

    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page


async def test_file_of_the_page_is_asked_for_the_browser_may_keep_it(tmp_path: Path) -> None:
    """But asks each time whether it is still the same."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        first = await browser.get("/static/mark.svg")
        second = await browser.get(
            "/static/mark.svg", headers={"If-None-Match": first.headers["etag"]}
        )

    assert (first.status_code, second.status_code) == (200, 304)
    assert first.headers["cache-control"] == "no-cache"


async def test_page_of_a_federation_is_asked_for_it_shows_that_one(tmp_path: Path) -> None:
    """From its first answer on; of one that was never heard of, the usual page is shown."""
    other = "fedcba9876543210"
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        await tell(browser, Teller(other).stage(a_round(41)))
        await tell(browser, Teller().stage(a_round(7)))
        usual = await browser.get("/")
        asked = await browser.get(f"/?federation={FEDERATION}")
        unknown = await browser.get(f"/?federation={'0' * 16}")

    assert f'id="federation-id">{other}<' in usual.text
    assert f'id="federation-id">{FEDERATION}<' in asked.text
    assert (unknown.status_code, unknown.headers["location"]) == (303, "./")
