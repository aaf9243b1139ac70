"""Runs by seed: played, shrunk, and described so that anybody can play them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tests.simulation.faults import PROFILES
from tests.simulation.scenarios import Scenario, scenario_of
from tests.simulation.world import Verdict, play

SHRINKING_RUNS_MAX = 200
"""Runs that shrinking takes at most."""

TRACE_LINES = 60
"""Last lines of a trace that are shown with a failure."""


def scenario(seed: int, profile: str, kept: Sequence[int] | None = None) -> Scenario:
    """Return a seed's scenario, with all of its faults or those of these indices only."""
    drawn = scenario_of(seed, PROFILES[profile])
    if kept is None:
        return drawn
    return dataclasses.replace(drawn, faults=tuple(drawn.faults[index] for index in kept))


def shrunk(seed: int, profile: str) -> list[int]:
    """Return the indices of faults without any of which the seed's run would go well.

    Greedy: halves, then quarters, then one after the other is left out while it still fails.
    """
    kept = list(range(len(scenario(seed, profile).faults)))
    runs, size = 0, max(1, len(kept) // 2)
    while runs < SHRINKING_RUNS_MAX:
        begin, removed = 0, False
        while begin < len(kept) and runs < SHRINKING_RUNS_MAX:
            fewer = kept[:begin] + kept[begin + size :]
            runs += 1
            if play(scenario(seed, profile, fewer)).violations:
                kept, removed = fewer, True
            else:
                begin += size
        if size == 1 and not removed:
            break
        size = max(1, size // 2)
    return kept


def command(seed: int, profile: str, kept: Sequence[int] | None = None) -> str:
    """Return what replays a run."""
    faults = "" if kept is None else f" --faults {','.join(map(str, kept)) or 'none'}"
    return f"python -m tests.simulation --seed {seed} --profile {profile}{faults}"


def failure(seed: int, profile: str, verdict: Verdict) -> str:
    """Describe a failed run: what is wrong, how to see it again, and the least that leads to it."""
    kept = shrunk(seed, profile)
    least = scenario(seed, profile, kept)
    again = play(least, traced=True)
    return "\n".join(
        [
            f"seed {seed}, profile {profile}:",
            *verdict.violations,
            f"again: {command(seed, profile)}",
            f"least: {command(seed, profile, kept)}",
            *(f"  {fault}" for fault in least.faults),
            *again.violations,
            *(line[:400] for line in again.trace[-TRACE_LINES:]),
        ]
    )
