"""One federation that is brought to a phase and then suffers, and what must hold of its rounds.

Three clients at two selectors: client-1 at north, client-2 and client-3 at south. The model has
several chunks, so that a report can be half sent. Each client adds a known number of steps to the
weights and has a known number of examples, so that each round's checkpoint follows to the bit from
the one before and from the names of those that were counted: whoever is counted twice or left out
gives another one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from federation.runtime.control import get_rounds, start_session
from federation.runtime.hdf5 import read_weights
from federation.runtime.initialise import initialise_with
from federation.tensors import encode
from federation.v1 import control_pb2 as pb
from tests.raw_client import sha256
from tests.system.crashing import GATE
from tests.system.processes import AT_ONCE, PYTHON, Federation, Process, Settings, standings
from tests.system.trainers import STEP, Weights

CRASHING = (PYTHON[0], "-m", "tests.system.crashing")

SLACK_S = 5.0
"""What processes and a loaded machine may add to a round's longest time."""

ROUNDS = 1000
"""More than any case sees."""

FURTHER_ROUNDS_MAX = 5
"""Rounds in which everybody must be found together once more."""


@dataclass(frozen=True)
class Member:
    """A client: how many steps it adds, how many examples it has in round 1, its selectors."""

    steps: int
    examples: int
    selectors: tuple[str, ...]


MEMBERS = {
    "client-1": Member(1, 1, ("north", "south")),
    "client-2": Member(2, 2, ("south", "north")),
    "client-3": Member(4, 4, ("south", "north")),
}
"""No two sets of them have the same weighted mean."""

SELECTORS = ("north", "south")
COORDINATOR = "coordinator"
CLIENTS = "clients"
EVERYBODY = frozenset(MEMBERS)

PHASES = (
    "selection",
    "configuration",
    "training",
    "mid-report",
    "mid-partial-write",
    "mid-commit",
)

ALIVE: Settings = {"keepalive_s": 1, "keepalive_timeout_s": 2}
"""Of every process: one that stands still is found after three seconds."""

# Short, and yet longer than it takes a loaded machine to start processes again.
TIMES: Settings = {
    "selection_timeout_s": 30,
    "report_window_s": 30,
    "grace_s": 15,
    "commit_timeout_s": 15,
}


def initial() -> Weights:
    """Three chunks and a bit."""
    return {"w": np.full((1024, 768), 0.5, np.float32), "b": np.full(3, 0.5, np.float32)}


@dataclass
class Ordeal:
    """The federation of one case.

    Args:
        federation: Without a shared directory yet.
        return_s: What a process has to come back.
        alive: Keepalive of every process.

    Attributes:
        figures: Seconds that the case took, for people.
        routes: HOST:PORT at which a server is reached, where it is not its own, by who dials and
            whom; who dials a selector is ``CLIENTS``.
        when_listening: Called with each server that listens.
        prefixes: What comes before the command of a process.
        hosts: Where a server listens, if not on 127.0.0.1.
    """

    federation: Federation
    return_s: float
    alive: Settings = field(default_factory=ALIVE.copy)
    times: Settings = field(default_factory=TIMES.copy)
    figures: dict[str, float] = field(default_factory=dict)
    routes: dict[tuple[str, str], str] = field(default_factory=dict)
    prefixes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    when_listening: Callable[[Process], None] = lambda process: None
    round_number: int = 0
    _downtime_s: float = 0.0
    _went_s: float = 0.0

    def __post_init__(self) -> None:
        initialise_with(self.federation.shared_data, initial())

    # -- Getting there --------------------------------------------------------------------------

    @property
    def crash_gate(self) -> Path:
        """Appears when whoever holds may go on."""
        return self.federation.folder / "crash-gate"

    async def reach(self, phase: str) -> None:
        """Start everybody, and return when the federation is in this phase of its round."""
        in_commit, in_seal = phase == "mid-commit", phase == "mid-partial-write"
        self.round_number = 1 if phase == "selection" else 2
        self.federation.open_gate(1)
        if in_commit or in_seal or phase == "mid-report":
            self.federation.open_gate(2)
        await self.start(COORDINATOR, "in-staging@2" if in_commit else "")
        opening = "before-base#2" if phase == "configuration" else ""
        sealing = "in-partial#2" if in_seal else ""
        await asyncio.gather(self.start("north", sealing), self.start("south", sealing or opening))
        for client_id in MEMBERS:
            reporting = phase == "mid-report" and client_id != "client-1"
            late = phase == "selection" and client_id == "client-1"
            point = "in-report#2" if reporting else ""
            await self.start(client_id, point, trainer="Late" if late else "Gated")
        if phase == "selection":
            await self.processes["client-1"].logs("made soon")
        await self.federation.waiting(len(MEMBERS) - (phase == "selection"))
        # By hand, so that the time to check in does not pass while processes start.
        await start_session(self.processes[COORDINATOR].address, ROUNDS, {})
        await self._arrive(phase)

    async def _arrive(self, phase: str) -> None:
        if phase == "selection":
            await self.until(lambda r: r.counts.admitted == 2, "two of three admitted")
        elif phase == "configuration":
            await self.processes["south"].logs("holds")
            await self.processes["client-1"].logs("training", round_number=2)
        elif phase == "training":
            for client_id in MEMBERS:
                await self.processes[client_id].logs("training", round_number=2)
        elif phase == "mid-report":
            for client_id in ("client-2", "client-3"):
                await self.processes[client_id].logs("holds")
            await self.until(lambda r: r.counts.folded == 1, "one of three folded")
        else:
            holders = SELECTORS if phase == "mid-partial-write" else (COORDINATOR,)
            for name in holders:
                await self.processes[name].logs("holds")

    async def until(self, condition: Callable[[pb.RoundStatus], bool], what: str) -> None:
        """Wait until the round that suffers is so."""
        await self.federation.until(
            lambda s: s.round.round_number == self.round_number and condition(s.round), what
        )

    async def start(self, name: str, hold: str = "", *, trainer: str = "Gated") -> None:
        """Start a process, or start it again at the port that it had."""
        command: Sequence[str] = (*CRASHING, f"hold={hold}") if hold else PYTHON
        command = (*self.prefixes.get(name, ()), *command)
        environment = {GATE: str(self.crash_gate)}
        settings: Settings = {**self.alive}
        if name in MEMBERS:
            member = MEMBERS[name]
            environment |= self.federation.trainer_environment(member.steps, member.examples)
            settings |= {
                "client_id": name,
                "selector": [self.address(CLIENTS, selector) for selector in member.selectors],
                "trainer": f"tests.system.trainers:{trainer}",
            }
            self.processes[name] = await self.federation.start(
                name, [*command, "client"], environment, **settings
            )
            return
        earlier = self.processes.get(name)
        settings |= {
            "shared_data": self.federation.shared_data,
            "port": earlier.port if earlier is not None else 0,
        }
        settings |= {"host": self.hosts[name]} if name in self.hosts else {}
        settings |= self._plan() if name == COORDINATOR else self._of_selector(name)
        role = COORDINATOR if name == COORDINATOR else "selector"
        process = await self.federation.start(name, [*command, role], environment, **settings)
        self.processes[name] = process
        await process.listening()
        if name == COORDINATOR:
            self.federation.watch(process)
        self.when_listening(process)

    def address(self, who: str, whom: str) -> str:
        """HOST:PORT at which they reach a server."""
        return self.routes.get((who, whom)) or self.processes[whom].address

    def _plan(self) -> Settings:
        plan: Settings = {
            "goal_count": len(MEMBERS),
            "min_reports": 1,
            "return_s": self.return_s,
        }
        return plan | self.times | AT_ONCE

    def _of_selector(self, name: str) -> Settings:
        settings: Settings = {"selector_id": name, "coordinator": self.address(name, COORDINATOR)}
        advertised = self.routes.get((CLIENTS, name))
        return settings | ({"advertise": advertised} if advertised else {})

    # -- What it suffers ------------------------------------------------------------------------

    async def kill(self, names: Iterable[str]) -> None:
        """End these at the same time, in the middle of whatever they do."""
        self._went_s = time.monotonic()
        await asyncio.gather(*(self.processes[name].kill() for name in names))

    async def come_back(self, names: Iterable[str]) -> None:
        """Start these again, with the same flags."""
        for name in names:
            await self.start(name)
            if name == COORDINATOR:
                self.was_back()

    def was_away(self) -> None:
        """The coordinator cannot be heard from now on."""
        self._went_s = time.monotonic()

    def was_back(self) -> None:
        """It can be heard again: what that may cost the round."""
        self._downtime_s += time.monotonic() - self._went_s + self.return_s

    def let_go(self) -> None:
        """Whoever holds or trains goes on, and who is late comes."""
        self.crash_gate.touch()
        self.federation.open_gate("entry")
        self.federation.open_gate(self.round_number)

    # -- What became of it ----------------------------------------------------------------------

    async def ends(self) -> pb.RoundRecord:
        """Wait for the end of the round that suffers; it keeps its bound."""
        record = await self.federation.completed(self.round_number)
        phases = dict(record.phase_seconds)
        selection_s = phases.pop("selection")
        bound_s = sum(float(self.times[name]) for name in TIMES if name != "selection_timeout_s")
        self.figures["round_s"] = sum(phases.values())
        self.figures["bound_s"] = bound_s + self._downtime_s
        assert sum(phases.values()) <= bound_s + self._downtime_s + SLACK_S
        most_s = float(self.times["selection_timeout_s"]) + self._downtime_s
        assert selection_s <= most_s + SLACK_S
        return record

    async def everybody_works(self) -> None:
        """After it there is a round in which all are counted, and every round was right."""
        first = self.round_number + 1
        for number in range(first, first + FURTHER_ROUNDS_MAX):
            self.federation.open_gate(number)
            record = await self.federation.completed(number)
            if record.counts.reported == len(MEMBERS):
                break
        assert reported(record) == EVERYBODY
        assert record.outcome == pb.OUTCOME_COMMITTED
        await self.check_rounds()

    async def check_rounds(self) -> None:
        """Each checkpoint follows from its round's record and the checkpoint before it."""
        records = await get_rounds(self.processes[COORDINATOR].address)
        directory = self.federation.directory
        expected = initial()
        numbers = [record.round_number for record in records]
        assert numbers == sorted(set(numbers))
        for record in records:
            if record.outcome != pb.OUTCOME_COMMITTED:
                assert record.round_number not in directory.rounds()
                continue
            number = record.round_number
            manifest = directory.manifest(number)
            assert manifest is not None, f"round {number} is not in the history"
            counted = [c for s in manifest["selectors"].values() for c in s["client_ids"]]
            assert len(counted) == len(set(counted)), f"counted twice in round {number}: {counted}"
            assert set(counted) == reported(record)
            assert manifest["base_digest"] == digest(expected)
            assert manifest["weight"] == number * sum(MEMBERS[c].examples for c in counted)
            expected = next_weights(expected, counted)
            assert record.checkpoint_digest == manifest["digest"] == digest(expected)
            assert digest(read_weights(directory.past_checkpoint(number))) == digest(expected)


def reported(record: pb.RoundRecord) -> set[str]:
    """Return who was counted, as the record has it."""
    return {client_id for client_id, fate in standings(record).items() if fate == "reported"}


def digest(weights: Weights) -> str:
    """The digest of a checkpoint with these weights."""
    return sha256(encode(weights)).hex()


def next_weights(base: Weights, counted: Collection[str]) -> Weights:
    """Return the mean of what these clients made of the base, computed without the product.

    Examples and steps are small integers and a float32 has 24 bits, so the sum in float64 is exact
    in any order, and the quotient is rounded twice: to float64 and to float32.
    """
    weight = sum(MEMBERS[client_id].examples for client_id in counted)

    def mean(array: Any) -> Any:
        total = np.zeros(array.shape, np.float64)
        for client_id in counted:
            member = MEMBERS[client_id]
            trained = array + np.float32(member.steps * STEP)
            total += np.float64(member.examples) * trained.astype(np.float64)
        return (total / weight).astype(np.float32)

    return {name: mean(array) for name, array in base.items()}
