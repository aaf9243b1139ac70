"""The three roles put together of their real parts, with simulated threads, disks and channels."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from client.artifacts import Artifacts
from client.session import ClientSession
from client.trainer import Trainer, TrainerFailed, TrainerThread, TrainingStopped
from coordinator.committer import Committer
from coordinator.driver import Driver
from coordinator.inspector import Inspector
from coordinator.memory import Memory
from coordinator.service import CoordinationService
from coordinator.tenure import Tenure
from federation.errors import StoreError
from federation.plan import RoundPlan
from federation.runtime.clock import Clock
from federation.runtime.frames import add_participation
from federation.runtime.tasks import until_first
from federation.v1 import coordination_pb2_grpc
from selector.selector import Selector
from selector.service import ParticipationService
from selector.spool import Spool
from selector.uplink import Superseded, Uplink
from tests.simulation.directory import SimulatedShelf
from tests.simulation.faults import COORDINATOR
from tests.simulation.loop import PROCESS, Process
from tests.simulation.surroundings import Surroundings


async def coordinate(
    around: Surroundings,
    plan: RoundPlan,
    rounds: int,
    began: Callable[[Driver], None],
    serves: Callable[[], None],
) -> None:
    """Be a coordinator, until killed; as ``coordinator.app`` has it."""
    process = PROCESS.get()
    assert process is not None
    directory: Any = around.directory
    tenure = Tenure(around.folder)
    around.at_end_of(process, tenure.release)
    memory = Memory(around.folder, directory.recover())
    around.at_end_of(process, memory._journal.close)
    clock = Clock(
        at_least_s=memory.at_s, wall=around.wall_s, monotonic=asyncio.get_running_loop().time
    )
    committer = Committer(directory, 20, tenure.check)
    window = plan.retry_window
    driver = Driver(committer, memory, clock, held_max=20_000, retry_window=window)
    began(driver)
    inspector = Inspector(directory, driver)
    service = CoordinationService(driver, inspector, tenure, return_s=plan.return_s)
    await driver.prepare()

    def add(server: Any) -> None:
        coordination_pb2_grpc.add_CoordinationServicer_to_server(service, server)

    around.network.serve(COORDINATOR, process, add)

    async def start_session() -> None:
        await driver.ready.wait()
        serves()
        if driver.ledger.session is None:
            await driver.sessions.start(plan, rounds)
        await asyncio.Event().wait()

    await until_first(driver.run(), start_session())


async def select(
    around: Surroundings,
    selector_id: str,
    rng: random.Random,
    reports_in_flight_max: int,
    began: Callable[[Selector, Uplink], None],
    *,
    spooled: bool,
) -> None:
    """Be a selector, until killed, superseded or drained; as ``selector.app`` has it."""
    process = PROCESS.get()
    assert process is not None
    directory: Any = around.directory
    selector = Selector(
        selector_id,
        directory,
        reports_in_flight_max=reports_in_flight_max,
        report_stall_s=8.0,
        held_max=20_000,
        keep_updates=False,
        spool=_spool(around, process, selector_id, rng) if spooled else None,
    )
    shelf: Any = SimulatedShelf(around.directory)
    selector.shelf = shelf
    selector.address = selector_id
    uplink = Uplink(selector, COORDINATOR, 10.0, 5.0, draw=rng.uniform)
    await selector.resume()
    began(selector, uplink)

    def add(server: Any) -> None:
        service = ParticipationService(selector, 8.0)
        add_participation(service, server)

    around.network.serve(selector_id, process, add)

    async def drain_when_told() -> None:
        await around.drains[selector_id].wait()
        selector.start_draining()
        try:
            async with asyncio.timeout(5.0):
                await selector.idle.wait()
        except TimeoutError:
            pass
        await uplink.say_last(selector.finish_draining())

    try:
        await until_first(uplink.run(), selector.desk.watch_stalls(), drain_when_told())
    except Superseded:
        selector.yield_to_another()


def _spool(around: Surroundings, process: Process, selector_id: str, rng: random.Random) -> Spool:
    """Return the selector's spool, on a real but fast disk."""
    spool = Spool(around.folder / f"spool-{selector_id}", 1 << 20)

    def ended() -> None:
        """What its threads had begun, the disk has, or has not."""
        for executor in process.executors:
            for job in executor.running.values():
                if executor.name in ("fold", "disk") and rng.random() < 0.5:
                    with suppress(Exception):
                        job()
        spool.close()

    around.at_end_of(process, ended)
    around.left_open.callback(spool.close)
    return spool


def client(
    client_id: str, targets: list[str], trainer: Trainer, rng: random.Random
) -> ClientSession:
    """Make a client that ends with its session."""
    thread: Any = _Thread(rng)
    return ClientSession(
        client_id,
        targets,
        trainer,
        one_session=True,
        artifacts=Artifacts(cast(Any, _NoCache())),
        thread=cast(TrainerThread, thread),
        draw=rng.uniform,
    )


class _NoCache:
    """No model file is fetched."""

    def close(self) -> None:
        """Nothing is open."""


class _Thread:
    """Stands in for ``TrainerThread``: training takes virtual time."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call it after a while."""
        slow = self._rng.random() < 0.1
        await asyncio.sleep(self._rng.uniform(0, 20.0) if slow else self._rng.uniform(0.01, 2.0))
        try:
            return function(*args)
        except TrainingStopped:
            raise
        except Exception as error:
            raise TrainerFailed(str(error)) from error

    def close(self) -> None:
        """There is no thread."""


def is_expected(process: Process) -> bool:
    """Say whether a process may end like this: a disk that refuses at the start is no bug."""
    failure = process.failure
    return failure is None or isinstance(failure, StoreError)
