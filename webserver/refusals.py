"""Refusals as answers: every error of the API is a reason word and a sentence, in JSON."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from federation.errors import PeerError, StoreError
from federation.plan import IMPOSSIBLE_PLAN
from federation.reasons import bounded
from federation.runtime.telemetry import get_logger
from webserver.counters import REFUSED

log = get_logger()

_OF_HTTP = {404: "unknown-page", 405: "wrong-method"}
"""Words for what the framework refuses."""


class Refused(PeerError):
    """A request is not answered as it was meant.

    Attributes:
        status: Of HTTP.
        headers: That belong to the status.
    """

    def __init__(
        self, status: int, detail: str, *, reason: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail, reason=reason)
        self.status = status
        self.headers = dict(headers or {})


def add_refusals(app: FastAPI) -> None:
    """Answer every exception of the application's routes."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(StoreError, _store_failed)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(Exception, _bug)


def refusal(
    status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Make the answer, and count it."""
    REFUSED.labels(reason=bounded(reason)).inc()
    return JSONResponse({"reason": reason, "detail": detail}, status, headers=headers)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    log.info("request refused", reason=error.reason, detail=error.detail)
    return refusal(error.status, error.reason, error.detail, error.headers)


async def _store_failed(_request: Request, error: Exception) -> Response:
    """The disk's fault: whoever asked is to come again, and reads nothing of our paths."""
    assert isinstance(error, StoreError)
    log.error("request failed", reason=error.reason, detail=error.detail)
    detail = "it cannot be read or written now; try again"
    return refusal(503, error.reason, detail, {"Retry-After": "5"})


async def _malformed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    in_plan = first["loc"][0] == "body" and first["type"] != "json_invalid"
    reason = IMPOSSIBLE_PLAN if in_plan else "malformed-request"
    return refusal(422, reason, f"{place}: {first['msg']}"[:500])


async def _not_found(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = _OF_HTTP.get(error.status_code, "malformed-request")
    return refusal(error.status_code, reason, str(error.detail), error.headers)


async def _bug(_request: Request, _error: Exception) -> Response:
    return refusal(500, "internal-error", "a fault of ours; see the server's log")
