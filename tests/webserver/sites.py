"""Webservers for tests: their application without a network, or whole ones on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.webserver.telling import body
from webserver.database import Database
from webserver.downloads import Downloads
from webserver.server import Webserver, application
from webserver.settings import WebserverSettings
from webserver.site import Site, open_site
from webserver.store import Store

HOST = "127.0.0.1"
CLOUD_EVENT = {"Content-Type": "application/cloudevents+json; charset=utf-8"}


@asynccontextmanager
async def a_site(folder: Path, **changes: Any) -> AsyncIterator[Site]:
    """Open a site on loopback; ``changes`` are some of the settings."""
    rules = {
        "host": changes.pop("host", HOST),
        "allowed_hosts": changes.pop("allowed_hosts", ()),
        "control_token": changes.pop("control_token", ""),
    }
    database = Database(folder / "webserver.db")
    try:
        yield await open_site(
            database,
            changes.pop("store", Store(1000)),
            Downloads(changes.pop("shared_data", None)),
            rules,
            secret=changes.pop("secret", ""),
            coordinator=changes.pop("coordinator", None),
        )
    finally:
        database.close()
    assert not changes


@asynccontextmanager
async def a_browser_at(
    site: Site, host: str = "127.0.0.1:8050"
) -> AsyncIterator[httpx.AsyncClient]:
    """Talk to a site's application as if by HTTP; what it raises becomes a 500, as in reality."""
    transport = httpx.ASGITransport(application(site), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        yield client


@asynccontextmanager
async def a_webserver(folder: Path, **settings: Any) -> AsyncIterator[Webserver]:
    """Run the real one on a free port."""
    defaults: dict[str, Any] = {"host": HOST, "port": 0, "database": folder / "webserver.db"}
    webserver = Webserver(WebserverSettings(**(defaults | settings)))
    try:
        await webserver.start()
        yield webserver
        with suppress(asyncio.CancelledError):
            await webserver.drain(1.0)
    finally:
        webserver.close()


async def tell(client: httpx.AsyncClient, *documents: dict[str, Any]) -> list[int]:
    """Send updates, and return the statuses of the answers."""
    return [
        (
            await client.post("/api/v1/updates", content=body(document), headers=CLOUD_EVENT)
        ).status_code
        for document in documents
    ]


def url_of(webserver: Webserver) -> str:
    """Return where it is reached."""
    return f"http://{HOST}:{webserver.port}"
