"""Checks what a demo left in its shared directory, as somebody with Keras alone would use it.

``python -m tests.system.check_demo SHARED_DATA`` exits with status 1 if the checkpoint does not
load into the model, is the initial one, or knows the digits no better than that.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from client.data import digits


def check_demo(shared_data: Path) -> tuple[float, float]:
    """Return the accuracy on held-out digits before and after, both from 0 to 1.

    Raises:
        AssertionError: The checkpoint is not the result of training.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    files = shared_data / "initFiles"
    model = keras.saving.load_model(files / "model.h5", compile=False)
    before, initial = _accuracy(model), model.get_weights()

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "fl_checkpoint.h5"  # the name decides which parser Keras takes
        shutil.copyfile(files / "fl_checkpoint", checkpoint)
        model.load_weights(checkpoint)
    after, trained = _accuracy(model), model.get_weights()

    assert all(np.isfinite(tensor).all() for tensor in trained), "a weight is not finite"
    assert any((old != new).any() for old, new in zip(initial, trained, strict=True)), (
        "the checkpoint holds the initial weights: no round was committed"
    )
    assert after > before, f"accuracy did not rise: {before:.3f} before, {after:.3f} after"
    return before, after


def _accuracy(model: Any) -> float:
    x, y = digits("held-out")
    return float(np.mean(np.argmax(model.predict(x, verbose=0), axis=1) == y))


if __name__ == "__main__":
    accuracy_before, accuracy_after = check_demo(Path(sys.argv[1]))
    print(f"accuracy on held-out digits: {accuracy_before:.3f} -> {accuracy_after:.3f}")
