"""Our part of the folders that a user's desktop names, by the rules of XDG."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """Return where copies of what can be fetched again lie."""
    return _ours("XDG_CACHE_HOME", ".cache")


def user_state() -> Path:
    """Return where what outlives a process lies, unless it is told otherwise."""
    return _ours("XDG_STATE_HOME", ".local/state")


def _ours(variable: str, usual: str) -> Path:
    named = os.environ.get(variable, "")
    # The rule of the XDG specification: a relative one is not valid.
    folder = Path(named) if os.path.isabs(named) else Path.home() / usual
    return folder / "headwater"
