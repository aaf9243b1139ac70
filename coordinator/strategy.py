"""How a committed round turns the selectors' sums into the next checkpoint, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from federation.aggregation import mean_block


class Strategy(Protocol):
    """Applied at the root of the tree only, to each block of each floating-point tensor."""

    def next_block(
        self, sums: Sequence[NDArray[np.float64]], total_weight: int, dtype: DTypeLike
    ) -> NDArray[Any]:
        """Return the next values of a block.

        Args:
            sums: The selectors' sums of n * w over the block, float64, all of one shape.
            total_weight: Sum of n over all reports, at least 1.
            dtype: The tensor's dtype.
        """


class FederatedAveraging:
    """The next checkpoint is the weighted mean of the reports.

    Source: McMahan et al. 2017, arXiv:1602.05629, Algorithm 1.
    """

    def next_block(
        self, sums: Sequence[NDArray[np.float64]], total_weight: int, dtype: DTypeLike
    ) -> NDArray[Any]:
        """Add the sums, divide once, round once."""
        return mean_block(sums, total_weight, dtype)
