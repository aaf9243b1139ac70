"""The mark in a shared directory, by which processes learn whether they see the same one.

The coordinator draws it at each start and writes it into its lock. Of two mounts that show the same
mark both are that coordinator's directory; a copy of a directory has the mark of an earlier start.
"""

from __future__ import annotations

import json
from pathlib import Path

LOCK = "lock"
"""The file's name, in the coordinator's folder of the shared directory."""

MARK_BYTES = 8

_LOCK_BYTES_MAX = 4096


def read_mark(shared_data: Path) -> str:
    """Return the mark in a shared directory; empty if there is none, or none that can be read.

    Blocks for as long as the mount does.
    """
    try:
        with (shared_data / "coordinator" / LOCK).open("rb") as file:
            mark = json.loads(file.read(_LOCK_BYTES_MAX))["mark"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return mark if isinstance(mark, str) and len(mark) == 2 * MARK_BYTES else ""
