"""The built-in trainer: the federation's Keras model on arrays in memory, by plain SGD."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.trainer import Trainer, TrainingResult, TrainingTask
from federation.errors import SettingsError, StoreError
from federation.runtime import keras_weights
from federation.runtime.keras_weights import Model

_VALUE = "(for the built-in Keras trainer)"
"""Stands for the setting's value in errors: the trainer was given arrays, not their name."""

_FINAL = {
    "unusable-model": "",
    "unregistered-class": (
        "; give a --trainer of your own from such a module, which may return a "
        "headwater.KerasTrainer"
    ),
}
"""Reasons for which a model cannot be loaded by anybody's retry, and what else to say of them."""


class KerasTrainer(Trainer):
    """Trains the federation's Keras model on ``x`` and ``y``.

    Loss and metrics follow from the labels and from the model's last activation: see ``_losses``.
    The batches of a round depend on the seed and the round's number only.

    Args:
        x: Inputs, [examples, ...].
        y: Labels, [examples, ...]: whole numbers for classes, floats for anything else.
        shuffle_seed: Of the order of the examples, drawn anew for each epoch.

    Raises:
        SettingsError: TensorFlow is not installed.
    """

    needs_model = True

    def __init__(self, x: NDArray[Any], y: NDArray[Any], *, shuffle_seed: int = 0) -> None:
        import_keras()
        self._x = x
        self._y = y
        self._shuffle_seed = shuffle_seed
        self._model: Model = None
        self._loaded: tuple[Path, int, int] | None = None

    def fit(self, weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        """Train as ``task.hyperparameters`` say; metrics are those of the last epoch.

        Raises:
            PeerError: ``weights`` are not those of the model.
            SettingsError: The federation has no Keras model, or one that Keras cannot load, or
                that doesn't go with ``x`` and ``y``.
            StoreError: The model's file cannot be read.
            TrainingStopped: ``task.stop`` was set, looked at before each batch.
        """
        task.raise_if_stopped()
        if task.model_path is None:
            expected = "this federation has no Keras model: give a --trainer of your own instead"
            raise SettingsError("data", _VALUE, expected, reason="model-missing")
        self.load(task.model_path)
        keras_weights.set_weights(self._model, weights)
        self._model.optimizer.learning_rate = task.hyperparameters.learning_rate
        metrics = self._train(task)
        trained = keras_weights.get_weights(self._model, weights.keys())
        return TrainingResult(trained, num_examples=len(self._x), metrics=metrics)

    def evaluate(
        self, weights: Mapping[str, NDArray[Any]], x: NDArray[Any], y: NDArray[Any]
    ) -> dict[str, float]:
        """Return the loss of ``weights`` on ``x`` and ``y``, and their accuracy for classes.

        Needs a model: ``load`` or ``fit`` came before.
        """
        assert self._model is not None, "evaluate() before load() or fit()"
        keras_weights.set_weights(self._model, weights)
        metrics = self._model.evaluate(x, y, verbose=0, return_dict=True)
        return {name: float(value) for name, value in metrics.items()}

    def load(self, model_path: Path) -> None:
        """Load and compile a ``.h5`` file, unless it is the one that is loaded.

        Raises:
            StoreError: The file cannot be read.
            SettingsError: Keras cannot load it, or it doesn't go with ``x`` and ``y``.
        """
        stat = model_path.stat()
        asked = (model_path, stat.st_mtime_ns, stat.st_size)
        if self._loaded == asked:
            return
        keras = import_keras()
        model = _load_model(model_path)
        loss, metrics = _losses(keras, model, self._y)
        # Once a model: compiling and tracing cost most of a second, the learning rate is assigned.
        model.compile(keras.optimizers.SGD(), loss=loss, metrics=metrics)
        self._model, self._loaded = model, asked

    def _train(self, task: TrainingTask) -> dict[str, float]:
        """Run the epochs and return the last one's metrics."""
        random = np.random.default_rng([self._shuffle_seed, task.round_number])
        metrics: dict[str, float] = {}
        for _ in range(task.hyperparameters.epochs):
            metrics = self._run_epoch(random.permutation(len(self._x)), task)
        return metrics

    def _run_epoch(self, order: NDArray[np.intp], task: TrainingTask) -> dict[str, float]:
        """Train on all examples in this order; returns the metrics' means over the examples.

        ``model.fit`` would set up a pipeline first, which takes a small model five times as long
        as the training itself, and shuffles by the whole process's seed. Batches differ by one
        example at most: a rest of one example, taken as a batch, can ruin a round in its last step.
        """
        sums: dict[str, float] = {}
        for batch in np.array_split(order, math.ceil(len(order) / task.hyperparameters.batch_size)):
            task.raise_if_stopped()
            self._model.reset_metrics()  # some versions of Keras do it here and some don't
            metrics = self._model.train_on_batch(self._x[batch], self._y[batch], return_dict=True)
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0.0) + len(batch) * float(value)
        return {name: total / len(order) for name, total in sums.items()}


def _load_model(path: Path) -> Model:
    """Load a model that can be trained on one ``x``; what is refused is refused each round."""
    try:
        model = keras_weights.load_model(path)
    except StoreError as error:
        if error.reason not in _FINAL:
            raise
        expected = f"{error.detail}{_FINAL[error.reason]}"
        raise SettingsError("data", _VALUE, expected, reason=error.reason) from error
    if len(model.inputs) != 1:
        expected = (
            f"the model has {len(model.inputs)} inputs, and the data are one x: "
            "give a --trainer of your own"
        )
        raise SettingsError("data", _VALUE, expected, reason="unsupported-model")
    return model


def _losses(keras: Any, model: Model, y: NDArray[Any]) -> tuple[Any, list[Any]]:
    """Return the loss for labels ``y`` and the metrics beside it.

    | y             | model's last axis | loss                                             |
    |---------------|-------------------|--------------------------------------------------|
    | whole numbers | several units     | sparse categorical crossentropy                  |
    | whole numbers | one unit          | binary crossentropy                              |
    | floats        | any               | mean squared error, and no accuracy              |

    A crossentropy takes the outputs as logits unless they come out of softmax or sigmoid.
    """
    if len(model.outputs) != 1:
        expected = f"the model has {len(model.outputs)} outputs: give a --trainer of your own"
        raise SettingsError("data", _VALUE, expected, reason="unsupported-model")
    if y.dtype.kind == "f":
        return keras.losses.MeanSquaredError(), []
    activation = _last_activation(keras, model)
    if model.output_shape[-1] == 1:
        logits = activation != "sigmoid"
        accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0 if logits else 0.5)
        return keras.losses.BinaryCrossentropy(from_logits=logits), [accuracy]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation != "softmax")
    return loss, [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


def _last_activation(keras: Any, model: Model) -> str:
    """Return the name of the function that the model's output comes out of, ``""`` if none."""
    last = model.outputs[0]._keras_history.operation  # noqa: SLF001 - nothing public tells it
    if isinstance(last, keras.Model):
        return _last_activation(keras, last)
    if isinstance(last, keras.layers.Softmax):
        return "softmax"
    return getattr(getattr(last, "activation", None), "__name__", "")


def require_keras() -> None:
    """Say how to install Keras where it is not; imports nothing.

    Raises:
        SettingsError: TensorFlow is not installed.
    """
    if missing := [name for name in ("keras", "tensorflow") if not importlib.util.find_spec(name)]:
        expected = (
            f"{missing[0]} is not installed, which training Keras models needs: "
            "pip install 'headwater[client]', or 'headwater[client-cpu]' without a GPU"
        )
        raise SettingsError("data", _VALUE, expected, reason="tensorflow-missing")


def import_keras() -> Any:
    """Import Keras, quietly, with a helpful error where it is not installed."""
    require_keras()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").addFilter(_is_worth_reading)
    import keras

    return keras


def _is_worth_reading(record: logging.LogRecord) -> bool:
    """Drop TensorFlow's warning about retracing, which several models in a process set off."""
    return "tf.function retracing" not in str(record.msg)
