"""Federates a Keras model of your own on data of your own: ``python run.py [FOLDER]``.

Four clients hear signals, and tell their form: sine, square, sawtooth or noise. Each hears mostly
one of the forms, and shows its recordings to nobody. The folder, ``waves`` if none is given, gets
the model, each client's data and the shared directory.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import headwater as hw

CLIENTS = 4
ROUNDS = 6
PLAN = hw.RoundPlan(
    goal_count=CLIENTS,
    hyperparameters=hw.Hyperparameters(epochs=1, batch_size=16, learning_rate=0.2),
)

FORMS = 4
SAMPLES = 48
"""Length of a signal."""

Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]


def build_model() -> Any:
    """Return your model: a Sequential or functional one, of which only the .h5 file travels."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.layers.Input((SAMPLES, 1)),
            keras.layers.Conv1D(16, 7, activation="relu"),
            keras.layers.MaxPooling1D(2),
            keras.layers.Conv1D(16, 5, activation="relu"),
            keras.layers.GlobalMaxPooling1D(),
            keras.layers.Dense(FORMS, activation="softmax"),
        ],
        name="waves",
    )


def signals(forms: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Return a signal of each form, 0 to 3, at a pitch and a phase of its own: [signals, 48, 1]."""
    random = np.random.default_rng(seed)
    count = len(forms)
    begin, periods = random.uniform(0, 1, (count, 1)), random.uniform(2, 5, (count, 1))
    turn = (begin + periods * np.linspace(0, 1, SAMPLES)) % 1
    noise = random.uniform(-1, 1, (count, SAMPLES))
    pure = np.stack([np.sin(2 * np.pi * turn), np.sign(turn - 0.5), 2 * turn - 1, noise])
    heard = pure[forms, np.arange(count)] + 0.2 * random.normal(size=(count, SAMPLES))
    return heard[:, :, None].astype(np.float32)


def recordings(client: int, count: int) -> Arrays:
    """Return what a client, 0 to 3, has recorded: two thirds of it are of its own form."""
    random = np.random.default_rng(client)
    anything = random.integers(0, FORMS, count)
    forms = np.where(random.random(count) < 0.55, client, anything)
    return signals(forms, seed=client), forms


def make_files(folder: Path) -> tuple[Path, list[Path]]:
    """Save the model and each client's data; in life each client has its file where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.h5"
    build_model().save(model)
    data = []
    for number in range(CLIENTS):
        x, y = recordings(number, count=100 * (number + 1))
        data.append(folder / f"client-{number + 1}.npz")
        np.savez(data[-1], x=x, y=y)
    return model, data


async def federate(model: Path, data: list[Path], shared_data: Path) -> list[hw.RoundOutcome]:
    """Run the rounds, with one client for each file; training is by Keras, on each one's own x."""
    trainers = []
    for path in data:
        arrays = np.load(path)
        trainers.append(hw.KerasTrainer(arrays["x"], arrays["y"]))
    async with hw.LocalFederation(
        initial=model, plan=PLAN, selectors=2, shared_data=shared_data
    ) as federation:
        return await federation.run(trainers, ROUNDS)


def accuracy(model: Any, weights_file: Path) -> float:
    """Return the part of unseen signals, of all forms alike, that these weights get right."""
    model.load_weights(weights_file)
    forms = np.arange(400) % FORMS
    guesses = model.predict(signals(forms, seed=99), verbose=0).argmax(axis=1)
    return float(np.mean(guesses == forms))


def main() -> None:
    parser = argparse.ArgumentParser(description="Federate a Keras model that tells signals apart.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("waves"))
    folder: Path = parser.parse_args().folder
    shared_data = folder / "shared_data"
    if shared_data.exists():
        sys.exit(f"{shared_data} is there already: remove it, or name another folder")
    model_file, data = make_files(folder)

    outcomes = asyncio.run(federate(model_file, data, shared_data))

    model = keras.saving.load_model(model_file, compile=False)
    print(f"before    accuracy {accuracy(model, model_file):.3f}")
    for outcome in outcomes:
        checkpoint = shared_data / "history" / f"round-{outcome.round_number:06}" / "fl_checkpoint"
        # Keras goes by the name: a weights file is one that ends in .h5.
        weights_file = folder / f"round-{outcome.round_number}.h5"
        shutil.copy(checkpoint, weights_file)
        reached = accuracy(model, weights_file)
        print(
            f"round {outcome.round_number:2}  accuracy {reached:.3f}  "
            f"{outcome.counts.reported} reports, training loss {outcome.metrics['loss']:.3f}"
        )
    trained = folder / "trained.h5"
    model.save(trained)
    print(f"\n{trained} is your model, trained: keras.saving.load_model({str(trained)!r})")


if __name__ == "__main__":
    main()
