"""Lets the faults of a schedule happen to a world."""

from __future__ import annotations

import asyncio
import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.faults import COORDINATOR, EVERYBODY, ISOLATING_TRAP, Fault
from tests.simulation.loop import Died, Process

if TYPE_CHECKING:
    from tests.simulation.world import World


class Mishaps:
    """What goes wrong in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._traps: list[Fault] = []

    def go_wrong(self, fault: Fault) -> None:
        """Let one fault happen."""
        self._world.note("FAULT", str(fault))
        around = self._world.around
        process = self._world.processes.get(fault.target)
        match fault.kind:
            case "crash" if process is not None and process.is_alive:
                self._world.down_s[fault.target] = fault.seconds
                process.kill()
            case "suspend" if process is not None and process.is_alive:
                process.suspend()
                if fault.target == COORDINATOR:
                    self._world.down.begin()
                self._world.later(fault.seconds, partial(self._wake, process))
            case "cut" | "half-open" | "silence" | "flaky":
                self._disturb_all(fault)
            case "isolate":
                self._isolate(fault)
            case "trap":
                self._traps.append(fault)
            case "refuse" | "slow" | "lag":
                self._trouble(fault)
            case "clock":
                around.wall_offset_s += fault.seconds
            case "twin" if fault.target not in self._world.scenario.spooled:
                self._world.start_selector(fault.target)
            case "drain":
                around.drains.setdefault(fault.target, asyncio.Event()).set()

    def _disturb_all(self, fault: Fault) -> None:
        everybody = fault.target == EVERYBODY
        for target in self._world.scenario.clients if everybody else (fault.target,):
            self._disturb(fault, target, fault.other)

    def _isolate(self, fault: Fault) -> None:
        network = self._world.around.network
        for other in (COORDINATOR, *self._world.scenario.clients):
            network.cut(fault.target, other, 0.2)
            network.silence(fault.target, other, fault.seconds)

    def _trouble(self, fault: Fault) -> None:
        now_s = self._world.loop.time()
        trouble = self._world.around.troubles[fault.target]
        match fault.kind:
            case "refuse":
                late = fault.number < 0
                trouble.refuse(now_s, fault.seconds, abs(fault.number), is_late=late)
            case "slow":
                trouble.slow_until_s, trouble.slow_s = now_s + 10.0, fault.seconds
            case "lag":
                trouble.lag_until_s, trouble.lag_s = now_s + 10.0, fault.seconds

    def _disturb(self, fault: Fault, one: str, other: str) -> None:
        network = self._world.around.network
        match fault.kind:
            case "cut":
                network.cut(one, other, 0.05)
            case "half-open":
                network.cut(one, other, min(15.0, 1.0 + fault.seconds))
            case "silence":
                network.silence(one, other, fault.seconds)
            case "flaky":
                network.make_flaky(one, other, fault.seconds)

    def happened(self, trigger: str) -> None:
        """Something became durable or visible, for which a trap may be set."""
        for fault in [fault for fault in self._traps if fault.other == trigger]:
            self._traps.remove(fault)
            sprung = dataclasses.replace(
                fault, kind="isolate" if fault.number >= ISOLATING_TRAP else "crash"
            )
            delay_s = fault.number % ISOLATING_TRAP * 0.002
            self._world.later(delay_s, partial(self.go_wrong, sprung))

    def _wake(self, process: Process) -> None:
        process.wake()
        if process is self._world.processes.get(COORDINATOR) and process.is_alive:
            assert self._world.driver is not None
            if self._world.driver.ready.is_set():
                self._world.down.end()

    def heal(self) -> None:
        """Nothing goes wrong from now on."""
        self._world.note("HEALED")
        self._traps.clear()
        self._world.around.heal()
        for process in self._world.everybody:
            self._wake(process)

    def coordinator_died(self, process: Process) -> None:
        """Jobs that its threads had begun end, do not begin, or die half-way."""
        self._world.down.begin()
        journal_os = self._world.around.journal_os
        for executor in process.executors:
            for job in executor.running.values():
                journal_os.dies_after = self._world.rng.choice((0, 0, 1, 2, 3, 9))
                try:
                    if executor.name == "journal" or self._world.rng.random() < 0.5:
                        job()
                except (Died, Exception):  # noqa: BLE001 - nobody is there to hear of it
                    pass
        journal_os.crash()
