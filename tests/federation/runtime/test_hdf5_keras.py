"""Real Keras reads our checkpoints, and what Keras writes is what we read."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.runtime.hdf5 import (
    blocks_of,
    is_keras_model,
    read_spec,
    read_weights,
    write_checkpoint,
)

keras = pytest.importorskip("keras")


def _dense() -> Any:
    return _sequential(
        keras.Input((4,)), keras.layers.Dense(5, name="z"), keras.layers.Dense(3, name="a")
    )


def _nested_with_a_frozen_layer() -> Any:
    layers = keras.layers
    inner = _sequential(
        keras.Input((4,)), layers.Dense(4, name="d"), layers.Dense(4, name="b"), name="inner"
    )
    start = keras.Input((4,))
    frozen = layers.Dense(4, name="frozen")
    end = layers.Dense(2, name="head")(layers.Dropout(0.5)(inner(frozen(start))))
    model = keras.Model(start, end)
    frozen.trainable = False
    inner.layers[0].trainable = False
    return model


def _batch_norm() -> Any:
    layers = keras.layers
    return _sequential(
        keras.Input((8, 8, 1)),
        layers.Conv2D(3, 3, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.Flatten(),
        layers.Dense(2, name="head"),
    )


def _same_shapes() -> Any:
    names = ("m", "z", "a", "k")
    return _sequential(keras.Input((4,)), *(keras.layers.Dense(4, name=name) for name in names))


def _sequential(*layers: Any, name: str = "model") -> Any:
    """Name the model, since Keras numbers nameless ones and the number gets into every path."""
    return keras.Sequential(layers, name=name)


class _Scaled(keras.Model):  # type: ignore[name-defined, misc]
    """A model with a weight of its own, in no layer."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.head = keras.layers.Dense(2, name="head")

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(), name="scale")
        self.head.build(shape)

    def call(self, inputs: Any) -> Any:
        return self.scale * self.head(inputs)


def _weight_of_the_model_itself() -> Any:
    model = _Scaled(name="scaled")
    model.build((None, 4))
    return model


def _variables(model: Any) -> dict[str, Any]:
    """Return the variables by the names that Keras' writer gives their datasets."""
    own = {f"top_level_model_weights/{v.path}": v for v in model._trainable_variables}
    return own | {
        f"{layer.name}/{variable.path}": variable
        for layer in model.layers
        for variable in layer.weights
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [
        _dense,
        _nested_with_a_frozen_layer,
        _batch_norm,
        _same_shapes,
        _weight_of_the_model_itself,
    ],
)
def test_a_checkpoint_loads_with_exactly_our_numbers(
    tmp_path: Path, make: Callable[[], Any]
) -> None:
    """Copied to a name that ends in ``.h5``, every tensor arrives in the variable of its name."""
    saved, checkpoint, copied = (tmp_path / name for name in ("model.h5", "fl", "copy.h5"))
    make().save(saved)
    model = make()
    spec = read_spec(saved)
    rng = np.random.default_rng(1)
    new = {t.name: rng.standard_normal(t.shape).astype(t.dtype) for t in spec.tensors}

    write_checkpoint(tmp_path / "first", spec, blocks_of(new), layout=saved)
    write_checkpoint(checkpoint, spec, blocks_of(new), layout=tmp_path / "first")
    shutil.copyfile(checkpoint, copied)
    model.load_weights(copied)

    variables = _variables(model)
    assert variables.keys() == new.keys()
    for name, variable in variables.items():
        np.testing.assert_array_equal(variable.numpy(), new[name], strict=True)


@pytest.mark.filterwarnings("ignore")
def test_a_whole_model_is_read_by_name(tmp_path: Path) -> None:
    """It carries its configuration and optimizer state, too, which are not weights."""
    model = _nested_with_a_frozen_layer()
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.h5")

    read = read_weights(tmp_path / "model.h5")

    assert is_keras_model(tmp_path / "model.h5")
    for name, variable in _variables(model).items():
        np.testing.assert_array_equal(read[name], variable.numpy(), strict=True)
    assert read.keys() == _variables(model).keys()


@pytest.mark.filterwarnings("ignore")
def test_weights_that_were_saved_alone_are_no_model(tmp_path: Path) -> None:
    """``headwater init`` needs the architecture, too."""
    model = _dense()
    model.save_weights(tmp_path / "only.weights.h5")

    assert not is_keras_model(tmp_path / "only.weights.h5")
