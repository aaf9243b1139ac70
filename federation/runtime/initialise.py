"""``headwater init``: put the first model and weights into the shared directory."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.errors import SettingsError, StoreError
from federation.runtime.disk import make_directory, staged_file, store_errors, sync_directory
from federation.runtime.hdf5 import is_keras_model, read_weights
from federation.runtime.progress import Progress, Unwatched, copy_file
from federation.runtime.store import SharedDirectory
from federation.tensors import MalformedTensors, ModelSpec

_NPZ_RULE = "it must be an .npz of named arrays, saved with numpy.savez"
_NPZ_DAMAGE = (
    ValueError,  # a pickle, a wrong header
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,  # an encrypted file, an unknown compression
    MemoryError,  # a header that declares more than there is
    AttributeError,  # a single .npy: numpy hands out an array, not an archive
)


def initialise(
    root: Path,
    *,
    model: Path | None,
    arrays: Path | None,
    builtin: Path,
    force: bool = False,
    progress: Progress | None = None,
) -> None:
    """Make ``root`` a shared directory whose rounds start from the given weights.

    Each file appears whole or not at all. History stays, round numbers go on.

    Args:
        root: Made if it is missing.
        model: A Keras model saved as ``.h5``.
        arrays: An ``.npz`` of named arrays, for models that are not Keras'. At most one of the two
            is given.
        builtin: The Keras model to take if neither is.
        force: Start again from these weights in a directory that has been initialised. No
            coordinator may be running on it.
        progress: Told how far it is; None: nobody looks.

    Raises:
        SettingsError: About ``model``, ``arrays`` or ``shared_data``; nothing was changed, unless
            the disk failed between the two files.
    """
    if model is not None and arrays is not None:
        raise SettingsError("arrays", str(arrays), "give either a model or arrays, not both")
    store = SharedDirectory(root)
    source = None if arrays is not None else (model or builtin)
    progress = progress or Unwatched()
    progress.begin(f"Reading {(source or arrays or root).name}", None)
    weights = _weights_of_model(source) if source else _weights_of_arrays(arrays or Path())
    try:
        if store.is_initialised() and not force:
            raise SettingsError(
                "shared_data",
                str(root),
                "it is initialised already; --force starts again from new weights",
                reason="already-initialised",
            )
        _place(store, source, weights, progress)
    except StoreError as error:
        raise SettingsError("shared_data", str(root), error.detail, reason=error.reason) from error


def initialise_with(root: Path, weights: Mapping[str, NDArray[Any]]) -> None:
    """Make ``root`` a shared directory whose rounds start from weights in memory.

    Raises:
        SettingsError: About ``initial`` or ``shared_data``.
    """
    try:
        ModelSpec.of(weights)
        _place(SharedDirectory(root), None, dict(weights), Unwatched())
    except MalformedTensors as error:
        raise SettingsError(
            "initial", sorted(weights), error.detail, reason=error.reason
        ) from error
    except StoreError as error:
        raise SettingsError("shared_data", str(root), error.detail, reason=error.reason) from error


def _place(
    store: SharedDirectory,
    model: Path | None,
    weights: dict[str, NDArray[Any]],
    progress: Progress,
) -> None:
    """Write both files beside their places, and only when both are durable move them there."""
    folder = store.checkpoint.parent
    with ExitStack() as stack:
        stack.enter_context(store_errors(folder, "write"))
        folder.parent.mkdir(parents=True, exist_ok=True)
        make_directory(folder)
        checkpoint = stack.enter_context(
            staged_file(
                store.checkpoint,
                lambda temporary: store.write_first_checkpoint(temporary, weights, model, progress),
            )
        )
        if model is None:
            store.model.unlink(missing_ok=True)
        else:
            source = model
            copy = stack.enter_context(
                staged_file(store.model, lambda temporary: copy_file(source, temporary, progress))
            )
            os.replace(copy, store.model)
        os.replace(checkpoint, store.checkpoint)
        sync_directory(folder)


def _weights_of_model(path: Path) -> dict[str, NDArray[Any]]:
    """Read a Keras model's weights, once it has been checked."""
    try:
        weights = read_weights(path) if is_keras_model(path) else {}
    except StoreError as error:
        raise SettingsError("model", str(path), error.detail, reason=error.reason) from error
    if not weights:
        raise SettingsError(
            "model",
            str(path),
            "it must be a whole Keras model, saved with model.save('model.h5')",
            reason="not-a-model",
        )
    return weights


def _weights_of_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read named arrays; nothing in the file is unpickled."""
    try:
        with store_errors(path, "read"), zipfile.ZipFile(path):
            archive = np.load(path, allow_pickle=False)
        with archive:
            if len(set(archive.files)) != len(archive.files):
                raise _wrong_arrays(path, "two arrays in it have the same name")
            weights = {name: _checked_array(path, name, archive) for name in archive.files}
        ModelSpec.of(weights)
    except (StoreError, MalformedTensors) as error:
        raise SettingsError("arrays", str(path), error.detail, reason=error.reason) from error
    except _NPZ_DAMAGE as error:
        raise _wrong_arrays(path, _NPZ_RULE) from error
    if not weights:
        raise _wrong_arrays(path, "it holds no array")
    return weights


def _checked_array(path: Path, name: str, archive: np.lib.npyio.NpzFile) -> NDArray[Any]:
    try:
        array = archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise _wrong_arrays(path, f"array {name!a} holds Python objects, not numbers") from error
    if not isinstance(array, np.ndarray):
        raise _wrong_arrays(path, f"{name!a} in it is no array")
    return array


def _wrong_arrays(path: Path, fact: str) -> SettingsError:
    return SettingsError("arrays", str(path), fact, reason="unusable-arrays")
