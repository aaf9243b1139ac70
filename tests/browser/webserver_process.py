"""The real webserver as a process of a test, which can be killed and comes back where it was."""

from __future__ import annotations

from typing import Any

from tests.system.processes import PYTHON, Federation, Process


class WebserverProcess:
    """One webserver with its database in the test's folder.

    Args:
        federation: Ends it with the test.
        settings: As keywords, beside the database and the port.
    """

    def __init__(self, federation: Federation, **settings: Any) -> None:
        self._federation = federation
        self._settings = settings
        self._port = 0
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Where the page is, and where updates go."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start it, at the port that it had before, and wait until it listens."""
        self._process = await self._federation.start(
            "webserver",
            [*PYTHON, "webserver"],
            database=self._federation.folder / "webserver.db",
            port=self._port,
            **self._settings,
        )
        await self._process.listening()
        self._port = self._process.port

    async def kill(self) -> None:
        """End it without a warning."""
        assert self._process is not None
        await self._process.kill()
