"""The names of Keras' weights, held against the files that Keras itself writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from federation.errors import StoreError
from federation.runtime.hdf5 import open_checked, read_weights
from federation.runtime.keras_weights import (
    WeightsMismatch,
    get_weights,
    load_model,
    set_weights,
    variables_by_name,
)
from tests.keras_models import (
    MODELS,
    dense,
    nested_with_frozen_layer,
    one_layer_in_two_places,
)

# Keras' own, while it saves a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Weights = dict[str, NDArray[Any]]


@pytest.fixture(scope="module", name="keras")
def _keras() -> Any:
    return pytest.importorskip("keras")


every_model = pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)


def _in_file(path: Path) -> Weights:
    found: Weights = {}

    def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path) as file:
        file["model_weights"].visititems(keep)
    return found


def _counted(weights: Weights) -> Weights:
    """Give every entry of every tensor a number of its own."""
    counted, start = {}, 0
    for name, array in weights.items():
        numbers = np.arange(start, start + array.size) % 2000
        counted[name] = np.asarray(numbers, array.dtype).reshape(array.shape)
        start += array.size
    return counted


def _same(first: Weights, second: Weights) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and np.array_equal(first[name], second[name])
        for name in first
    )


@every_model
def test_saved_model_has_the_names_that_its_file_has(
    keras: Any, build: Any, tmp_path: Path
) -> None:
    """A tensor's name is its dataset's path below the weights root."""
    model = build(keras)
    model.save(tmp_path / "model.h5")

    assert _same(get_weights(model), _in_file(tmp_path / "model.h5"))


@every_model
def test_loaded_model_takes_and_gives_tensors_by_the_names_in_the_file(
    keras: Any, build: Any, tmp_path: Path
) -> None:
    """Also where Keras gives variables of a loaded model other paths than it saved them under."""
    build(keras).save(tmp_path / "model.h5")
    in_file = _in_file(tmp_path / "model.h5")
    model = load_model(tmp_path / "model.h5")

    assert _same(get_weights(model, in_file.keys()), in_file)

    counted = _counted(in_file)
    set_weights(model, counted)

    assert _same(get_weights(model, in_file.keys()), counted)


def test_layer_in_two_places_goes_by_both_names(keras: Any, tmp_path: Path) -> None:
    """Keras writes such a layer twice, so the federation has each of its tensors twice."""
    model = one_layer_in_two_places(keras)
    model.save(tmp_path / "model.h5")

    assert _same(get_weights(model), _in_file(tmp_path / "model.h5"))
    assert sorted(get_weights(model)) == [
        "a/inner/a/bias",
        "a/inner/a/kernel",
        "inner/inner/a/bias",
        "inner/inner/a/kernel",
    ]


def test_file_agrees_with_what_the_servers_read_of_it(keras: Any, tmp_path: Path) -> None:
    """Clients, who see Keras, and servers, who see HDF5, use the same names."""
    model = nested_with_frozen_layer(keras)
    model.save(tmp_path / "model.h5")

    assert _same(get_weights(model), read_weights(tmp_path / "model.h5"))


def test_freezing_a_layer_after_loading_swaps_no_tensors(keras: Any, tmp_path: Path) -> None:
    """The order of ``model.weights`` changes, and the tensors' shapes would not tell."""
    nested_with_frozen_layer(keras).save(tmp_path / "model.h5")
    model = load_model(tmp_path / "model.h5")
    counted = _counted(_in_file(tmp_path / "model.h5"))

    model.get_layer("inner").get_layer("a").trainable = True
    model.get_layer("inner").get_layer("b").trainable = False
    set_weights(model, counted)

    inner = model.get_layer("inner")
    assert np.array_equal(inner.get_layer("a").kernel, counted["inner/inner/a/kernel"])
    assert np.array_equal(inner.get_layer("b").kernel, counted["inner/inner/b/kernel"])
    assert np.array_equal(model.get_layer("a").kernel, counted["a/a/kernel"])


def test_order_of_the_tensors_does_not_matter(keras: Any) -> None:
    """Matching is by name, so a mapping in any order will do."""
    model = dense(keras)
    counted = _counted(get_weights(model))

    set_weights(model, dict(reversed(counted.items())))

    assert _same(get_weights(model), counted)


def test_names_with_the_suffix_of_keras_2_are_matched(keras: Any) -> None:
    """Keras 2 wrote ``p/p/kernel:0``."""
    model = dense(keras)

    names = ["p/p/kernel:0", "p/p/bias:0", "q/q/kernel:0", "q/q/bias:0"]

    assert {name: each.path for name, each in variables_by_name(model, names).items()} == {
        "p/p/kernel:0": "m/p/kernel",
        "p/p/bias:0": "m/p/bias",
        "q/q/kernel:0": "m/q/kernel",
        "q/q/bias:0": "m/q/bias",
    }


def test_weights_that_were_handed_out_do_not_change_with_the_model(keras: Any) -> None:
    """An update is sent while the model may train on."""
    model = dense(keras)
    before = get_weights(model)
    kept = {name: array.copy() for name, array in before.items()}

    set_weights(model, _counted(before))

    assert _same(before, kept)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"p/m/p/kernel": None}, "there is no tensor for the model's p/m/p/kernel"),
        ({"r/m/r/kernel": np.zeros(2)}, "tensor r/m/r/kernel belongs to no layer"),
        ({"p/m/p/scale": np.zeros(2)}, "has no variable for tensor p/m/p/scale"),
        ({"p": np.zeros(2)}, "has no variable for tensor p/"),
        ({"p/m/p/bias": np.zeros(3, np.float32)}, r"p/m/p/bias is float32 \(3,\), .* \(4,\)"),
        ({"p/m/p/bias": np.zeros(4)}, "p/m/p/bias is float64"),
    ],
    ids=["missing", "extra-layer", "extra-tensor", "layer-only", "shape", "dtype"],
)
def test_tensors_that_are_not_the_model_s_are_refused_and_change_nothing(
    keras: Any, change: dict[str, NDArray[Any] | None], said: str
) -> None:
    """Check, then mutate: all tensors are set or none."""
    model = dense(keras)
    before = get_weights(model)
    changed: dict[str, NDArray[Any] | None] = {**_counted(before), **change}
    given = {name: array for name, array in changed.items() if array is not None}

    with pytest.raises(WeightsMismatch, match=said):
        set_weights(model, given)

    assert _same(get_weights(model), before)


def test_loaded_model_whose_names_leave_a_choice_is_refused(keras: Any, tmp_path: Path) -> None:
    """Two wrappers around layers of one name cannot be told apart, so nothing is guessed."""
    layers = keras.layers
    inner = keras.Sequential(
        [
            layers.Input((5, 3)),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True, name="x"), name="first"),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True, name="x"), name="second"),
        ],
        name="inner",
    )
    keras.Sequential([layers.Input((5, 3)), inner]).save(tmp_path / "model.h5")
    model = load_model(tmp_path / "model.h5")

    with pytest.raises(WeightsMismatch, match="2 tensors could be"):
        get_weights(model, _in_file(tmp_path / "model.h5").keys())
    with pytest.raises(WeightsMismatch, match="several variables of one path"):
        get_weights(model)


def test_model_with_code_in_it_is_refused(keras: Any, tmp_path: Path) -> None:
    """A Lambda layer holds pickled code, which a peer must not run here."""
    layers = keras.layers
    model = keras.Sequential([layers.Input((3,)), layers.Lambda(lambda x: x + 1), layers.Dense(2)])
    model.save(tmp_path / "model.h5")

    with pytest.raises(StoreError, match="Lambda") as refused:
        load_model(tmp_path / "model.h5")

    assert refused.value.reason == "unusable-model"


def test_model_is_loaded_while_others_read_the_same_file(keras: Any, tmp_path: Path) -> None:
    """Many clients of one process share a model; Keras and the guard open files differently."""
    dense(keras).save(tmp_path / "model.h5")

    with open_checked(tmp_path / "model.h5") as file:
        model = load_model(tmp_path / "model.h5")

        assert "model_weights" in file
    assert model.name == "m"


def test_file_with_another_name_than_h5_is_refused(tmp_path: Path) -> None:
    """The name decides Keras' parser."""
    with pytest.raises(StoreError) as refused:
        load_model(tmp_path / "model.keras")

    assert refused.value.reason == "not-hdf5"


def test_file_that_points_elsewhere_is_refused_before_keras_sees_it(tmp_path: Path) -> None:
    """A model comes from outside, so it passes the guard first."""
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["model_weights"] = h5py.ExternalLink("other.h5", "/")

    with pytest.raises(StoreError) as refused:
        load_model(tmp_path / "model.h5")

    assert refused.value.reason == "hdf5-forbidden-link"
