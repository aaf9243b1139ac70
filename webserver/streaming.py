"""The stream of server-sent events: missed stages one by one, then the present as it changes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from sse_starlette import EventSourceResponse, ServerSentEvent

from federation.errors import StoreError
from federation.runtime.telemetry import get_logger
from webserver import queries
from webserver.answers import problems
from webserver.asking import FederationQuery, meant
from webserver.counters import STREAMS
from webserver.refusals import Refused
from webserver.site import Site

log = get_logger()

STREAMS_MAX = 200
"""Streams that may be open at once."""

REPLAYED_MAX = 1000
"""Missed events that are told; who missed more hears of the newest ones."""

PING_S = 15
"""Seconds of silence until a comment says that the stream lives."""

SEND_TIMEOUT_S = 30.0
"""A reader that takes nothing for so long is let go; it comes back to where it was."""

PAUSE_S = 0.05
"""Least time between two pictures on one stream; what happens meanwhile is in the next one."""


def streaming_routes(site: Site) -> APIRouter:
    """Make the route."""
    router = APIRouter(tags=["watching"])
    streams = 0

    @router.get(
        "/api/v1/stream",
        summary="Watch, as server-sent events",
        response_class=EventSourceResponse,
        responses={
            200: {
                "description": "Events `update` whose data are `{event, overview}`.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **problems(
                _404="No such federation.",
                _422="A parameter is malformed.",
                _503="Too many streams are open.",
            ),
        },
    )
    async def stream(
        federation: FederationQuery = None,
        last_event_id: Annotated[str | None, Header(max_length=100)] = None,
        after: Annotated[
            int | None, Query(ge=0, le=2**53, description="As Last-Event-ID, at the first time.")
        ] = None,
    ) -> EventSourceResponse:
        """Send each stage and each change of the session in order, and the overview with them."""
        nonlocal streams
        meant(site, federation)
        if streams >= STREAMS_MAX:
            raise Refused(503, "too many streams are open; come back later", reason="full")
        cursor = after
        if last_event_id is not None and last_event_id.isascii() and last_event_id.isdecimal():
            cursor = int(last_event_id)

        async def counted() -> AsyncIterator[ServerSentEvent]:
            nonlocal streams
            streams += 1
            STREAMS.inc()
            try:
                async for message in messages(site, federation, cursor):
                    yield message
            except StoreError as error:  # the watcher comes back to where it was
                log.warning("stream ended", reason=error.reason)
            finally:
                streams -= 1
                STREAMS.dec()

        return EventSourceResponse(counted(), ping=PING_S, send_timeout=SEND_TIMEOUT_S)

    return router


async def messages(
    site: Site, federation: str | None, cursor: int | None
) -> AsyncGenerator[ServerSentEvent, None]:
    """Yield what a watcher is told, until the server ends.

    Args:
        site: The webserver.
        federation: Which is watched; None: whichever was heard of last.
        cursor: The last event that the watcher knows; None: it wants no earlier ones.
    """
    live = site.live
    cursor = live.last_event_id if cursor is None else min(cursor, live.last_event_id)
    while not live.closed:
        version = live.version
        watched = live.federation_id(federation)
        events = [] if watched is None else await _events_after(site, watched, cursor)
        for event in events[:-1]:
            yield _message(event["event_id"], event, "null")
        last = events[-1] if events else None
        cursor = last["event_id"] if last else cursor
        overview = live.overview_text(live.federation_id(federation), time.time())
        yield _message(cursor, last, overview)
        await asyncio.sleep(PAUSE_S)
        await live.changed_since(version)


async def _events_after(site: Site, federation_id: str, cursor: int) -> list[dict[str, Any]]:
    events = site.live.events_after(federation_id, cursor)
    if events is not None:
        return events
    return await site.database.read(
        lambda connection: queries.events_after(
            connection, federation_id, cursor, limit=REPLAYED_MAX
        )
    )


def _message(event_id: int, event: dict[str, Any] | None, overview: str) -> ServerSentEvent:
    data = f'{{"event":{json.dumps(event)},"overview":{overview}}}'
    return ServerSentEvent(data, event="update", id=str(event_id))
