"""The JSON API for those who look: the overview, pages of history, series, checkpoints."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from webserver import answers, queries
from webserver.answers import problems
from webserver.board import with_present
from webserver.downloads import DIGEST_HEADER, pieces
from webserver.reason_words import REASON_WORDS
from webserver.refusals import Refused
from webserver.site import Site

FederationQuery = Annotated[
    str | None,
    Query(pattern="^[0-9a-f]{16}$", description="Which federation; by default the running one."),
]
RoundNumber = Annotated[int, Path(ge=1, le=10**12)]
Before = Annotated[
    int | None, Query(ge=0, le=2**53, description="Go on before this: `next` of the last page.")
]

_NO_FEDERATION = {"_404": "No such federation.", "_422": "A parameter is malformed."}
_NO_ROUND = {"_404": "No such federation or round.", "_422": "A parameter is malformed."}


def meant(site: Site, federation: str | None) -> str:
    """Return the federation that a request is about; an empty text if there is none at all.

    Raises:
        Refused: That which it names was never heard of.
    """
    if federation is not None and not site.live.knows(federation):
        detail = f"nothing was ever heard of the federation {federation}"
        raise Refused(404, detail, reason="unknown-federation")
    return site.live.federation_id(federation) or ""


def asking_routes(site: Site) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/api/v1", tags=["watching"])

    @router.get(
        "/overview",
        summary="Where a federation stands now",
        response_model=answers.Overview,
        responses=problems(**_NO_FEDERATION),
    )
    async def overview(federation: FederationQuery = None) -> Response:
        text = site.live.overview_text(meant(site, federation), time.time())
        return Response(text, media_type="application/json")

    @router.get("/reasons", response_model=answers.ReasonWords)
    async def reasons() -> Response:
        """Return what each reason word means, and what helps."""
        return Response(REASON_WORDS, media_type="application/json")

    @router.get("/rounds", response_model=answers.Rounds, responses=problems(**_NO_FEDERATION))
    async def rounds(
        federation: FederationQuery = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        before: Before = None,
        outcome: Literal["committed", "abandoned"] | None = None,
    ) -> dict[str, Any]:
        """Return rounds, newest first."""
        asked = meant(site, federation)
        found = await site.database.read(
            lambda connection: queries.rounds(
                connection, asked, limit=limit, before=before, outcome=outcome
            )
        )
        picture = site.live.picture(asked)
        lines = [with_present(round_, picture) for round_ in found]
        return {"rounds": lines, "next": _next(found, limit, "round_number")}

    @router.get(
        "/rounds/{round_number}",
        response_model=answers.RoundDetail,
        responses=problems(**_NO_ROUND),
    )
    async def round_detail(
        round_number: RoundNumber,
        federation: FederationQuery = None,
        clients_limit: Annotated[int, Query(ge=1, le=1000)] = 200,
        clients_offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> dict[str, Any]:
        """Return all of a round, with each of its clients."""
        asked = meant(site, federation)
        found = await site.database.read(
            lambda connection: queries.round_detail(
                connection,
                asked,
                round_number,
                clients_limit=clients_limit,
                clients_offset=clients_offset,
            )
        )
        if found is None:
            raise Refused(404, f"round {round_number} is not known", reason="round-unknown")
        present = with_present(found, site.live.picture(asked))
        if present is not found:
            last = clients_offset + clients_limit
            present["clients"] = present["clients"][clients_offset:last]
        return present

    @router.get("/series", response_model=answers.Series, responses=problems(**_NO_FEDERATION))
    async def series(
        federation: FederationQuery = None, limit: Annotated[int, Query(ge=2, le=5000)] = 500
    ) -> dict[str, Any]:
        """Return completed rounds as columns, oldest first, thinned evenly above the limit."""
        asked = meant(site, federation)
        return await site.database.read(
            lambda connection: queries.series(connection, asked, limit=limit)
        )

    @router.get("/events", response_model=answers.Events, responses=problems(**_NO_FEDERATION))
    async def events(
        federation: FederationQuery = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        before: Before = None,
    ) -> dict[str, Any]:
        """Return stages and changes of the session, newest first."""
        asked = meant(site, federation)
        found = await site.database.read(
            lambda connection: queries.events(connection, asked, limit=limit, before=before)
        )
        return {"events": found, "next": _next(found, limit, "event_id")}

    @router.get("/sessions", response_model=answers.Sessions, responses=problems(**_NO_FEDERATION))
    async def sessions(
        federation: FederationQuery = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        before: Before = None,
    ) -> dict[str, Any]:
        """Return sessions, newest first."""
        asked = meant(site, federation)
        found = await site.database.read(
            lambda connection: queries.sessions(connection, asked, limit=limit, before=before)
        )
        return {"sessions": found, "next": _next(found, limit, "session_number")}

    @router.get(
        "/checkpoints/{round_number}",
        response_class=Response,
        responses={
            200: {
                "description": "The checkpoint, an HDF5 file in Keras' layout of weights.",
                "content": {"application/x-hdf5": {"schema": {"type": "string"}}},
            },
            **problems(_404="It is not here.", _422="A parameter is malformed."),
        },
    )
    async def checkpoint(round_number: RoundNumber, federation: FederationQuery = None) -> Response:
        """Download a round's checkpoint."""
        asked = meant(site, federation)
        digest = await site.database.read(
            lambda connection: queries.checkpoint_digest(connection, asked, round_number)
        )
        if digest is None:
            detail = f"round {round_number} made no checkpoint"
            raise Refused(404, detail, reason="checkpoint-missing")
        file, size = await site.downloads.open(round_number, digest)
        name = f"fl_checkpoint-round-{round_number:06d}.h5"
        headers = {
            "Content-Length": str(size),
            "Content-Disposition": f'attachment; filename="{name}"',
            DIGEST_HEADER: digest,
        }
        return StreamingResponse(pieces(file), media_type="application/x-hdf5", headers=headers)

    return router


def _next(found: list[dict[str, Any]], limit: int, key: str) -> int | None:
    """Return where the next page begins; a page that is not full is the last."""
    return found[-1][key] if len(found) == limit else None
