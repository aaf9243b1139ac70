"""What the servers count, for Prometheus, and how it is scraped; few labels, none a peer's words.

Each server has a registry of its own, so that several in one process do not mix.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from federation.errors import SettingsError
from federation.reasons import bounded
from federation.runtime.telemetry import get_logger

log = get_logger()

T = TypeVar("T")

LOOK_TIMEOUT_S = 5.0
"""A server that is too busy to say how it stands is left out of a scrape after so long."""

REFUSED = Counter(
    "headwater_refused",
    "Calls that ended with an error, by the service and the reason word.",
    ["service", "reason"],
    registry=None,
)
"""Of this process; reads ``headwater_refused_total``."""


def count_refused(method: str, reason: str) -> None:
    """Count a call of ``/federation.v1.Participation/Report`` that was refused."""
    REFUSED.labels(service=method.split("/")[1], reason=bounded(reason)).inc()


def a_registry() -> CollectorRegistry:
    """Make the registry of one server."""
    registry = CollectorRegistry()
    registry.register(REFUSED)
    return registry


class Live(Collector):
    """Metrics that are looked up when they are scraped, on the server's own event loop.

    Args:
        look: Returns them; runs on the loop, and must not wait.
    """

    def __init__(self, look: Callable[[], Iterable[Metric]]) -> None:
        self._look = look
        self._loop = asyncio.get_running_loop()

    def describe(self) -> Iterable[Metric]:
        """Nothing is looked up when this is registered."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Look, from any thread but the loop's."""
        return on_loop(self._loop, lambda: list(self._look())) or []


def on_loop(loop: asyncio.AbstractEventLoop, look: Callable[[], T]) -> T | None:
    """Return what this finds on a loop, asked from another thread; None if it has no time."""
    found: Future[T] = Future()

    def find() -> None:
        try:
            found.set_result(look())
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            found.set_exception(error)

    try:
        loop.call_soon_threadsafe(find)
        return found.result(LOOK_TIMEOUT_S)
    except (TimeoutError, RuntimeError) as error:  # the loop is busy, or closed
        log.warning("metrics not looked up", detail=str(error) or type(error).__name__)
        return None


class Exposition:
    """An HTTP server for a registry, in a thread of its own.

    Attributes:
        port: Where it listens; None while it does not.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.port: int | None = None
        self._server: Any = None
        self._thread: threading.Thread

    def start(self, host: str, port: int) -> None:
        """Listen; 0 picks a free port.

        Raises:
            SettingsError: The port is in use.
        """
        try:
            self._server, self._thread = start_http_server(port, host, self.registry)
        except OSError as error:
            expected = f"nobody can listen at {host}:{port} ({error.strerror})"
            raise SettingsError("metrics_port", port, expected, reason="port-in-use") from None
        self.port = self._server.server_port

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()
            self._thread.join()
