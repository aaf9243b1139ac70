"""One HTTP request to one webserver: where to, how signed, and what its answer means."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from coordinator.updates import CONTENT_TYPE
from federation.runtime.version import VERSION

if TYPE_CHECKING:
    import httpx

SIGNATURE_HEADER = "Headwater-Signature"

REQUEST_TIMEOUT_S = 10.0
"""A webserver that has not answered by then is asked again later."""

ANSWER_BYTES_MAX = 1024
"""So much of an answer is read; the rest, and with it the connection, is dropped."""

REFUSED = frozenset({400, 413, 422})
"""Answers that mean this one update: it is not sent again. All others may be mended."""


@dataclass(frozen=True)
class Push:
    """Who is told.

    Attributes:
        urls: Where updates are sent to.
        secret: Signs them; empty: they are not signed.
    """

    urls: tuple[str, ...] = ()
    secret: str = ""


class Verdict(Enum):
    """What an answer means."""

    TAKEN = "taken"
    REFUSED = "refused"
    LATER = "later"


@dataclass(frozen=True)
class Answer:
    """How a webserver answered.

    Attributes:
        verdict: What it means.
        detail: For the log: the status and what it said, or why there is none.
    """

    verdict: Verdict
    detail: str = ""


Post = Callable[[str, bytes], Awaitable[Answer]]
"""Sends this body to this URL; whatever goes wrong is an answer."""


class Poster:
    """Sends updates by HTTP; an asynchronous context manager.

    Args:
        secret: Signs each body; empty: nothing is signed.
        timeout_s: A request may take so long.
    """

    def __init__(self, secret: str, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._secret = secret.encode()
        self._timeout_s = timeout_s
        self._client: httpx.AsyncClient

    async def __aenter__(self) -> Self:
        self._client = await asyncio.to_thread(_make_client, self._timeout_s)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def post(self, url: str, body: bytes) -> Answer:
        """Send one update."""
        import httpx

        headers = {"Content-Type": CONTENT_TYPE, "User-Agent": f"headwater/{VERSION}"}
        if self._secret:
            headers[SIGNATURE_HEADER] = signature(self._secret, body)
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._client.stream(
                    "POST", url, content=body, headers=headers
                ) as response:
                    said = b""
                    if not response.is_success:
                        said = await _beginning(response)
                    return _judged(response.status_code, said)
        except TimeoutError:
            return Answer(Verdict.LATER, f"no answer within {self._timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            return Answer(Verdict.LATER, str(error) or type(error).__name__)


def _make_client(timeout_s: float) -> httpx.AsyncClient:
    """Import the library and read the certificates, which takes long."""
    import httpx

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log whole URLs
    # Where to is said by the operator, and by no variable of the environment.
    return httpx.AsyncClient(timeout=timeout_s, trust_env=False, follow_redirects=False)


async def _beginning(response: httpx.Response) -> bytes:
    said = b""
    async for piece in response.aiter_raw():
        said += piece
        if len(said) >= ANSWER_BYTES_MAX:
            break
    return said[:ANSWER_BYTES_MAX]


def _judged(status: int, said: bytes) -> Answer:
    if 200 <= status < 300:
        return Answer(Verdict.TAKEN)
    detail = f"{status} {said.decode(errors='replace').strip()}".strip()
    return Answer(Verdict.REFUSED if status in REFUSED else Verdict.LATER, detail)


def signature(secret: bytes, body: bytes) -> str:
    """Return what a receiver compares, so that it believes only who has the secret."""
    return f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}"


def shown(url: str) -> str:
    """Return a URL for people: without its query, which may hold what is nobody's business."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
