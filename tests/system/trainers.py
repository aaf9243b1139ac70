"""Trainers for federations in tests: their weights are known exactly, and some misbehave.

A process names one with ``--trainer tests.system.trainers:Exact`` and tells it more by environment
variables, since a factory takes no arguments:

| variable           | meaning                                                                    |
|--------------------|----------------------------------------------------------------------------|
| `TRAINER_STEPS`    | how many ``STEP`` are added to each weight in a round; 1 without it        |
| `TRAINER_EXAMPLES` | examples of round n are n times this; 1 without it                         |
| `TRAINER_GATE`     | folder in which a file opens the gate: named after the round, or `always`; |
|                    | `entry` for those that come late                                           |
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.trainer import Trainer, TrainingResult, TrainingTask

Weights = dict[str, NDArray[Any]]

STEP = 2.0**-10
"""Sums of a few multiples of it are exact in float32, and so are means by powers of two."""

LOOK_S = 0.01
"""Pause between two looks at a closed gate."""


class Exact(Trainer):
    """Adds a multiple of ``STEP`` to every weight, and says on its log when it begins."""

    def __init__(self) -> None:
        self._steps = int(os.environ.get("TRAINER_STEPS", "1"))
        self._examples = int(os.environ.get("TRAINER_EXAMPLES", "1"))

    def fit(self, weights: Weights, task: TrainingTask) -> TrainingResult:
        say("training", round_number=task.round_number)
        return TrainingResult(
            self.trained(weights, task), self._examples * task.round_number, {"loss": 0.5}
        )

    def trained(self, weights: Weights, task: TrainingTask) -> Weights:
        """Return the new weights."""
        return {
            name: array + array.dtype.type(self._steps * STEP) for name, array in weights.items()
        }


class Late(Exact):
    """Takes its time to be made, so that its client checks in once ``entry`` is open."""

    def __init__(self) -> None:
        super().__init__()
        say("made soon")
        while not is_open("entry"):
            time.sleep(LOOK_S)


class Gated(Exact):
    """Trains until the gate of its round is open, or until it is told to stop."""

    def trained(self, weights: Weights, task: TrainingTask) -> Weights:
        while not (is_open("always") or is_open(str(task.round_number))):
            self.look_up(task)
            time.sleep(LOOK_S)
        return super().trained(weights, task)

    def look_up(self, task: TrainingTask) -> None:
        """Notice that it is told to stop."""
        task.raise_if_stopped()


class Stubborn(Gated):
    """Does not care whether it is told to stop."""

    def look_up(self, task: TrainingTask) -> None:
        pass


class NotANumber(Exact):
    """Diverged: one entry is no number."""

    def trained(self, weights: Weights, task: TrainingTask) -> Weights:
        new = super().trained(weights, task)
        next(iter(new.values())).flat[0] = np.nan
        return new


class WrongShape(Exact):
    """Has another model: one tensor has its axes the other way round."""

    def trained(self, weights: Weights, task: TrainingTask) -> Weights:
        return {name: array.T.copy() for name, array in super().trained(weights, task).items()}


def is_open(name: str) -> bool:
    """Say whether a test has opened this gate."""
    return (Path(os.environ["TRAINER_GATE"]) / name).exists()


def say(event: str, **fields: object) -> None:
    """Write a line to the log, for the test."""
    sys.stderr.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stderr.flush()
