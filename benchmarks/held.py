"""Clients that are held and wait: how long until all are, what that costs, how long to wake all."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from benchmarks.measured import HOSTS, Process, Use, share
from benchmarks.payload import model
from federation.runtime.initialise import initialise_with
from federation.v1 import control_pb2, control_pb2_grpc

CONNECTIONS = 2
"""Connections of each process of clients."""

IDLE_S = 20.0
"""How long it is watched what waiting costs."""

SETTLE_S = 3.0
"""Pause before that, for what was begun."""


def measure_held(clients: int, folder: Path) -> dict[str, Any]:
    """Hold so many clients, watch them wait, wake all of them for a round, send all of them away.

    Returns:
        Seconds of each step, and of each role while all waited: CPU as a share of one core, memory.
    """
    shared_data = folder / "shared_data"
    initialise_with(shared_data, model(1))
    common = ["--shared-data", shared_data, "--port", 0, "--log-level", "error"]
    with ExitStack() as stack:

        def start(name: str, module: str, *arguments: object) -> Process:
            log = folder / f"{name}.log"
            return stack.enter_context(Process(name, module, arguments, log))

        coordinator = start("coordinator", "coordinator", *common)
        address = f"127.0.0.1:{coordinator.line()['port']}"
        named = ("--selector-id", "selector-0", "--coordinator", address)
        selector = start("selector-0", "selector", *common, *named)
        target = f"127.0.0.1:{selector.line()['port']}"
        hosts = []
        began_s = time.time()
        for host in range(HOSTS):
            first, count = share(clients, host)
            arguments = (target, first, count, CONNECTIONS)
            hosts.append(start(f"clients-{host}", "benchmarks.held_clients", *arguments))
        held_s = _last(hosts, "held") - began_s
        _wait_until_held(address, clients)
        told_s = time.time() - began_s
        idle = _watch([coordinator, selector])
        with grpc.insecure_channel(address) as channel:
            control: Any = control_pb2_grpc.ControlStub(channel)
            began_s = time.time()
            control.StartSession(control_pb2.StartSessionRequest(rounds=1, goal_count=clients))
            woken_s = _last(hosts, "configured") - began_s
            began_s = time.time()
            control.StopSession(control_pb2.StopSessionRequest())
            away_s = _last(hosts, "aborted") - began_s
    return {
        "held_clients": clients,
        "connections": HOSTS * CONNECTIONS,
        "held_seconds": held_s,
        "counted_seconds": told_s,
        "woken_seconds": woken_s,
        "sent_away_seconds": away_s,
        "idle_seconds": IDLE_S,
        "idle": idle,
    }


def _last(hosts: list[Process], step: str) -> float:
    """Return when the last client of all came so far."""
    lines = [host.line() for host in hosts]
    assert all(line["step"] == step for line in lines), lines
    return max(float(line["time_s"]) for line in lines)


def _wait_until_held(address: str, clients: int) -> None:
    """Wait until the coordinator counts all of them."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = control_pb2_grpc.ControlStub(channel)
        for status in stub.WatchStatus(control_pb2.WatchStatusRequest()):
            if sum(selector.held for selector in status.selectors) >= clients:
                return


def _watch(processes: list[Process]) -> dict[str, dict[str, float]]:
    time.sleep(SETTLE_S)
    before: list[Use] = [process.use() for process in processes]
    time.sleep(IDLE_S)
    after = [process.use() for process in processes]
    return {
        process.name: {
            "cpu_percent": 100 * (end.cpu_s - begin.cpu_s) / IDLE_S,
            "mib": end.mib,
        }
        for process, begin, end in zip(processes, before, after, strict=True)
    }
