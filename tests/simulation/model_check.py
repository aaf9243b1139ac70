"""``python -m tests.simulation.model_check``: no client is in a sum twice, in any order of things.

Breadth first over every state that two selectors and two clients can reach from the moment at
which a round is configured, with so many faults. The coordinator's ledger and the selectors'
cohorts are the real ones (``model_ledger``, ``model_parts``); what a selector does around its
cohort, the streams and the clients are modelled.

**What can happen.** Messages are as slow as they like: a queue in each direction between a selector
and the coordinator, and what the coordinator takes for a partial may be overtaken. Deadlines pass
at any moment, in any order and together. Clients come to either selector, report, come back after a
receipt, and try again when they were declined, without end.

**A fault** is one of these, at any moment:

- at the beginning both clients are at one selector, or there is one client only, instead of one
  at each;
- a selector dies, and its last messages are lost, any number of them; another process takes its
  place at once, later or never;
- the stream of a selector is cut, with the same losses; the selector obeys the orders that had
  arrived or not, and attaches before the coordinator misses it, later or never;
- a client loses its selector or dies, and the selector notices at once, later or never; its report
  is on its way or not, and then arrives at any moment, even after the client reported elsewhere;
- a report arrives twice, the second time at any moment;
- a fold fails half-way, or the disk does not take a selector's sum;
- the coordinator dies, with all that was said to it and not taken; the next one has its journal.

**What may not happen**: a report is in a sum twice; a partial lists others than its sum has; a
commit merges a client twice; a claim moves while its owner serves; what is void or kept becomes
something else; a coordinator that restarts during a commit merges something else; an assertion of
the real code fails.

**What is left out.** The Selection of clients, in which nothing is folded. Withdrawals and
rejections, which spend a claim and add nothing. A report that is judged while nobody is there for
the receipt gives it all the same. A fold and the sealing of a sum are one step: that they exclude
each other is the simulation's business, as are bytes, files, and that a selector gives no receipt
while it does not hear its coordinator (here it folds on, which is more than it may). Rounds before
and after. Selectors that stop in good order. Clients that wait for the next round: here they are
declined and come back.

The states that stand for many others are described in ``model_space`` and ``model_moves``;
``--plain`` explores without any of this, to compare.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.simulation.model_space import EVENLY, UNEVENLY, Space


@dataclass
class Level:
    """What so many faults lead to, and no fewer.

    Attributes:
        faults: How many.
        states: States that they lead to.
        moves: Moves from these, without another fault.
        closed: How often reporting had closed then, with no client that could be in both sums.
        commits: Commits that began otherwise.
        seconds: Processor time.
        complete: All was explored.
    """

    faults: int
    states: int = 0
    moves: int = 0
    closed: int = 0
    commits: int = 0
    seconds: float = 0.0
    complete: bool = True


@dataclass
class Report:
    """What was found.

    Attributes:
        levels: For each number of faults.
        wrong: How to get to what may not happen; empty if nothing leads there.
        outcomes: How rounds can end.
        rounds: The rounds that were met, each under one of its names.
    """

    levels: list[Level] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    outcomes: frozenset[str] = frozenset()
    rounds: frozenset[str] = frozenset()

    @property
    def complete(self) -> bool:
        """All was explored."""
        return all(level.complete for level in self.levels)


class Search:
    """Visits each state once, those first that need fewer faults.

    A state that needs fewer faults is not visited again with more: what can follow is the same, and
    more faults are left for it.

    Args:
        space: The states.
        states_max: Give up a level after so many states; None: never.
    """

    def __init__(self, space: Space, states_max: int | None = None) -> None:
        self._space = space
        self._states_max = states_max
        self._before: dict[int, int | None] = {}
        self._last: int | None = None

    def levels(self, faults: int) -> Iterator[Level]:
        """Yield each level, once it is explored; the last one if something is wrong."""
        seeds: dict[int, int | None] = {self._space.start(EVENLY): None}
        for number in range(faults + 1):
            level = Level(number)
            if number == 1:
                seeds |= dict.fromkeys(map(self._space.start, UNEVENLY))
            frontier = [state for state in seeds if state not in self._before]
            self._before.update((state, seeds[state]) for state in frontier)
            began_s = time.process_time()
            closed, commits = self._space.closed, self._space.commits
            self._explore(level, frontier)
            level.closed = self._space.closed - closed
            level.commits = self._space.commits - commits
            seeds = {}
            if number < faults and level.complete and not self._space.wrong:
                seeds = self._one_fault_further(frontier)
            level.seconds = time.process_time() - began_s
            yield level
            if self._space.wrong or not level.complete:
                return

    def _explore(self, level: Level, frontier: list[int]) -> None:
        space, before = self._space, self._before
        for state in frontier:
            level.states += 1
            for _, following in space.following(state, faulty=False):
                level.moves += 1
                if following is not None and following not in before:
                    before[following] = state
                    frontier.append(following)
            if space.wrong:
                self._last = state
                return
            if self._states_max is not None and level.states >= self._states_max:
                level.complete = False
                return

    def _one_fault_further(self, states: list[int]) -> dict[int, int | None]:
        found: dict[int, int | None] = {}
        for state in states:
            for _, following in self._space.following(state, faulty=True):
                if following is not None and following not in self._before:
                    found.setdefault(following, state)
            if self._space.wrong:
                self._last = state
                return {}
        return found

    @property
    def states(self) -> Iterable[int]:
        """All that were found."""
        return self._before.keys()

    def path(self) -> list[str]:
        """Return the moves that lead to what is wrong.

        Each is told in the names of the state before it: selectors and clients may have changed
        places in the state that stands for what followed.
        """
        states: list[int] = []
        state = self._last
        while state is not None:
            states.append(state)
            state = self._before[state]
        return [*map(self._label, states[:0:-1], states[-2::-1]), self._space.wrong]

    def _label(self, state: int, to: int) -> str:
        for faulty in (False, True):
            for label, following in self._space.following(state, faulty=faulty):
                if following == to:
                    return label
        raise AssertionError("the moves from a state are always the same")


def explore(
    faults: int,
    *,
    reduced: bool = True,
    prompt: bool = True,
    to_the_end: bool = False,
    states_max: int | None = None,
    tell: bool = False,
) -> Report:
    """Visit each state once.

    Args:
        faults: How many may happen.
        reduced: States stand for others, see ``model_space``.
        prompt: Some moves are, see ``model_moves``.
        to_the_end: Follow a state also when no commit after it can count a client twice.
        states_max: Give up a level after so many states.
        tell: Print each level.
    """
    report = Report()
    space = Space(reduced=reduced, prompt=prompt, to_the_end=to_the_end)
    search = Search(space, states_max)
    for level in search.levels(faults):
        report.levels.append(level)
        if tell:
            print(_line(level), flush=True)
    if space.wrong:
        report.wrong = search.path()
    report.outcomes = frozenset(space.outcomes)
    report.rounds = space.rounds(search.states)
    return report


def _line(level: Level) -> str:
    return (
        f"{level.faults} faults: {level.states:,} states, {level.moves:,} moves, {level.closed:,} "
        f"closed, {level.commits:,} commits, {level.seconds:.0f} s of one core, complete: "
        f"{'yes' if level.complete else 'no'}"
    )


def main() -> int:
    """Explore, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.model_check")
    parser.add_argument("--faults", type=int, default=3, help="how many may happen")
    parser.add_argument("--states", type=int, default=None, help="give a level up after so many")
    parser.add_argument("--plain", action="store_true", help="no state stands for another")
    arguments = parser.parse_args()
    gc.disable()  # millions of small things are made, and no cycles
    found = explore(
        arguments.faults,
        reduced=not arguments.plain,
        prompt=not arguments.plain,
        states_max=arguments.states,
        tell=True,
    )
    print("\n".join(found.wrong) or "no client is in a sum twice")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
