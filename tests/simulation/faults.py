"""What goes wrong in a run: an explicit list, made from the seed, that can be shrunk."""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass
from typing import Literal

from tests.simulation.disk import DIRECTORY, JOURNAL

Kind = Literal[
    "crash",
    "suspend",
    "cut",
    "half-open",
    "silence",
    "flaky",
    "refuse",
    "slow",
    "lag",
    "clock",
    "twin",
    "drain",
    "isolate",
    "trap",
]

COORDINATOR = "coordinator"

EVERYBODY = "*"
"""All clients, as one end of links."""

TRIGGERS = ("durable", "published", "partial", "receipt")
"""Moments at which a trap springs: right after something became durable or visible."""

ISOLATING_TRAP = 4
"""A trap with this number or a higher one isolates its selector instead of killing it."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at_s: When, seconds after the start.
        kind: What.
        target: The process or the disk, or one end of a link.
        other: The other end of a link; of a trap what springs it.
        seconds: How long, or how far.
        number: ``errno`` of a disk, or what else the kind needs.
    """

    at_s: float
    kind: Kind
    target: str
    other: str = ""
    seconds: float = 0.0
    number: int = 0

    def __str__(self) -> str:
        where = f"{self.target}-{self.other}" if self.other else self.target
        return f"{self.at_s:8.3f} s  {self.kind} {where} for {self.seconds:.3f} s ({self.number})"


@dataclass(frozen=True)
class Profile:
    """How bad it gets.

    Attributes:
        faults: How many there are, fewest and most.
        span_s: They begin within so long.
        clients: How many there are, fewest and most.
        bad_updates: Share of trainings that fail, or make what is refused.
        parting: Nothing goes wrong but that selectors are isolated as a receipt leaves them.
    """

    faults: tuple[int, int]
    span_s: float = 60.0
    clients: tuple[int, int] = (2, 8)
    bad_updates: float = 0.05
    parting: bool = False


PROFILES = {
    "calm": Profile((0, 2)),
    "usual": Profile((1, 8)),
    "storm": Profile((10, 40), clients=(3, 12), bad_updates=0.1),
    "parting": Profile((6, 12), clients=(3, 8), parting=True),
    "crowd": Profile((2, 6), clients=(150, 250), bad_updates=0.01),
    "multitude": Profile((2, 6), clients=(1_000, 2_000), bad_updates=0.01),
}


def schedule(
    rng: random.Random, profile: Profile, selectors: list[str], clients: list[str]
) -> list[Fault]:
    """Draw what goes wrong, in the order of time."""
    number = rng.randint(*profile.faults)
    # Most of it in short order: one fault while another is being recovered from.
    centre_s = rng.uniform(0, profile.span_s)
    times = [
        rng.uniform(0, profile.span_s) if rng.random() < 0.5 else abs(rng.gauss(centre_s, 3.0))
        for _ in range(number)
    ]
    return sorted(
        (
            _parting(rng, at_s, selectors)
            if profile.parting
            else _fault(rng, at_s, selectors, clients)
            for at_s in times
        ),
        key=lambda fault: fault.at_s,
    )


_WEIGHTS: dict[Kind, int] = {
    "crash": 6,
    "suspend": 2,
    "cut": 4,
    "half-open": 2,
    "silence": 3,
    "flaky": 3,
    "refuse": 3,
    "slow": 2,
    "lag": 1,
    "clock": 1,
    "twin": 1,
    "drain": 1,
    "isolate": 4,
    "trap": 6,
}


def _fault(rng: random.Random, at_s: float, selectors: list[str], clients: list[str]) -> Fault:
    kind = rng.choices([*_WEIGHTS], [*_WEIGHTS.values()])[0]
    selector = rng.choice(selectors)
    client = rng.choice(clients)
    match kind:
        case "crash" | "suspend":
            target = rng.choice((COORDINATOR, COORDINATOR, selector, selector, client))
            return Fault(at_s, kind, target, seconds=_seconds(rng))
        case "cut" | "half-open" | "silence" | "flaky":
            ends = rng.choice(((selector, COORDINATOR), (client, selector), (EVERYBODY, selector)))
            return Fault(at_s, kind, *ends, seconds=_seconds(rng))
        case "refuse":
            error = rng.choice((errno.ENOSPC, errno.EIO))
            disk = rng.choice((JOURNAL, DIRECTORY))
            late = rng.random() < 0.3
            return Fault(at_s, kind, disk, seconds=_seconds(rng), number=-error if late else error)
        case "slow":
            return Fault(at_s, kind, rng.choice((JOURNAL, DIRECTORY)), seconds=_seconds(rng))
        case "lag":
            return Fault(at_s, kind, DIRECTORY, seconds=rng.uniform(0.1, 3.0))
        case "clock":
            return Fault(at_s, kind, COORDINATOR, seconds=rng.uniform(-3_600, 3_600))
        case "isolate":
            return Fault(at_s, kind, selector, seconds=_seconds(rng))
        case "trap":
            target = rng.choice((COORDINATOR, COORDINATOR, selector, selector))
            trigger = rng.choice(TRIGGERS)
            number = rng.randint(0, 3 if target == COORDINATOR else 7)
            return Fault(at_s, kind, target, trigger, _seconds(rng), number)
        case "twin" | "drain":
            return Fault(at_s, kind, selector)


def _parting(rng: random.Random, at_s: float, selectors: list[str]) -> Fault:
    seconds = rng.uniform(0.5, 8.0)
    return Fault(at_s, "trap", rng.choice(selectors), "receipt", seconds, ISOLATING_TRAP)


def _seconds(rng: random.Random) -> float:
    """Mostly a moment, sometimes longer than anybody waits."""
    return rng.choice((rng.uniform(0.01, 0.5), rng.uniform(0.5, 5.0), rng.uniform(5.0, 25.0)))
