"""What machines ask: whether the webserver can do its work, and what it counted."""

from __future__ import annotations

import asyncio
import time

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from federation.errors import StoreError
from federation.runtime.version import VERSION
from webserver import answers
from webserver.answers import problems
from webserver.refusals import Refused
from webserver.site import Site
from webserver.store import probe

PROBE_TIMEOUT_S = 5.0
"""A database that has not taken a byte by then is not writable."""

PROBE_EVERY_S = 1.0
"""Whoever asks more often hears the same."""


def upkeep_routes(site: Site) -> APIRouter:
    """Make the routes."""
    router = APIRouter(tags=["upkeep"])
    probed_s = float("-inf")
    probing = asyncio.Lock()

    @router.get(
        "/healthz",
        response_model=answers.Health,
        summary="Whether updates can be remembered",
        responses=problems(_503="The database cannot be written."),
    )
    async def health() -> dict[str, str]:
        """Write to the database, and say that it worked."""
        nonlocal probed_s
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S), probing:
                if time.monotonic() - probed_s > PROBE_EVERY_S:
                    await site.database.write(probe)
                    probed_s = time.monotonic()
        except (StoreError, TimeoutError):
            detail = "the database cannot be written; see the server's log"
            raise Refused(503, detail, reason="database-unavailable") from None
        return {"status": "serving", "version": VERSION}

    @router.get(
        "/metrics",
        summary="Counters in Prometheus' text format",
        response_class=PlainTextResponse,
    )
    async def metrics() -> Response:
        """Return what was counted."""
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router
