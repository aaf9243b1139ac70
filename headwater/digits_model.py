"""Makes ``headwater/digits.h5``, the built-in model: ``python -m headwater.digits_model``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BUILTIN_MODEL = Path(__file__).with_name("digits.h5")
"""A small classifier of 8 by 8 pixels, 0 to 1, into ten digits, with untrained weights."""

_SEED = 1


def digits_model() -> Any:
    """Return the model as Keras builds it, with the same initial weights each time."""
    from client.keras_trainer import import_keras  # the face imports roles where it needs them

    keras = import_keras()
    keras.utils.set_random_seed(_SEED)
    return keras.Sequential(
        [
            keras.layers.Input((8, 8), name="image"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(64, activation="relu", name="hidden"),
            keras.layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )


if __name__ == "__main__":
    digits_model().save(BUILTIN_MODEL)
