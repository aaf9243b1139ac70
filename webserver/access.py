"""Who may look and who may control: names of this server, the page's token, the control token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from webserver.refusals import Refused

CSRF_HEADER = "X-Headwater-CSRF"
CSRF_COOKIE = "headwater-page"

_BROWSERS_SEND = ("origin", "referer", "cookie", "sec-fetch-site", "sec-fetch-mode")
"""A call with one of these comes from a page, which need not be ours."""


@dataclass(frozen=True)
class Access:
    """The rules of one server.

    Attributes:
        host: Address that it listens on.
        allowed_hosts: Further names under which people reach it, e.g. a reverse proxy's.
        control_token: Who has it may control; empty: whoever is on this machine.
        page_key: Key of the pages' tokens.
    """

    host: str
    allowed_hosts: Collection[str]
    control_token: str
    page_key: bytes

    @property
    def on_loopback_only(self) -> bool:
        """Nobody reaches it but from this machine; a proxy's name says that others do."""
        return is_loopback(self.host) and not self.allowed_hosts

    @property
    def control_is_possible(self) -> bool:
        """Somebody may control it."""
        return bool(self.control_token) or self.on_loopback_only

    def knows_host(self, host_header: str) -> bool:
        """Say whether a request is for this server by one of its names.

        Else a page elsewhere could have its own name point here, and read what is for others.
        """
        name = host_name(host_header)
        if name in self.allowed_hosts:
            return True
        if is_loopback(self.host):
            return is_loopback(name)
        return not self.allowed_hosts or _is_address(name)  # a name is pointed, an address is not

    def page_token(self, cookie: str) -> str:
        """Return the token of a page that has this cookie."""
        return hmac.new(self.page_key, cookie.encode(), hashlib.sha256).hexdigest()

    def check_control(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> None:
        """Let a request pass that may start and stop sessions.

        Args:
            headers: By name in lower case.
            cookies: Those that came with it.

        Raises:
            Refused: It may not.
        """
        if any(name in headers for name in _BROWSERS_SEND):
            self._check_page(headers, cookies)
        if not self.control_token:
            if not self.on_loopback_only:
                raise Refused(
                    403,
                    "this server can be reached from elsewhere and has no control token, so "
                    "nobody may control it; start it with --control-token",
                    reason="control-token-needed",
                )
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused(401, "the control token is needed", reason="control-token-needed")
        if not hmac.compare_digest(_bytes(token.strip()), _bytes(self.control_token)):
            raise Refused(401, "that is not the control token", reason="wrong-control-token")

    def _check_page(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> None:
        site = headers.get("sec-fetch-site", "same-origin")
        origin = headers.get("origin")
        if site != "same-origin" or (origin is not None and not self._is_ours(origin, headers)):
            raise _cross_site("the request comes from another site's page")
        expected = self.page_token(cookies.get(CSRF_COOKIE, ""))
        given = headers.get(CSRF_HEADER.lower(), "")
        if CSRF_COOKIE not in cookies or not hmac.compare_digest(_bytes(given), _bytes(expected)):
            raise _cross_site("the request does not come from our page as it is; load it again")

    def _is_ours(self, origin: str, headers: Mapping[str, str]) -> bool:
        try:
            parts = urlsplit(origin)
            netloc, name = parts.netloc.lower(), parts.hostname or ""
        except ValueError:
            return False
        if parts.scheme not in ("http", "https"):
            return False
        return netloc == headers.get("host", "").lower() or name in self.allowed_hosts


def _cross_site(detail: str) -> Refused:
    return Refused(403, detail, reason="cross-site-request")


def new_cookie() -> str:
    """Return a value for the page's cookie."""
    return secrets.token_urlsafe(32)


def host_name(host_header: str) -> str:
    """Return the name in ``Host``, in lower case, without port and brackets."""
    if host_header.startswith("["):
        return host_header[1:].partition("]")[0].lower()
    return host_header.partition(":")[0].lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Say whether a name or an address is this machine's own, by itself and for everybody."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
