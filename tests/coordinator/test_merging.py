"""Merging: exact over any split, strict about what it reads, and whole or not at all."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from coordinator.events import Owner, PartialReference
from coordinator.merging import Kept, check_header, merge
from coordinator.strategy import FederatedAveraging
from federation.aggregation import BLOCK_ENTRIES, WeightedMean
from federation.errors import StoreError
from federation.runtime.hdf5 import encode_checkpoint, read_spec, read_weights
from federation.runtime.partials import open_partial
from federation.runtime.store import SharedDirectory, StagedCheckpoint
from federation.tensors import ModelSpec
from tests.coordinator.partials import ROUND_ID, Update, base_digest, hand_in
from tests.raw_client import sha256
from tests.servers import a_shared_directory

NORTH, SOUTH, EAST = Owner("north", "n1"), Owner("south", "s1"), Owner("east", "e1")

SHAPES = {"a/large": (3, BLOCK_ENTRIES // 2), "b": (5,), "none": (0, 4), "one": ()}


def an_update(seed: int, weight: int = 1) -> Update:
    """Random tensors of several blocks, shapes and dtypes."""
    random = np.random.default_rng(seed)
    weights: dict[str, NDArray[Any]] = {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()
    }
    weights["half"] = random.standard_normal(7).astype(np.float16)
    weights["double"] = random.standard_normal(7)
    weights["steps"] = random.integers(0, 1000, 3)
    weights["mask"] = random.integers(0, 2, 4).astype(np.bool_)
    return weights, weight


@pytest.fixture
def directory(tmp_path: Path) -> SharedDirectory:
    """A shared directory whose rounds start from random weights."""
    return a_shared_directory(tmp_path, an_update(0)[0])


def merged(
    directory: SharedDirectory,
    kept: Kept,
    *,
    dropped: threading.Event | None = None,
    **manifest: Any,
) -> StagedCheckpoint:
    """Merge for round 1."""
    facts = {"round_id": ROUND_ID, "base_digest": base_digest(directory)} | manifest
    strategy = FederatedAveraging()
    return merge(directory, kept, 1, facts, strategy, dropped or threading.Event())


def left_over(directory: SharedDirectory) -> list[str]:
    """What lies in the history."""
    if not directory.history.exists():
        return []
    return sorted(path.name for path in directory.history.iterdir())


def flat(updates: Mapping[str, Update]) -> dict[str, NDArray[Any]]:
    """The mean without a tree."""
    first = next(iter(updates.values()))[0]
    mean = WeightedMean(ModelSpec.of(first))
    for client_id, (weights, weight) in updates.items():
        mean.add(weights, weight, client_id)
    return mean.result()


# -- Sums -------------------------------------------------------------------------------------


def test_partials_of_several_selectors_give_the_mean_of_all_clients(
    directory: SharedDirectory,
) -> None:
    """A tree gives the flat result, in the model's own dtypes."""
    clients = {f"client-{n}": an_update(n, weight=n * n) for n in range(1, 7)}
    names = list(clients)
    shares = {NORTH: names[:1], SOUTH: names[1:4], EAST: names[4:]}
    kept = [
        (owner, hand_in(directory, owner, {name: clients[name] for name in share}))
        for owner, share in shares.items()
    ]

    staged = merged(directory, kept)

    expected = flat(clients)
    found = read_weights(staged.folder / "fl_checkpoint")
    assert {name: a.dtype for name, a in found.items()} == {
        name: a.dtype for name, a in expected.items()
    }
    for name, array in found.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(array, expected[name], rtol=1e-6)
        else:
            assert array.tolist() == expected[name].tolist()


def test_one_client_on_one_selector_gives_its_weights_bit_for_bit(
    directory: SharedDirectory,
) -> None:
    """The mean of one report is the report."""
    weights, _ = an_update(3)

    staged = merged(directory, [(NORTH, hand_in(directory, NORTH, {"ann": (weights, 12345)}))])

    found = read_weights(staged.folder / "fl_checkpoint")
    exact = {name for name in weights if name != "double"}
    assert all(found[name].tobytes() == weights[name].tobytes() for name in exact)
    np.testing.assert_allclose(found["double"], weights["double"], rtol=1e-15)


def test_integers_come_from_the_weightiest_report_of_all_selectors(
    directory: SharedDirectory,
) -> None:
    """The pick rule holds over the tree: greatest weight, then smallest client id."""
    few, many, as_many = an_update(1, 2), an_update(2, 9), an_update(3, 9)
    kept = [
        (NORTH, hand_in(directory, NORTH, {"zoe": many})),
        (SOUTH, hand_in(directory, SOUTH, {"ann": as_many, "ben": few})),
    ]

    staged = merged(directory, kept)

    found = read_weights(staged.folder / "fl_checkpoint")
    assert found["steps"].tolist() == as_many[0]["steps"].tolist()
    assert found["mask"].tolist() == as_many[0]["mask"].tolist()


def test_digest_is_that_of_the_wire_form(directory: SharedDirectory) -> None:
    """Selectors find the next checkpoint by it."""
    staged = merged(directory, [(NORTH, hand_in(directory, NORTH, {"ann": an_update(1)}))])

    assert staged.digest == sha256(encode_checkpoint(staged.folder / "fl_checkpoint")).hex()


def test_merge_leaves_the_current_checkpoint_alone(directory: SharedDirectory) -> None:
    """It writes beside it; nothing is committed yet."""
    before = directory.checkpoint.read_bytes()

    merged(directory, [(NORTH, hand_in(directory, NORTH, {"ann": an_update(1)}))])

    assert directory.checkpoint.read_bytes() == before
    assert [name[:5] for name in left_over(directory)] == [".tmp-"]


# -- What is refused --------------------------------------------------------------------------

STALE = {
    "of another round": {"round_id": "the-round-before"},
    "of another selector": {"selector_id": "south"},
    "of an earlier process": {"incarnation": "n0"},
    "from another checkpoint": {"base_digest": "00" * 32},
}


@pytest.mark.parametrize("kind", STALE)
def test_stale_partial_is_refused(directory: SharedDirectory, kind: str) -> None:
    """Discarded with a reason, never averaged; and nothing is left behind."""
    good = hand_in(directory, SOUTH, {"ben": an_update(2)})
    stale = hand_in(directory, NORTH, {"ann": an_update(1)}, **STALE[kind])
    before = directory.checkpoint.read_bytes()

    with pytest.raises(StoreError) as refused:
        merged(directory, [(SOUTH, good), (NORTH, stale)])

    assert refused.value.reason == "stale-partial"
    assert "north" in refused.value.detail
    assert left_over(directory) == []
    assert directory.checkpoint.read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [{"count": 2}, {"weight": 7}, {"client_ids": ("ben",)}, {"client_ids": ("ann", "ben")}],
)
def test_partial_that_is_not_what_its_selector_said_is_refused(
    directory: SharedDirectory, changes: dict[str, Any]
) -> None:
    """Whose reports count is what was kept, to the last client."""
    said = hand_in(directory, NORTH, {"ann": an_update(1)})
    with open_partial(directory.partial("north")) as file:
        header = file.header

    with pytest.raises(StoreError) as refused:
        check_header(
            header, NORTH, ROUND_ID, base_digest(directory), dataclasses.replace(said, **changes)
        )

    assert refused.value.reason == "stale-partial"


def test_partial_whose_bytes_changed_is_refused(directory: SharedDirectory) -> None:
    """The bytes that are merged are hashed; the checkpoint stays whole and current."""
    said = hand_in(directory, NORTH, {"ann": an_update(1)})
    with h5py.File(directory.partial("north"), "r+") as file:
        file["sums/b"][2] += 1.0
    before = directory.checkpoint.read_bytes()

    with pytest.raises(StoreError) as refused:
        merged(directory, [(NORTH, said)])

    assert refused.value.reason == "partial-changed"
    assert left_over(directory) == []
    assert directory.checkpoint.read_bytes() == before


def test_partial_of_another_selector_in_its_place_is_refused(directory: SharedDirectory) -> None:
    """The attributes are authoritative, not the name."""
    north = hand_in(directory, NORTH, {"ann": an_update(1)})
    south = hand_in(directory, SOUTH, {"ben": an_update(2)})
    shutil.copyfile(directory.partial("south"), directory.partial("north"))

    with pytest.raises(StoreError) as refused:
        merged(directory, [(NORTH, north), (SOUTH, south)])

    assert refused.value.reason == "stale-partial"


def test_partial_of_another_model_is_refused(tmp_path: Path) -> None:
    """Other tensors cannot be summed."""
    one = a_shared_directory(tmp_path / "one", {"w": np.zeros(3, np.float32)})
    other = a_shared_directory(tmp_path / "other", {"w": np.zeros(4, np.float32)})
    digest = base_digest(one)
    update: Update = ({"w": np.ones(4, np.float32)}, 1)
    said = hand_in(other, NORTH, {"ann": update}, base_digest=digest)
    shutil.copytree(tmp_path / "other" / "north", tmp_path / "one" / "north")

    with pytest.raises(StoreError) as refused:
        merged(one, [(NORTH, said)])

    assert refused.value.reason == "stale-partial"
    assert "tensors" in refused.value.detail


def test_missing_partial_is_refused(directory: SharedDirectory) -> None:
    """A file that was deleted meanwhile."""
    said = hand_in(directory, NORTH, {"ann": an_update(1)})
    directory.partial("north").unlink()

    with pytest.raises(StoreError) as refused:
        merged(directory, [(NORTH, said)])

    assert refused.value.reason == "file-missing"


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + b"\x00" * 500])
def test_damaged_partial_is_refused(directory: SharedDirectory, content: bytes) -> None:
    """A reason, never a crash."""
    said = hand_in(directory, NORTH, {"ann": an_update(1)})
    directory.partial("north").write_bytes(content)

    with pytest.raises(StoreError):
        merged(directory, [(NORTH, said)])

    assert left_over(directory) == []


def test_client_in_two_partials_is_a_bug(directory: SharedDirectory) -> None:
    """The round keeps disjoint partials only; merging asserts it once more."""
    kept: list[tuple[Owner, PartialReference]] = [
        (NORTH, hand_in(directory, NORTH, {"ann": an_update(1)})),
        (SOUTH, hand_in(directory, SOUTH, {"ann": an_update(2)})),
    ]

    with pytest.raises(AssertionError, match="two partials"):
        merged(directory, kept)


def test_round_that_ended_stops_the_merge(directory: SharedDirectory) -> None:
    """Nobody waits for a checkpoint that will not be published."""
    said = hand_in(directory, NORTH, {"ann": an_update(1)})
    dropped = threading.Event()
    dropped.set()

    with pytest.raises(StoreError) as refused:
        merged(directory, [(NORTH, said)], dropped=dropped)

    assert refused.value.reason == "commit-dropped"
    assert left_over(directory) == []


def test_checkpoint_has_the_tensors_of_the_one_before(directory: SharedDirectory) -> None:
    """Names, shapes and dtypes go on through rounds."""
    staged = merged(directory, [(NORTH, hand_in(directory, NORTH, {"ann": an_update(1)}))])

    assert read_spec(staged.folder / "fl_checkpoint") == read_spec(directory.checkpoint)
