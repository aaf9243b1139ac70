"""Tests of ``webserver.server``: it starts, serves, is told to stop, and starts again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from federation.errors import SettingsError
from tests.system.processes import PYTHON, Federation
from tests.webserver.sites import CLOUD_EVENT, HOST, a_webserver, url_of
from tests.webserver.telling import Teller, a_round, body
from webserver.server import Webserver, bound
from webserver.settings import WebserverSettings


async def test_port_is_in_use_the_error_says_so_and_the_database_is_given_back(
    tmp_path: Path,
) -> None:
    """The operator gives another one; nothing of the attempt remains."""
    async with a_webserver(tmp_path) as webserver:
        settings = WebserverSettings(port=webserver.port, database=tmp_path / "other.db")
        for _ in range(2):
            with pytest.raises(SettingsError) as caught:
                Webserver(settings)

            assert caught.value.reason == "port-in-use"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]"])
def test_host_is_an_address_or_a_name_it_is_listened_on(host: str) -> None:
    """With or without brackets."""
    with bound(host, 0) as listening:
        assert listening.getsockname()[1] > 0


def test_host_is_nobody_s_the_error_says_so() -> None:
    """Not a traceback of the resolver."""
    with pytest.raises(SettingsError, match="not an address of this machine"):
        bound("nobody.invalid", 0)


async def test_process_is_told_to_stop_while_somebody_watches_it_ends_at_once(
    tmp_path: Path,
) -> None:
    """With status 0; what it heard is on disk."""
    database = tmp_path / "w.db"
    settings: dict[str, Any] = {"port": 0, "database": database, "drain_s": 60, "log_json": True}
    async with Federation(tmp_path) as federation:
        process = await federation.start("webserver", [*PYTHON, "webserver"], **settings)
        await process.listening()
        async with httpx.AsyncClient(base_url=f"http://{process.address}", timeout=30) as browser:
            told = body(Teller().stage(a_round(5)))
            taken = await browser.post("/", content=told, headers=CLOUD_EVENT)
            async with browser.stream("GET", "/api/v1/stream") as stream:
                await anext(stream.aiter_lines())
                process.terminate()
                async with asyncio.timeout(30):
                    status = await process.end()

    assert json.loads(process.printed[0]) == {
        "event": "listening",
        "role": "webserver",
        "name": "webserver",
        "host": HOST,
        "port": process.port,
    }
    assert (taken.status_code, status) == (204, 0)
    assert process.log == []
    async with (
        a_webserver(tmp_path, database=database) as webserver,
        httpx.AsyncClient(base_url=url_of(webserver), timeout=30) as browser,
    ):
        shown = (await browser.get("/api/v1/overview")).json()
    assert shown["round"]["round_number"] == 5
