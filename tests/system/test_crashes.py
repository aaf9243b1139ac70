"""The coordinator dies and begins again: everything is as if it had not.

A few cases for every day; ``test_crashes_matrix`` has them all, ``make crashes`` runs it.
"""

from __future__ import annotations

import pytest

from federation.runtime.control import get_rounds, get_status
from federation.v1 import control_pb2 as pb
from tests.prove.trial import CLIENTS, Trial, digest_after, digest_of
from tests.system.processes import PYTHON, Federation, standings


@pytest.fixture
def trial(federation: Federation) -> Trial:
    """Three clients at two selectors, three rounds."""
    return Trial(federation)


@pytest.mark.parametrize(
    "point", ["after-rename@2", pytest.param("torn:ReportsFolded@2", marks=pytest.mark.prove)]
)
async def test_coordinator_dies_at_a_point_the_same_round_commits_to_the_bit(
    trial: Trial, point: str
) -> None:
    """Between rename and its sync, and with half a line in its journal."""
    await trial.begin(point)
    await trial.dies()

    await trial.restart()
    await trial.finishes()

    await trial.check()


async def test_coordinator_is_killed_in_selection_held_clients_stay_held(trial: Trial) -> None:
    """They notice nothing, and have their places still."""
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


@pytest.mark.prove
async def test_coordinator_is_down_while_reports_arrive_none_is_lost_or_counted_twice(
    trial: Trial,
) -> None:
    """Selectors take them for a while, and tell of them when it is back; nobody trains again."""
    trial.federation.open_gate(1)
    await trial.begin(trainer="Gated")
    for client in trial.clients:
        await client.logs("training", round_number=2)
    await trial.kill()
    trial.federation.open_gate()
    for client in trial.clients:
        await client.logs("report accepted", accepted=2)

    await trial.restart()
    await trial.finishes()

    await trial.check()


async def test_second_coordinator_on_a_directory_ends_until_the_first_is_dead(
    trial: Trial,
) -> None:
    """Status 2 and a message that names the first; a lock does not outlive its process."""
    await trial.start_coordinator()
    first = trial.coordinator
    second = await trial.federation.start(
        "second coordinator",
        [*PYTHON, "coordinator"],
        shared_data=trial.federation.shared_data,
        port=0,
    )
    status = await second.end()
    answers = await get_status(first.address)

    await trial.kill()
    await trial.restart()

    assert status == 2
    message = second.log[-1]
    assert f"process {first.pid} on host" in message
    assert message.endswith("(coordinator-running)")
    assert answers.session.running
    assert trial.coordinator.address == first.address


async def test_journal_is_damaged_by_hand_it_is_set_aside_and_the_next_session_runs(
    trial: Trial,
) -> None:
    """The round that ran is given up with a clear word; checkpoint and numbers are whole."""
    trial.federation.open_gate(1)
    await trial.begin(trainer="Gated")
    for client in trial.clients:
        await client.logs("training", round_number=2)
    await trial.kill()
    journal = trial.federation.directory.coordinator / "journal"
    (generation,) = journal.glob("*.jsonl")
    content = generation.read_bytes()
    generation.write_bytes(flipped(content, len(content.rstrip(b"\0")) // 2))
    whole = digest_of(trial.federation.directory.checkpoint)

    trial.settings["rounds"] = 1
    await trial.restart()
    trial.federation.open_gate()
    await trial.federation.until(lambda s: not s.session.running, "the end of the next session")
    records = await get_rounds(trial.coordinator.address)

    [line] = trial.coordinator.logged(
        "journal cannot be read and was set aside; the round that ran is abandoned",
        reason="journal-damaged",
    )
    assert line["level"] == "error"
    assert sorted(path.name for path in journal.iterdir()) == [
        "00000001.jsonl.damaged",
        "00000002.jsonl",
    ]
    assert whole == digest_after(1)
    # The number of the round that ran is not given again.
    assert [record.round_number for record in records] == [1, 3]
    assert records[-1].outcome == pb.OUTCOME_COMMITTED
    assert standings(records[-1]) == dict.fromkeys(CLIENTS, "reported")
    assert digest_of(trial.federation.directory.checkpoint) == digest_after(2)


def flipped(content: bytes, position: int) -> bytes:
    """Return the same with one bit of it changed."""
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)
