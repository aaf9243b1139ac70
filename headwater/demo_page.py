"""The page of a demo: whether there can be one, at which port, and how its webserver is started."""

from __future__ import annotations

import socket
from pathlib import Path

from federation.errors import SettingsError
from webserver.app import require_extra

USUAL_PORT = 8050
"""Where people look for the page."""


def why_no_page() -> str:
    """Say why a demo has no page; an empty text if it has one."""
    try:
        require_extra()
    except SettingsError as missing:
        return missing.expected
    return ""


def free_port(host: str, preferred: int = 0) -> int:
    """Return a port that nobody listens on now: the preferred one, or any.

    The webserver and the coordinator must know each other's before either is started. Somebody
    else may take it in between; then that process says so and the demo ends.
    """
    for port in (preferred, 0):
        try:
            with socket.create_server((host, port)) as probe:
                found: int = probe.getsockname()[1]
                return found
        except OSError:
            if port == 0:
                raise
    raise AssertionError("port 0 is any port")


def page_arguments(folder: Path, coordinator: str) -> list[str]:
    """Return the flags that are the page's own: what it shows, remembers and controls."""
    return [
        *("--database", str(folder / "webserver.db")),
        *("--shared-data", str(folder)),
        *("--coordinator", coordinator),
    ]
