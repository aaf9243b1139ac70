"""The outermost layer: which hosts are answered, the limits and headers, and the counting."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webserver.access import Access
from webserver.counters import REFUSED, REQUESTS

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

REQUEST_BYTES_MAX = 64 * 1024
"""The largest body of a request that is no status update, which has a limit of its own."""

UPDATE_PATHS = ("/", "/api/v1/updates")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Gate:
    """Wraps the application.

    Args:
        app: The application.
        access: Which hosts are ours.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return  # a lifespan is not ours, and there are no web sockets
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        received = 0

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > REQUEST_BYTES_MAX and scope["path"] not in UPDATE_PATHS:
                raise HTTPException(413, f"a request has at most {REQUEST_BYTES_MAX} bytes")
            return message

        host = Headers(scope=scope).get("host", "")
        app = self._app if self._access.knows_host(host) else _foreign_host
        try:
            await app(scope, receive_within_limit, send_with_headers)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "other")
            REQUESTS.labels(route=route, method=method, status=str(status)).inc()


async def _foreign_host(scope: Scope, receive: Receive, send: Send) -> None:
    REFUSED.labels(reason="cross-site-request").inc()
    detail = "this server has another name; one behind a proxy is told it with --allowed-host"
    answer = JSONResponse({"reason": "cross-site-request", "detail": detail}, 403)
    await answer(scope, receive, send)
