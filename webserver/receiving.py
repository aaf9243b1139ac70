"""The receiver of status updates: signature, form, order; then they are remembered."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from federation.errors import PeerError
from webserver.answers import problems
from webserver.counters import UPDATES
from webserver.refusals import Refused
from webserver.site import Site
from webserver.updates import (
    BODY_BYTES_MAX,
    CONTENT_TYPES,
    SIGNATURE_HEADER,
    parsed,
    signature_fits,
)

BODY_TIMEOUT_S = 60.0
"""A body that is not whole by then is not waited for."""

AT_ONCE = 8
"""Updates that are received at once; further ones wait."""

PARSED_HERE_BYTES = 64 * 1024
"""A larger update is parsed in a thread, since it takes longer than a few milliseconds."""


def receiving_routes(site: Site) -> APIRouter:
    """Make the routes."""
    router = APIRouter(tags=["updates"])
    places = asyncio.Semaphore(AT_ONCE)

    @router.post("/", include_in_schema=False, status_code=204)
    @router.post(
        "/api/v1/updates",
        status_code=204,
        summary="Take a status update",
        responses=problems(
            _400="It is malformed.",
            _401="The signature is missing or wrong.",
            _403="It comes from a page.",
            _408="It did not arrive in time.",
            _413="It is too large.",
            _415="It is of another content type.",
            _503="It cannot be remembered now; send it again.",
        ),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {CONTENT_TYPES[0]: {"schema": {"type": "object"}}},
            }
        },
    )
    async def take(request: Request) -> Response:
        """Take a CloudEvent; 204 also for one that was taken before."""
        _check_kind(request)
        async with places:
            body = await _body_of(request)
            if site.secret:
                _check_signature(site.secret, body, request)
            try:
                if len(body) > PARSED_HERE_BYTES:
                    update = await asyncio.to_thread(parsed, body)
                else:
                    update = parsed(body)
            except PeerError as error:
                raise Refused(400, error.detail, reason=error.reason) from None
            if update is None:
                result = "unknown"
            else:
                result = "taken" if await site.take(update) else "duplicate"
        UPDATES.labels(result=result).inc()
        return Response(status_code=204)

    return router


def _check_kind(request: Request) -> None:
    """Refuse what a page of another site can send without asking; updates come from programs."""
    if "origin" in request.headers:
        raise Refused(403, "updates do not come from pages", reason="cross-site-request")
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in CONTENT_TYPES:
        detail = f"the content type of an update is {CONTENT_TYPES[0]}"
        raise Refused(415, detail, reason="malformed-update")


def _check_signature(secret: str, body: bytes, request: Request) -> None:
    signature = request.headers.get(SIGNATURE_HEADER)
    if signature is None:
        detail = f"updates are signed here, in {SIGNATURE_HEADER}; give the sender the secret"
        raise Refused(401, detail, reason="signature-needed")
    if not signature_fits(secret, body, signature):
        raise Refused(401, "the signature does not fit the body", reason="wrong-signature")


async def _body_of(request: Request) -> bytes:
    too_large = Refused(
        413, f"an update has at most {BODY_BYTES_MAX} bytes", reason="body-too-large"
    )
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > BODY_BYTES_MAX:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for piece in request.stream():
                body += piece
                if len(body) > BODY_BYTES_MAX:
                    raise too_large
    except ClientDisconnect:
        raise Refused(400, "the update ended early", reason="malformed-update") from None
    except TimeoutError:
        detail = f"the update did not arrive within {BODY_TIMEOUT_S:.0f} s"
        raise Refused(408, detail, reason="too-slow") from None
    return bytes(body)
