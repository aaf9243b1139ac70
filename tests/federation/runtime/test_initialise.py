"""``headwater init`` places weights that rounds can start from, or changes nothing."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from federation.errors import SettingsError
from federation.runtime.hdf5 import blocks_of, read_stamp, read_weights
from federation.runtime.initialise import initialise, initialise_with
from federation.runtime.store import SharedDirectory
from federation.tensors import ModelSpec

LAYERS: dict[str, NDArray[Any]] = {
    "z/z/kernel": np.full((2, 3), 7, "f4"),
    "a/a/bias": np.arange(3, dtype="f4"),
}
ARRAYS: dict[str, NDArray[Any]] = {
    "w": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
    "layer/1/b": np.arange(3, dtype=">f8"),
    "half": np.ones(2, "f2"),
    "steps": np.array(7),
    "mask": np.array([True, False]),
    "none": np.zeros((0, 4), "u1"),
}

_savez: Any = np.savez
"""Without its types, which take a dictionary of arrays for its other arguments."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = b"{}"
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"z", b"a"]
        for name, values in LAYERS.items():
            root[name] = values
    return path


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    path = tmp_path / "mine.npz"
    _savez(path, **ARRAYS)
    return path


@pytest.fixture
def store(tmp_path: Path) -> SharedDirectory:
    return SharedDirectory(tmp_path / "deep" / "shared")


def _listing(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_model_is_placed_with_its_weights_as_the_checkpoint(
    store: SharedDirectory, model: Path
) -> None:
    """Byte for byte the same model, and a checkpoint in its layout, in a directory made anew."""
    initialise(store.root, model=model, arrays=None, builtin=Path("unused"))

    assert _listing(store.root) == ["initFiles", "initFiles/fl_checkpoint", "initFiles/model.h5"]
    assert store.model.read_bytes() == model.read_bytes()
    read = read_weights(store.checkpoint)
    for name, values in LAYERS.items():
        np.testing.assert_array_equal(read[name], values, strict=True)
    with h5py.File(store.checkpoint) as file:
        assert file.attrs["layer_names"].tolist() == [b"z", b"a"]
    store.check()


def test_without_a_choice_the_builtin_model_is_placed(store: SharedDirectory, model: Path) -> None:
    """A first run needs no model of one's own."""
    initialise(store.root, model=None, arrays=None, builtin=model)

    assert store.model.read_bytes() == model.read_bytes()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_keep_their_names_and_numbers(
    store: SharedDirectory, tmp_path: Path, save: Callable[..., None]
) -> None:
    """Models that are not Keras' start from an ``.npz``; there is no ``model.h5`` then."""
    save(tmp_path / "mine.npz", **ARRAYS)

    initialise(store.root, model=None, arrays=tmp_path / "mine.npz", builtin=Path("unused"))

    read = read_weights(store.checkpoint)
    assert read.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        assert read[name].dtype == values.dtype.newbyteorder("<")
        np.testing.assert_array_equal(read[name], values)
    assert _listing(store.root) == ["initFiles", "initFiles/fl_checkpoint"]
    store.check()
    store.ensure_checkpoint()


def test_a_directory_with_other_files_is_initialised_beside_them(
    store: SharedDirectory, model: Path
) -> None:
    """The default directory holds a README."""
    store.root.mkdir(parents=True)
    (store.root / "README.md").write_text("about")

    initialise(store.root, model=model, arrays=None, builtin=model)

    assert (store.root / "README.md").read_text() == "about"
    store.check()


def test_a_directory_that_is_initialised_is_refused(
    store: SharedDirectory, model: Path, arrays: Path
) -> None:
    """Weights that took days to train are not overwritten by a command typed twice."""
    initialise(store.root, model=model, arrays=None, builtin=model)
    before = store.checkpoint.read_bytes()

    with pytest.raises(SettingsError) as caught:
        initialise(store.root, model=None, arrays=arrays, builtin=model)

    assert caught.value.setting == "shared_data"
    assert "--force" in caught.value.detail
    assert store.checkpoint.read_bytes() == before


def _commit(store: SharedDirectory, round_number: int, weights: dict[str, NDArray[Any]]) -> None:
    staged = store.stage_checkpoint(round_number, ModelSpec.of(weights), blocks_of(weights), {})
    store.publish(staged, round_number)
    store.make_current(round_number)


def test_force_starts_again_and_old_history_does_not_come_back(
    store: SharedDirectory, model: Path, arrays: Path
) -> None:
    """The new weights are as new as all history; round numbers go on."""
    initialise(store.root, model=model, arrays=None, builtin=model)
    for round_number in (1, 2):
        _commit(store, round_number, LAYERS)

    initialise(store.root, model=None, arrays=arrays, builtin=model, force=True)

    assert store.recover() == 2
    assert not store.model.exists()
    assert read_weights(store.checkpoint).keys() == ARRAYS.keys()
    stamp = read_stamp(store.checkpoint)
    assert stamp is not None
    assert stamp.round_number == 2

    initialise(store.root, model=model, arrays=None, builtin=model, force=True)

    assert store.recover() == 2
    assert read_weights(store.checkpoint).keys() == LAYERS.keys()
    store.ensure_checkpoint()


def _directory(path: Path) -> None:
    path.mkdir()


def _text(path: Path) -> None:
    path.write_text("not a model")


def _weights_only(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a/kernel"] = np.ones(3)


def _no_weights(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = b"{}"
        file.create_group("model_weights/dense")


def _external(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = b"{}"
        file["model_weights"] = h5py.ExternalLink("/etc/passwd", "a")


def _missing(path: Path) -> None:
    assert not path.exists()


def _gigabytes(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = b"{}"
        file.create_dataset("model_weights/dense/kernel", (1 << 34,), "f4", fillvalue=1.5)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_missing, "file-missing"),
        (_directory, "file-unreadable"),
        (_text, "not-hdf5"),
        (_weights_only, "not-a-model"),
        (_no_weights, "not-a-model"),
        (_external, "hdf5-forbidden-link"),
        (_gigabytes, "hdf5-too-large"),
    ],
)
def test_what_is_no_keras_model_is_refused(
    store: SharedDirectory, tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    """The error names the setting and the file, with a reason of its own, and nothing is made."""
    path = tmp_path / "wrong.h5"
    make(path)

    with pytest.raises(SettingsError) as caught:
        initialise(store.root, model=path, arrays=None, builtin=Path("unused"))

    assert (caught.value.setting, caught.value.reason) == ("model", reason)
    assert str(path) in caught.value.detail
    assert not store.root.exists()


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("names", np.array(["a", "b"])),
        ("raw", np.array([b"a"])),
        ("things", np.array([None, {}], object)),
        ("complex", np.ones(2, "c8")),
        ("wide", np.ones(2, np.longdouble)),
        ("when", np.zeros(2, "M8[s]")),
        ("records", np.zeros(2, [("x", "f4")])),
        ("a//b", np.ones(2)),
        ("../x", np.ones(2)),
        ("w/below", np.ones(2)),
    ],
)
def test_an_array_that_cannot_be_a_tensor_is_refused_by_its_name(
    store: SharedDirectory, tmp_path: Path, name: str, array: NDArray[Any]
) -> None:
    """Nothing is unpickled, converted or left out in silence."""
    path = tmp_path / "mine.npz"
    _savez(path, **{"w": np.ones(2), name: array})

    with pytest.raises(SettingsError) as caught:
        initialise(store.root, model=None, arrays=path, builtin=Path("unused"))

    assert caught.value.setting == "arrays"
    assert name in caught.value.detail
    assert not store.root.exists()


def _single(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def _pickle(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([None], object), allow_pickle=True)


def _empty(path: Path) -> None:
    np.savez(path)


def _cut(path: Path) -> None:
    np.savez(path, a=np.ones(1000))
    path.write_bytes(path.read_bytes()[:900])


def _flipped(path: Path) -> None:
    np.savez_compressed(path, a=np.arange(1000.0))
    data = bytearray(path.read_bytes())
    data[300] ^= 255
    path.write_bytes(data)


def _other_member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")


def _huge(path: Path) -> None:
    """Declare 8 EB in a header of a hundred bytes."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000000,), }\n"
    with zipfile.ZipFile(path, "w") as archive:
        prefix = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
        archive.writestr("a.npy", prefix + header)


@pytest.mark.parametrize(
    "make",
    [_missing, _directory, _text, _single, _pickle, _empty, _cut, _flipped, _other_member, _huge],
)
def test_what_is_no_archive_of_arrays_is_refused(
    store: SharedDirectory, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """Whatever numpy or zipfile make of it, it is the operator's error with the file's name."""
    path = tmp_path / "wrong.npz"
    make(path)

    with pytest.raises(SettingsError) as caught:
        initialise(store.root, model=None, arrays=path, builtin=Path("unused"))

    assert caught.value.setting == "arrays"
    assert str(path) in caught.value.detail
    assert not store.root.exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(store: SharedDirectory, tmp_path: Path) -> None:
    """An archive may say a name twice; which is meant is not ours to guess."""
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for value in (1.0, 2.0):
            with archive.open("a.npy", "w") as member:
                np.lib.format.write_array(member, np.array([value]))

    with pytest.raises(SettingsError, match="same name"):
        initialise(store.root, model=None, arrays=path, builtin=Path("unused"))


def test_a_model_and_arrays_at_once_are_refused(
    store: SharedDirectory, model: Path, arrays: Path
) -> None:
    """The weights can come from one of them only."""
    with pytest.raises(SettingsError, match="not both"):
        initialise(store.root, model=model, arrays=arrays, builtin=model)


@pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
def test_a_disk_that_fails_leaves_what_was_there(
    store: SharedDirectory,
    model: Path,
    arrays: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    """Each file appears whole or not at all, and nothing unfinished stays."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(SettingsError) as caught:
        initialise(store.root, model=model, arrays=None, builtin=model)

    assert caught.value.setting == "shared_data"
    assert caught.value.reason == "disk-full"
    assert not store.is_initialised()
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_weights_in_memory_are_placed_like_arrays(store: SharedDirectory) -> None:
    """What notebooks and tests start from."""
    initialise_with(store.root, ARRAYS)

    assert read_weights(store.checkpoint).keys() == ARRAYS.keys()
    store.check()


def test_weights_in_memory_that_cannot_be_tensors_are_refused(store: SharedDirectory) -> None:
    """The same rules as for arrays in a file, before anything is made."""
    with pytest.raises(SettingsError) as caught:
        initialise_with(store.root, {"complex": np.ones(2, "c8")})

    assert caught.value.setting == "initial"
    assert not store.root.exists()
