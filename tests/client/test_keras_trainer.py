"""The built-in Keras trainer on models and data small enough to know the answer."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.data import digits, load_data
from client.keras_trainer import KerasTrainer
from client.trainer import TrainerThread, TrainingStopped, TrainingTask, train
from federation.errors import PeerError, SettingsError
from federation.plan import Hyperparameters
from federation.runtime.hdf5 import read_weights
from headwater.digits_model import BUILTIN_MODEL

# Keras' own, while it saves a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HYPERPARAMETERS = Hyperparameters(epochs=5, batch_size=32, learning_rate=0.4)


@pytest.fixture(scope="module", name="keras")
def _keras() -> Any:
    return pytest.importorskip("keras")


def _task(
    model_path: Path | None,
    hyperparameters: Hyperparameters = HYPERPARAMETERS,
    *,
    round_number: int = 1,
    stop: threading.Event | None = None,
) -> TrainingTask:
    return TrainingTask(
        round_number=round_number,
        round_id=f"r-{round_number}",
        hyperparameters=hyperparameters,
        deadline_s=60.0,
        model_path=model_path,
        stop=stop or threading.Event(),
        client_id="c-1",
    )


def _saved(keras: Any, folder: Path, *layers: Any) -> Path:
    keras.utils.set_random_seed(1)
    keras.Sequential(list(layers), name="m").save(folder / "model.h5")
    return folder / "model.h5"


def _two_clusters() -> tuple[NDArray[Any], NDArray[Any]]:
    """Points around -1 and around 1 in two dimensions, 40 of each."""
    x = np.random.default_rng(0).normal(0, 0.2, (80, 2)).astype(np.float32)
    y = np.arange(80) % 2
    return x + (2 * y[:, None] - 1).astype(np.float32), y


def test_training_on_digits_learns_them(keras: Any) -> None:
    """From the built-in model and data, with the names of the checkpoint and honest metrics."""
    x, y = digits("train")
    trainer, weights = KerasTrainer(x, y), read_weights(BUILTIN_MODEL)

    result = train(trainer, weights, _task(BUILTIN_MODEL))

    assert {name: (array.shape, array.dtype) for name, array in result.weights.items()} == {
        name: (array.shape, array.dtype) for name, array in weights.items()
    }
    assert result.num_examples == 1442
    assert result.metrics.keys() == {"loss", "accuracy"}
    assert result.metrics["accuracy"] > 0.93
    assert trainer.evaluate(result.weights, *digits("held-out"))["accuracy"] > 0.93
    assert trainer.evaluate(weights, *digits("held-out"))["accuracy"] < 0.3


@pytest.mark.prove
def test_mean_of_unlike_shards_is_good_after_a_few_rounds(keras: Any) -> None:
    """What the demo promises: 4 clients, a Dirichlet skew of 0.5, 0.90 within 10 rounds."""
    trainers = [KerasTrainer(*load_data("digits", f"{k}/4", 0.5, seed=0)) for k in (1, 2, 3, 4)]
    weights: dict[str, NDArray[Any]] = read_weights(BUILTIN_MODEL)

    for round_number in range(1, 5):
        results = [
            train(each, weights, _task(BUILTIN_MODEL, round_number=round_number))
            for each in trainers
        ]
        total = sum(result.num_examples for result in results)
        weights = {
            name: np.sum(
                [result.num_examples / total * result.weights[name] for result in results], axis=0
            ).astype(np.float32)
            for name in weights
        }

    assert trainers[0].evaluate(weights, *digits("held-out"))["accuracy"] > 0.9


def test_training_depends_on_weights_data_seed_and_round_only(keras: Any) -> None:
    """So a round can be repeated: earlier rounds of the same trainer leave no trace."""
    x, y = digits("train")
    x, y = x[:64], y[:64]
    weights = read_weights(BUILTIN_MODEL)

    def trained(trainer: KerasTrainer, round_number: int) -> NDArray[Any]:
        result = trainer.fit(weights, _task(BUILTIN_MODEL, round_number=round_number))
        return result.weights["hidden/digits/hidden/kernel"]

    used, fresh = KerasTrainer(x, y), KerasTrainer(x, y)
    first, second = trained(used, 1), trained(used, 2)

    np.testing.assert_allclose(trained(fresh, 2), second, rtol=1e-5, atol=1e-7)
    assert not np.allclose(first, second)
    assert not np.allclose(trained(KerasTrainer(x, y, shuffle_seed=1), 2), second)


def test_hyperparameters_of_the_round_are_used(keras: Any, tmp_path: Path) -> None:
    """One step of one unit without bias: w - learning_rate * gradient, worked out by hand."""
    layers = keras.layers
    path = _saved(keras, tmp_path, layers.Input((1,)), layers.Dense(1, use_bias=False, name="d"))
    trainer = KerasTrainer(np.array([[1.0], [1.0]]), np.array([0.0, 0.0]))
    weights = {"d/m/d/kernel": np.array([[1.0]], np.float32)}

    def trained(hyperparameters: Hyperparameters) -> float:
        result = trainer.fit(weights, _task(path, hyperparameters))
        return float(result.weights["d/m/d/kernel"][0, 0])

    # The loss is w**2, its gradient 2 * w; a step multiplies w by 1 - 2 * learning_rate.
    assert trained(Hyperparameters(1, 2, 0.1)) == pytest.approx(0.8)
    assert trained(Hyperparameters(1, 2, 0.25)) == pytest.approx(0.5)
    assert trained(Hyperparameters(3, 2, 0.25)) == pytest.approx(0.5**3)
    assert trained(Hyperparameters(3, 1, 0.25)) == pytest.approx(0.5**6)


def test_metrics_are_means_over_the_examples_of_the_last_epoch(keras: Any, tmp_path: Path) -> None:
    """A small last batch counts for its examples only."""
    layers = keras.layers
    path = _saved(keras, tmp_path, layers.Input((1,)), layers.Dense(1, use_bias=False, name="d"))
    trainer = KerasTrainer(np.zeros((3, 1)), np.array([3.0, 0.0, 0.0]))
    weights = {"d/m/d/kernel": np.array([[1.0]], np.float32)}

    result = trainer.fit(weights, _task(path, Hyperparameters(2, 2, 0.1)))

    assert dict(result.metrics) == {"loss": pytest.approx(3.0)}


def test_batches_are_of_one_size_or_nearly(keras: Any, tmp_path: Path) -> None:
    """Nine examples in batches of at most four are three threes, and not a rest of one."""
    layers = keras.layers
    path = _saved(keras, tmp_path, layers.Input((1,)), layers.Dense(1))
    sizes: list[int] = []

    class Counted(np.ndarray[Any, Any]):
        def __getitem__(self, key: Any) -> Any:
            sizes.append(len(key))
            return np.asarray(super().__getitem__(key))

    trainer = KerasTrainer(np.zeros((9, 1)).view(Counted), np.zeros(9))
    trainer.fit(read_weights(path), _task(path, Hyperparameters(1, 4, 0.1)))

    assert sizes == [3, 3, 3]


@pytest.mark.parametrize("activation", ["softmax", "linear", "separate"])
def test_classes_with_several_units_are_trained_with_categorical_crossentropy(
    keras: Any, tmp_path: Path, activation: str
) -> None:
    """Whether the model gives probabilities or logits is seen from its last layer."""
    layers = keras.layers
    last = (
        [layers.Dense(2), layers.Softmax()]
        if activation == "separate"
        else [layers.Dense(2, activation=activation)]
    )
    path = _saved(keras, tmp_path, layers.Input((2,)), *last)
    weights = {name: np.zeros_like(array) for name, array in read_weights(path).items()}
    trainer = KerasTrainer(*_two_clusters())

    result = trainer.fit(weights, _task(path))

    # All weights are 0: both classes are equally likely, whichever way the outputs are meant.
    assert trainer.evaluate(weights, *_two_clusters())["loss"] == pytest.approx(np.log(2))
    assert trainer.evaluate(result.weights, *_two_clusters())["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("activation", "labels"), [("sigmoid", "row"), ("linear", "column"), ("sigmoid", "bool")]
)
def test_two_classes_with_one_unit_are_trained_with_binary_crossentropy(
    keras: Any, tmp_path: Path, activation: str, labels: str
) -> None:
    """Also for labels in a column, and for truth values."""
    layers = keras.layers
    path = _saved(keras, tmp_path, layers.Input((2,)), layers.Dense(1, activation=activation))
    weights = {name: np.zeros_like(array) for name, array in read_weights(path).items()}
    x, y = _two_clusters()
    y = {"row": y, "column": y[:, None], "bool": y.astype(bool)}[labels]
    trainer = KerasTrainer(x, y)

    result = trainer.fit(weights, _task(path))

    assert trainer.evaluate(weights, x, y)["loss"] == pytest.approx(np.log(2))
    assert trainer.evaluate(result.weights, x, y)["accuracy"] == 1.0
    assert result.metrics["accuracy"] == 1.0


def test_last_activation_of_a_nested_model_is_found(keras: Any, tmp_path: Path) -> None:
    """The output may come out of a model inside the model."""
    layers = keras.layers
    head = keras.Sequential([layers.Input((3,)), layers.Dense(2, activation="softmax")])
    path = _saved(keras, tmp_path, layers.Input((2,)), layers.Dense(3), head)
    weights = {name: np.zeros_like(array) for name, array in read_weights(path).items()}
    trainer = KerasTrainer(*_two_clusters())

    trainer.load(path)

    assert trainer.evaluate(weights, *_two_clusters())["loss"] == pytest.approx(np.log(2))


def test_floats_are_trained_with_mean_squared_error(keras: Any, tmp_path: Path) -> None:
    """There is no accuracy of a regression."""
    layers = keras.layers
    path = _saved(keras, tmp_path, layers.Input((2,)), layers.Dense(1))
    x = _two_clusters()[0]
    trainer = KerasTrainer(x, x @ np.array([2.0, -1.0]) + 0.5)

    result = trainer.fit(read_weights(path), _task(path, Hyperparameters(100, 16, 0.1)))

    assert result.metrics.keys() == {"loss"}
    assert result.metrics["loss"] < 1e-3


def test_mixed_precision_model_trains_with_the_round_s_learning_rate(
    keras: Any, tmp_path: Path
) -> None:
    """Keras wraps the optimizer then, and keeps the weights in float32."""
    layers = keras.layers
    path = _saved(
        keras,
        tmp_path,
        layers.Input((2,)),
        layers.Dense(8, activation="relu", dtype="mixed_float16"),
        layers.Dense(2, activation="softmax"),
    )
    weights = read_weights(path)
    trainer = KerasTrainer(*_two_clusters())

    result = trainer.fit(weights, _task(path))

    assert {array.dtype for array in result.weights.values()} == {np.dtype(np.float32)}
    assert result.metrics["accuracy"] > 0.9


def test_frozen_layer_and_statistics_come_back_under_their_names(
    keras: Any, tmp_path: Path
) -> None:
    """A frozen layer stays as it was given; moving means of BatchNormalization are weights."""
    layers = keras.layers
    frozen = layers.Dense(2, trainable=False, name="frozen")
    path = _saved(
        keras,
        tmp_path,
        layers.Input((2,)),
        frozen,
        layers.BatchNormalization(name="norm"),
        layers.Dense(2, name="free"),
    )
    given = read_weights(path)

    trained = KerasTrainer(*_two_clusters()).fit(given, _task(path)).weights

    assert np.array_equal(trained["frozen/m/frozen/kernel"], given["frozen/m/frozen/kernel"])
    for name in ("free/m/free/kernel", "norm/m/norm/moving_mean"):
        assert not np.array_equal(trained[name], given[name])


def test_model_is_loaded_again_only_when_the_file_is_another(keras: Any, tmp_path: Path) -> None:
    """Compiling costs most of a second, and rounds share a model."""
    layers = keras.layers
    path = _saved(keras, tmp_path, layers.Input((2,)), layers.Dense(2))
    trainer = KerasTrainer(*_two_clusters())
    trainer.fit(read_weights(path), _task(path))
    loaded = trainer._model

    trainer.fit(read_weights(path), _task(path, round_number=2))
    assert trainer._model is loaded

    _saved(keras, tmp_path, layers.Input((2,)), layers.Dense(3), layers.Dense(2))
    trainer.fit(read_weights(path), _task(path, round_number=3))
    assert trainer._model is not loaded


def test_training_that_was_told_to_stop_ends_at_the_next_batch(keras: Any) -> None:
    """SIGTERM does not wait for the end of an epoch."""
    x, y = digits("train")
    stop = threading.Event()

    class StopsAtTheFirstBatch(np.ndarray[Any, Any]):
        def __getitem__(self, key: Any) -> Any:
            stop.set()
            return np.asarray(super().__getitem__(key))

    trainer = KerasTrainer(x.view(StopsAtTheFirstBatch), y)
    endless = Hyperparameters(epochs=10**9, batch_size=32, learning_rate=0.1)

    with pytest.raises(TrainingStopped):
        trainer.fit(read_weights(BUILTIN_MODEL), _task(BUILTIN_MODEL, endless, stop=stop))


def test_weights_of_another_model_are_refused(keras: Any) -> None:
    """By name: same-shaped tensors must not swap in silence."""
    x, y = digits("train")
    weights = dict(read_weights(BUILTIN_MODEL))
    weights["other"] = weights.pop("hidden/digits/hidden/kernel")

    with pytest.raises(PeerError) as refused:
        KerasTrainer(x, y).fit(weights, _task(BUILTIN_MODEL))

    assert refused.value.reason == "wrong-weights"


def test_federation_without_a_keras_model_is_a_wrong_setting(keras: Any) -> None:
    """It was started from arrays, so the client needs a trainer of its own."""
    with pytest.raises(SettingsError, match="no Keras model") as refused:
        KerasTrainer(*_two_clusters()).fit({}, _task(None))

    assert refused.value.reason == "model-missing"


def test_model_with_several_outputs_is_a_wrong_setting(keras: Any, tmp_path: Path) -> None:
    """Which loss belongs to which output only the user knows."""
    entry = keras.layers.Input((2,))
    model = keras.Model(entry, [keras.layers.Dense(1)(entry), keras.layers.Dense(1)(entry)])
    model.save(tmp_path / "model.h5")

    with pytest.raises(SettingsError, match="2 outputs") as refused:
        KerasTrainer(*_two_clusters()).load(tmp_path / "model.h5")

    assert refused.value.reason == "unsupported-model"


async def test_trainers_of_one_process_train_side_by_side(keras: Any) -> None:
    """As in a local federation: a thread each, each with a model of its own."""
    x, y = digits("train")
    weights = read_weights(BUILTIN_MODEL)
    alone = KerasTrainer(x[:200], y[:200]).fit(weights, _task(BUILTIN_MODEL))
    threads = [TrainerThread(), TrainerThread()]
    trainers = [await thread.run(KerasTrainer, x[:200], y[:200]) for thread in threads]

    together = await asyncio.gather(
        *(
            thread.run(trainer.fit, weights, _task(BUILTIN_MODEL))
            for thread, trainer in zip(threads, trainers, strict=True)
        )
    )

    for result in together:
        for name, array in alone.weights.items():
            np.testing.assert_allclose(result.weights[name], array, rtol=1e-4, atol=1e-6)
    for thread in threads:
        thread.close()


def test_missing_tensorflow_is_said_at_once_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plain install has none; the error names the extras."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name != "tensorflow" or None)

    with pytest.raises(SettingsError, match=r"tensorflow is not.*'headwater\[client\]'") as refused:
        KerasTrainer(np.zeros((1, 1)), np.zeros(1))

    assert (refused.value.setting, refused.value.reason) == ("data", "tensorflow-missing")


def test_importing_this_module_imports_no_tensorflow() -> None:
    """It costs seconds, and a plain install has none."""
    script = (
        "import sys, client.keras_trainer, headwater.digits_model\n"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )

    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert printed.stdout.strip() == b"set()"
