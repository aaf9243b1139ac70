"""Ask one server whether it is ready: ``python -m headwater.health HOST:PORT``, or a URL.

Containers run this every few seconds, so it imports gRPC alone, and that only where it is needed.
Ready is status 0; else one line says why, and the status is 1.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

TIMEOUT_S = 4.0
"""A server that has not answered by then is not ready."""

PORT_VARIABLE = "HEADWATER_PORT"

_SERVING = b"\x08\x01"
"""A ``grpc.health.v1.HealthCheckResponse`` that says SERVING, as its bytes."""


class NotReadyError(Exception):
    """There is no answer, or it is no; the text says which."""


def ask_grpc(target: str, timeout_s: float = TIMEOUT_S) -> None:
    """Return if the server at HOST:PORT says that it serves.

    Raises:
        NotReadyError: It says that it does not, or nothing.
    """
    import grpc

    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(target, options=options) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=_as_it_is,
            response_deserializer=_as_it_is,
        )
        try:
            answer = check(b"", timeout=timeout_s)
        except grpc.RpcError as error:
            detail = getattr(error, "details", lambda: "")()
            raise NotReadyError(f"no answer: {detail}") from None
    if answer != _SERVING:
        raise NotReadyError("it answers that it does not serve")


def ask_http(url: str, timeout_s: float = TIMEOUT_S) -> None:
    """Return if the server answers a GET of this ``http`` URL with status 200.

    Raises:
        NotReadyError: It answers something else, or nothing.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
    try:
        connection.request("GET", parts.path or "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise NotReadyError(f"no answer: {error}") from None
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        raise NotReadyError(f"it answers with status {status}")


def with_port(target: str, port: str | None) -> str:
    """Return HOST:PORT or a URL with another port; the same one if none is given."""
    if not port:
        return target
    before, _, after = target.rpartition(":")
    path = after[len(after.partition("/")[0]) :]
    return f"{before}:{port}{path}"


def main(arguments: Sequence[str]) -> int:
    """Ask, and return the exit status.

    Args:
        arguments: HOST:PORT of a gRPC server, or ``http://HOST:PORT/PATH``; the port that
            ``HEADWATER_PORT`` names takes the place of theirs, as it does in the server.
    """
    if len(arguments) != 1:
        print("usage: python -m headwater.health HOST:PORT|http://HOST:PORT/PATH", file=sys.stderr)
        return 2
    target = with_port(arguments[0], os.environ.get(PORT_VARIABLE))
    try:
        (ask_http if target.startswith("http://") else ask_grpc)(target)
    except NotReadyError as why:
        print(f"{target} is not ready: {why}", file=sys.stderr)
        return 1
    return 0


def _as_it_is(message: bytes) -> bytes:
    return message


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
