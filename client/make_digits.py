"""Makes ``client/digits.npz`` from scikit-learn's copy of the digits; DIGITS.md has the command."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

_OUTPUT = Path(__file__).with_name("digits.npz")


def make_digits(csv: Path, npz: Path) -> None:
    """Write the images and labels of ``csv`` to ``npz``.

    Args:
        csv: Text or gzipped text, a line for each image: 64 pixels from 0 to 16, row by row, then
            the digit.
        npz: Is given ``x``, uint8 [images, 8, 8], and ``y``, uint8 [images].
    """
    rows = np.loadtxt(csv, delimiter=",", dtype=np.uint8)
    np.savez_compressed(npz, x=rows[:, :-1].reshape(-1, 8, 8), y=rows[:, -1])


if __name__ == "__main__":
    make_digits(Path(sys.argv[1]), _OUTPUT)
