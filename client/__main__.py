"""``python -m client``: the client's command."""

from __future__ import annotations

from client.app import run
from client.settings import ClientSettings
from federation.runtime.settings_command import run_role

if __name__ == "__main__":
    run_role(ClientSettings, run)
