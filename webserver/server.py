"""The webserver as a server: its application behind uvicorn, on a socket of ours."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from federation.errors import SettingsError
from federation.runtime.process import say_listening, stop_on_signals
from federation.runtime.settings import Secret
from federation.runtime.tasks import until_first
from federation.runtime.telemetry import get_logger
from federation.runtime.version import VERSION
from webserver.access import is_loopback
from webserver.asking import asking_routes
from webserver.controlling import controlling_routes
from webserver.database import Database
from webserver.downloads import Downloads
from webserver.gate import Gate
from webserver.page import add_page
from webserver.receiving import receiving_routes
from webserver.refusals import add_refusals
from webserver.settings import WebserverSettings
from webserver.site import Site, open_site
from webserver.store import Store
from webserver.streaming import streaming_routes
from webserver.upkeep import upkeep_routes

log = get_logger()

CONNECTIONS_MAX = 1000
"""Beyond it a request is answered with 503 at once."""

BACKLOG = 128
IDLE_S = 30
"""A connection without a request for so long is closed."""


def application(site: Site) -> ASGIApp:
    """Make the application of a site."""
    app = FastAPI(
        title="Headwater webserver",
        version=VERSION,
        description="What a federation does, live and in history, and its sessions.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # both load their scripts from elsewhere
        redoc_url=None,
    )
    add_refusals(app)
    for routes in (
        asking_routes,
        streaming_routes,
        controlling_routes,
        receiving_routes,
        upkeep_routes,
    ):
        app.include_router(routes(site))
    add_page(app, site)
    return Gate(app, site.access)


class Webserver:
    """One webserver in this process.

    Args:
        settings: What it was told.

    Raises:
        SettingsError: The database cannot be used, or the port is in use.
    """

    def __init__(self, settings: WebserverSettings) -> None:
        self._settings = settings
        self._database = Database(settings.database)
        try:
            self._socket = bound(settings.host, settings.port)
        except BaseException:
            self._database.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        self._site: Site | None = None
        self._server: _Server | None = None

    async def start(self) -> None:
        """Restore what is known and serve; ``run`` waits for the end.

        Raises:
            StoreError: The database cannot be read or written.
        """
        settings = self._settings
        self._site = await open_site(
            self._database,
            Store(settings.history_rounds_max),
            Downloads(settings.shared_data),
            {
                "host": settings.host,
                "allowed_hosts": frozenset(settings.allowed_hosts),
                "control_token": _revealed(settings.control_token),
            },
            secret=_revealed(settings.webserver_secret),
            coordinator=settings.coordinator,
        )
        config = uvicorn.Config(
            application(self._site),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=IDLE_S,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([self._socket]))
        starting = asyncio.create_task(self._server.is_up.wait())
        await asyncio.wait({self._serving, starting}, return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        if self._serving.done():
            self._serving.result()

    async def run(self) -> None:
        """Serve until stopped."""
        await asyncio.shield(self._serving)

    async def drain(self, drain_s: float) -> None:
        """End the streams, answer what was asked within ``drain_s``, take nothing new."""
        assert self._site is not None, "drain() before start()"
        assert self._server is not None
        self._site.live.close()
        self._server.config.timeout_graceful_shutdown = max(1, int(drain_s))
        self._server.should_exit = True
        await self._serving

    def close(self) -> None:
        """Give file, socket and threads back."""
        self._database.close()
        self._socket.close()


async def serve(settings: WebserverSettings) -> int:
    """Serve until told to stop; return the exit status.

    Raises:
        SettingsError: The database cannot be used, or the port is in use.
        StoreError: The database cannot be read or written.
    """
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # the rest is ours to say
    stop = stop_on_signals()
    webserver = Webserver(settings)
    try:
        await webserver.start()
        _warn_of_openness(settings)
        say_listening("webserver", "webserver", settings.host, webserver.port)

        async def drain_when_told() -> None:
            await stop.wait()
            await webserver.drain(settings.drain_s)

        await until_first(webserver.run(), drain_when_told())
    finally:
        webserver.close()
    return 0


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        SettingsError: The address is in use or not this machine's.
    """
    name = host.strip("[]")
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            "port",
            f"{host}:{port}",
            "another process uses it, or the host is not an address of this machine; "
            "give another --port, or 0 for a free one",
            reason="port-in-use",
        ) from error


class _Server(uvicorn.Server):
    """uvicorn, which leaves the signals to us and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _revealed(secret: Secret | None) -> str:
    return "" if secret is None else secret.get_secret_value()


def _warn_of_openness(settings: WebserverSettings) -> None:
    if not is_loopback(settings.host) and settings.webserver_secret is None:
        log.warning("updates need no signature", hint="give both --webserver-secret")
