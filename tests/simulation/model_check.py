"""``python -m tests.simulation.model_check``: no client is in a sum twice, in any order of things.

Breadth first over every state that two selectors and two clients can reach in one round with a few
faults. The coordinator's ledger is the real one; a selector's cohort is the real one, too, made
anew from a few words of state for each move. Messages are as slow as they like: a queue in each
direction, and a deadline may pass at any moment.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from coordinator.effects import WriteCheckpoint
from tests.simulation.model_moves import State, begin, moves


@dataclass
class Report:
    """What was found.

    Attributes:
        states: How many states there are.
        moves: How many moves lead from one to another.
        commits: How many states begin a commit.
        wrong: How to get to a sum with a client twice.
        complete: All was explored.
    """

    states: int = 0
    moves: int = 0
    commits: int = 0
    wrong: list[str] = field(default_factory=list)
    complete: bool = True


def explore(faults: int, states_max: int | None = None) -> Report:
    """Visit each state once."""
    report_ = Report()
    first = begin(faults)
    seen: dict[Any, tuple[Any, str]] = {first.key: (None, "")}
    frontier = deque([(first, first.key)])
    while frontier:
        state, key = frontier.popleft()
        report_.states += 1
        for label, following, committed in moves(state):
            report_.moves += 1
            if committed is not None:
                report_.commits += 1
                problem = wrong_sum(following, committed)
                if problem:
                    report_.wrong = [*path(seen, key), label, problem]
                    return report_
                continue
            following_key = following.key
            if following_key not in seen:
                seen[following_key] = (key, label)
                frontier.append((following, following_key))
        if states_max is not None and report_.states >= states_max:
            report_.complete = False
            break
    return report_


def path(seen: dict[Any, tuple[Any, str]], key: Any) -> list[str]:
    """Return the moves that lead to a state."""
    labels = []
    while key is not None:
        key, label = seen[key]
        labels.append(label)
    return labels[-2::-1]


def wrong_sum(state: State, committed: WriteCheckpoint) -> str:
    """Add up what is really in the partials; say what is wrong with it."""
    added: Counter[str] = Counter()
    for owner, partial in committed.partials:
        incarnation, content = state.sums["ab".index(owner.selector_id)]
        if str(incarnation) != owner.incarnation:
            continue  # the file is another: the merge refuses it, and nothing is committed
        if sorted(content) != sorted(partial.client_ids):
            return f"the partial of {owner} lists {partial.client_ids}, its sum has {content}"
        added.update(content)
    twice = [client_id for client_id, times in added.items() if times > 1]
    return f"{twice} twice in {committed}" if twice else ""


def main() -> int:
    """Explore, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.model_check")
    parser.add_argument("--faults", type=int, default=3, help="how many may happen")
    parser.add_argument("--states", type=int, default=None, help="stop after so many states")
    arguments = parser.parse_args()
    began_s = time.monotonic()
    found = explore(arguments.faults, arguments.states)
    print(
        f"{found.states} states, {found.moves} moves, {found.commits} commits in "
        f"{time.monotonic() - began_s:.0f} s, {'all' if found.complete else 'not all'} of what "
        f"{arguments.faults} faults can lead to"
    )
    print("\n".join(found.wrong) or "no client is in a sum twice")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
