"""``python -m webserver``: the webserver's command."""

from __future__ import annotations

from federation.runtime.settings_command import run_role
from webserver.app import run
from webserver.settings import WebserverSettings

if __name__ == "__main__":
    run_role(WebserverSettings, run)
