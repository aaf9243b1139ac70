"""What hypothesis draws for tests of tensors: names, arrays and whole models."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
)  # fmt: skip

Model = dict[str, NDArray[Any]]

_part = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/"), min_size=1, max_size=6
).filter(lambda text: text not in (".", "..", "__metadata__"))


def names() -> st.SearchStrategy[str]:
    """Names that a tensor may have."""
    return st.lists(_part, min_size=1, max_size=3).map("/".join)


def tensors(dtype: str | None = None) -> st.SearchStrategy[NDArray[Any]]:
    """Arrays of up to three axes, empty and zero-dimensional ones too, NaN and infinity too."""
    return st.sampled_from([dtype] if dtype else DTYPES).flatmap(
        lambda chosen: hnp.arrays(
            chosen, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
        )
    )


def models(dtype: str | None = None) -> st.SearchStrategy[Model]:
    """Up to four named tensors; no name is a folder of another."""
    return st.dictionaries(names(), tensors(dtype), max_size=4).map(
        lambda model: {
            name: array
            for name, array in model.items()
            if not any(other.startswith(f"{name}/") for other in model)
        }
    )


def same(left: Model, right: Model) -> bool:
    """Whether two models agree to the bit, NaN and the sign of zero included."""
    return left.keys() == right.keys() and all(
        (left[name].dtype, left[name].shape) == (right[name].dtype, right[name].shape)
        and left[name].tobytes() == right[name].tobytes()
        for name in left
    )


def bits(array: NDArray[Any]) -> bytes:
    """The entries' bytes, in which -0.0 differs from 0.0."""
    return np.ascontiguousarray(array).tobytes()
