"""Users' own models through whole rounds: every tensor arrives under its name, bit for bit."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import headwater as hw
from federation.runtime.initialise import initialise
from federation.runtime.keras_weights import get_weights, load_model
from headwater.local import BUILTIN
from tests.keras_models import (
    MODELS,
    dense,
    nested_with_frozen_layer,
    one_layer_in_two_places,
    several_inputs_and_a_shared_layer,
)
from tests.system.processes import HEADWATER, PYTHON, WITHOUT_TENSORFLOW, Federation

keras: Any = pytest.importorskip("keras")

# Keras' own, while it saves a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WAIT_S = 60.0

Weights = dict[str, NDArray[Any]]


class Known(hw.Trainer):
    """Returns weights that the test knows, and remembers those that it was given."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], num_examples: int = 1) -> None:
        self.weights = weights
        self.num_examples = num_examples
        self.given: list[Weights] = []

    def fit(self, weights: Weights, task: hw.TrainingTask) -> hw.TrainingResult:
        self.given.append({name: array.copy() for name, array in weights.items()})
        return hw.TrainingResult(self.weights, self.num_examples)


class Recorded(hw.KerasTrainer):
    """Trains for real, and keeps the last result."""

    def fit(self, weights: Weights, task: hw.TrainingTask) -> hw.TrainingResult:
        self.result = super().fit(weights, task)
        return self.result


async def federate(
    initial: Path | Weights, trainers: Sequence[hw.Trainer], shared_data: Path, rounds: int = 1
) -> Weights:
    """Run rounds in this process, all of which commit; return the checkpoint."""
    plan = hw.RoundPlan(goal_count=len(trainers), hyperparameters=hw.Hyperparameters(1, 4, 0.1))
    async with (
        asyncio.timeout(WAIT_S),
        hw.LocalFederation(initial=initial, plan=plan, shared_data=shared_data) as federation,
    ):
        outcomes = await federation.run(trainers, rounds)
        assert [outcome.committed for outcome in outcomes] == [True] * rounds
        return federation.checkpoint()


def saved(model: Any, folder: Path) -> Path:
    """Save a model as users do."""
    model.save(folder / "mine.h5")
    return folder / "mine.h5"


def in_file(path: Path) -> Weights:
    """Return every dataset of an HDF5 file by its path, as h5py alone sees it."""
    found: Weights = {}

    def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path) as file:
        file.get("model_weights", file).visititems(keep)
    return found


def as_weights_file(shared_data: Path) -> Path:
    """Copy the current checkpoint to a name by which Keras chooses the right parser."""
    return Path(shutil.copy(shared_data / "initFiles" / "fl_checkpoint", shared_data / "new.h5"))


def random_like(weights: Weights, seed: int = 0) -> Weights:
    """Return tensors of any finite bits: tiny, huge, negative zeros; no two tensors are equal."""
    random = np.random.default_rng(seed)
    drawn = {}
    for name, array in sorted(weights.items()):
        bits = random.integers(0, 256, array.nbytes, np.uint8).view(array.dtype)
        if array.dtype.kind == "f":
            bits = np.where(np.isfinite(bits), bits, array.dtype.type(-0.0))
        drawn[name] = bits.reshape(array.shape)
    return drawn


def same(first: Weights, second: Mapping[str, NDArray[Any]]) -> bool:
    """Say whether names, dtypes, shapes and all bits agree."""
    return first.keys() == second.keys() and all(
        (first[name].dtype, first[name].shape, first[name].tobytes())
        == (second[name].dtype, second[name].shape, second[name].tobytes())
        for name in first
    )


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
async def test_tensors_of_a_model_that_are_committed_are_those_that_keras_loads(
    build: Callable[[Any], Any], tmp_path: Path
) -> None:
    """Dense, convolutional, recurrent, nested, shared, mixed: by name and bit for bit."""
    path = saved(build(keras), tmp_path)
    trained = random_like(in_file(path))
    client = Known(trained, num_examples=3)

    committed = await federate(path, [client], tmp_path / "shared", rounds=2)

    weights_file = as_weights_file(tmp_path / "shared")
    model = load_model(path)
    model.load_weights(weights_file)
    assert same(client.given[0], in_file(path))
    assert same(client.given[1], trained)
    assert same(committed, trained)
    assert same(in_file(weights_file), trained)
    assert same(get_weights(model, trained.keys()), trained)


async def test_layers_of_one_shape_with_a_frozen_one_do_not_swap(tmp_path: Path) -> None:
    """Keras lists frozen variables last, so that whoever goes by position mixes them up."""
    path = saved(nested_with_frozen_layer(keras), tmp_path)
    trained = random_like(in_file(path))

    await federate(path, [Known(trained)], tmp_path / "shared")

    model = keras.saving.load_model(path, compile=False)
    model.load_weights(as_weights_file(tmp_path / "shared"))
    inner = model.get_layer("inner")
    for layer, prefix in [
        (inner.get_layer("a"), "inner/inner/a"),
        (inner.get_layer("b"), "inner/inner/b"),
        (model.get_layer("a"), "a/a"),
    ]:
        assert np.asarray(layer.kernel).tobytes() == trained[f"{prefix}/kernel"].tobytes()
        assert np.asarray(layer.bias).tobytes() == trained[f"{prefix}/bias"].tobytes()


@pytest.mark.parametrize(
    ("build", "inputs"),
    [(dense, 3), (nested_with_frozen_layer, 4), (one_layer_in_two_places, 4)],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_model_is_trained_by_the_built_in_trainer_its_very_weights_are_committed(
    build: Callable[[Any], Any], inputs: int, tmp_path: Path
) -> None:
    """What Keras holds after training is what the next round starts from."""
    path = saved(build(keras), tmp_path)
    random = np.random.default_rng(1)
    trainer = Recorded(random.normal(size=(8, inputs)).astype(np.float32), np.arange(8) % 4)

    committed = await federate(path, [trainer], tmp_path / "shared")

    before = in_file(path)
    changed = {name for name in before if not np.array_equal(before[name], committed[name])}
    assert same(committed, trainer.result.weights)
    frozen = {"inner/inner/a/kernel", "inner/inner/a/bias"} & (before.keys() - changed)
    assert changed == before.keys() - frozen
    assert bool(frozen) == (build is nested_with_frozen_layer)


async def test_frozen_layer_is_the_same_to_the_bit_after_the_mean_of_unlike_clients(
    tmp_path: Path,
) -> None:
    """Equal tensors average to themselves, whatever the clients' weights are."""
    path = saved(nested_with_frozen_layer(keras), tmp_path)
    random = np.random.default_rng(1)
    trainers = [
        Recorded(random.normal(size=(count, 4)).astype(np.float32), np.arange(count) % 4)
        for count in (3, 7)
    ]

    committed = await federate(path, trainers, tmp_path / "shared", rounds=2)

    before = in_file(path)
    unchanged = {name for name in before if before[name].tobytes() == committed[name].tobytes()}
    assert unchanged == {"inner/inner/a/kernel", "inner/inner/a/bias"}


async def test_model_of_several_inputs_is_refused_by_the_built_in_trainer_alone(
    tmp_path: Path,
) -> None:
    """One x cannot feed two inputs; a trainer of one's own can (see the other tests)."""
    path = saved(several_inputs_and_a_shared_layer(keras), tmp_path)
    trainer = hw.KerasTrainer(np.zeros((8, 4), np.float32), np.zeros(8))

    with pytest.raises(hw.SettingsError, match="has 2 inputs, and the data are one x") as refused:
        await federate(path, [trainer], tmp_path / "shared")

    assert refused.value.reason == "unsupported-model"
    assert "--trainer of your own" in str(refused.value)


class Unregistered(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A user's layer class that was not registered."""

    def call(self, inputs: Any) -> Any:
        return inputs


def with_layers(*layers: Any) -> Any:
    """Build a model of three inputs with two units in its last layer."""
    return keras.Sequential([keras.layers.Input((3,)), *layers, keras.layers.Dense(2)])


@pytest.mark.parametrize(
    ("build", "reason", "said"),
    [
        (
            lambda: with_layers(Unregistered()),
            "unregistered-class",
            ["needs 'Unregistered'", "register_keras_serializable", "--trainer of your own"],
        ),
        (
            lambda: with_layers(keras.Sequential([keras.layers.Input((3,)), Unregistered()])),
            "unregistered-class",
            ["needs 'Unregistered'"],
        ),
        (
            lambda: with_layers(keras.layers.Lambda(lambda x: x + 1)),
            "unusable-model",
            ["has a Lambda layer", "is not run here"],
        ),
    ],
    ids=["custom-layer", "nested-custom-layer", "lambda"],
)
async def test_model_with_foreign_code_is_refused_with_what_to_do(
    build: Callable[[], Any], reason: str, said: list[str], tmp_path: Path
) -> None:
    """No class is found by a name from a peer, and no code from a file is run."""
    path = saved(build(), tmp_path)
    trainer = hw.KerasTrainer(np.zeros((8, 3), np.float32), np.zeros(8, np.int64))

    with pytest.raises(hw.SettingsError) as refused:
        await federate(path, [trainer], tmp_path / "shared")

    assert refused.value.reason == reason
    assert [words for words in said if words not in str(refused.value)] == []


@pytest.mark.prove
async def test_layer_class_is_registered_by_the_trainer_s_module_only_the_client_needs_it(
    bare: Federation,
) -> None:
    """Servers see named tensors; they have neither the class nor TensorFlow."""
    from tests.system.keras_trainers import Scale

    path = saved(with_layers(Scale(name="scale")), bare.folder)
    init = await bare.start(
        "init",
        [*WITHOUT_TENSORFLOW, HEADWATER[0], "init"],
        shared_data=bare.shared_data,
        model=path,
    )
    assert await init.end() == 0
    await bare.coordinator(WITHOUT_TENSORFLOW, goal_count=1, rounds=1)
    (selector,) = await bare.selectors("north", command=WITHOUT_TENSORFLOW)
    client = await bare.start(
        "client",
        [*PYTHON, "client"],
        selector=selector.address,
        trainer="tests.system.keras_trainers:make",
        rounds=1,
    )

    status = await client.end()
    record = await bare.completed(1)

    assert status == 0
    assert record.counts.reported == 1
    before, after = in_file(path), in_file(bare.directory.checkpoint)
    (factor,) = [name for name in before if name.endswith("scale/factor")]
    assert after.keys() == before.keys()
    assert not np.array_equal(after[factor], before[factor])
    model = load_model(path)
    model.load_weights(as_weights_file(bare.shared_data))
    assert same(get_weights(model, after.keys()), after)


def arrays_of_all_kinds() -> Weights:
    """Return an array of each dtype, of unlike shapes, under names of unlike forms."""
    floats, signed = ["float16", "float32", "float64"], ["int8", "int16", "int32", "int64"]
    kinds = [*floats, *signed, *(f"u{kind}" for kind in signed)]
    names = ["w", "block/0/w", "b.1", "x", "y/z", "Größe", "a-b", "c_d", "e f", "g/h", "i"]
    shapes: list[tuple[int, ...]] = [(3, 2), (7,), (1, 2, 3), (), (0,)]
    arrays = random_like(
        {
            name: np.zeros(shapes[at % len(shapes)], dtype)
            for at, (name, dtype) in enumerate(zip(names, kinds, strict=True))
        }
    )
    arrays["b.1"] %= 1e100  # entries of float64 whose sums could overflow are refused
    return {**arrays, "mask": np.array([True, False, False, True, True])}


async def test_arrays_of_every_dtype_from_an_npz_arrive_as_they_are(tmp_path: Path) -> None:
    """Models that are not Keras' are named arrays: names, dtypes, shapes and values are kept."""
    initial = arrays_of_all_kinds()
    trained = {name: np.flip(array) for name, array in initial.items()}
    np.savez(tmp_path / "mine.npz", **initial)  # type: ignore[arg-type]  # as its names are
    initialise(tmp_path / "shared", model=None, arrays=tmp_path / "mine.npz", builtin=BUILTIN)
    client = Known(trained)

    committed = await federate({}, [client], tmp_path / "shared")

    assert same(client.given[0], initial)
    assert same(committed, trained)
