"""The checkpoints of a shared directory, and what other programs get of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.errors import SettingsError, StoreError
from federation.runtime.hdf5 import blocks_of, read_weights
from federation.runtime.initialise import initialise, initialise_with
from federation.runtime.store import SharedDirectory
from federation.tensors import ModelSpec
from headwater.checkpoints import export, find_checkpoint, list_checkpoints, spec_of
from headwater.digits_model import BUILTIN_MODEL

Weights = Mapping[str, NDArray[Any]]

FIRST: Weights = {"a/file": np.zeros((2, 3), np.float32), "file": np.arange(3, dtype=np.int64)}


def plus(weights: Weights, number: int) -> Weights:
    """Return other weights of the same shape."""
    return {name: array + array.dtype.type(number) for name, array in weights.items()}


def commit(root: Path, number: int, weights: Weights) -> None:
    """Commit a round as a coordinator does."""
    directory = SharedDirectory(root)
    manifest = {"count": 2, "weight": 7, "metrics": {"loss": 0.5}}
    staged = directory.stage_checkpoint(number, ModelSpec.of(weights), blocks_of(weights), manifest)
    directory.publish(staged, number)
    directory.make_current(number)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A shared directory that starts from ``FIRST``."""
    root = tmp_path / "shared"
    initialise_with(root, FIRST)
    return root


# -- Listing and finding ----------------------------------------------------------------------


def test_no_round_was_committed_the_first_weights_are_the_current_checkpoint(root: Path) -> None:
    """No round made them, and nothing else is known of them."""
    (first,) = list_checkpoints(root)

    assert (first.round_number, first.current, first.manifest) == (0, True, {})
    assert find_checkpoint(root, None) == find_checkpoint(root, 0) == first
    assert {tensor.name for tensor in spec_of(first).tensors} == set(FIRST)


def test_rounds_were_committed_they_are_listed_and_the_newest_is_current(root: Path) -> None:
    """Each with its own file, digest and manifest."""
    commit(root, 1, plus(FIRST, 1))
    commit(root, 4, plus(FIRST, 4))

    one, four = list_checkpoints(root)

    assert [(c.round_number, c.current) for c in (one, four)] == [(1, False), (4, True)]
    assert one.digest != four.digest == four.manifest["digest"]
    assert one.manifest["metrics"] == {"loss": 0.5}
    assert np.array_equal(read_weights(one.path)["file"], [1, 2, 3])
    assert one.size_bytes == one.path.stat().st_size
    assert find_checkpoint(root, None) == four
    assert find_checkpoint(root, 1) == one


def test_rounds_made_the_same_weights_only_the_newest_is_current(root: Path) -> None:
    """The digest alone does not tell them apart."""
    commit(root, 1, FIRST)
    commit(root, 2, FIRST)

    assert [c.current for c in list_checkpoints(root)] == [False, True]


def test_operator_started_again_from_other_weights_no_round_passes_for_theirs(root: Path) -> None:
    """They carry the highest round number in history, and are not of that round."""
    commit(root, 3, plus(FIRST, 3))
    initialise_with(root, plus(FIRST, 9))

    three, again = list_checkpoints(root)

    assert (three.round_number, three.current) == (3, False)
    assert (again.round_number, again.current) == (0, True)
    assert find_checkpoint(root, 3) == three
    assert find_checkpoint(root, None) == again


def test_manifest_of_a_round_is_damaged_the_round_is_not_listed(root: Path) -> None:
    """As for the coordinator, such a folder is no committed round."""
    commit(root, 1, plus(FIRST, 1))
    commit(root, 2, plus(FIRST, 2))
    (root / "history" / "round-000001" / "manifest.json").write_text("{")

    assert [c.round_number for c in list_checkpoints(root)] == [2]


def test_checkpoint_of_a_round_is_asked_for_that_is_not_there_the_error_says_which_are(
    root: Path,
) -> None:
    """Older rounds are pruned."""
    commit(root, 2, plus(FIRST, 2))
    commit(root, 3, plus(FIRST, 3))

    with pytest.raises(SettingsError, match=r"round = 1 is wrong: .* there: 2, 3") as caught:
        find_checkpoint(root, 1)

    assert caught.value.reason == "checkpoint-missing"


def test_directory_has_a_model_only_it_has_no_checkpoint_yet(tmp_path: Path) -> None:
    """The coordinator's start makes one."""
    initialise(tmp_path, model=None, arrays=None, builtin=BUILTIN_MODEL)
    SharedDirectory(tmp_path).checkpoint.unlink()

    with pytest.raises(SettingsError, match=r"shared_data = .* has no checkpoint yet"):
        find_checkpoint(tmp_path, None)

    assert list_checkpoints(tmp_path) == []


def test_directory_is_no_shared_directory_the_error_names_init(tmp_path: Path) -> None:
    """As when a role starts on it."""
    with pytest.raises(SettingsError, match="headwater init"):
        list_checkpoints(tmp_path)


def test_current_checkpoint_is_damaged_the_error_names_the_file(root: Path) -> None:
    """It is the disk's fault, not the operator's."""
    path = SharedDirectory(root).checkpoint
    path.write_bytes(b"no HDF5")

    with pytest.raises((StoreError, SettingsError), match="fl_checkpoint"):
        list_checkpoints(root)


# -- Exporting --------------------------------------------------------------------------------


def test_export_as_npz_holds_the_tensors_under_their_names(root: Path, tmp_path: Path) -> None:
    """Also such as numpy.savez cannot write, since they are names of its arguments."""
    commit(root, 1, plus(FIRST, 1))
    output = tmp_path / "out.npz"

    export(root, find_checkpoint(root, None), "npz", output)

    with np.load(output, allow_pickle=False) as archive:
        found = {name: archive[name] for name in archive.files}
    assert set(found) == set(FIRST)
    for name, array in plus(FIRST, 1).items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


def test_export_as_npz_starts_another_federation(root: Path, tmp_path: Path) -> None:
    """What comes out goes in: ``headwater init --arrays``."""
    output = tmp_path / "out.npz"
    export(root, find_checkpoint(root, None), "npz", output)

    initialise(tmp_path / "other", model=None, arrays=output, builtin=BUILTIN_MODEL)

    mine, other = find_checkpoint(root, None), find_checkpoint(tmp_path / "other", None)
    assert mine.digest == other.digest


def test_export_replaces_a_file_that_is_there(root: Path, tmp_path: Path) -> None:
    """And leaves nothing else beside it."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "w.h5").write_text("old")

    export(root, find_checkpoint(root, None), "h5", folder / "w.h5")

    assert [path.name for path in folder.iterdir()] == ["w.h5"]
    assert np.array_equal(read_weights(folder / "w.h5")["file"], FIRST["file"])


@pytest.mark.parametrize(
    ("file_format", "name", "setting"),
    [
        ("onnx", "w.onnx", "format"),
        ("", "weights", "format"),
        ("npz", "w.h5", "output"),
        ("h5", "nowhere/w.h5", "output"),
        ("keras", "m.keras", "format"),  # there is no Keras model
    ],
)
def test_export_cannot_be_the_error_names_what_is_wrong(
    root: Path, tmp_path: Path, file_format: Any, name: str, setting: str
) -> None:
    """Before anything is written."""
    with pytest.raises(SettingsError) as caught:
        export(root, find_checkpoint(root, None), file_format, tmp_path / name)

    assert caught.value.setting == setting
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shared"]


def test_disk_refuses_the_export_the_old_file_stays(root: Path, tmp_path: Path) -> None:
    """A folder stands where the file was to be."""
    (tmp_path / "w.npz").mkdir()

    with pytest.raises(StoreError):
        export(root, find_checkpoint(root, None), "npz", tmp_path / "w.npz")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["shared", "w.npz"]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_exports_for_keras_load_with_the_trained_weights(tmp_path: Path) -> None:
    """``.keras`` is the whole model, ``.h5`` the weights for one that is there."""
    keras = pytest.importorskip("keras")
    root = tmp_path / "shared"
    initialise(root, model=None, arrays=None, builtin=BUILTIN_MODEL)
    first = read_weights(BUILTIN_MODEL)
    commit(root, 1, plus(first, 1))
    checkpoint = find_checkpoint(root, 1)

    export(root, checkpoint, "keras", tmp_path / "m.keras")
    export(root, checkpoint, "h5", tmp_path / "w.h5")
    whole = keras.saving.load_model(tmp_path / "m.keras")
    other = keras.saving.load_model(BUILTIN_MODEL, compile=False)
    other.load_weights(tmp_path / "w.h5")

    name = "hidden/digits/hidden/kernel"
    for model in (whole, other):
        assert np.array_equal(model.get_layer("hidden").get_weights()[0], first[name] + 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.keras", "shared", "w.h5"]
