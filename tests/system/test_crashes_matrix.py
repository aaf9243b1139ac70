"""``make crashes``: the coordinator dies everywhere, and everything is as if it had not.

Each case is real processes: the coordinator dies at a point, or is killed in a phase, and begins
again with the same flags. The same round commits, no number repeats, each client trains once and
is counted once a round, and the checkpoints are those of an undisturbed run to the bit.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from federation.v1 import control_pb2 as pb
from tests.prove.trial import CLIENTS, CRASHING, PLAN, Trial, journal_of
from tests.system.crashing import GATE
from tests.system.processes import PYTHON, Federation, Settings, seconds, standings

pytestmark = pytest.mark.prove

SLACK_S = 5.0
"""What a loaded machine may add to a round's longest time."""

COMMIT = [
    "before-merging@2",
    "before-staging@2",
    "in-staging@2",
    "after-staging@2",
    "torn:CheckpointWritten@2",
    "after:CheckpointWritten@2",
    "before-rename@2",
    "after-rename@2",
    "after-publish@2",
    "torn:CommitFinished@2",
    "after:CommitFinished@2",
    "tell:end_round@2",
    "before-record@2",
    "after-record@2",
    "before-current@2",
    "in-current@2",
    "after-current@2",
    "before-prune@2",
]

EVENTS = [
    f"{where}:{event}"
    for event in (
        "SessionStarted",
        "RoundBegan@1",
        "CheckedIn",
        "RoundBegan@2",
        "Configured@2",
        "ReportsFolded@2",
        "PartialSubmitted@2",
        "SessionEnded",
    )
    for where in ("torn", "after")
]

COMMANDS = ["tell:admit_clients@1", "tell:configure_round@2", "tell:close_reporting@2"]

STARTS = [
    "before-epoch",
    "after-epoch",
    "in-current",
    "before-renewal",
    "in-renewal",
    "renamed-journal",
    "after-renewal",
]


@pytest.fixture
def trial(federation: Federation, record_property: pytest.FixtureRequest) -> Trial:
    """A federation that puts its figures into the table."""
    trial = Trial(federation)
    record_property("figures", trial.figures)  # type: ignore[operator]
    return trial


async def test_nothing_happens(trial: Trial) -> None:
    """The undisturbed run that all others are equal to."""
    await trial.begin()

    await trial.finishes()

    await trial.check()


# -- At a point -------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [*COMMIT, *EVENTS, *COMMANDS])
async def test_dies(trial: Trial, point: str) -> None:
    """At this point, once."""
    await trial.begin(point)
    await trial.dies()

    await trial.restart()
    await trial.finishes()

    await trial.check()


@pytest.mark.parametrize("point", STARTS)
async def test_dies_again_as_it_starts(trial: Trial, point: str) -> None:
    """What a restart does can be done again, too."""
    await trial.begin("after-rename@2")
    await trial.dies()

    dying = await trial.start_and_die(point)
    await trial.restart()
    await trial.finishes()

    assert dying == -signal.SIGKILL
    await trial.check()


async def test_dies_at_each_step_of_one_commit(trial: Trial) -> None:
    """Six processes for one round."""
    await trial.begin("before-staging@2")
    await trial.dies()

    steps = ("in-staging", "after-staging", "before-rename", "after-rename", "in-current")
    statuses = [await trial.start_and_die(step) for step in steps]
    await trial.restart()
    await trial.finishes()

    assert statuses == [-signal.SIGKILL] * len(steps)
    await trial.check()


# -- In a phase -------------------------------------------------------------------------------


async def test_is_killed_in_selection(trial: Trial) -> None:
    """Held clients stay held: they notice nothing."""
    await trial.begin(trainers={"client-3": "Late"})
    await trial.federation.until(lambda s: s.round.counts.admitted == 2, "two admitted")
    await trial.kill()

    await trial.restart()
    await trial.federation.until(lambda s: s.round.counts.admitted == 2, "both are there again")
    held = [len(client.logged("held")) for client in trial.clients[:2]]
    trial.federation.open_gate("entry")
    await trial.finishes()

    assert held == [1, 1]
    await trial.check()


async def test_is_killed_while_clients_train(trial: Trial) -> None:
    """They go on with it."""
    await all_train(trial, round_number=2)
    await trial.kill()

    await trial.restart()
    trial.federation.open_gate()
    await trial.finishes()

    await trial.check()


async def test_is_down_while_reports_arrive(trial: Trial) -> None:
    """A selector that heard of its coordinator a moment ago takes them, and tells them later."""
    await all_train(trial, round_number=2)
    await trial.kill()
    trial.federation.open_gate()
    for client in trial.clients:
        await client.logs("report accepted", accepted=2)

    await trial.restart()
    await trial.finishes()

    await trial.check()


async def test_is_killed_between_two_reports(trial: Trial) -> None:
    """What was folded is counted, and what comes later."""
    trial.federation.open_gate(1)
    await trial.begin(trainers={"client-3": "Gated"})
    await trial.federation.until(
        lambda s: s.round.round_number == 2 and s.round.counts.folded == 2, "two of three folded"
    )
    await trial.kill()

    await trial.restart()
    trial.federation.open_gate()
    await trial.finishes()

    await trial.check()


@pytest.mark.parametrize("point", ["before-partial", "after-partial"])
async def test_is_killed_while_a_selector_seals(
    trial: Trial, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partial that nobody heard of is told of again."""
    gate = seal_with_holding_selector(trial, monkeypatch)
    await trial.start_coordinator()
    await trial.add_selectors(command=(*CRASHING, f"hold={point}"))
    await trial.add_clients()
    for selector in trial.selectors:
        await selector.logs("holds")
    await trial.kill()

    await trial.restart()
    gate.touch()
    await trial.finishes()

    await trial.check()


@pytest.mark.parametrize("phase", ["training", "reporting"])
async def test_stands_still_for_longer_than_the_keepalive(trial: Trial, phase: str) -> None:
    """As if it had died: the streams are cut, and it goes on with what it remembers."""
    alive: Settings = {"keepalive_s": 1, "keepalive_timeout_s": 2}
    trial.settings |= alive
    trial.federation.open_gate(1)
    await trial.start_coordinator()
    await trial.add_selectors(**alive)
    if phase == "training":
        await trial.add_clients("Gated", **alive)
    else:
        await trial.add_clients(trainers={"client-3": "Gated"}, **alive)
        await trial.federation.until(
            lambda s: s.round.round_number == 2 and s.round.counts.folded == 2, "two folded"
        )
    for client in trial.clients:
        await client.logs("training", round_number=2)
    trial.coordinator.signal(signal.SIGSTOP)
    trial.remembered = journal_of(trial.federation)
    for selector in trial.selectors:
        await selector.logs("coordinator not reached")

    trial.coordinator.signal(signal.SIGCONT)
    trial.federation.open_gate()
    await trial.finishes()

    await trial.check()


async def test_is_killed_at_stage_after_stage(trial: Trial) -> None:
    """Time and again, whenever something was announced."""
    await trial.begin()
    for _ in range(6):
        await trial.federation.until(
            lambda status: status.recent_stages or not status.session.running, "another stage"
        )
        await trial.kill()
        await trial.restart()

    await trial.finishes()

    await trial.check()


# -- Time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["reporting", "sealing"])
async def test_is_down_in_a_round_that_nobody_finishes_it_ends_in_time(
    trial: Trial, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``report_window_s + grace_s + commit_timeout_s``, the time it was down, and ``return_s``."""
    times: Settings = {
        "report_window_s": 4,
        "grace_s": 2,
        "commit_timeout_s": 5,
        "return_s": 3,
    }
    trial.settings |= times | {"min_reports": 1, "rounds": 1}
    seal_with_holding_selector(trial, monkeypatch)
    await trial.start_coordinator()
    sealing = (*CRASHING, "hold=before-partial") if phase == "sealing" else PYTHON
    trial.selectors = [
        *await trial.federation.selectors("north", command=sealing),
        *await trial.federation.selectors("south"),
    ]
    never = {"client-1": "Gated"} if phase == "reporting" else {}
    await trial.add_clients(trainers=never)
    folded = len(CLIENTS) - len(never)
    await trial.federation.until(
        lambda s: s.round.counts.folded + s.round.counts.reported == folded, f"{folded} folded"
    )
    if phase == "sealing":
        await trial.selectors[0].logs("holds")
    await trial.kill()
    killed_s = time.monotonic()
    await times_logged(trial, "coordinator not reached", 5)

    await trial.restart()
    down_s = time.monotonic() - killed_s
    record = await trial.federation.completed(1)

    trial.figures["round_s"] = seconds(record)
    assert seconds(record) <= sum(times.values()) + down_s + SLACK_S
    assert record.outcome == pb.OUTCOME_COMMITTED
    if phase == "reporting":
        assert standings(record)["client-1"] in ("expired", "lost")
        assert record.counts.reported == 2
    else:
        assert standings(record)["client-3"] == "reported"
        assert record.counts.reported == 1


async def times_logged(trial: Trial, event: str, count: int) -> None:
    """Wait until the first selector has logged this so often."""
    while len(trial.selectors[0].logged(event)) < count:  # noqa: ASYNC110 - lines, not an event
        await asyncio.sleep(0.05)


async def all_train(trial: Trial, round_number: int) -> None:
    """Bring a federation whose trainers wait for a gate to this round."""
    for earlier in range(1, round_number):
        trial.federation.open_gate(earlier)
    await trial.begin(trainer="Gated")
    for client in trial.clients:
        await client.logs("training", round_number=round_number)


def seal_with_holding_selector(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the gate of selectors that hold."""
    gate = trial.federation.folder / "seal"
    monkeypatch.setenv(GATE, str(gate))
    return gate


assert PLAN["return_s"] > 2 * SLACK_S, "a loaded machine must not lose a client"
