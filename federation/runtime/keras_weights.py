"""A Keras model's weights by the federation's names; the one module that knows Keras' naming.

A tensor's name is its dataset's path below the weights root of Keras' HDF5 file: the layer's name,
then the variable's path, e.g. ``dense/sequential/dense/kernel``. Tensors are matched by that name,
never by position: freezing a layer changes the order, and tensors of one shape would swap in
silence. Needs Keras; imports it when a model is loaded.

Keras gives a variable inside a wrapping layer (Bidirectional, RNN over cells, an adapted
Normalization) another path in a loaded model than in the model that was saved:
``bidirectional/forward_lstm/lstm_cell/kernel`` for
``sequential/bidirectional/forward_lstm/lstm_cell/kernel``. So within a layer a variable whose path
is not among the names stands for the one name of which it is the end, or that is its end. Where
this leaves a choice the model is refused.

Source: keras/src/legacy/saving/legacy_h5_format.py of Keras 3.15.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from federation.errors import PeerError, StoreError
from federation.runtime.disk import store_errors
from federation.runtime.hdf5 import open_checked

Model: TypeAlias = Any
"""A ``keras.Model``; named here because Keras has no types and may not be installed."""

Variable: TypeAlias = Any
"""A ``keras.Variable``: has ``path``, ``shape``, ``dtype``, ``value``, ``assign``."""

_TOP_LEVEL = "top_level_model_weights"
_KERAS_2_SUFFIX = ":0"

_UNKNOWN_NAME = re.compile(
    r"Unknown \w+: '([^']+)'"
    r"|Could not locate (?:class|function) '([^']+)'"
    r"|Cannot deserialize object of type `([^`]+)`"
)
"""How Keras says that it does not know a class or a function."""

_LAMBDA_SIGNS = ("safe_mode=False", "identifier: {'value': [")
"""What Keras says of a Lambda layer, and of a lambda as an activation."""

_SAID_MAX = 300
"""Letters of Keras' own words that are passed on; with the whole configuration they are pages."""


class WeightsMismatch(PeerError):
    """A set of tensors is not the set that a model has."""

    reason = "wrong-weights"


def load_model(path: Path) -> Model:
    """Load the architecture and weights of a ``.h5`` file, and nothing that could run code.

    Classes and functions that are not Keras' own are found if a module that was imported before
    registered them with ``@keras.saving.register_keras_serializable()``.

    Keras reads a private copy: while it has a file open, HDF5 refuses to open the same file as the
    guard does, elsewhere in the process (Keras locks files, the guard does not).

    Raises:
        StoreError: The file is none that Keras can load safely (``unusable-model``; a Lambda
            layer, for one, is code), or needs a class that nothing registered
            (``unregistered-class``).
    """
    if path.suffix != ".h5":
        # The name decides Keras' parser, and only the one for .h5 is meant for foreign files here.
        raise StoreError(f"{path} does not end in .h5", reason="not-hdf5")
    import keras

    with tempfile.TemporaryDirectory(prefix="headwater-") as folder:
        copy = Path(folder) / "model.h5"
        with open_checked(path), store_errors(path, "read"):
            shutil.copyfile(path, copy)
        try:
            return keras.models.load_model(copy, compile=False, safe_mode=True)
        except Exception as error:
            raise _unusable(path, copy, error) from error


def get_weights(model: Model, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return copies of the weights by name.

    Args:
        model: A built model.
        names: The federation's names; None: those that Keras would write for this model.

    Raises:
        WeightsMismatch: ``names`` are not those of this model.
    """
    import keras

    variables = variables_by_name(model, names)
    return {name: keras.ops.convert_to_numpy(each.value).copy() for name, each in variables.items()}


def set_weights(model: Model, weights: Mapping[str, NDArray[Any]]) -> None:
    """Give each variable of ``model`` the tensor of its name; all of them or, on error, none.

    Raises:
        WeightsMismatch: A name, shape or dtype differs.
    """
    variables = variables_by_name(model, weights.keys())
    for name, variable in variables.items():
        given, wanted = weights[name], (tuple(variable.shape), np.dtype(variable.dtype))
        if (given.shape, given.dtype) != wanted:
            raise WeightsMismatch(
                f"tensor {name} is {given.dtype} {given.shape}, "
                f"the model has {wanted[1]} {wanted[0]}"
            )
    for name, variable in variables.items():
        variable.assign(weights[name])


def variables_by_name(model: Model, names: Collection[str] | None = None) -> dict[str, Variable]:
    """Return the variables of ``model`` by name; arguments and errors as ``get_weights``."""
    groups = dict(_groups(model))
    if names is None:
        return {
            f"{group}/{path}": variable
            for group, variables in groups.items()
            for path, variable in _by_unique_path(group, variables).items()
        }
    paths: dict[str, list[str]] = {group: [] for group in groups}
    for name in names:
        group, _, path = name.partition("/")
        if group not in paths:
            raise WeightsMismatch(f"tensor {name} belongs to no layer of the model")
        paths[group].append(path)
    return {
        f"{group}/{path}": variable
        for group, variables in groups.items()
        for path, variable in _matched(group, variables, paths[group]).items()
    }


def _unusable(path: Path, copy: Path, error: Exception) -> StoreError:
    """Say in a sentence why Keras cannot load a model, and what to do about it."""
    said = f"{type(error).__name__}: {error}"
    if any(sign in said for sign in _LAMBDA_SIGNS):
        return StoreError(
            f"{path} has a Lambda layer or another lambda in it, which is code, and code that "
            "comes in a file is not run here: put a layer class with a name in its place",
            reason="unusable-model",
        )
    if found := _UNKNOWN_NAME.search(said):
        name = found[found.lastindex or 0]
        if name == _class_of_model(copy):
            return StoreError(
                f"{path} is a model of the class {name!a}, which a .h5 file cannot give back: "
                "build it as a Sequential or functional model",
                reason="unusable-model",
            )
        return StoreError(
            f"{path} needs {name!a}, which is not Keras' own: it must be registered with "
            "@keras.saving.register_keras_serializable() by a module that is imported before",
            reason="unregistered-class",
        )
    words = " ".join(said.rpartition("Exception encountered: ")[2].split())[:_SAID_MAX]
    return StoreError(f"Keras cannot load {path}: {words}", reason="unusable-model")


def _class_of_model(path: Path) -> str:
    with open_checked(path) as file:
        config = json.loads(file.attrs.get("model_config", "{}"))
    return str(config.get("class_name", ""))


def _groups(model: Model) -> Iterator[tuple[str, list[Variable]]]:
    """Yield the file's groups: each layer's name and variables, then the model's own."""
    in_layers: set[int] = set()
    for layer in model.layers:
        in_layers.update(id(variable) for variable in layer.weights)
        yield layer.name, list(layer.weights)
    yield _TOP_LEVEL, [each for each in model.weights if id(each) not in in_layers]


def _by_unique_path(group: str, variables: list[Variable]) -> dict[str, Variable]:
    by_path = {variable.path: variable for variable in variables}
    if len(by_path) != len(variables):
        raise WeightsMismatch(
            f"layer {group} has several variables of one path; give the layers in it unlike names"
        )
    return by_path


def _matched(group: str, variables: list[Variable], paths: list[str]) -> dict[str, Variable]:
    """Return the variables of one layer by the paths that names give; see the module's text."""
    exact = {each.path for each in variables}.intersection(paths)
    matched: dict[str, Variable] = {}
    for variable in variables:
        own = variable.path
        candidates = (
            [own]
            if own in exact
            else [path for path in paths if path not in exact and _one_ends_the_other(path, own)]
        )
        if len(candidates) != 1:
            said = f"{len(candidates)} tensors could be" if candidates else "there is no tensor for"
            raise WeightsMismatch(f"{said} the model's {group}/{own}")
        if matched.setdefault(candidates[0], variable) is not variable:
            raise WeightsMismatch(f"tensor {group}/{candidates[0]} could be several of the model's")
    extra = [path for path in paths if path not in matched]
    if extra:
        raise WeightsMismatch(f"the model has no variable for tensor {group}/{extra[0]}")
    return matched


def _one_ends_the_other(path: str, other: str) -> bool:
    first, second = path.removesuffix(_KERAS_2_SUFFIX), other.removesuffix(_KERAS_2_SUFFIX)
    return f"/{first}".endswith(f"/{second}") or f"/{second}".endswith(f"/{first}")
