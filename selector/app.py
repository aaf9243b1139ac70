"""The selector as a server: put together, started, drained and stopped."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from federation.runtime.frames import add_participation
from federation.runtime.process import say_listening, stop_on_signals
from federation.runtime.rpc import add_health, bind, create_server, set_serving
from federation.runtime.store import SharedDirectory
from federation.runtime.tasks import until_first
from selector.selector import Selector
from selector.service import ParticipationService
from selector.settings import SelectorSettings
from selector.uplink import Uplink

SERVICES = ("federation.v1.Participation",)


@dataclass(frozen=True)
class Limits:
    """What bounds a selector; see its settings."""

    reports_in_flight_max: int = 4
    report_stall_s: float = 30.0
    held_max: int = 20_000
    keep_updates: bool = False
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
        SettingsError: The directory cannot be used.
    """

    def __init__(
        self, selector_id: str, shared_data: Path, coordinator: str, limits: Limits
    ) -> None:
        directory = SharedDirectory(shared_data)
        directory.check()
        directory.prepare_selector(selector_id)
        self.selector = Selector(
            selector_id,
            directory,
            reports_in_flight_max=limits.reports_in_flight_max,
            report_stall_s=limits.report_stall_s,
            held_max=limits.held_max,
            keep_updates=limits.keep_updates,
        )
        self.uplink = Uplink(
            self.selector, coordinator, limits.keepalive_s, limits.keepalive_timeout_s
        )
        self._limits = limits
        self._server = create_server(limits.keepalive_s, limits.keepalive_timeout_s)
        self.port = 0

    async def start(self, host: str, port: int, advertise: str | None = None) -> None:
        """Bind and serve; ``run`` attaches.

        Raises:
            SettingsError: The port is in use.
        """
        service = ParticipationService(self.selector, self._limits.report_stall_s)
        add_participation(service, self._server)
        self._health = await add_health(self._server, SERVICES)
        self.port = bind(self._server, host, port)
        self.selector.address = advertise or f"{host}:{self.port}"
        await self._server.start()

    async def run(self) -> None:
        """Keep attached until cancelled.

        Raises:
            Superseded: Another process serves under this id.
        """
        await until_first(
            self.uplink.run(), self.selector.desk.watch_stalls(), self._tell_readiness()
        )

    async def _tell_readiness(self) -> None:
        """Ready is a selector that its coordinator knows."""
        while True:
            await self.uplink.attached.wait()
            await set_serving(self._health, SERVICES, serving=not self.selector.draining)
            await self.uplink.detached.wait()
            await set_serving(self._health, SERVICES, serving=False)

    async def drain(self, drain_s: float) -> None:
        """Take no new clients, let the running round end within ``drain_s``, and say goodbye."""
        self.selector.start_draining()
        await set_serving(self._health, SERVICES, serving=False)
        try:
            async with asyncio.timeout(drain_s):
                await self.selector.idle.wait()
        except TimeoutError:
            pass  # the round goes on without this selector
        self.selector.finish_draining()
        await self.uplink.say_goodbye()

    async def stop(self, grace_s: float = 0.5) -> None:
        """End every stream and give the threads back."""
        await self._server.stop(grace_s)
        self.selector.shut_down()


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
        keepalive_s=settings.keepalive_s,
        keepalive_timeout_s=settings.keepalive_timeout_s,
    )
    server = SelectorServer(
        settings.selector_id, settings.shared_data, settings.coordinator, limits
    )
    await server.start(settings.host, settings.port, settings.advertise)
    say_listening("selector", settings.selector_id, settings.host, server.port)

    async def drain_when_told() -> None:
        await stop.wait()
        await server.drain(settings.drain_s)

    try:
        await until_first(server.run(), drain_when_told())
    finally:
        await server.stop()
    return 0
