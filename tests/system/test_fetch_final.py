"""``headwater client --fetch-final``: the result of a session reaches every client that asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.runtime.hdf5 import read_weights
from tests.system.processes import AT_ONCE, HEADWATER, PYTHON, Federation, Process

ROUNDS = 3


async def asks_only(
    federation: Federation, name: str, output: Path, *selectors: Process
) -> Process:
    """Start a client that takes part in no round and wants the result."""
    return await federation.start(
        name,
        [*HEADWATER, "client"],
        selector=[selector.address for selector in selectors],
        fetch_final=output,
        cache=federation.folder / "cache",
    )


def weights_in(output: Path) -> dict[str, NDArray[Any]]:
    """What was written."""
    return read_weights(output) if output.suffix == ".h5" else dict(np.load(output))


def same(left: dict[str, NDArray[Any]], right: dict[str, NDArray[Any]]) -> bool:
    """Compare bit for bit."""
    return left.keys() == right.keys() and all((left[n] == right[n]).all() for n in left)


async def test_session_ends_everybody_who_asked_has_its_last_checkpoint(
    federation: Federation,
) -> None:
    """One that trained once, one that trained to the end, one that did not, and one that is late.

    The first does not take a place in further rounds while it waits.
    """
    folder = federation.folder
    await federation.coordinator(rounds=ROUNDS, goal_count=1, **AT_ONCE)
    [north] = await federation.selectors("north")
    only = await asks_only(federation, "only", folder / "only.h5", north)
    once = await federation.client("once", north, rounds=1, fetch_final=folder / "once.npz")
    await once.logs("waiting for the end of the session")
    to_the_end = await federation.client("to-the-end", north, fetch_final=folder / "end.npz")

    statuses = [await client.end() for client in (only, once, to_the_end)]
    late = await asks_only(federation, "late", folder / "late.npz", north)
    statuses.append(await late.end())

    record = await federation.completed(ROUNDS)
    result = read_weights(federation.directory.checkpoint)
    assert statuses == [0] * 4
    assert record.checkpoint_digest
    for client, name in ((only, "only.h5"), (once, "once.npz"), (late, "late.npz")):
        assert same(weights_in(folder / name), result)
        assert f"round {ROUNDS}, sha256 {record.checkpoint_digest}" in client.printed[-1]
    assert [c.client_id for c in record.clients] == ["to-the-end"]


@pytest.mark.prove
async def test_selector_is_killed_and_comes_back_who_waits_gets_the_result(
    federation: Federation,
) -> None:
    """What ran is told to the new process by the coordinator."""
    output = federation.folder / "result.npz"
    await federation.coordinator(rounds=1, goal_count=1, selection_timeout_s=80, **AT_ONCE)
    [north] = await federation.selectors("north")
    only = await asks_only(federation, "only", output, north)
    await only.logs("waiting for the end of the session")
    await north.kill()
    [north] = await federation.selectors("north", port=north.port)

    await federation.client("client-1", north, rounds=1)

    assert await only.end() == 0
    assert same(weights_in(output), read_weights(federation.directory.checkpoint))


@pytest.mark.prove
async def test_coordinator_is_killed_and_comes_back_who_waits_gets_the_result(
    federation: Federation,
) -> None:
    """It goes on with the session, which keeps its id."""
    output = federation.folder / "result.npz"
    settings = {"rounds": 1, "goal_count": 1, "selection_timeout_s": 80, **AT_ONCE}
    coordinator = await federation.coordinator(**settings)
    [north] = await federation.selectors("north")
    only = await asks_only(federation, "only", output, north)
    await only.logs("waiting for the end of the session")
    await coordinator.kill()
    await federation.coordinator(port=coordinator.port, **settings)

    await federation.client("client-1", north, rounds=1)

    assert await only.end() == 0
    assert same(weights_in(output), read_weights(federation.directory.checkpoint))


async def test_client_is_told_to_stop_while_it_waits_it_says_that_nothing_was_written(
    federation: Federation,
) -> None:
    """Status 1: what was asked for is not there."""
    output = federation.folder / "result.npz"
    await federation.coordinator(rounds=1, goal_count=1)
    [north] = await federation.selectors("north")
    only = await asks_only(federation, "only", output, north)
    await only.logs("waiting for the end of the session")

    only.terminate()

    assert await only.end() == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"fetch_final": "result.txt"}, "fetch_final"),
        ({"fetch_final": "/nowhere/result.npz"}, "fetch_final"),
        ({"fetch_final": "result.h5", "cache": "/dev/null/cache"}, "cache"),
        ({}, "data"),
    ],
)
async def test_result_could_not_be_written_the_client_ends_at_once(
    bare: Federation, settings: dict[str, Any], setting: str
) -> None:
    """Before anything is trained or waited for, with the setting that is wrong."""
    client = await bare.start("client", [*PYTHON, "client"], **settings)

    status = await client.end()

    assert status == 2
    assert client.log[-1].startswith(f"client: {setting} = ")
