"""``headwater session``: an operator starts, watches, stops and starts again."""

from __future__ import annotations

import json

import numpy as np

from federation.runtime.hdf5 import read_weights
from tests.system.processes import AT_ONCE, HEADWATER, Federation, Process, standings
from tests.system.trainers import STEP


class Operator:
    """Types ``headwater session …`` at a federation's coordinator."""

    def __init__(self, federation: Federation, coordinator: Process) -> None:
        self._federation = federation
        self._coordinator = coordinator

    async def types(self, *words: str) -> tuple[int, list[str]]:
        """Return the exit status, and the lines that it printed or else its last one of the log."""
        process = await self._federation.start(
            " ".join(words),
            [*HEADWATER, "session", *words],
            coordinator=self._coordinator.address,
        )
        status = await process.end()
        return status, process.printed if status == 0 else process.log[-1:]


async def test_sessions_are_started_and_stopped_by_the_verbs_clients_wait_in_between(
    federation: Federation,
) -> None:
    """Nothing runs until it is asked for; a stop costs the running round and no client."""
    coordinator = await federation.coordinator(goal_count=9, **AT_ONCE)
    operator = Operator(federation, coordinator)
    (selector,) = await federation.selectors("north")
    await federation.clients(2, selector, trainer="Gated")
    await federation.waiting(2)
    federation.open_gate(1)

    started = await operator.types("start", "--rounds", "3", "--goal-count", "2")
    await federation.completed(1)
    await federation.until(lambda s: s.round.counts.configured == 2, "both train in round 2")
    second = await operator.types("start", "--rounds", "1")
    stopped = await operator.types("stop")
    await federation.waiting(2)
    shown = await operator.types("show", "--json")
    federation.open_gate()
    await operator.types("start", "--rounds", "1", "--goal-count", "2", "--min-reports", "2")
    third = await federation.completed(3)

    assert started == (0, ["Session running: 0 of 3 rounds"])
    assert second[0] == 1
    assert "a session is running, with 1 of 3 rounds completed" in second[1][0]
    assert stopped == (0, ["Session stopped: 2 of 3 rounds"])
    status, lines = shown
    facts = json.loads("\n".join(lines))
    rounds = [(r["round_number"], r["outcome"], r["reason"]) for r in facts["rounds"]]
    assert (status, facts["session"]["stopping"]) == (0, True)
    assert rounds == [
        (1, "OUTCOME_COMMITTED", ""),
        (2, "OUTCOME_ABANDONED", "session-stopped"),
    ]
    assert standings(third) == {"client-1": "reported", "client-2": "reported"}
    assert np.all(read_weights(federation.directory.checkpoint)["w"] == 0.5 + 2 * STEP)


async def test_session_is_stopped_after_its_round_the_round_commits(
    federation: Federation,
) -> None:
    """What was trained is not lost, and the round can be looked at afterwards."""
    coordinator = await federation.coordinator(goal_count=1, rounds=5, **AT_ONCE)
    operator = Operator(federation, coordinator)
    (selector,) = await federation.selectors("north")
    await federation.client("client-1", selector, trainer="Gated")
    await federation.until(lambda s: s.round.counts.configured == 1, "it trains")

    stopped = await operator.types("stop", "--after-round")
    federation.open_gate()
    await federation.until(lambda s: not s.session.running, "the session is over")
    status, lines = await operator.types("show", "--round", "1")

    assert stopped == (0, ["Session running: 0 of 5 rounds, stops after this one"])
    assert status == 0
    assert lines[0] == "Round 1, Completed: committed with 1 report"
    assert any("client-1" in line and "reported" in line for line in lines)
