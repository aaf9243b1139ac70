"""``make crashes``: clients, selectors and the coordinator die or stand still, one or two at once.

In each phase of a round, with real processes. Half of the dead are started again at once, with the
same flags, the others only after the round (a coordinator always at once). The round ends within
its bound, its checkpoint is the one that follows from its record, nobody is counted twice, and
afterwards there is a round with everybody. Two of the cases run every day.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Collection
from typing import Any

import pytest

from federation.v1 import control_pb2 as pb
from tests.prove.ordeal import (
    ALIVE,
    COORDINATOR,
    EVERYBODY,
    PHASES,
    SELECTORS,
    Ordeal,
    reported,
)
from tests.system.processes import Federation

LONG_S = 20.0
"""A ``return_s`` within which a process is started again, also on a loaded machine."""

SHORT_S = 3.0
"""A ``return_s`` after which nobody is waited for any longer."""

SELECTION_S = 10.0
"""For clients to check in, where one of them never does."""

STANDSTILL_S = sum(ALIVE.values()) + 1.0
"""Longer than it takes keepalive to find a silent peer."""

VICTIMS = {
    "client": {"client-3"},
    "selector": {"south"},
    "coordinator": {COORDINATOR},
    "two clients": {"client-2", "client-3"},
    "client and its selector": {"client-3", "south"},
    "client and coordinator": {"client-3", COORDINATOR},
    "selector and coordinator": {"south", COORDINATOR},
    "both selectors": {"north", "south"},
}

SINGLE = ("client", "selector", "coordinator")

EVERY_DAY = {
    ("client and its selector", "mid-report", False),
    ("selector and coordinator", "training", True),
}


def cases() -> list[Any]:
    """Return victims, phase, and whether they come back at once; pairs do so by turns."""
    found: list[tuple[str, str, bool]] = []
    for row, victims in enumerate(VICTIMS):
        for column, phase in enumerate(PHASES):
            ways: tuple[bool, ...] = ((row + column) % 2 == 0,)
            if victims in SINGLE:
                ways = (True,) if victims == COORDINATOR else (False, True)
            found += [(victims, phase, back) for back in ways]
    return [
        pytest.param(
            *case,
            id=f"{case[0]}, {case[1]}, {'back at once' if case[2] else 'back after the round'}",
            marks=[] if case in EVERY_DAY else [pytest.mark.prove],
        )
        for case in found
    ]


def counted(phase: str, victims: Collection[str], back_at_once: bool) -> Collection[str] | None:
    """Return who is in the round's sum; None: it depends on who is faster."""
    if phase == "mid-commit":
        return EVERYBODY  # the partials are kept
    if phase == "mid-partial-write":
        lost = {"north": {"client-1"}, "south": {"client-2", "client-3"}}
        return EVERYBODY - set().union(*(lost.get(name, set()) for name in victims))
    if set(SELECTORS) <= set(victims):
        return None if back_at_once else frozenset()
    return EVERYBODY if back_at_once else EVERYBODY - set(victims)


@pytest.fixture
def figures(record_property: Any) -> dict[str, float]:
    """What a case puts into the table."""
    figures: dict[str, float] = {}
    record_property("figures", figures)
    return figures


@pytest.mark.parametrize(("victims", "phase", "back_at_once"), cases())
async def test_killed_in(
    bare: Federation, figures: dict[str, float], victims: str, phase: str, back_at_once: bool
) -> None:
    """At the same time, without a warning."""
    ordeal = Ordeal(bare, LONG_S if back_at_once else SHORT_S, figures=figures)
    if phase == "selection" and not back_at_once:
        ordeal.times["selection_timeout_s"] = SELECTION_S
    names = VICTIMS[victims]
    await ordeal.reach(phase)

    await ordeal.kill(names)
    ordeal.let_go()
    at_once = names if back_at_once else names & {COORDINATOR}
    await ordeal.come_back(sorted(at_once))
    record = await ordeal.ends()
    await ordeal.come_back(sorted(names - at_once))
    await ordeal.everybody_works()

    expected = counted(phase, names, back_at_once)
    if expected is not None:
        assert reported(record) == set(expected)
        committed = pb.OUTCOME_COMMITTED if expected else pb.OUTCOME_ABANDONED
        assert record.outcome == committed


# -- Standing still ---------------------------------------------------------------------------


@pytest.mark.prove
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("victim", SINGLE)
async def test_stands_still_for_longer_than_the_keepalive(
    bare: Federation, figures: dict[str, float], victim: str, phase: str
) -> None:
    """It is taken for lost, goes on as if nothing had happened, and its work counts, once."""
    ordeal = Ordeal(bare, LONG_S, figures=figures)
    [name] = VICTIMS[victim]
    await ordeal.reach(phase)

    stopped = ordeal.processes[name]
    stopped.signal(signal.SIGSTOP)
    if name == COORDINATOR:
        ordeal.was_away()
    await asyncio.sleep(STANDSTILL_S)
    stopped.signal(signal.SIGCONT)
    if name == COORDINATOR:
        ordeal.was_back()
    ordeal.let_go()
    record = await ordeal.ends()
    await ordeal.everybody_works()

    assert reported(record) == EVERYBODY
    assert record.outcome == pb.OUTCOME_COMMITTED


@pytest.mark.prove
@pytest.mark.parametrize("phase", PHASES[1:])
async def test_selector_stands_still_until_the_round_went_on_without_it(
    bare: Federation, figures: dict[str, float], phase: str
) -> None:
    """Void before it came back: what it had folded, and what it writes now, changes nothing."""
    ordeal = Ordeal(bare, SHORT_S, figures=figures)
    await ordeal.reach(phase)

    ordeal.processes["south"].signal(signal.SIGSTOP)
    ordeal.let_go()
    record = await ordeal.ends()
    ordeal.processes["south"].signal(signal.SIGCONT)
    await ordeal.everybody_works()

    at_north = {c.client_id for c in record.clients if c.selector_id == "north"}
    kept_before = phase == "mid-commit"
    assert reported(record) == (EVERYBODY if kept_before else reported(record) & at_north)
    assert "client-1" in reported(record)
    assert record.outcome == pb.OUTCOME_COMMITTED
