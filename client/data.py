"""A client's own data: the built-in digits or an .npz file, whole or one shard of it."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from client.settings import parsed_shard
from federation.errors import SettingsError

Arrays = tuple[NDArray[Any], NDArray[Any]]

_DIGITS = Path(__file__).with_name("digits.npz")
_PIXEL_MAX = 16
_HELD_OUT_EVERY = 5
_SKEW_MAX = 1e6

_UNREADABLE = (
    OSError,
    ValueError,  # no numpy file, a pickle, a wrong header
    EOFError,
    RuntimeError,  # an encrypted archive, an unknown compression
    MemoryError,  # a header that declares more than there is
    zipfile.BadZipFile,
    zlib.error,
)

DATA_RULE = "'digits', or an .npz file with the arrays x and y, one y for each x"


def digits(split: Literal["train", "held-out"]) -> Arrays:
    """Return a fixed part of the UCI handwritten digits (see DIGITS.md): images and labels.

    Every fifth image of each class is held out: by position and not by chance, so that all
    machines and numpy versions agree.

    Returns:
        x: float32 [images, 8, 8], 0 to 1.
        y: int64 [images], 0 to 9.
    """
    x, y = _arrays_of(_DIGITS)
    held_out = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        held_out[np.flatnonzero(y == label)[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]] = True
    chosen = held_out if split == "held-out" else ~held_out
    return x[chosen].astype(np.float32) / _PIXEL_MAX, y[chosen].astype(np.int64)


def load_data(spec: str, shard: str | None, skew: float | None, seed: int = 0) -> Arrays:
    """Return a client's training data.

    Args:
        spec: ``"digits"`` for the training part of the digits, or the path of an ``.npz`` file.
        shard: ``"K/N"``: only the K-th of N parts; None: everything.
        skew: The parameter of a Dirichlet distribution by which each class is dealt to the shards:
            0.1 very unequal, 100 nearly equal; None: shards of equal size at random.
        seed: Of the dealing; the same for all N clients, else their shards overlap.

    Returns:
        x: As in the file, [examples, ...].
        y: As in the file, [examples, ...].

    Raises:
        SettingsError: Names ``data``, ``shard`` or ``skew``.
    """
    x, y = digits("train") if spec == "digits" else _arrays_of(Path(spec))
    if shard is None:
        if skew is not None:
            raise SettingsError("skew", skew, "it must come with a shard, e.g. --shard 1/4")
        return x, y
    try:
        number, count = parsed_shard(shard)
    except ValueError as error:
        raise SettingsError("shard", shard, str(error)) from error
    if count > len(x):
        expected = f"it must have at most as many parts as there are examples, which is {len(x)}"
        raise SettingsError("shard", shard, expected)
    mine = shard_indices(y, count, skew, seed)[number - 1]
    return x[mine], y[mine]


def shard_indices(
    y: NDArray[Any], count: int, skew: float | None, seed: int
) -> list[NDArray[np.intp]]:
    """Deal all examples into shards: disjoint, none empty.

    Args:
        y: Labels, [examples] or [examples, 1]; whole numbers if there is a skew.
        count: Number of shards, at most the number of examples.
        skew: As in ``load_data``.
        seed: 0 or more; equal seeds give equal shards on every machine.

    Source: the label skew by a Dirichlet distribution is that of Hsu, Qi and Brown 2019,
        arXiv:1909.06335, dealt class by class as in Yurochkin et al. 2019, arXiv:1905.12022.
    """
    # The clients of a federation draw this split apart from each other, so it must not depend on
    # their numpy version: RandomState's draws are frozen (NEP 19), Generator's are not.
    random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    if skew is None:
        return [np.sort(part) for part in np.array_split(random.permutation(len(y)), count)]
    if not (math.isfinite(skew) and 0 < skew <= _SKEW_MAX):
        raise SettingsError("skew", skew, f"it must be a number above 0, at most {_SKEW_MAX:g}")
    labels = y.reshape(len(y), -1)
    if labels.shape[1] != 1 or labels.dtype.kind not in "iub":
        raise SettingsError("skew", skew, "it needs data whose y is one whole number an example")
    parts: list[list[int]] = [[] for _ in range(count)]
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels[:, 0] == label))
        ends = np.round(np.cumsum(_proportions(random, skew, count)) * len(members)).astype(int)
        for part, dealt in zip(parts, np.split(members, ends[:-1]), strict=True):
            part.extend(dealt.tolist())
    _fill_empty(parts)
    return [np.array(sorted(part), dtype=np.intp) for part in parts]


def _proportions(random: np.random.RandomState, skew: float, count: int) -> NDArray[np.float64]:
    drawn = random.standard_gamma(skew, size=count)
    if drawn.sum() > 0:
        return np.asarray(drawn / drawn.sum(), dtype=np.float64)
    # All draws of a tiny skew underflowed; the distribution's limit is one shard that has it all.
    everything = np.zeros(count)
    everything[random.randint(count)] = 1.0
    return everything


def _fill_empty(parts: list[list[int]]) -> None:
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())


def _arrays_of(path: Path) -> Arrays:
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise _wrong_data(path, f"it holds a single array; it must be {DATA_RULE}")
            x, y = archive["x"], archive["y"]
    except FileNotFoundError:
        raise _wrong_data(path, f"there is no such file; it must be {DATA_RULE}") from None
    except KeyError as error:
        raise _wrong_data(path, f"{error.args[0]}; it must be {DATA_RULE}") from error
    except _UNREADABLE as error:
        raise _wrong_data(path, f"it cannot be read ({error}); it must be {DATA_RULE}") from error
    if x.ndim < 1 or y.ndim < 1 or len(x) != len(y) or len(x) == 0:
        found = f"x has the shape {x.shape} and y has {y.shape}"
        raise _wrong_data(path, f"{found}; it must be {DATA_RULE}, at least one")
    if x.dtype.kind not in "fiub" or y.dtype.kind not in "fiub":
        found = f"x holds {x.dtype} and y holds {y.dtype}"
        raise _wrong_data(path, f"{found}; both must be numbers")
    return x, y


def _wrong_data(path: Path, expected: str) -> SettingsError:
    return SettingsError("data", str(path), expected, reason="unusable-data")
