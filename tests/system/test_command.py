"""The ``headwater`` command: a federation by its verbs, and what they print."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from federation.runtime.hdf5 import read_weights
from tests.system.processes import HEADWATER, Federation
from tests.system.trainers import STEP


async def test_federation_is_run_by_the_verbs_of_the_command_alone(bare: Federation) -> None:
    """``init``, ``coordinator``, ``selector``, ``client``, ``status``: each as it is documented."""
    arrays = bare.folder / "initial.npz"
    np.savez(arrays, w=np.zeros((2, 3), np.float32))
    init = await bare.start(
        "init", [*HEADWATER, "init"], shared_data=bare.shared_data, arrays=arrays
    )
    assert await init.end() == 0
    coordinator = await bare.coordinator(HEADWATER, goal_count=1, rounds=1)
    selectors = await bare.selectors("north", command=HEADWATER)
    client = await bare.client("client-1", *selectors, command=HEADWATER, rounds=1)

    end = await client.end()
    await bare.completed(1)
    status = await bare.start("status", [*HEADWATER, "status"], coordinator=coordinator.address)
    as_json = await bare.start(
        "status --json", [*HEADWATER, "status", "--json"], coordinator=coordinator.address
    )

    assert init.printed == [f"{bare.shared_data} is ready: training starts from {arrays}"]
    assert end == 0
    assert [await status.end(), await as_json.end()] == [0, 0]
    assert status.printed == [
        "Session over: 1 of 1 rounds",
        "Round 1, Completed: committed with 1 report",
        "1 selector attached, 0 clients waiting",
        f"  north ({selectors[0].address}): 0 clients",
    ]
    facts = json.loads("\n".join(as_json.printed))
    assert facts["round"]["outcome"] == "OUTCOME_COMMITTED"
    assert facts["round"]["counts"]["reported"] == 1
    assert facts["session"] == {
        "session_id": facts["session"]["session_id"],
        "rounds": 1,
        "rounds_completed": 1,
        "running": False,
        "stopping": False,
    }
    assert facts["shared_data"] == str(bare.shared_data)
    assert np.all(read_weights(bare.directory.checkpoint)["w"] == STEP)


async def test_init_is_given_a_directory_that_is_laid_out_it_changes_nothing_without_force(
    federation: Federation,
) -> None:
    """Trained weights are not lost by a repeated command."""
    before = federation.directory.checkpoint.read_bytes()
    init = await federation.start("init", [*HEADWATER, "init"], shared_data=federation.shared_data)

    status = await init.end()

    assert status == 2
    assert federation.directory.checkpoint.read_bytes() == before
    (message,) = init.log
    assert message.startswith(f"init: shared_data = '{federation.shared_data}' is wrong:")
    assert "--force" in message


async def test_no_coordinator_answers_status_says_where_it_asked(bare: Federation) -> None:
    """Status 1: nothing is wrong with the command, somebody is not there."""
    status = await bare.start("status", [*HEADWATER, "status"], coordinator="127.0.0.1:1")

    code = await status.end()

    assert code == 1
    (message,) = [line for line in status.log if line.startswith("status:")]
    assert "no coordinator answers at 127.0.0.1:1" in message


async def test_init_without_arguments_lays_out_the_current_folder_s_shared_data(
    bare: Federation, tmp_path: Path
) -> None:
    """The built-in model is the default, so that a first try needs nothing."""
    init = await bare.start("init", [*HEADWATER, "init"], shared_data=bare.shared_data)

    status = await init.end()

    assert status == 0
    assert init.printed == [
        f"{bare.shared_data} is ready: training starts from the built-in digits model"
    ]
    assert bare.directory.model.exists()
    assert bare.directory.checkpoint.exists()
