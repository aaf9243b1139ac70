"""The coordinator as a server: put together, started, drained and stopped."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from coordinator.committer import Committer
from coordinator.driver import Driver
from coordinator.inspector import Inspector
from coordinator.metrics import CoordinatorMetrics
from coordinator.service import ControlService, CoordinationService, PlanOf
from coordinator.settings import CoordinatorSettings
from coordinator.status import Myself
from coordinator.takeover import federation_id_in, take_up
from coordinator.tenure import Tenure
from coordinator.webhook import Push
from federation.plan import RoundPlan
from federation.runtime.clock import Clock
from federation.runtime.metrics import Exposition
from federation.runtime.process import say_listening, stop_on_signals
from federation.runtime.rpc import add_health, bind, create_server, set_serving
from federation.runtime.store import SharedDirectory
from federation.runtime.tasks import until_first
from federation.runtime.telemetry import get_logger
from federation.runtime.version import VERSION
from federation.v1 import control_pb2_grpc, coordination_pb2_grpc

log = get_logger()

SERVICES = ("federation.v1.Coordination", "federation.v1.Control")

_DEFAULTS = CoordinatorSettings()
_NOBODY = Push()


@dataclass(frozen=True)
class Limits:
    """What bounds a coordinator, apart from the plan."""

    held_max: int = 20_000
    history_keep: int = 20
    return_s: float = 30.0
    keepalive_s: float = 10.0
    keepalive_timeout_s: float = 5.0


class Coordinator:
    """One coordinator in this process.

    Args:
        shared_data: The shared directory, laid out by ``headwater init``.
        limits: Its bounds.
        plan_of: Makes the plan of a session that an operator starts; by default of the default
            settings.
        push: Which webservers are told what happens.

    Attributes:
        announcer: Tells them; None where there are none.
        metrics: What was counted.
        exposition: Where Prometheus looks, once ``expose`` was called.

    Raises:
        SettingsError: The directory cannot be used.
        StoreError: The disk refused.
    """

    def __init__(
        self,
        shared_data: Path,
        limits: Limits,
        plan_of: PlanOf = _DEFAULTS.plan,
        push: Push = _NOBODY,
    ) -> None:
        directory = SharedDirectory(shared_data)
        directory.check()
        self._tenure = Tenure(directory.coordinator)
        try:
            last_round_number = directory.recover()
            directory.ensure_checkpoint()
            self._federation_id = federation_id_in(directory.coordinator)
            self._memory, self.announcer = take_up(
                directory.coordinator,
                last_round_number or 0,
                push,
                epoch=self._tenure.epoch,
                federation_id=self._federation_id,
            )
        except BaseException:
            self._tenure.release()
            raise
        self._committer = Committer(directory, limits.history_keep, self._tenure.check)
        self.metrics = CoordinatorMetrics()
        self.exposition = Exposition(self.metrics.registry)
        self._memory.on_sync = self.metrics.journal_sync_seconds.observe
        audience = (self.metrics,) if self.announcer is None else (self.metrics, self.announcer)
        self.driver = Driver(
            self._committer,
            self._memory,
            Clock(at_least_s=self._memory.at_s),
            held_max=limits.held_max,
            retry_window=plan_of().retry_window,
            audience=audience,
        )
        self._inspector = Inspector(directory, self.driver)
        self._limits = limits
        self._plan_of = plan_of
        self._shared_data = shared_data
        self._server = create_server(limits.keepalive_s, limits.keepalive_timeout_s)
        self.port = 0

    def remembers(self, plan: RoundPlan, rounds: int) -> bool:
        """Say whether the session that is on disk is the one that these flags ask for.

        A session that runs is gone on with, whoever started it. One that is over is not run again
        by a restart with the same flags.
        """
        session = self.driver.ledger.session
        if session is None:
            return False
        same = (session.plan, session.rounds) == (plan, rounds)
        if not session.over:
            log.info("session goes on", session_id=session.session_id, as_asked=same)
        elif same:
            log.info("session is over already", hint="headwater session start runs another one")
        return same or not session.over

    async def start(self, host: str, port: int) -> None:
        """Bind and serve; ``driver.run`` takes what comes in.

        Raises:
            SettingsError: The port is in use.
            StoreError: The current checkpoint cannot be read.
        """
        await self.driver.prepare()
        coordination = CoordinationService(
            self.driver,
            self._inspector,
            self._tenure,
            return_s=self._limits.return_s,
        )
        myself = Myself(
            str(self._shared_data.resolve()), VERSION, self._tenure.mark, self._federation_id
        )
        control = ControlService(self.driver, self._plan_of, myself)
        coordination_pb2_grpc.add_CoordinationServicer_to_server(coordination, self._server)
        control_pb2_grpc.add_ControlServicer_to_server(control, self._server)
        health = await add_health(self._server, SERVICES)
        self.port = bind(self._server, host, port)
        await self._server.start()
        await set_serving(health, SERVICES, serving=True)
        if self.announcer is not None:
            self.announcer.start(self.driver)

    def expose(self, host: str, port: int) -> None:
        """Let Prometheus look; raises ``SettingsError`` if the port is in use."""
        self.metrics.watch(self.driver, self.announcer)
        self.exposition.start(host, port)

    async def stop(self, grace_s: float = 0.5) -> None:
        """End every stream and give the threads back."""
        await self._server.stop(grace_s)
        if self.announcer is not None:
            await self.announcer.stop()
        await self.exposition.stop()
        self._inspector.shut_down()
        self._committer.shut_down()
        self._memory.shut_down()
        self._tenure.release()


def run(settings: CoordinatorSettings) -> int:
    """Be the coordinator's process; return its exit status."""
    return asyncio.run(_serve(settings))


async def _serve(settings: CoordinatorSettings) -> int:
    stop = stop_on_signals()
    plan = settings.plan()
    limits = Limits(
        held_max=settings.held_max,
        history_keep=settings.history_keep,
        return_s=plan.return_s,
        keepalive_s=settings.keepalive_s,
        keepalive_timeout_s=settings.keepalive_timeout_s,
    )
    coordinator = Coordinator(settings.shared_data, limits, settings.plan, settings.push())
    await coordinator.start(settings.host, settings.port)
    if settings.metrics_port is not None:
        coordinator.expose(settings.host, settings.metrics_port)
    say_listening(
        "coordinator",
        "coordinator",
        settings.host,
        coordinator.port,
        metrics_port=coordinator.exposition.port,
    )

    async def serve_until_told() -> None:
        await coordinator.driver.ready.wait()
        if settings.rounds is not None and not coordinator.remembers(plan, settings.rounds):
            await coordinator.driver.sessions.start(plan, settings.rounds)
        await stop.wait()
        await coordinator.driver.sessions.drain(settings.drain_s)

    try:
        await until_first(coordinator.driver.run(), serve_until_told())
    finally:
        await coordinator.stop()
    return 0
