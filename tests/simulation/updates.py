"""What the clients trained, from their own hands, and what a round must make of it.

The values are whole multiples of 2**-10, so that sums are exact in float64 and every order of
adding gives the same checkpoint, to the bit.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.trainer import Trainer, TrainingResult, TrainingTask
from federation.tensors import encode

SIZE = 3
UNIT = 2.0**-10
COMBINATIONS_MAX = 4_096

FIRST_WEIGHTS: Mapping[str, NDArray[Any]] = {
    "w": np.zeros(SIZE, np.float32),
    "steps": np.zeros(1, np.int64),
}


@dataclass(frozen=True)
class Trained:
    """One update: its values as whole multiples of ``UNIT``, and the integer tensor."""

    units: tuple[int, ...]
    steps: int
    num_examples: int


class Updates:
    """All that was trained: a client that was restarted within a round trained twice."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._trained: dict[tuple[str, str], list[Trained]] = {}

    def train(self, client_id: str, round_id: str) -> Trained:
        """Make an update that no other client, round or attempt has."""
        attempts = self._trained.setdefault((client_id, round_id), [])
        rng = random.Random(f"{self._seed}/{client_id}/{round_id}/{len(attempts)}")
        units = tuple(rng.randrange(-(2**20), 2**20) for _ in range(SIZE))
        attempts.append(Trained(units, rng.randrange(10**9), rng.randint(1, 60)))
        return attempts[-1]

    def checkpoints(
        self, round_id: str, client_ids: Sequence[str], *, equal: bool
    ) -> Iterator[bytes]:
        """Yield each checkpoint that these clients' updates can have made, each in it once."""
        attempts = [self._trained.get((client_id, round_id), []) for client_id in client_ids]
        if math.prod(map(len, attempts)) > COMBINATIONS_MAX:
            raise AssertionError("too many clients trained again to try all that is possible")
        for combination in itertools.product(*attempts):
            weights = [1 if equal else trained.num_examples for trained in combination]
            total = sum(weights)
            means = [
                float(
                    Fraction(
                        sum(w * t.units[i] for w, t in zip(weights, combination, strict=True)),
                        total,
                    )
                )
                for i in range(SIZE)
            ]
            ranked = zip((-w for w in weights), client_ids, combination, strict=True)
            picked = min(ranked, key=lambda rank: rank[:2])[2]
            yield bytes(
                encode(
                    {
                        "w": (np.array(means) * UNIT).astype(np.float32),
                        "steps": np.array([picked.steps], np.int64),
                    }
                )
            )


class SimulatedTrainer(Trainer):
    """Trains in no time; sometimes fails, and sometimes makes what screening refuses."""

    def __init__(self, client_id: str, updates: Updates, rng: random.Random, bad: float) -> None:
        self._client_id = client_id
        self._updates = updates
        self._rng = rng
        self._bad = bad

    def fit(self, weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        """Return values that have nothing to do with the weights before."""
        luck = self._rng.random()
        if luck < self._bad / 2:
            raise RuntimeError("the trainer failed")
        trained = self._updates.train(self._client_id, task.round_id)
        values = (np.array(trained.units) * UNIT).astype(np.float32)
        if luck < self._bad:
            values[0] = np.nan
        steps = np.array([trained.steps], np.int64)
        return TrainingResult({"w": values, "steps": steps}, trained.num_examples)
