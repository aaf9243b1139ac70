"""The shared directory: a commit that is cut short anywhere leaves a whole checkpoint."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from federation.errors import SettingsError, StoreError
from federation.runtime.hdf5 import Stamp, blocks_of, read_stamp, read_weights, write_checkpoint
from federation.runtime.store import SharedDirectory
from federation.tensors import ModelSpec

LAYERS: dict[str, NDArray[Any]] = {
    "z/z/kernel": np.full((2, 3), 7, "f4"),
    "a/a/bias": np.arange(3, dtype="f4"),
}


def _place_model(store: SharedDirectory) -> None:
    """Write a Keras model as far as we look at one."""
    store.model.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(store.model, "w") as file:
        file.attrs["model_config"] = b"{}"
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"z", b"a"]
        for name, values in LAYERS.items():
            root[name] = values


@pytest.fixture
def store(tmp_path: Path) -> SharedDirectory:
    store = SharedDirectory(tmp_path / "shared")
    _place_model(store)
    store.ensure_checkpoint()
    return store


def _weights(value: float) -> dict[str, NDArray[Any]]:
    return {name: np.full_like(values, value) for name, values in LAYERS.items()}


def _commit(store: SharedDirectory, round_number: int) -> None:
    weights = _weights(round_number)
    staged = store.stage_checkpoint(
        round_number, ModelSpec.of(weights), blocks_of(weights), {"round_id": f"id-{round_number}"}
    )
    store.publish(staged, round_number)
    store.make_current(round_number)


def _current(store: SharedDirectory) -> float:
    """Return the value that all entries of the current checkpoint have."""
    read = read_weights(store.checkpoint)
    assert read.keys() == LAYERS.keys()
    values = {float(value) for tensor in read.values() for value in tensor.flat}
    assert len(values) == 1, "a mixture of two checkpoints"
    return values.pop()


def _unfinished(store: SharedDirectory) -> list[str]:
    return [str(path) for path in store.root.rglob(".tmp-*")]


def test_everything_has_its_place(tmp_path: Path) -> None:
    """The layout is a contract with people and other programs."""
    store = SharedDirectory(tmp_path)

    places = {
        "model": store.model,
        "checkpoint": store.checkpoint,
        "history": store.history,
        "coordinator": store.coordinator,
        "partial": store.partial("north"),
        "weight": store.partial_weight("north"),
    }

    assert {name: str(path.relative_to(tmp_path)) for name, path in places.items()} == {
        "model": "initFiles/model.h5",
        "checkpoint": "initFiles/fl_checkpoint",
        "history": "history",
        "coordinator": "coordinator",
        "partial": "north/fl_agg_checkpoint",
        "weight": "north/fl_agg_checkpoint_weight",
    }


@pytest.mark.parametrize("selector_id", ["..", "a/b", "history", "initFiles", "", "/etc"])
def test_an_id_that_is_no_selectors_gives_no_path(tmp_path: Path, selector_id: str) -> None:
    """No path from a peer is joined to ours.

    Elsewhere: a prototype joined paths with what a peer sent, unchecked.
    """
    store = SharedDirectory(tmp_path)

    for give in (store.partial, store.partial_weight, store.prepare_selector):
        with pytest.raises(SettingsError):
            give(selector_id)


def test_the_first_checkpoint_holds_the_models_weights_in_its_layout(
    store: SharedDirectory,
) -> None:
    """Written with h5py alone; made by no round."""
    read = read_weights(store.checkpoint)

    for name, values in LAYERS.items():
        np.testing.assert_array_equal(read[name], values, strict=True)
    with h5py.File(store.checkpoint) as file:
        assert file.attrs["layer_names"].tolist() == [b"z", b"a"]
    stamp = read_stamp(store.checkpoint)
    assert stamp is not None
    assert stamp.round_number == 0
    assert store.recover() is None


def test_a_checkpoint_that_is_there_is_left_alone(store: SharedDirectory) -> None:
    """``ensure_checkpoint`` writes what is missing, nothing else."""
    _commit(store, 1)
    before = store.checkpoint.stat()

    store.ensure_checkpoint()

    assert store.checkpoint.stat().st_ino == before.st_ino
    assert _current(store) == 1


def test_a_checkpoint_of_another_model_is_refused(store: SharedDirectory) -> None:
    """They were never meant to be used together."""
    weights = {"b": np.ones(1, "f4")}
    write_checkpoint(store.checkpoint, ModelSpec.of(weights), blocks_of(weights))

    with pytest.raises(SettingsError, match="other tensors"):
        store.ensure_checkpoint()


def test_a_commit_makes_the_checkpoint_current_and_keeps_the_layout(
    store: SharedDirectory,
) -> None:
    """After step (c) the round's checkpoint is the global one, for Keras too."""
    for round_number in (1, 2):
        _commit(store, round_number)

    assert _current(store) == 2
    stamp = read_stamp(store.checkpoint)
    manifest = store.manifest(2)
    assert stamp is not None
    assert manifest is not None
    assert stamp == Stamp(2, manifest["digest"])
    with h5py.File(store.checkpoint) as file:
        assert file.attrs["layer_names"].tolist() == [b"z", b"a"]
    assert _unfinished(store) == []


def test_a_disk_without_hard_links_gets_a_copy(
    store: SharedDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network disks have none."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    _commit(store, 1)

    assert _current(store) == 1
    assert store.checkpoint.stat().st_nlink == 1


class Crash(BaseException):
    """The process ends here; nothing may catch it."""


SYSTEM_CALLS = ("fsync", "rename", "replace", "link")


def _crash_at(monkeypatch: pytest.MonkeyPatch, moment: int, error: BaseException) -> list[str]:
    """Let the given system call of a commit, counted from 0, fail instead of happening."""
    calls: list[str] = []

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any) -> Any:
            calls.append(name)
            if len(calls) - 1 == moment:
                raise error
            return real(*args)

        monkeypatch.setattr(os, name, call)

    for name in SYSTEM_CALLS:
        wrap(name)
    return calls


def _calls_of_a_commit(tmp_path: Path) -> int:
    store = SharedDirectory(tmp_path / "counted")
    _place_model(store)
    store.ensure_checkpoint()
    _commit(store, 1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        calls = _crash_at(monkeypatch, -1, Crash())
        _commit(store, 2)
    assert set(calls) == set(SYSTEM_CALLS)
    return len(calls)


@pytest.mark.parametrize("error", [Crash(), OSError(errno.ENOSPC, "full")])
def test_a_commit_that_is_cut_short_anywhere_leaves_a_whole_checkpoint(
    tmp_path: Path, error: BaseException
) -> None:
    """Before the commit point the round never was, after it recovery finishes it.

    Elsewhere: a prototype wrote the global checkpoint in place, and whoever died in the middle
    had none.
    """
    for moment in range(_calls_of_a_commit(tmp_path)):
        store = SharedDirectory(tmp_path / f"{moment}")
        _place_model(store)
        store.ensure_checkpoint()
        _commit(store, 1)
        # Without an error only if the call was a hard link, for which a copy stands in.
        with pytest.MonkeyPatch.context() as monkeypatch, suppress(Crash, StoreError):
            _crash_at(monkeypatch, moment, error)
            _commit(store, 2)
        assert _current(store) in (1, 2)

        committed = store.manifest(2) is not None
        highest = store.recover()

        assert highest == (2 if committed else 1)
        assert _current(store) == highest
        assert _unfinished(store) == []
        _commit(store, 3)
        assert _current(store) == 3


def test_a_kill_that_nothing_cleans_up_after_is_recovered(store: SharedDirectory) -> None:
    """What is unfinished has a name of its own and is deleted at the start."""
    _commit(store, 1)
    weights = _weights(2)
    store.stage_checkpoint(2, ModelSpec.of(weights), blocks_of(weights), {})
    (store.checkpoint.parent / ".tmp-1").write_text("half a check")
    store.coordinator.mkdir()
    (store.coordinator / ".tmp-2").write_text("half a snapshot")
    store.prepare_selector("north")
    (store.partial("north").parent / ".tmp-3").write_text("a live selector's")

    highest = store.recover()

    assert highest == 1
    assert _current(store) == 1
    assert [Path(path).name for path in _unfinished(store)] == [".tmp-3"]

    store.prepare_selector("north")

    assert _unfinished(store) == []


def _missing(path: Path) -> None:
    path.unlink()


def _replaced_by_text(path: Path) -> None:
    path.unlink()
    path.write_text("oops")


def _without_stamp(path: Path) -> None:
    path.unlink()
    write_checkpoint(path, ModelSpec.of(LAYERS), blocks_of(LAYERS))


def _older(path: Path) -> None:
    path.unlink()
    shutil.copyfile(path.parents[1] / "history" / "round-000001" / "fl_checkpoint", path)


@pytest.mark.parametrize("breakage", [_missing, _replaced_by_text, _without_stamp, _older])
def test_a_current_checkpoint_that_is_not_the_newest_is_made_so(
    store: SharedDirectory, breakage: Any
) -> None:
    """Missing, damaged, of unknown origin, or of an older round: history is right."""
    _commit(store, 1)
    _commit(store, 2)

    breakage(store.checkpoint)

    assert store.recover() == 2
    assert _current(store) == 2


def test_a_newest_round_that_is_not_whole_gives_way_to_the_one_before(
    store: SharedDirectory,
) -> None:
    """Its number is not given again."""
    _commit(store, 1)
    _commit(store, 2)
    (store.history / "round-000002" / "manifest.json").unlink()
    store.checkpoint.unlink()

    highest = store.recover()

    assert highest == 2
    assert _current(store) == 1


def test_weights_that_the_operator_placed_are_not_replaced_by_old_history(
    store: SharedDirectory,
) -> None:
    """``headwater init --force`` starts again: the history that is there is older than that."""
    for round_number in (1, 2, 3):
        _commit(store, round_number)
    store.prune(1)
    new = _weights(99)
    store.checkpoint.unlink()
    store.write_first_checkpoint(store.checkpoint, new, store.model)

    highest = store.recover()

    assert highest == 3
    assert _current(store) == 99

    _commit(store, 4)

    assert (store.recover(), _current(store)) == (4, 4)


def test_a_lost_history_does_not_make_round_numbers_repeat(store: SharedDirectory) -> None:
    """The current checkpoint remembers its round."""
    _commit(store, 7)
    shutil.rmtree(store.history)

    assert store.recover() == 7
    assert _current(store) == 7


def test_a_checkpoint_that_the_disk_does_not_show_stops_the_start(
    store: SharedDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be fine and newer than history: not being able to look is no reason to replace it."""
    _commit(store, 1)
    real = os.stat

    def stat(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if path == store.checkpoint:
            raise OSError(errno.EIO, "broken")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(StoreError) as caught:
        store.recover()

    assert caught.value.reason == "io-error"


def test_readers_of_the_current_checkpoint_keep_the_one_they_opened(
    store: SharedDirectory,
) -> None:
    """The file is replaced, never changed in place."""
    _commit(store, 1)

    with h5py.File(store.checkpoint) as file:
        _commit(store, 2)

        assert file["a/a/bias"][0] == 1


def test_a_directory_that_was_initialised_passes_the_check(store: SharedDirectory) -> None:
    """Also with nothing but the model, or nothing but a checkpoint, or nothing but history."""
    store.check()
    store.checkpoint.unlink()
    store.check()
    store.ensure_checkpoint()
    store.model.unlink()
    store.check()
    _commit(store, 1)
    store.checkpoint.unlink()

    store.check()


def _nothing(root: Path) -> None:
    assert not root.exists()


def _file(root: Path) -> None:
    root.touch()


def _empty(root: Path) -> None:
    root.mkdir()


def _foreign(root: Path) -> None:
    (root / "photos").mkdir(parents=True)


def _no_hdf5(root: Path) -> None:
    (root / "initFiles").mkdir(parents=True)
    (root / "initFiles" / "model.h5").write_text("oops")


@pytest.mark.parametrize("make", [_nothing, _file, _empty, _foreign, _no_hdf5])
def test_a_directory_that_cannot_be_used_is_refused_with_what_to_do(
    tmp_path: Path, make: Any
) -> None:
    """The operator's error names the setting, the directory and the command that makes one."""
    root = tmp_path / "shared"
    make(root)

    with pytest.raises(SettingsError) as caught:
        SharedDirectory(root).check()

    assert caught.value.setting == "shared_data"
    assert caught.value.reason == "shared-directory-unusable"
    assert f"headwater init --shared-data {root}" in caught.value.detail


def test_an_empty_directory_has_no_checkpoint_to_ensure(tmp_path: Path) -> None:
    """It is an error that names ``headwater init``."""
    with pytest.raises(SettingsError, match="headwater init"):
        SharedDirectory(tmp_path).ensure_checkpoint()


def test_a_directory_that_may_not_be_written_is_refused(
    store: SharedDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said at the start, not at the first commit; making it again would not help."""
    monkeypatch.setattr(os, "access", lambda *_: False)

    with pytest.raises(SettingsError) as caught:
        store.check()

    assert "may not read and write" in caught.value.detail
    assert "headwater init" not in caught.value.detail


def test_past_checkpoints_can_be_found(store: SharedDirectory) -> None:
    """History is there to go back to."""
    for round_number in (1, 2, 3):
        _commit(store, round_number)
    store.prune(2)

    assert store.rounds() == [2, 3]
    assert read_weights(store.past_checkpoint(2))["a/a/bias"].tolist() == [2, 2, 2]
