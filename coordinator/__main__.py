"""``python -m coordinator``: the coordinator's command."""

from __future__ import annotations

from coordinator.app import run
from coordinator.settings import CoordinatorSettings
from federation.runtime.settings_command import run_role

if __name__ == "__main__":
    run_role(CoordinatorSettings, run)
