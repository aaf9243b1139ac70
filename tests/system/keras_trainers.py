"""A user's module: it registers a layer class of its own and makes a trainer for models with it.

A process names it with ``--trainer tests.system.keras_trainers:make``.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import headwater as hw


@keras.saving.register_keras_serializable(package="mine")
class Scale(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Multiplies each input by a weight."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.factor = self.add_weight(shape=(input_shape[-1],), name="factor")

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor


def make() -> hw.KerasTrainer:
    """Return a trainer with data of its own."""
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)
    return hw.KerasTrainer(x, np.arange(8) % 2)
