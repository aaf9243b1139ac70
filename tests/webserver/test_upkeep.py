"""Tests of ``webserver.upkeep``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.webserver.sites import a_browser_at, a_site, tell
from tests.webserver.telling import Teller, a_round
from webserver import upkeep


async def test_database_takes_a_byte_the_server_is_healthy(tmp_path: Path) -> None:
    """It can do what it is for."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        answer = await browser.get("/healthz")

    assert answer.status_code == 200
    assert answer.json()["status"] == "serving"


async def test_database_takes_nothing_the_server_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that it does again, when it does again."""
    monkeypatch.setattr(upkeep, "PROBE_EVERY_S", 0.0)
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        site.database._writing.execute("PRAGMA query_only = 1")
        ill = await browser.get("/healthz")
        site.database._writing.execute("PRAGMA query_only = 0")
        well = await browser.get("/healthz")

    assert (ill.status_code, ill.json()["reason"]) == (503, "database-unavailable")
    assert well.status_code == 200


async def test_updates_are_taken_and_refused_prometheus_is_told(tmp_path: Path) -> None:
    """By what became of them, and by reason."""
    told = Teller().stage(a_round())
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        before = (await browser.get("/metrics")).text
        await tell(browser, told, told, told | {"id": ""})
        after = (await browser.get("/metrics")).text

    for sample in (
        'headwater_webserver_updates_total{result="taken"}',
        'headwater_webserver_updates_total{result="duplicate"}',
        'headwater_webserver_refused_total{reason="malformed-update"}',
    ):
        assert value_of(after, sample) == value_of(before, sample) + 1
    assert value_of(after, "headwater_webserver_last_update_seconds") > 0


def value_of(text: str, sample: str) -> float:
    """Return a sample's value, 0 if it is not there."""
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(sample)]
    return float(values[0]) if values else 0.0
