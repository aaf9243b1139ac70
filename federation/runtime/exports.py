"""Weights as a file for other programs: ``.npz`` for numpy, ``.h5`` for Keras."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.runtime.disk import store_errors
from federation.runtime.hdf5 import ROUND_ATTRIBUTE, blocks_of, write_checkpoint
from federation.runtime.progress import Progress, Unwatched
from federation.tensors import ModelSpec


def write_npz(
    path: Path, weights: Mapping[str, NDArray[Any]], progress: Progress | None = None
) -> None:
    """Write named arrays for ``numpy.load``; neither atomic nor synced, which is the caller's part.

    Raises:
        StoreError: The disk refused.
    """
    progress = progress or Unwatched()
    progress.begin("Writing arrays", sum(array.nbytes for array in weights.values()))
    # numpy.savez takes names as keyword arguments, and so no tensor that is called "file".
    with store_errors(path, "write"), zipfile.ZipFile(path, "w") as archive:
        for name, array in weights.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
            progress.advance(array.nbytes)


def write_h5(
    path: Path, weights: Mapping[str, NDArray[Any]], round_number: int, layout: Path | None
) -> None:
    """Write a weights file for ``model.load_weights``; neither atomic nor synced.

    Args:
        path: Made or overwritten.
        weights: The tensors.
        round_number: The round that made them.
        layout: The Keras model that they belong to; None where there is none, and then Keras
            cannot load the file.

    Raises:
        StoreError: The disk refused, or the model has other tensors (``layout-mismatch``).
    """
    spec = ModelSpec.of(weights)
    attributes = {ROUND_ATTRIBUTE: round_number}
    write_checkpoint(path, spec, blocks_of(weights), layout=layout, attributes=attributes)
