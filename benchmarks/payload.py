"""The model that benchmarks send to and fro: named float32 tensors of a given size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TENSORS = 8
"""Tensors of a model."""


def model(megabytes: int) -> dict[str, NDArray[np.float32]]:
    """Return a model of so many MB (10**6 bytes), with values that do not compress."""
    entries = megabytes * 1_000_000 // 4 // TENSORS
    random = np.random.default_rng(0)
    return {
        f"layer{index}/kernel": random.standard_normal(entries, dtype=np.float32)
        for index in range(TENSORS)
    }


def changed(weights: dict[str, NDArray[np.float32]], client: int) -> dict[str, NDArray[np.float32]]:
    """Return a client's own update: every byte is written anew, and no two clients agree."""
    step = np.float32((client + 1) * 2**-10)
    return {name: array + step for name, array in weights.items()}
