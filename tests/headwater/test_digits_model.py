"""The built-in model: the committed file against the code that makes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from federation.runtime.hdf5 import read_weights
from federation.runtime.keras_weights import get_weights, load_model
from headwater.digits_model import BUILTIN_MODEL, digits_model


def test_committed_file_holds_the_weights_of_a_small_classifier() -> None:
    """Whoever has no Keras starts a federation from it too."""
    weights = read_weights(BUILTIN_MODEL)

    assert {name: array.shape for name, array in weights.items()} == {
        "hidden/digits/hidden/kernel": (64, 64),
        "hidden/digits/hidden/bias": (64,),
        "digit/digits/digit/kernel": (64, 10),
        "digit/digits/digit/bias": (10,),
    }
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    assert BUILTIN_MODEL.stat().st_size < 50_000


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_committed_file_is_what_its_maker_makes() -> None:
    """``make digits-model`` was run after the last change of the model."""
    pytest.importorskip("keras")

    loaded, made = load_model(BUILTIN_MODEL), digits_model()

    assert _architecture(loaded) == _architecture(made)
    committed = read_weights(BUILTIN_MODEL)
    for name, array in get_weights(made, committed.keys()).items():
        np.testing.assert_allclose(committed[name], array, atol=1e-6)


def _architecture(model: Any) -> tuple[Any, ...]:
    layers = [
        (layer.name, type(layer).__name__, layer.get_config().get("activation"))
        for layer in model.layers
    ]
    return (model.name, model.input_shape, model.output_shape, layers)
