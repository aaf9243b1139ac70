"""``python -m tests.simulation 10000``: run many seeds, on every core, or one again.

Names are hashed the same way in each run, so that a seed means the same everywhere.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.faults import PROFILES
from tests.simulation.seeds import command, failure, scenario
from tests.simulation.world import play

FAILURES_MAX = 5
"""After so many failed seeds the rest is not run."""

CHUNK = 20


def _run(work: tuple[int, int, str]) -> list[tuple[int, list[str], tuple[int, int]]]:
    first, count, profile = work
    verdicts = [(seed, play(scenario(seed, profile))) for seed in range(first, first + count)]
    return [(seed, verdict.violations, verdict.rounds) for seed, verdict in verdicts]


def _run_many(arguments: argparse.Namespace) -> int:
    began_s = time.monotonic()
    rounds: Counter[str] = Counter()
    failed: list[int] = []
    last = arguments.first + arguments.seeds
    work = [
        (first, min(CHUNK, last - first), arguments.profile)
        for first in range(arguments.first, last, CHUNK)
    ]
    done = 0
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for results in pool.map(_run, work):
            for seed, violations, (completed, committed) in results:
                done += 1
                rounds.update(completed=completed, committed=committed)
                if violations:
                    failed.append(seed)
                    print(f"seed {seed}: {violations[0]}", flush=True)
            if len(failed) >= FAILURES_MAX:
                pool.shutdown(cancel_futures=True)
                break
    seconds = time.monotonic() - began_s
    print(
        f"{done} seeds ({arguments.profile}) in {seconds:.0f} s: {rounds['completed']} rounds, "
        f"{rounds['committed']} committed, {len(failed)} seeds failed"
    )
    if failed:
        print(failure(failed[0], arguments.profile, play(scenario(failed[0], arguments.profile))))
    return 1 if failed else 0


def _run_one(arguments: argparse.Namespace) -> int:
    kept = None
    if arguments.faults is not None:
        kept = [int(index) for index in arguments.faults.split(",") if index != "none"]
    drawn = scenario(arguments.seed, arguments.profile, kept)
    verdict = play(drawn, traced=True)
    print("\n".join(verdict.trace))
    for index, fault in enumerate(drawn.faults):
        print(f"fault {index if kept is None else kept[index]}: {fault}")
    print("\n".join(verdict.violations) or "all is well")
    print(command(arguments.seed, arguments.profile, kept))
    return 1 if verdict.violations else 0


def main() -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", type=int, nargs="?", default=1_000, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--profile", choices=PROFILES, default="usual", help="how bad it gets")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--seed", type=int, help="run this one alone, and show what happens")
    parser.add_argument("--faults", help="its faults that happen, by index; 'none' for none")
    arguments = parser.parse_args()
    return _run_many(arguments) if arguments.seed is None else _run_one(arguments)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], environment
        )
    sys.exit(main())
