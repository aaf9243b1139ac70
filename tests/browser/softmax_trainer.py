"""A trainer for the pictures of the page: softmax regression on the digits, with numpy alone.

It learns in earnest, and starts in no time. A process names it with ``--trainer
tests.browser.softmax_trainer:Softmax``; ``SOFTMAX_SHARD`` says which part of the digits is its own.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data import load_data
from client.trainer import Trainer, TrainingResult, TrainingTask

Weights = dict[str, NDArray[Any]]

PIXELS, CLASSES = 64, 10
ROUND_S = 1.2
"""A round takes at least so long, so that there is something to see."""

START: Weights = {
    "kernel": np.zeros((PIXELS, CLASSES), np.float32),
    "bias": np.zeros(CLASSES, np.float32),
}


class Softmax(Trainer):
    """Takes one step down the gradient of the cross-entropy over its own digits."""

    def __init__(self) -> None:
        images, self._labels = load_data("digits", os.environ["SOFTMAX_SHARD"], skew=1.0)
        self._x = images.reshape(len(images), PIXELS)

    def fit(self, weights: Weights, task: TrainingTask) -> TrainingResult:
        time.sleep(ROUND_S * len(self._labels) / 400)
        logits = self._x @ weights["kernel"] + weights["bias"]
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = odds / odds.sum(axis=1, keepdims=True)
        wrong = shares - np.eye(CLASSES, dtype=np.float32)[self._labels]
        step = task.hyperparameters.learning_rate / len(self._labels)
        new = {
            "kernel": (weights["kernel"] - step * self._x.T @ wrong).astype(np.float32),
            "bias": (weights["bias"] - step * wrong.sum(axis=0)).astype(np.float32),
        }
        right = shares[np.arange(len(self._labels)), self._labels]
        metrics = {
            "loss": float(-np.log(np.maximum(right, 1e-9)).mean()),
            "accuracy": float((shares.argmax(axis=1) == self._labels).mean()),
        }
        return TrainingResult(new, len(self._labels), metrics)
