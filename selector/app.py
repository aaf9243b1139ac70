"""The selector as a server: put together, started, drained and stopped."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path

from federation.runtime.directory_mark import read_mark
from federation.runtime.frames import add_participation
from federation.runtime.metrics import Exposition
from federation.runtime.process import say_listening, stop_on_signals
from federation.runtime.rpc import add_health, bind, create_server, set_serving
from federation.runtime.store import SharedDirectory
from federation.runtime.tasks import until_first
from selector.selector import Selector
from selector.service import ParticipationService
from selector.settings import SelectorSettings
from selector.spool import Spool
from selector.uplink import Superseded, Uplink

SERVICES = ("federation.v1.Participation",)


@dataclass(frozen=True)
class Limits:
    """What bounds a selector; see its settings."""

    reports_in_flight_max: int = 4
    report_stall_s: float = 30.0
    held_max: int = 20_000
    keep_updates: bool = False
    spool: bool = False
    spool_bytes_max: int = 64 * 2**30
    keepalive_s: float = 10.0
    keepalive_timeout_s: float = 5.0


class SelectorServer:
    """One selector in this process.

    Args:
        selector_id: Its name, and that of its folder in the shared directory.
        shared_data: The shared directory, the same as the coordinator's.
        coordinator: HOST:PORT of the coordinator.
        limits: Its bounds.

    Raises:
        SettingsError: The directory cannot be used, or another process has the spool.
        StoreError: The disk refused.
    """

    def __init__(
        self, selector_id: str, shared_data: Path, coordinator: str, limits: Limits
    ) -> None:
        directory = SharedDirectory(shared_data)
        directory.check()
        directory.prepare_selector(selector_id)
        spool = None
        if limits.spool:
            spool = Spool(directory.spool(selector_id), limits.spool_bytes_max)
        self.selector = Selector(
            selector_id,
            directory,
            reports_in_flight_max=limits.reports_in_flight_max,
            report_stall_s=limits.report_stall_s,
            held_max=limits.held_max,
            keep_updates=limits.keep_updates,
            spool=spool,
        )
        self.uplink = Uplink(
            self.selector,
            coordinator,
            limits.keepalive_s,
            limits.keepalive_timeout_s,
            see_mark=lambda: read_mark(shared_data),
        )
        self.exposition = Exposition(self.selector.desk.metrics.registry)
        self._limits = limits
        self._server = create_server(limits.keepalive_s, limits.keepalive_timeout_s)
        self.port = 0

    def expose(self, host: str, port: int) -> None:
        """Let Prometheus look; raises ``SettingsError`` if the port is in use."""
        self.selector.desk.metrics.watch(self.selector)
        self.exposition.start(host, port)

    async def start(self, host: str, port: int, advertise: str | None = None) -> None:
        """Bind, take up the round of an earlier process if there is one, and serve.

        Clients that dial meanwhile wait; ``run`` attaches.

        Raises:
            SettingsError: The port is in use.
            StoreError: The checkpoint of that round cannot be read.
        """
        service = ParticipationService(self.selector, self._limits.report_stall_s)
        add_participation(service, self._server)
        self._health = await add_health(self._server, SERVICES)
        self.port = bind(self._server, host, port)
        self.selector.address = advertise or f"{_reachable(host)}:{self.port}"
        await self.selector.resume()
        await self._server.start()

    async def run(self) -> None:
        """Keep attached until cancelled.

        Raises:
            Superseded: Another process serves under this id.
        """
        try:
            await until_first(
                self.uplink.run(), self.selector.desk.watch_stalls(), self._tell_readiness()
            )
        except Superseded:
            self.selector.yield_to_another()
            raise

    async def _tell_readiness(self) -> None:
        """Ready is a selector that its coordinator knows."""
        while True:
            await self.uplink.attached.wait()
            await set_serving(self._health, SERVICES, serving=not self.selector.draining)
            await self.uplink.detached.wait()
            await set_serving(self._health, SERVICES, serving=False)

    async def drain(self, drain_s: float) -> None:
        """Take no new clients, let the running round end within ``drain_s``, and say goodbye.

        A round of which the spool holds reports is left to the next process, which has
        ``return_s`` to come.
        """
        self.selector.start_draining()
        await set_serving(self._health, SERVICES, serving=False)
        try:
            async with asyncio.timeout(drain_s):
                await self.selector.idle.wait()
        except TimeoutError:
            pass  # the round goes on without this selector
        await self.uplink.say_last(self.selector.finish_draining())

    async def stop(self, grace_s: float = 0.5) -> None:
        """End every stream and give the threads back."""
        await self._server.stop(grace_s)
        await self.exposition.stop()
        self.selector.shut_down()


def _reachable(host: str) -> str:
    """Return a name of this machine for a host that means every interface, which nobody can dial.

    In a container that is its id, which a user-defined network resolves.
    """
    return socket.gethostname() if host in ("0.0.0.0", "::", "[::]") else host  # noqa: S104


def run(settings: SelectorSettings) -> int:
    """Be the selector's process; return its exit status."""
    return asyncio.run(_serve(settings))


async def _serve(settings: SelectorSettings) -> int:
    stop = stop_on_signals()
    limits = Limits(
        reports_in_flight_max=settings.reports_in_flight_max,
        report_stall_s=settings.report_stall_s,
        held_max=settings.held_max,
        keep_updates=settings.keep_updates,
        spool=settings.spool,
        spool_bytes_max=settings.spool_bytes_max,
        keepalive_s=settings.keepalive_s,
        keepalive_timeout_s=settings.keepalive_timeout_s,
    )
    server = SelectorServer(
        settings.selector_id, settings.shared_data, settings.coordinator, limits
    )
    await server.start(settings.host, settings.port, settings.advertise)
    if settings.metrics_port is not None:
        server.expose(settings.host, settings.metrics_port)
    say_listening(
        "selector",
        settings.selector_id,
        settings.host,
        server.port,
        metrics_port=server.exposition.port,
    )

    async def drain_when_told() -> None:
        await stop.wait()
        await server.drain(settings.drain_s)

    try:
        await until_first(server.run(), drain_when_told())
    finally:
        await server.stop()
    return 0
