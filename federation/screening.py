"""The judgement of one update by its numbers, before it may touch the sum.

It reads, and changes nothing: check, then mutate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.aggregation import BLOCK_ENTRIES
from federation.errors import UpdateRejected
from federation.tensors import ModelSpec, TensorSpec

ENTRY_LIMIT = 2.0**400
"""Entries stay below this amount, about 2.6e120; only float64 can reach it.

So the sums stay finite (2**53 examples a report leave room for 2**570 reports), and the squares
of the norm too.
"""


@dataclass(frozen=True)
class Limits:
    """What an update may be at most.

    Attributes:
        weight_max: Examples.
        update_norm_max: L2 norm of trained minus global weights; None for no limit.
    """

    weight_max: int
    update_norm_max: float | None


def screen(
    weights: Mapping[str, NDArray[Any]],
    weight: int,
    spec: ModelSpec,
    limits: Limits,
    base: Mapping[str, NDArray[Any]] | None,
) -> float | None:
    """Judge one update; the first rule that it breaks is the reason.

    Args:
        weights: A client's trained weights by tensor name, as ``decode`` returns them.
        weight: Number of examples that it trained on.
        spec: The tensors of the global checkpoint.
        limits: The operator's limits.
        base: The global weights, finite and of ``spec``; a norm limit needs them.

    Returns:
        L2 norm of (trained weights - global weights) over all float tensors; None without
        ``base``.

    Raises:
        UpdateRejected: In the order of the rules ``"weight-not-positive"``,
            ``"weight-too-large"``, ``"missing-tensor"``, ``"extra-tensor"``, ``"wrong-shape"``,
            ``"wrong-dtype"``, then tensor by tensor ``"not-finite"`` or ``"too-large"``
            (``ENTRY_LIMIT``), then ``"norm-too-large"``.
    """
    assert base is not None or limits.update_norm_max is None, "a norm limit needs global weights"
    _check_weight(weight, limits.weight_max)
    _check_tensors(weights, spec)
    scratch = np.empty(BLOCK_ENTRIES)
    squares = 0.0
    for tensor in spec.tensors:
        if tensor.is_float:
            reference = None if base is None else base[tensor.name]
            squares += _judge_entries(tensor, weights[tensor.name], reference, scratch)
    if base is None:
        return None
    norm = math.sqrt(squares)
    if limits.update_norm_max is not None and norm > limits.update_norm_max:
        raise UpdateRejected(
            f"the update's L2 norm is {norm:.6g}, above the limit of {limits.update_norm_max:.6g}",
            reason="norm-too-large",
        )
    return norm


def _check_weight(weight: int, weight_max: int) -> None:
    if weight < 1:
        raise UpdateRejected(
            f"the update claims {weight} examples, but it takes at least 1",
            reason="weight-not-positive",
        )
    if weight > weight_max:
        raise UpdateRejected(
            f"the update claims {weight} examples, above the limit of {weight_max}",
            reason="weight-too-large",
        )


def _check_tensors(weights: Mapping[str, NDArray[Any]], spec: ModelSpec) -> None:
    """Refuse other names, then other shapes, then other dtypes than those of the model."""
    for name in spec.by_name:
        if name not in weights:
            raise UpdateRejected(f"tensor {name!a} is missing", reason="missing-tensor")
    for name in weights:
        if name not in spec.by_name:
            raise UpdateRejected(f"the model has no tensor {name!a}", reason="extra-tensor")
    for tensor in spec.tensors:
        shape = weights[tensor.name].shape
        if shape != tensor.shape:
            raise UpdateRejected(
                f"tensor {tensor.name!a} has shape {shape}, but the model's has {tensor.shape}",
                reason="wrong-shape",
            )
    for tensor in spec.tensors:
        dtype = weights[tensor.name].dtype
        if dtype != tensor.wire_dtype:
            raise UpdateRejected(
                f"tensor {tensor.name!a} has dtype {dtype}, but the model's has {tensor.dtype}",
                reason="wrong-dtype",
            )


def _judge_entries(
    tensor: TensorSpec,
    entries: NDArray[Any],
    base: NDArray[Any] | None,
    scratch: NDArray[np.float64],
) -> float:
    """Refuse entries that no sum can hold; return the sum of squares of (entries - base).

    Each block is read from memory once: what the first step reads, the others find in cache.
    """
    flat = entries.reshape(-1)
    flat_base = None if base is None else base.reshape(-1)
    # Integers do in one pass for every float type, float16 above all, whose floating-point
    # arithmetic is emulated: without its sign bit a float's bits order as its amount does, with
    # infinity above every number and NaN above infinity.
    bits = flat.view(tensor.wire_dtype.str.replace("f", "u"))
    unsigned, limit = _BITS[tensor.dtype]
    squares = 0.0
    for start in range(0, flat.size, BLOCK_ENTRIES):
        block = slice(start, start + BLOCK_ENTRIES)
        if np.bitwise_and(bits[block], unsigned).max() >= limit:
            raise _unfit(tensor.name, flat[block], start)
        if flat_base is not None:
            moved = scratch[: flat[block].size]
            np.copyto(moved, flat[block])
            np.subtract(moved, flat_base[block], out=moved)
            np.square(moved, out=moved)
            squares += float(moved.sum())
    return squares


def _unfit(name: str, block: NDArray[Any], start: int) -> UpdateRejected:
    """Name the first entry of a block that is not finite, else the first that is too large."""
    finite = np.isfinite(block)
    if not finite.all():
        index = int(finite.argmin())
        reason, rule = "not-finite", "which is no number"
    else:
        index = int((np.abs(block) >= ENTRY_LIMIT).argmax())
        reason, rule = "too-large", f"but entries stay below {ENTRY_LIMIT:.6g}"
    return UpdateRejected(
        f"tensor {name!a} has {float(block[index]):.6g} at entry {start + index}, {rule}",
        reason=reason,
    )


def _bits(dtype: str, limit: float) -> tuple[Any, Any]:
    """Return the mask of all bits but the sign, and the bits of the smallest refused amount."""
    refused = np.array(limit, dtype).view(f"u{np.dtype(dtype).itemsize}")[()]
    return refused.dtype.type(np.iinfo(refused.dtype).max >> 1), refused


_BITS = {
    "float16": _bits("float16", math.inf),
    "float32": _bits("float32", math.inf),
    "float64": _bits("float64", ENTRY_LIMIT),
}
