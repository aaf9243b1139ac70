"""The network between two roles fails for a while: cut, stalled, slow, deaf in one direction.

A proxy stands between client-2, client-3 and their selector south, or between south and the
coordinator. Nobody is away for longer than ``return_s``, so that everybody is in the round's sum,
once; ``test_cut_off_for_longer`` is the other case. One case of each link runs every day, the
others with ``make crashes``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from federation.v1 import control_pb2 as pb
from tests.prove.ordeal import CLIENTS, COORDINATOR, EVERYBODY, Ordeal, reported
from tests.system.chaos import DOWN, UP, ChaosProxy
from tests.system.processes import Federation, Process, Settings
from tests.waiting import within

LONG_S = 20.0
"""A ``return_s`` that no fault outlasts."""

SHORT_S = 3.0
"""A ``return_s`` that a fault outlasts."""

WINDOW_S = 60.0
"""Of reporting, where the network is slow."""

PATIENT: Settings = {"keepalive_s": 10, "keepalive_timeout_s": 5}
"""Where it is slow: a ping waits behind the data."""

TOO_SLOW_BYTES_PER_S = 1 << 18
"""A chunk of 1 MiB takes longer than the keepalive of an ordeal allows."""

LINKS = {
    "client to selector": (CLIENTS, "south"),
    "selector to coordinator": ("south", COORDINATOR),
}
"""Who dials whom."""

MID_CHUNK = {"client to selector": 700_000, "selector to coordinator": 60}
"""Bytes after which a connection is reset: within a chunk, within a message."""

Fault = Callable[[ChaosProxy, str], None]

NOTICED: dict[str, Fault] = {
    "cut": lambda proxy, link: proxy.cut(),
    "stall": lambda proxy, link: proxy.stall(),
    "half-open": lambda proxy, link: proxy.half_open(),
    "only up": lambda proxy, link: proxy.one_way(open_way=UP),
    "only down": lambda proxy, link: proxy.one_way(open_way=DOWN),
}
"""Faults that last until keepalive has found them."""

BORNE: dict[str, Fault] = {
    "delay": lambda proxy, link: proxy.delay(0.2),
    "slow drip": lambda proxy, link: proxy.drip(bytes_per_s=1 << 19),
    "reset in mid-chunk": lambda proxy, link: proxy.reset_within(MID_CHUNK[link]),
}
"""Faults that last as long as the round."""

PHASES = ("selection", "training", "mid-report")

EVERY_DAY = {
    ("client to selector", "half-open", "mid-report"),
    ("selector to coordinator", "stall", "training"),
}

NOTICES = {
    "client to selector": ("client-2", {"stream cut", "selector not reached"}),
    "selector to coordinator": ("south", {"coordinator not reached"}),
}
"""Who says that the link is gone, and how."""


def cases(faults: dict[str, Fault]) -> list[Any]:
    """Return (link, fault, phase) of these faults."""
    every = [(link, fault, phase) for link in LINKS for fault in faults for phase in PHASES]
    return [
        pytest.param(
            *case, id=", ".join(case), marks=[] if case in EVERY_DAY else [pytest.mark.prove]
        )
        for case in every
    ]


@pytest.fixture
def figures(record_property: Any) -> dict[str, float]:
    """What a case puts into the table."""
    figures: dict[str, float] = {}
    record_property("figures", figures)
    return figures


@pytest.fixture
async def proxy() -> AsyncIterator[ChaosProxy]:
    async with ChaosProxy() as proxy:
        yield proxy


def ordeal_through(
    proxy: ChaosProxy, link: str, federation: Federation, figures: dict[str, float], return_s: float
) -> Ordeal:
    """Return an ordeal in which this link leads through the proxy."""
    who, whom = LINKS[link]
    ordeal = Ordeal(federation, return_s, figures=figures)
    ordeal.routes[who, whom] = proxy.address

    def aim(process: Process) -> None:
        if process.name == whom:
            proxy.target = process.address

    ordeal.when_listening = aim
    return ordeal


async def noticed(ordeal: Ordeal, link: str) -> None:
    """Wait until the one who dials says that the link is gone."""
    name, words = NOTICES[link]
    await ordeal.processes[name].logs_any(words)


@pytest.mark.parametrize(("link", "fault", "phase"), cases(NOTICED))
async def test_link_fails_until_keepalive_has_found_it(
    bare: Federation,
    proxy: ChaosProxy,
    figures: dict[str, float],
    link: str,
    fault: str,
    phase: str,
) -> None:
    """Both sides act as for a lost peer, and go on where they were when it is mended."""
    ordeal = ordeal_through(proxy, link, bare, figures, LONG_S)
    await ordeal.reach(phase)

    NOTICED[fault](proxy, link)
    if phase != "selection":  # else the round would begin without them
        ordeal.let_go()
    await noticed(ordeal, link)
    proxy.mend()
    ordeal.let_go()
    record = await ordeal.ends()
    await ordeal.everybody_works()

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert reported(record) == EVERYBODY


@pytest.mark.parametrize(("link", "fault", "phase"), cases(BORNE))
async def test_link_is_bad_all_round_long(
    bare: Federation,
    proxy: ChaosProxy,
    figures: dict[str, float],
    link: str,
    fault: str,
    phase: str,
) -> None:
    """A report goes on where it was cut; nobody is counted twice for having tried twice."""
    ordeal = ordeal_through(proxy, link, bare, figures, LONG_S)
    ordeal.times["report_window_s"] = WINDOW_S
    ordeal.alive.update(PATIENT)
    await ordeal.reach(phase)

    BORNE[fault](proxy, link)
    ordeal.let_go()
    if fault == "reset in mid-chunk":
        await within(proxy.happened.wait())
    record = await ordeal.ends()
    proxy.mend()
    await ordeal.everybody_works()

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert reported(record) == EVERYBODY


@pytest.mark.prove
@pytest.mark.parametrize("phase", ["selection", "training"])
async def test_link_carries_no_chunk_before_it_is_given_up(
    bare: Federation, proxy: ChaosProxy, figures: dict[str, float], phase: str
) -> None:
    """Smaller chunks are tried, and come through: before it, each try began where the last did."""
    link = "client to selector"
    ordeal = ordeal_through(proxy, link, bare, figures, LONG_S)
    ordeal.times["report_window_s"] = WINDOW_S
    await ordeal.reach(phase)

    proxy.drip(TOO_SLOW_BYTES_PER_S)
    ordeal.let_go()
    record = await ordeal.ends()
    proxy.mend()
    await ordeal.everybody_works()

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert reported(record) == EVERYBODY


@pytest.mark.prove
@pytest.mark.parametrize("phase", ["training", "mid-report", "mid-partial-write"])
async def test_cut_off_for_longer_than_return_s(
    bare: Federation, proxy: ChaosProxy, figures: dict[str, float], phase: str
) -> None:
    """The selector is void: what it still writes or says changes nothing; then it serves again."""
    link = "selector to coordinator"
    ordeal = ordeal_through(proxy, link, bare, figures, SHORT_S)
    await ordeal.reach(phase)

    proxy.stall()
    ordeal.let_go()
    record = await ordeal.ends()
    proxy.mend()
    await ordeal.everybody_works()

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert "client-1" in reported(record)
    assert {c.selector_id for c in record.clients if c.standing == "reported"} == {"north"}
