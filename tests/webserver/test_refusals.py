"""Tests of ``webserver.refusals``."""

from __future__ import annotations

from pathlib import Path

import pytest

from federation.reasons import REASONS
from tests.webserver.sites import a_browser_at, a_site

REFUSED = (
    ("GET", "/nowhere", 404, "unknown-page"),
    ("GET", "/static/../settings.py", 404, "unknown-page"),
    ("GET", "/static/%2e%2e/settings.py", 404, "unknown-page"),
    ("PUT", "/api/v1/overview", 405, "wrong-method"),
    ("GET", "/api/v1/updates", 405, "wrong-method"),
    ("GET", "/api/v1/rounds?limit=0", 422, "malformed-request"),
    ("GET", "/api/v1/rounds?limit=many", 422, "malformed-request"),
    ("GET", "/api/v1/rounds/x", 422, "malformed-request"),
    ("GET", "/api/v1/overview?federation=../..", 422, "malformed-request"),
    ("GET", "/api/v1/overview?federation=ffffffffffffffff", 404, "unknown-federation"),
    ("GET", "/api/v1/rounds/7", 404, "round-unknown"),
    ("GET", "/api/v1/checkpoints/7", 404, "checkpoint-missing"),
)


async def test_request_is_refused_the_answer_has_reason_and_detail(tmp_path: Path) -> None:
    """One form for all errors, each word in the table."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        for method, path, status, reason in REFUSED:
            answer = await browser.request(method, path)

            assert (answer.status_code, answer.json()["reason"]) == (status, reason), path
            assert answer.json().keys() == {"reason", "detail"}
            assert reason in REASONS


async def test_code_has_a_bug_the_answer_shows_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Internals do not leak."""

    def broken(*_: object) -> str:
        raise AssertionError("the secret insides")

    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        monkeypatch.setattr(site.live, "overview_text", broken)
        answer = await browser.get("/api/v1/overview")

    assert answer.status_code == 500
    assert answer.json()["reason"] == "internal-error"
    assert "insides" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
