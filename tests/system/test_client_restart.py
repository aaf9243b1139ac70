"""Clients die and come back, and their selectors die: what was trained once is reported once."""

from __future__ import annotations

import signal

import pytest

from federation.runtime.hdf5 import read_weights
from federation.v1 import control_pb2 as pb
from tests.system.processes import AT_ONCE, PYTHON, Federation, Process, Settings, facts, standings
from tests.system.trainers import STEP

WINDOW_S = 600.0
"""A report window that no test waits for."""

RETURN_S = 2.0
"""Of tests in which a selector is lost for good."""

TELLING: Settings = {"log_level": "debug"}
"""Of a client that says when its update is on disk."""


def trainings(*processes: Process) -> list[int]:
    """Return the rounds for which these processes trained."""
    return [line["round_number"] for p in processes for line in p.logged("training")]


def steps_made(federation: Federation) -> float:
    """Return how many steps the first round made with each weight: the mean of its reports."""
    weights = read_weights(federation.directory.history / "round-000001" / "fl_checkpoint")["w"]
    [weight] = set(weights.flat)
    return float((weight - 0.5) / STEP)


async def test_client_is_killed_after_its_training_it_reports_without_another(
    federation: Federation,
) -> None:
    """What it trained is on disk; its claim is not spent; it counts once."""
    await federation.coordinator(goal_count=2, rounds=1, report_window_s=WINDOW_S)
    north, south = await federation.selectors("north", "south")
    await federation.client("client-1", north)
    client = await federation.client("client-2", south, trainer="Gated", steps=3, **TELLING)
    await client.logs("training", round_number=1)
    south.signal(signal.SIGSTOP)
    federation.open_gate()
    await client.logs("update kept")
    await client.kill()
    south.signal(signal.SIGCONT)
    again = await federation.client("client-2", south, trainer="Gated", steps=3)

    record = await federation.completed(1)

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert standings(record) == {"client-1": "reported", "client-2": "reported"}
    assert trainings(client, again) == [1]
    assert steps_made(federation) == 2


async def test_client_is_killed_while_it_trains_it_trains_anew_in_the_same_round(
    federation: Federation,
) -> None:
    """It is back before the round is over, with the same claim."""
    await federation.coordinator(goal_count=2, rounds=1, report_window_s=WINDOW_S)
    (north,) = await federation.selectors("north")
    await federation.client("client-1", north)
    client = await federation.client("client-2", north, trainer="Gated")
    await client.logs("training", round_number=1)
    await client.kill()
    again = await federation.client("client-2", north, trainer="Gated")
    await again.logs("training", round_number=1)
    federation.open_gate()

    record = await federation.completed(1)

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert standings(record) == {"client-1": "reported", "client-2": "reported"}
    assert steps_made(federation) == 1


@pytest.mark.prove
async def test_client_is_killed_as_its_report_is_judged_it_counts_once_and_does_what_is_left(
    federation: Federation,
) -> None:
    """Whether or not it had its receipt: of ``--rounds 2`` one is left."""
    await federation.coordinator(goal_count=2, rounds=3, report_window_s=WINDOW_S, **AT_ONCE)
    north, south = await federation.selectors("north", "south")
    await federation.client("client-1", north, trainer="Gated")
    client = await federation.client("client-2", south, rounds=2)
    await south.logs("report judged", client_id="client-2")
    await client.kill()
    again = await federation.client("client-2", south, rounds=2)
    federation.open_gate()

    records = [await federation.completed(number) for number in (1, 2)]
    status = await again.end()

    for record in records:
        assert standings(record) == {"client-1": "reported", "client-2": "reported"}
    assert trainings(client, again) == [1, 2]
    assert status == 0
    assert again.logged("done", accepted=2)


@pytest.mark.prove
async def test_second_process_of_a_client_starts_it_ends_and_the_first_goes_on(
    federation: Federation,
) -> None:
    """Two would train in one's place; the message says what would be right."""
    await federation.coordinator(goal_count=1, rounds=1)
    (north,) = await federation.selectors("north")
    first = await federation.client("client-1", north, trainer="Gated")
    await first.logs("training", round_number=1)
    second = await federation.client("client-1", north)

    status = await second.end()
    federation.open_gate()
    record = await federation.completed(1)

    assert status == 2
    assert "state-in-use" in second.log[-1]
    assert "--state" in second.log[-1]
    assert standings(record) == {"client-1": "reported"}


@pytest.mark.prove
async def test_state_that_was_given_cannot_be_kept_the_client_does_not_start(
    federation: Federation,
) -> None:
    """Nobody finds out after an hour of training."""
    client = await federation.start(
        "client", [*PYTHON, "client"], trainer="a:B", state="/dev/null/state"
    )

    status = await client.end()

    assert status == 2
    assert "state-unusable" in client.log[-1]


# -- Selectors --------------------------------------------------------------------------------


@pytest.mark.prove
async def test_selector_is_killed_while_its_client_reports_another_one_takes_the_report(
    federation: Federation,
) -> None:
    """The claim moves when the dead selector is void; nothing is trained again."""
    await federation.coordinator(
        goal_count=2, rounds=1, return_s=RETURN_S, report_window_s=WINDOW_S, **AT_ONCE
    )
    north, south = await federation.selectors("north", "south")
    await federation.client("client-1", north, trainer="Gated")
    client = await federation.client("client-2", south, north, trainer="Gated", **TELLING)
    await client.logs("training", round_number=1)
    south.signal(signal.SIGSTOP)
    federation.open_gate(1)
    await client.logs("update kept")
    await south.kill()

    record = await federation.completed(1)

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert trainings(client) == [1]
    assert standings(record) == {"client-1": "reported", "client-2": "reported"}
    assert {client.selector_id for client in record.clients} == {"north"}


@pytest.mark.prove
async def test_selector_is_killed_after_the_receipt_its_client_reports_once_more_elsewhere(
    federation: Federation,
) -> None:
    """What the dead selector had folded is in no partial: it counts through the other, once."""
    await federation.coordinator(
        goal_count=2, rounds=1, return_s=RETURN_S, report_window_s=WINDOW_S, **AT_ONCE
    )
    north, south = await federation.selectors("north", "south")
    await federation.client("client-1", north, trainer="Gated")
    client = await federation.client("client-2", south, north, steps=3)
    await client.logs("report accepted", accepted=1)
    await south.kill()
    await north.logs("report judged", client_id="client-2")
    federation.open_gate()

    record = await federation.completed(1)

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert {c.client_id: c.selector_id for c in record.clients} == {
        "client-1": "north",
        "client-2": "north",
    }
    assert record.counts.reported == 2
    assert trainings(client) == [1]
    assert [line["accepted"] for line in map(facts, client.log) if "accepted" in line] == [1, 1]
    assert steps_made(federation) == 2


@pytest.mark.prove
async def test_client_and_its_selector_are_killed_after_the_training_the_update_counts_elsewhere(
    federation: Federation,
) -> None:
    """The token is one's own wherever it is, and the update is on disk."""
    await federation.coordinator(
        goal_count=2, rounds=1, return_s=RETURN_S, report_window_s=WINDOW_S, **AT_ONCE
    )
    north, south = await federation.selectors("north", "south")
    await federation.client("client-1", north, trainer="Stubborn")
    client = await federation.client("client-2", south, north, trainer="Gated", **TELLING)
    await client.logs("training", round_number=1)
    south.signal(signal.SIGSTOP)
    federation.open_gate("1")
    await client.logs("update kept")
    await client.kill()
    await south.kill()
    again = await federation.client("client-2", south, north, trainer="Gated")

    record = await federation.completed(1)

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert standings(record) == {"client-1": "reported", "client-2": "reported"}
    assert {client.selector_id for client in record.clients} == {"north"}
    assert trainings(client, again) == [1]
