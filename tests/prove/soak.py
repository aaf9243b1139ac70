"""Hundreds of rounds in which clients and now and then a selector die: ``make soak``.

Real processes: thirteen clients at two selectors, of which ten reports are asked, so that over-
selection makes good for most of the dead. In each round, while all train, every client dies with
the same probability and is started again after the round; rarely a selector dies, too, and is
started again at once. Whether a round can commit is then a matter of chance that is known
beforehand: what was seen is printed beside what was to be expected, and the memory of coordinator
and selectors at the end beside what they had when they were warm.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import comb
from pathlib import Path

import numpy as np

from federation.runtime.control import start_session
from federation.runtime.initialise import initialise_with
from federation.v1 import control_pb2 as pb
from tests.system.processes import AT_ONCE, Federation, Process

CLIENTS = 13
GOAL = 10
"""Bonawitz et al. 2019 admit 130 % of what they ask for, since 6 to 10 % drop out."""

CLIENT_DIES = 0.1
SELECTOR_DIES = 0.03
"""Probabilities in each round."""

RETURN_S = 2.0
WINDOW_S = 20.0

WARM_ROUNDS = 20
"""Rounds of a process before its memory counts as that of a warm one."""

GROWTH_MIB_MAX = 8.0
"""A leak of a few KiB a round would show as more; what allocators do shows as less."""

CONFIDENCE = 0.999
"""A run whose count of abandoned rounds is as rare as that is wrong."""

SELECTORS = ("north", "south")


@dataclass
class Memory:
    """Resident MiB of one process, round by round."""

    name: str
    pid: int
    mib: list[float] = field(default_factory=list)

    @property
    def warm_mib(self) -> float:
        return self.mib[min(WARM_ROUNDS, len(self.mib)) - 1]

    @property
    def growth_mib(self) -> float:
        return self.mib[-1] - self.warm_mib

    def look(self) -> None:
        """Add a figure."""
        status = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        [line] = [line for line in status if line.startswith("VmRSS")]
        self.mib.append(int(line.split()[1]) / 1024)


@dataclass
class Soak:
    """The run and its figures.

    Attributes:
        too_few: Rounds in which fewer than ``GOAL`` clients survived.
        abandoned: Rounds that were.
        with_selector: Of those that were abandoned with enough clients: a selector died in them.
    """

    federation: Federation
    rounds: int
    seed: int
    clients: dict[str, Process] = field(default_factory=dict)
    selectors: dict[str, Process] = field(default_factory=dict)
    memories: list[Memory] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    clients_killed: int = 0
    selectors_killed: int = 0
    too_few: list[int] = field(default_factory=list)
    abandoned: list[int] = field(default_factory=list)
    with_selector: list[int] = field(default_factory=list)

    async def run(self) -> None:
        """Start everybody and go through all rounds; a round that hangs fails here."""
        chance = random.Random(self.seed)
        coordinator = await self.federation.coordinator(
            goal_count=GOAL,
            min_reports=GOAL,
            over_selection=CLIENTS / GOAL,
            return_s=RETURN_S,
            report_window_s=WINDOW_S,
            log_level="warning",
            **AT_ONCE,
        )
        self._follow(coordinator)
        for name in SELECTORS:
            await self._start_selector(name)
        for number in range(1, CLIENTS + 1):
            await self._start_client(f"client-{number}")
        for client in self.clients.values():
            await client.logs("held")
        await start_session(coordinator.address, self.rounds, {})
        for number in range(1, self.rounds + 1):
            await self._round(number, chance)

    async def _round(self, number: int, chance: random.Random) -> None:
        doomed = [name for name in self.clients if chance.random() < CLIENT_DIES]
        selector = chance.choice(SELECTORS) if chance.random() < SELECTOR_DIES else ""
        before_reports = chance.random() < 0.5
        for client in self.clients.values():
            await client.logs("training", round_number=number)
        began_s = time.monotonic()
        for name in doomed:
            await self.clients[name].kill()
        if not before_reports:
            self.federation.open_gate(number)
        if selector:
            await self.selectors[selector].kill()
            await self._start_selector(selector)
        self.federation.open_gate(number)
        record = await self.federation.completed(number)
        self.seconds.append(time.monotonic() - began_s)
        self._count(record, len(doomed), selector)
        for name in doomed:
            await self._start_client(name)
        for memory in self._living():
            memory.look()
        if number % 20 == 0:
            say(f"round {number}: {len(self.abandoned)} abandoned so far")

    def _count(self, record: pb.RoundRecord, died: int, selector: str) -> None:
        number = record.round_number
        self.clients_killed += died
        self.selectors_killed += bool(selector)
        too_few = CLIENTS - died < GOAL
        if too_few:
            self.too_few.append(number)
        if record.outcome == pb.OUTCOME_COMMITTED:
            assert not too_few, f"round {number} committed with {CLIENTS - died} clients"
            self._check_counted_once(number)
            return
        self.abandoned.append(number)
        if not too_few:
            assert selector, f"round {number} was abandoned without a need: {record.reason}"
            self.with_selector.append(number)

    def _check_counted_once(self, number: int) -> None:
        manifest = self.federation.directory.manifest(number)
        assert manifest is not None
        counted = [c for s in manifest["selectors"].values() for c in s["client_ids"]]
        assert len(counted) == len(set(counted)) >= GOAL, counted

    async def _start_client(self, name: str) -> None:
        selectors = list(self.selectors.values())
        if int(name.rpartition("-")[2]) % 2:
            selectors.reverse()
        self.clients[name] = await self.federation.client(name, *selectors, trainer="Gated")

    async def _start_selector(self, name: str) -> None:
        earlier = self.selectors.get(name)
        [self.selectors[name]] = await self.federation.selectors(
            name, port=earlier.port if earlier is not None else 0, log_level="warning"
        )
        self._follow(self.selectors[name])

    def _follow(self, process: Process) -> None:
        self.memories.append(Memory(process.name, process.pid))

    def _living(self) -> Iterator[Memory]:
        newest = {memory.name: memory for memory in self.memories}
        yield from newest.values()

    # -- What came of it --------------------------------------------------------------------------

    def report(self) -> bool:
        """Print the figures; say whether they are as they should be."""
        likely = too_few_probability()
        low, high = likely_counts(self.rounds, likely)
        chances = self.rounds * CLIENTS
        say(
            f"{self.rounds} rounds, seed {self.seed}: 0 hangs, {self.clients_killed} of {chances} "
            f"times a client was killed ({self.clients_killed / chances:.1%}), "
            f"{self.selectors_killed} times a selector"
        )
        say(
            f"abandoned: {len(self.abandoned)}; expected {likely * self.rounds:.1f}, as fewer than "
            f"{GOAL} of {CLIENTS} survive with probability {likely:.4f}; {CONFIDENCE:.1%} of all "
            f"runs have {low} to {high}. The dice left too few in {len(self.too_few)}; "
            f"{len(self.with_selector)} more were lost with a selector"
        )
        say(
            f"seconds from the kills to the end of the round: median "
            f"{statistics.median(self.seconds):.2f}, max {max(self.seconds):.2f}"
        )
        long = [memory for memory in self.memories if len(memory.mib) > WARM_ROUNDS]
        for memory in long:
            say(
                f"{memory.name}: {memory.warm_mib:.1f} MiB after {WARM_ROUNDS} rounds, "
                f"{memory.mib[-1]:.1f} MiB after {len(memory.mib)} ({memory.growth_mib:+.1f})"
            )
        in_expectation = low <= len(self.abandoned) <= high
        return in_expectation and all(memory.growth_mib <= GROWTH_MIB_MAX for memory in long)


def too_few_probability() -> float:
    """Return the probability that fewer than ``GOAL`` of ``CLIENTS`` survive a round."""
    alive = 1 - CLIENT_DIES
    return sum(
        comb(CLIENTS, count) * alive**count * CLIENT_DIES ** (CLIENTS - count)
        for count in range(GOAL)
    )


def likely_counts(rounds: int, probability: float) -> tuple[int, int]:
    """Return between which counts all but the rarest runs lie."""
    tail = (1 - CONFIDENCE) / 2
    shares = [
        comb(rounds, count) * probability**count * (1 - probability) ** (rounds - count)
        for count in range(rounds + 1)
    ]
    totals = np.cumsum(shares)
    return int(np.searchsorted(totals, tail)), int(np.searchsorted(totals, 1 - tail))


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


async def soak(rounds: int, seed: int) -> bool:
    """Run it in a folder of its own; say whether all is as it should be."""
    with tempfile.TemporaryDirectory(prefix="headwater-soak-") as name:
        half = np.full((2, 3), 0.5, np.float32)
        initialise_with(Path(name) / "shared", {"w": half, "b": half[0]})
        async with Federation(Path(name)) as federation:
            run = Soak(federation, rounds, seed)
            await run.run()
            return run.report()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    return 0 if asyncio.run(soak(asked.rounds, asked.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
