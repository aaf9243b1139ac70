"""The network itself fails: a link that is down for longer than the keepalive, and one that loses.

As ``test_network_faults``, but below TCP, in network namespaces; ``make crashes`` runs it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from federation.v1 import control_pb2 as pb
from tests.prove.ordeal import CLIENTS, COORDINATOR, EVERYBODY, MEMBERS, SELECTORS, Ordeal, reported
from tests.system.chaos import ChaosProxy
from tests.system.chaos_namespaces import ADDRESSES, Apart
from tests.system.processes import Federation, Process
from tests.system.test_network_faults import LONG_S, NOTICES, WINDOW_S

pytestmark = pytest.mark.prove

LOSS = 0.3
"""Of the packets, in each direction."""

AWAY = {
    "client to selector": ("client-2", "client-3"),
    "selector to coordinator": ("south", "client-2", "client-3"),
}
"""Who is at the far end of the wire."""

PATIENT = {"keepalive_s": 3, "keepalive_timeout_s": 5}
"""A sign of life is sent again and again until it arrives."""


@pytest.fixture
async def apart() -> AsyncIterator[Apart]:
    async with Apart() as apart:
        yield apart


@pytest.fixture
async def ordeal_across(
    apart: Apart, bare: Federation, record_property: Any
) -> AsyncIterator[Ordeal]:
    """An ordeal in namespaces; a window lets the test ask the coordinator."""
    ordeal = Ordeal(bare, LONG_S)
    record_property("figures", ordeal.figures)
    ports: dict[str, int] = {}
    async with ChaosProxy(lambda: apart.dial(0, ports[COORDINATOR])) as window:

        def settle(process: Process) -> None:
            ports[process.name] = process.port
            address = f"{ordeal.hosts[process.name]}:{process.port}"
            if process.name == COORDINATOR:
                process.port = window.port
            for who in (CLIENTS, *SELECTORS):
                ordeal.routes[who, process.name] = address

        ordeal.when_listening = settle
        yield ordeal
        for process in bare.all:
            await process.kill()


def put_apart(ordeal: Ordeal, apart: Apart, link: str) -> None:
    """Let the wire be this link."""
    for name in (COORDINATOR, *SELECTORS, *MEMBERS):
        side = int(name in AWAY[link])
        ordeal.prefixes[name] = apart.prefix(side)
        if name not in MEMBERS:
            ordeal.hosts[name] = ADDRESSES[side]


@pytest.mark.parametrize("phase", ["selection", "training", "mid-report"])
@pytest.mark.parametrize("link", AWAY)
async def test_link_is_down_for_longer_than_the_keepalive(
    apart: Apart, ordeal_across: Ordeal, link: str, phase: str
) -> None:
    """Both sides act as for a lost peer, and go on where they were when it is up again."""
    ordeal = ordeal_across
    put_apart(ordeal, apart, link)
    await ordeal.reach(phase)

    apart.cut()
    if phase != "selection":
        ordeal.let_go()
    name, words = NOTICES[link]
    await ordeal.processes[name].logs_any(words)
    apart.mend()
    ordeal.let_go()
    record = await ordeal.ends()
    await ordeal.everybody_works()

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert reported(record) == EVERYBODY


@pytest.mark.parametrize("link", AWAY)
async def test_link_loses_packets_all_round_long(
    apart: Apart, ordeal_across: Ordeal, link: str
) -> None:
    """It takes longer, and nothing else."""
    ordeal = ordeal_across
    put_apart(ordeal, apart, link)
    ordeal.alive.update(PATIENT)
    ordeal.times["report_window_s"] = WINDOW_S
    await ordeal.reach("training")

    apart.loss = LOSS
    ordeal.let_go()
    record = await ordeal.ends()
    apart.loss = 0.0
    await ordeal.everybody_works()

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert reported(record) == EVERYBODY
    assert apart.lost
