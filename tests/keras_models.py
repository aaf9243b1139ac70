"""Keras models of all kinds that a federation is to carry, small and freshly built."""

from __future__ import annotations

from typing import Any

import numpy as np


def dense(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [layers.Input((3,)), layers.Dense(4, name="p"), layers.Dense(4, name="q")], name="m"
    )


def convolution_with_batch_normalization(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((6, 6, 1)),
            layers.Conv2D(2, 3),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def embedding_with_lstm(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [layers.Input((5,)), layers.Embedding(7, 3), layers.LSTM(4), layers.Dense(2)]
    )


def nested_with_frozen_layer(keras: Any) -> Any:
    layers = keras.layers
    inner = keras.Sequential(
        [layers.Input((4,)), layers.Dense(4, name="a"), layers.Dense(4, name="b")], name="inner"
    )
    inner.get_layer("a").trainable = False
    entry = layers.Input((4,))
    return keras.Model(entry, layers.Dense(4, name="a")(inner(entry)), name="outer")


def several_inputs_and_a_shared_layer(keras: Any) -> Any:
    layers = keras.layers
    left, right = layers.Input((4,), name="left"), layers.Input((4,), name="right")
    shared = layers.Dense(3, name="shared")
    joined = layers.Concatenate()([shared(left), shared(right)])
    return keras.Model([left, right], layers.Dense(1)(joined))


def one_layer_in_two_places(keras: Any) -> Any:
    layers = keras.layers
    inner = keras.Sequential([layers.Input((4,)), layers.Dense(4, name="a")], name="inner")
    entry = layers.Input((4,))
    return keras.Model(entry, inner.get_layer("a")(inner(entry)))


def mixed_precision(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(4, dtype="mixed_float16"),
            layers.BatchNormalization(dtype="mixed_float16"),
            layers.Dense(3, dtype="float16"),
            layers.Dense(2),
        ]
    )


def wrapped_layers(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((5, 3)),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            layers.RNN([layers.LSTMCell(4), layers.LSTMCell(4)], return_sequences=True),
            layers.TimeDistributed(layers.Dense(3)),
            layers.Flatten(),
            layers.SpectralNormalization(layers.Dense(2)),
        ]
    )


def adapted_normalization(keras: Any) -> Any:
    layer = keras.layers.Normalization()
    layer.adapt(np.arange(12.0, dtype=np.float32).reshape(4, 3))
    return keras.Sequential([keras.layers.Input((3,)), layer, keras.layers.Dense(2)])


MODELS = [
    dense,
    convolution_with_batch_normalization,
    embedding_with_lstm,
    nested_with_frozen_layer,
    several_inputs_and_a_shared_layer,
    mixed_precision,
    wrapped_layers,
    adapted_normalization,
]
