"""The webserver as a process: put together, started, drained and stopped."""

from __future__ import annotations

import asyncio
import importlib.util

from federation.errors import SettingsError
from webserver.settings import WebserverSettings

_NEEDED = ("fastapi", "jinja2", "sse_starlette", "uvicorn")


def run(settings: WebserverSettings) -> int:
    """Be the webserver's process; return its exit status.

    Raises:
        SettingsError: The extra is not installed, or a setting cannot be used.
    """
    require_extra()
    from webserver.server import serve

    return asyncio.run(serve(settings))


def require_extra() -> None:
    """Say how to install what a plain install does not have; imports nothing.

    Raises:
        SettingsError: The webserver's extra is not installed.
    """
    if missing := [name for name in _NEEDED if not importlib.util.find_spec(name)]:
        expected = (
            f"{missing[0]} is not installed, which the webserver needs: "
            "pip install 'headwater[webserver]'"
        )
        raise SettingsError("role", "webserver", expected, reason="webserver-missing")
