"""Checkpoints keep every tensor by its name, and the layout that Keras needs."""

import hashlib
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from federation.errors import StoreError
from federation.runtime.hdf5 import (
    Stamp,
    blocks_of,
    encode_checkpoint,
    is_keras_model,
    open_checked,
    read_spec,
    read_stamp,
    read_weights,
    write_checkpoint,
)
from federation.tensors import ModelSpec, TensorSpec, encode

DTYPES = (
    *("float16", "float32", "float64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


def _weights() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(1)
    weights: dict[str, NDArray[Any]] = {
        f"layer/{dtype}": (rng.standard_normal((3, 2, 5)) * 9).astype(dtype)
        for dtype in DTYPES
        if not dtype.startswith("uint")
    }
    weights |= {f"layer/{dtype}": np.arange(7).astype(dtype) for dtype in DTYPES[-4:]}
    weights |= {"one": np.array(1.5, "f4"), "none": np.zeros((0, 3), "f4"), "b/é ü": np.ones(2)}
    return weights


def _write(path: Path, weights: dict[str, NDArray[Any]], layout: Path | None = None) -> str:
    return write_checkpoint(path, ModelSpec.of(weights), blocks_of(weights), layout=layout)


def _keras_like(path: Path, weights: dict[str, NDArray[Any]], *, whole: bool = True) -> None:
    """Write what Keras would: attributes of strings of variable length, empty groups."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        if whole:
            file.attrs["model_config"] = b"{}"
            file["optimizer_weights/adam/iteration"] = np.int64(3)
        root.attrs["layer_names"] = [b"z", b"input", b"a"]
        root.attrs["backend"] = b"tensorflow"
        root.attrs["keras_version"] = "3.15"
        for layer in ("a", "input", "z", "top_level_model_weights"):
            names = [name[2:].encode() for name in weights if name.startswith(f"{layer}/")]
            root.create_group(layer).attrs["weight_names"] = names[::-1]
        for name, values in weights.items():
            root[name] = values


LAYERS: dict[str, NDArray[Any]] = {
    "a/a/kernel": np.ones((2, 3), "f4"),
    "a/a/bias": np.arange(3, dtype="f4"),
    "z/z/kernel": np.full((2, 3), 7, "f4"),
}


def test_a_checkpoint_gives_back_exactly_what_was_written(tmp_path: Path) -> None:
    """All dtypes, a single number, an empty tensor; the digest is that of the wire form."""
    weights = _weights()

    digest = _write(tmp_path / "c", weights)
    read = read_weights(tmp_path / "c")

    assert read.keys() == weights.keys()
    for name, values in weights.items():
        assert read[name].dtype == values.dtype
        np.testing.assert_array_equal(read[name], values, strict=True)
    assert encode_checkpoint(tmp_path / "c") == encode(weights)
    assert digest == hashlib.sha256(encode(weights)).hexdigest()
    assert read_spec(tmp_path / "c") == ModelSpec.of(weights)


def test_the_same_tensors_give_the_same_digest(tmp_path: Path) -> None:
    """Neither time nor chance nor the order of the mapping gets into it."""
    weights = _weights()

    first = _write(tmp_path / "c", weights)
    second = _write(tmp_path / "d", dict(reversed(weights.items())))

    assert first == second


def test_big_endian_and_chunked_data_are_read_as_their_numbers(tmp_path: Path) -> None:
    """What others wrote is read by value."""
    with h5py.File(tmp_path / "c", "w") as file:
        file["a/big"] = np.arange(6, dtype=">f4")
        file["a/BIG"] = np.arange(6, dtype=">i8")
        file.create_dataset("b", data=np.arange(100.0), chunks=(7,), shuffle=True, fletcher32=True)

    read = read_weights(tmp_path / "c")

    assert {name: values.dtype.str for name, values in read.items()} == {
        "a/big": "<f4",
        "a/BIG": "<i8",
        "b": "<f8",
    }
    assert read["a/big"].tolist() == read["a/BIG"].tolist() == list(range(6))
    assert read["b"].tolist() == list(range(100))


@pytest.mark.parametrize("whole", [True, False])
def test_a_layout_gives_the_checkpoint_its_groups_and_the_order_of_names(
    tmp_path: Path, whole: bool
) -> None:
    """Keras finds weights through attributes whose order no name gives back."""
    _keras_like(tmp_path / "model.h5", LAYERS, whole=whole)
    new = {name: values + 1 for name, values in LAYERS.items()}

    _write(tmp_path / "c", new, tmp_path / "model.h5")
    _write(tmp_path / "d", new, tmp_path / "c")

    with h5py.File(tmp_path / "d") as file:
        assert file.attrs["layer_names"].tolist() == [b"z", b"input", b"a"]
        assert file.attrs["keras_version"] == b"3.15"
        assert set(file) == {"a", "input", "z", "top_level_model_weights"}
        assert file["a"].attrs["weight_names"].tolist() == [b"a/bias", b"a/kernel"]
        assert file["input"].attrs["weight_names"].shape == (0,)
        np.testing.assert_array_equal(file["a/a/bias"][()], [1, 2, 3])


def test_attributes_beyond_64_kib_are_taken_over(tmp_path: Path) -> None:
    """Keras cuts long lists into numbered attributes; others need not."""
    names = np.array([f"layer_{index:095}".encode() for index in range(2000)])
    with h5py.File(tmp_path / "model.h5", "w", libver="latest") as file:
        file.attrs["layer_names0"] = names
        file["model_weights"] = np.zeros(2, "f4")

    _write(tmp_path / "c", {"model_weights": np.ones(2, "f4")}, tmp_path / "model.h5")

    with h5py.File(tmp_path / "c") as file:
        assert file.attrs["layer_names0"].tolist() == names.tolist()


@pytest.mark.parametrize(
    "other",
    [
        {"a/a/kernel": np.zeros((2, 3), "f4")},
        LAYERS | {"extra": np.zeros(1, "f4")},
        LAYERS | {"a/a/bias": np.zeros(4, "f4")},
        LAYERS | {"a/a/bias": np.zeros(3, "f8")},
    ],
)
def test_a_layout_of_other_tensors_is_refused(
    tmp_path: Path, other: dict[str, NDArray[Any]]
) -> None:
    """Names, shapes and dtypes agree, or Keras would load something else."""
    _keras_like(tmp_path / "model.h5", LAYERS)

    with pytest.raises(StoreError) as caught:
        _write(tmp_path / "c", other, tmp_path / "model.h5")

    assert caught.value.reason == "layout-mismatch"


def test_weights_of_a_whole_model_are_read_without_its_optimizer(tmp_path: Path) -> None:
    """The weights root is ``model_weights`` of a whole model, else the file's root."""
    _keras_like(tmp_path / "model.h5", LAYERS)
    _keras_like(tmp_path / "weights.h5", LAYERS, whole=False)

    assert read_weights(tmp_path / "model.h5").keys() == LAYERS.keys()
    assert read_weights(tmp_path / "weights.h5").keys() == LAYERS.keys()
    assert is_keras_model(tmp_path / "model.h5")
    assert not is_keras_model(tmp_path / "weights.h5")


def test_tensors_that_lie_below_model_weights_keep_their_names(tmp_path: Path) -> None:
    """A checkpoint of ours is never taken for a whole model."""
    weights = {"model_weights/a": np.ones(2, "f4")}

    _write(tmp_path / "c", weights)

    assert read_weights(tmp_path / "c").keys() == weights.keys()


def test_a_stamp_tells_which_round_made_a_checkpoint(tmp_path: Path) -> None:
    """Known without reading tensors; a layout's own stamp is not taken over."""
    spec = ModelSpec.of(LAYERS)
    first, second = tmp_path / "1", tmp_path / "2"

    digest = write_checkpoint(
        first, spec, blocks_of(LAYERS), attributes={"headwater_round": 41, "headwater_note": "x"}
    )
    write_checkpoint(second, spec, blocks_of(LAYERS), layout=first)

    assert read_stamp(first) == Stamp(41, digest)
    assert read_stamp(second) is None


def test_a_stamp_of_variable_length_is_refused(tmp_path: Path) -> None:
    """Ours have a fixed length; others are read only where they have to be."""
    with h5py.File(tmp_path / "c", "w") as file:
        file.attrs["headwater_round"] = 4
        file.attrs["headwater_digest"] = "0" * 64

    with pytest.raises(StoreError) as caught:
        read_stamp(tmp_path / "c")

    assert caught.value.reason == "file-unreadable"


def test_bools_that_are_neither_0_nor_1_are_refused(tmp_path: Path) -> None:
    """The wire form would be refused by who gets it."""
    _write(tmp_path / "c", {"a": np.array([True, True, False] * 5)})
    whole = (tmp_path / "c").read_bytes()
    (tmp_path / "c").write_bytes(whole.replace(b"\1\1\0" * 5, b"\1\7\0" * 5))

    with pytest.raises(StoreError) as caught:
        read_weights(tmp_path / "c")

    assert caught.value.reason == "file-unreadable"


@pytest.mark.parametrize("name", ["a\nb", "__metadata__", "x" * 1025, "é" * 600])
def test_a_name_that_no_tensor_may_have_is_refused(tmp_path: Path, name: str) -> None:
    """Names in a file obey the same rule as names on the wire."""
    with h5py.File(tmp_path / "c", "w") as file:
        file[name] = np.zeros(2)

    with pytest.raises(StoreError) as caught:
        read_spec(tmp_path / "c")

    assert caught.value.reason == "malformed-tensors"


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """HDF5 lets a name be any bytes."""
    with h5py.File(tmp_path / "c", "w") as file:
        file[b"\xff\xfe"] = np.zeros(2)

    with pytest.raises(StoreError) as caught:
        read_spec(tmp_path / "c")

    assert caught.value.reason == "file-unreadable"


def test_random_damage_is_refused_or_changes_numbers_only(tmp_path: Path) -> None:
    """The structure of our files has checksums: damage is our error, whatever h5py makes of it."""
    path = tmp_path / "c"
    _write(path, LAYERS)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)

    reasons = set()
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(damaged), 5):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            assert read_spec(path) == ModelSpec.of(LAYERS)
            read_weights(path)
        except StoreError as error:
            reasons.add(error.reason)

    assert "file-unreadable" in reasons
    assert reasons <= {"file-unreadable", "not-hdf5"}


def test_tensors_are_asked_for_one_after_another_in_the_wire_order(tmp_path: Path) -> None:
    """A source that merges partials reads each of them once, from its start to its end."""
    weights = _weights()
    asked: list[str] = []

    def blocks(tensor: TensorSpec) -> list[NDArray[Any]]:
        asked.append(tensor.name)
        return [weights[tensor.name]]

    write_checkpoint(tmp_path / "c", ModelSpec.of(weights), blocks)

    assert asked == [tensor.name for tensor in ModelSpec.of(weights).tensors]


def test_a_checkpoint_that_someone_else_in_the_process_reads_is_read_all_the_same(
    tmp_path: Path,
) -> None:
    """A notebook may have the file open, with whatever settings of its own."""
    _write(tmp_path / "c", LAYERS)

    with h5py.File(tmp_path / "c", locking=True):
        read = read_weights(tmp_path / "c")

    assert read.keys() == LAYERS.keys()


def test_a_checkpoint_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    """What was not read must not be taken for weights."""
    path = tmp_path / "c"
    _write(path, {"a": np.ones(100_000)})

    with open_checked(path) as file:
        os.truncate(path, 100_000)
        with pytest.raises(OSError, match="too early"):
            file["a"][()]
