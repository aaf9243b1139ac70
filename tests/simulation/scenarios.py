"""From a seed to what it stands for: a plan, the roles, and what goes wrong."""

from __future__ import annotations

import random
from dataclasses import dataclass

from federation.plan import RoundPlan
from tests.simulation.faults import Fault, Profile, schedule

CROWD = 100
"""More clients than this take part in one round only."""


@dataclass(frozen=True)
class Scenario:
    """What a seed stands for."""

    seed: int
    plan: RoundPlan
    rounds: int
    selectors: tuple[str, ...]
    spooled: frozenset[str]
    clients: tuple[str, ...]
    reports_in_flight_max: int
    generation_bytes_max: int
    bad_updates: float
    faults: tuple[Fault, ...]


def scenario_of(seed: int, profile: Profile) -> Scenario:
    """Draw a scenario."""
    rng = random.Random(f"{seed}/scenario")
    clients = tuple(f"c{i}" for i in range(rng.randint(*profile.clients)))
    selectors = ("north", "south", "west")[: rng.choice((1, 2, 2, 2, 3))]
    crowd = len(clients) > CROWD
    goal = rng.randint(max(1, len(clients) // 2), len(clients))
    plan = RoundPlan(
        goal_count=goal,
        over_selection=rng.choice((1.0, 1.0, 1.3, 2.0)),
        min_reports=rng.choice((0, 1, rng.randint(1, goal))),
        selection_timeout_s=rng.uniform(5.0, 20.0),
        report_window_s=rng.uniform(30.0, 60.0) if crowd else rng.uniform(4.0, 25.0),
        grace_s=rng.uniform(0.5, 5.0),
        return_s=rng.uniform(2.0, 8.0),
        commit_timeout_s=rng.uniform(1.0, 8.0),
        pipelined=rng.random() < 0.5,
        weighting=rng.choice(("examples", "equal")),
        retry_delay_min_s=rng.uniform(0.1, 1.0),
        retry_delay_max_s=rng.uniform(1.0, 3.0),
    )
    drawn = schedule(random.Random(f"{seed}/faults"), profile, [*selectors], [*clients])
    return Scenario(
        seed=seed,
        plan=plan,
        rounds=1 if crowd else rng.choice((1, 2, 2, 3)),
        selectors=selectors,
        spooled=_spooled(seed, selectors),
        clients=clients,
        reports_in_flight_max=rng.choice((1, 2, 4)),
        generation_bytes_max=rng.choice((6 << 10, 20 << 10, 8 << 20)),
        bad_updates=profile.bad_updates,
        faults=tuple(drawn),
    )


def _spooled(seed: int, selectors: tuple[str, ...]) -> frozenset[str]:
    """Draw which selectors have a spool."""
    rng = random.Random(f"{seed}/spooled")
    share = rng.choice((0.0, 0.5, 1.0))
    return frozenset(selector for selector in selectors if rng.random() < share)
