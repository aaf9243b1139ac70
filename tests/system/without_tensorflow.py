"""Runs something where TensorFlow and Keras are not: ``without_tensorflow.py RUN arguments``.

``RUN`` is a module or the path of a script. Each attempt to import one of the two is logged and
fails. At its end the process logs which modules of theirs it holds. With ``RUN`` written ``-RUN``
they look as if they were not installed, which one may ask about without importing them.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ABSENT = ("tensorflow", "keras")


class Refusing(MetaPathFinder):
    """Refuses to find TensorFlow."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in ABSENT:
            log("imported", module=name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def log(event: str, **fields: object) -> None:
    sys.stderr.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stderr.flush()


def main() -> None:
    run = sys.argv.pop(1)
    if run.startswith("-"):
        run = run.removeprefix("-")
        sys.modules.update(dict.fromkeys(ABSENT))  # type: ignore[arg-type]  # None: not there
    else:
        sys.meta_path.insert(0, Refusing())
    try:
        if Path(run).is_absolute():
            runpy.run_path(run, run_name="__main__")
        else:
            runpy.run_module(run, run_name="__main__", alter_sys=True)
    finally:
        held = [name for name in sys.modules if name.partition(".")[0] in ABSENT]
        log("ended", modules=held)


if __name__ == "__main__":
    main()
