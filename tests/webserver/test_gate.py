"""Tests of ``webserver.gate``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from tests.webserver.sites import a_browser_at, a_site
from webserver.gate import REQUEST_BYTES_MAX, SECURITY_HEADERS


async def test_answer_is_given_it_has_the_security_headers(tmp_path: Path) -> None:
    """Refusals, too: a browser shows whatever it gets."""
    headers = {(name.lower(), value) for name, value in SECURITY_HEADERS.items()}

    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        for path in ("/", "/healthz", "/api/v1/overview", "/nowhere", "/api/v1/rounds/0"):
            answer = await browser.get(path)

            assert answer.headers.items() >= headers, path
            assert answer.headers["cache-control"] == "no-store", path


def test_policy_is_set_it_allows_nothing_from_elsewhere_and_nothing_inline() -> None:
    """What a hostile name could bring into the page would not run."""
    policy = SECURITY_HEADERS["Content-Security-Policy"]

    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy


async def test_host_is_another_s_it_is_not_answered(tmp_path: Path) -> None:
    """DNS rebinding would let another site's page read all of it."""
    async with (
        a_site(tmp_path) as site,
        a_browser_at(site, "attacker.example:8050") as browser,
    ):
        for path in ("/", "/api/v1/overview", "/static/main.js", "/metrics"):
            answer = await browser.get(path)

            assert answer.status_code == 403, path
            assert answer.json()["reason"] == "cross-site-request", path


async def test_body_is_large_and_no_update_it_is_not_read(tmp_path: Path) -> None:
    """The framework would read all of it before it asks who sends it."""

    async def pieces() -> AsyncIterator[bytes]:
        for read in range(1000):
            assert read * 1024 <= REQUEST_BYTES_MAX, "it is read on and on"
            yield b" " * 1024

    async with a_site(tmp_path, control_token="x" * 16) as site, a_browser_at(site) as browser:
        answer = await browser.post(
            "/api/v1/session", content=pieces(), headers={"Content-Type": "application/json"}
        )

    assert answer.status_code == 413


async def test_request_is_answered_it_is_counted_by_its_route(tmp_path: Path) -> None:
    """Not by its address, of which there are any number."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        await browser.get("/api/v1/rounds/123456789")
        await browser.get("/any/thing")
        counted = (await browser.get("/metrics")).text

    assert 'route="/api/v1/rounds/{round_number}",status="404"' in counted
    assert 'route="other",status="404"' in counted
    assert "123456789" not in counted
    assert "any/thing" not in counted
