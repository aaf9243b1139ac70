"""``python -m selector``: the selector's command."""

from __future__ import annotations

from federation.runtime.settings_command import run_role
from selector.app import run
from selector.settings import SelectorSettings

if __name__ == "__main__":
    run_role(SelectorSettings, run)
