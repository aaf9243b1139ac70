"""Tests of ``federation.runtime.exports``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from federation.errors import StoreError
from federation.runtime.exports import write_h5, write_npz
from federation.runtime.hdf5 import read_stamp, read_weights
from headwater.local import BUILTIN


def test_npz_holds_every_tensor_by_its_name(tmp_path: Path) -> None:
    """Also one whose name ``numpy.savez`` takes for its own argument."""
    weights = {"file": np.arange(3, dtype=np.float32), "a/b": np.array(True)}

    write_npz(tmp_path / "w.npz", weights)

    with np.load(tmp_path / "w.npz", allow_pickle=False) as written:
        assert set(written.files) == set(weights)
        assert all((written[name] == weights[name]).all() for name in weights)


def test_h5_is_laid_out_like_the_model_and_stamped(tmp_path: Path) -> None:
    """So that Keras loads it, and a shared directory knows it."""
    weights = read_weights(BUILTIN)

    write_h5(tmp_path / "w.h5", weights, 4, BUILTIN)

    stamp = read_stamp(tmp_path / "w.h5")
    assert stamp is not None
    assert stamp.round_number == 4
    assert all((read_weights(tmp_path / "w.h5")[n] == weights[n]).all() for n in weights)


def test_model_has_other_tensors_it_is_refused(tmp_path: Path) -> None:
    """A file that looks right and is not would be found out much later."""
    with pytest.raises(StoreError) as refused:
        write_h5(tmp_path / "w.h5", {"w": np.zeros(2, np.float32)}, 1, BUILTIN)

    assert refused.value.reason == "layout-mismatch"
