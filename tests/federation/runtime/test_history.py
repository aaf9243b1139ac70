"""Past checkpoints: whole or not there, and never replaced."""

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from federation.errors import StoreError
from federation.runtime.hdf5 import Stamp, blocks_of, read_weights, write_checkpoint
from federation.runtime.history import History, StagedCheckpoint, stamp_of
from federation.tensors import ModelSpec

WEIGHTS: dict[str, NDArray[Any]] = {"a/kernel": np.ones((2, 3), "f4"), "steps": np.array(7)}


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    path = tmp_path / "fl_checkpoint"
    write_checkpoint(path, ModelSpec.of(WEIGHTS), blocks_of(WEIGHTS))
    return path


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history")


def _stage(
    history: History, layout: Path, round_number: int, **manifest: object
) -> StagedCheckpoint:
    spec = ModelSpec.of(WEIGHTS)
    return history.stage(round_number, spec, blocks_of(WEIGHTS), manifest, layout)


def _commit(history: History, layout: Path, *round_numbers: int) -> None:
    for round_number in round_numbers:
        history.publish(_stage(history, layout, round_number), round_number)


def test_a_staged_checkpoint_is_in_history_only_once_it_is_published(
    history: History, layout: Path
) -> None:
    """The rename is the commit point: before it there is nothing, after it everything."""
    staged = _stage(history, layout, 41, round_id="5f0c", metrics={"loss": 0.25})

    assert history.rounds() == []
    assert history.manifest(41) is None

    history.publish(staged, 41)

    assert history.rounds() == [41]
    assert history.manifest(41) == {
        "round_number": 41,
        "digest": staged.digest,
        "round_id": "5f0c",
        "metrics": {"loss": 0.25},
    }
    assert history.checkpoint(41).parent.name == "round-000041"
    assert stamp_of(history.checkpoint(41)) == Stamp(41, staged.digest)
    assert read_weights(history.checkpoint(41)).keys() == WEIGHTS.keys()


@pytest.mark.parametrize("content", [[], ["manifest.json"]])
def test_a_round_that_is_there_is_never_replaced(
    history: History, layout: Path, content: list[str]
) -> None:
    """Not even an empty folder, which a rename would silently replace."""
    staged = _stage(history, layout, 41)
    (history.folder / "round-000041").mkdir()
    for name in content:
        (history.folder / "round-000041" / name).touch()

    with pytest.raises(StoreError) as caught:
        history.publish(staged, 41)

    assert caught.value.reason == "round-exists"
    assert os.listdir(history.folder / "round-000041") == content
    assert staged.folder.is_dir()


def test_a_round_that_another_coordinator_commits_meanwhile_is_not_replaced(
    history: History, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where locks fail, the rename itself excludes the second."""
    first, second = _stage(history, layout, 41), _stage(history, layout, 41, winner=False)
    monkeypatch.setattr(os.path, "lexists", lambda _: False)

    history.publish(first, 41)
    with pytest.raises(StoreError) as caught:
        history.publish(second, 41)

    assert caught.value.reason == "round-exists"
    manifest = history.manifest(41)
    assert manifest is not None
    assert "winner" not in manifest


def test_a_manifest_that_is_no_json_leaves_nothing_behind(history: History, layout: Path) -> None:
    """NaN is no JSON; the round is abandoned, the process goes on."""
    with pytest.raises(StoreError) as caught:
        _stage(history, layout, 41, loss=float("nan"))

    assert caught.value.reason == "malformed-manifest"
    assert os.listdir(history.folder) == []


def test_a_source_that_fails_leaves_nothing_behind(history: History, layout: Path) -> None:
    """Partials that turn out to be damaged while they are merged abandon the round."""

    def blocks(_: object) -> list[NDArray[Any]]:
        raise StoreError("a partial shrank", reason="malformed-partial")

    with pytest.raises(StoreError) as caught:
        history.stage(41, ModelSpec.of(WEIGHTS), blocks, {}, layout)

    assert caught.value.reason == "malformed-partial"
    assert os.listdir(history.folder) == []


def test_a_discarded_checkpoint_is_gone(history: History, layout: Path) -> None:
    """Staging that took too long is forgotten."""
    staged = _stage(history, layout, 41)

    history.discard(staged)
    history.discard(staged)

    assert os.listdir(history.folder) == []


def _no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _no_json(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\xff{")


def _no_object(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def _other_round(folder: Path) -> None:
    facts = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**facts, "round_number": 40}))


def _other_checkpoint(folder: Path) -> None:
    with h5py.File(folder / "fl_checkpoint", "r+") as file:
        file.attrs["headwater_digest"] = np.bytes_("0" * 64)


def _no_checkpoint(folder: Path) -> None:
    (folder / "fl_checkpoint").unlink()


def _damaged_checkpoint(folder: Path) -> None:
    (folder / "fl_checkpoint").write_bytes(b"")


@pytest.mark.parametrize(
    "breakage",
    [
        _no_manifest,
        _no_json,
        _no_object,
        _other_round,
        _other_checkpoint,
        _no_checkpoint,
        _damaged_checkpoint,
    ],
)
def test_a_round_that_is_not_whole_has_no_manifest(
    history: History, layout: Path, breakage: Any
) -> None:
    """In doubt the manifest decides, so it vouches for the checkpoint beside it; numbers stay."""
    _commit(history, layout, 41)

    breakage(history.folder / "round-000041")

    assert history.manifest(41) is None
    assert history.highest() == 41


def test_a_manifest_that_the_disk_does_not_show_is_an_error(
    history: History, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that fails does not mean that the round was not committed."""
    _commit(history, layout, 41)

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "no")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StoreError) as caught:
        history.manifest(41)

    assert caught.value.reason == "permission-denied"


def test_the_newest_rounds_are_kept(history: History, layout: Path) -> None:
    """Pruning goes by number, not by name or time."""
    _commit(history, layout, 9, 1_000_000, 10, 11)

    history.prune(5)
    history.prune(2)

    assert history.rounds() == [11, 1_000_000]
    assert sorted(os.listdir(history.folder)) == ["round-000011", "round-1000000"]


def test_a_deletion_that_is_cut_short_leaves_no_half_round(
    history: History, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round is in history as a whole or not at all, also on its way out."""
    _commit(history, layout, 1, 2)

    def fail(_: Path) -> None:
        raise OSError(5, "broken")

    monkeypatch.setattr("shutil.rmtree", fail)
    with pytest.raises(StoreError) as caught:
        history.prune(1)

    assert caught.value.reason == "io-error"
    assert history.rounds() == [2]


def test_what_is_not_a_round_is_not_taken_for_one(history: History, layout: Path) -> None:
    """Names of people's own making stay where they are; a file cannot be a whole round."""
    assert (history.rounds(), history.highest()) == ([], 0)
    _commit(history, layout, 3)
    for name in ("round-4", "round-00000x", "notes.txt", "round-000004.old"):
        (history.folder / name).mkdir()
    (history.folder / "round-000005").touch()

    history.prune(2)

    assert history.rounds() == [3, 5]
    assert history.manifest(5) is None


def test_a_round_is_durable_before_it_has_its_name(
    history: History, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit point commits what is on the disk, and is on the disk itself."""
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        calls.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def note_rename(source: Path, target: Path) -> None:
        calls.append("rename")
        rename(source, target)

    history.folder.mkdir()
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    staged = _stage(history, layout, 41)
    history.publish(staged, 41)

    assert calls == [
        "sync fl_checkpoint",
        "sync manifest.json",
        f"sync {staged.folder.name}",
        "rename",
        "sync history",
    ]
