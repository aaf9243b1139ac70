"""Tests of ``webserver.access``: who may look, who may control."""

from __future__ import annotations

from typing import Any

import pytest

from webserver.access import CSRF_COOKIE, Access, host_name, is_loopback, new_cookie
from webserver.refusals import Refused

TOKEN = "the control token"
COOKIE = new_cookie()


def access(**changes: Any) -> Access:
    """Rules of a server on loopback."""
    rules = {"host": "127.0.0.1", "allowed_hosts": (), "control_token": "", "page_key": b"key"}
    return Access(**(rules | changes))


def from_our_page(rules: Access, **changes: str) -> dict[str, str]:
    """Return the headers of a request that our page makes."""
    headers = {
        "host": "127.0.0.1:8050",
        "origin": "http://127.0.0.1:8050",
        "sec-fetch-site": "same-origin",
        "cookie": f"{CSRF_COOKIE}={COOKIE}",
        "x-headwater-csrf": rules.page_token(COOKIE),
    }
    return headers | {name.replace("_", "-"): value for name, value in changes.items()}


def refusal(rules: Access, headers: dict[str, str], cookie: str = COOKIE) -> tuple[int, str]:
    """Return status and reason of the refusal; (0, "") if there is none."""
    try:
        rules.check_control(headers, {CSRF_COOKIE: cookie} if cookie else {})
    except Refused as refused:
        return refused.status, refused.reason
    return 0, ""


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("page.localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("", False),
    ],
)
def test_address_is_this_machine_s_own_it_is_loopback(host: str, loopback: bool) -> None:
    """And a name that only looks like it is not."""
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Example.org:8050", "example.org"),
        ("[::1]:8050", "::1"),
        ("localhost.", "localhost"),
        ("", ""),
    ],
)
def test_host_header_has_port_and_capitals_the_name_is_what_counts(header: str, name: str) -> None:
    """As browsers write it."""
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("rules", "host", "known"),
    [
        ({}, "127.0.0.1:8050", True),
        ({}, "localhost:8050", True),
        ({}, "attacker.example:8050", False),
        ({}, "", False),
        ({"allowed_hosts": ("hw.example",)}, "hw.example", True),
        ({"allowed_hosts": ("hw.example",)}, "attacker.example", False),
        ({"host": "0.0.0.0"}, "machine.example:8050", True),
        ({"host": "0.0.0.0", "allowed_hosts": ("hw.example",)}, "attacker.example", False),
        ({"host": "0.0.0.0", "allowed_hosts": ("hw.example",)}, "10.0.0.7:8050", True),
    ],
)
def test_name_is_pointed_at_this_server_it_is_answered_if_it_is_ours(
    rules: dict[str, Any], host: str, known: bool
) -> None:
    """DNS rebinding: a page elsewhere has its own name resolve to this machine."""
    assert access(**rules).knows_host(host) is known


def test_our_page_asks_on_loopback_it_may() -> None:
    """Whoever sits at this machine may control what runs on it."""
    rules = access()

    assert refusal(rules, from_our_page(rules)) == (0, "")


def test_program_asks_on_loopback_it_may() -> None:
    """No page can make a request without what browsers add."""
    assert refusal(access(), {"host": "127.0.0.1:8050"}, cookie="") == (0, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"x_headwater_csrf": ""},
        {"x_headwater_csrf": "0" * 64},
        {"x_headwater_csrf": "ä"},
        {"origin": "http://attacker.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://[bad"},
        {"origin": "file://127.0.0.1:8050"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
    ],
)
def test_another_page_asks_it_is_refused(changes: dict[str, str]) -> None:
    """Each of the three is enough to see it: token, origin, and what the browser says."""
    rules = access()

    assert refusal(rules, from_our_page(rules, **changes)) == (403, "cross-site-request")


def test_page_has_no_cookie_or_another_s_its_token_is_not_taken() -> None:
    """A token is good with the cookie that it was made for."""
    rules = access()

    assert refusal(rules, from_our_page(rules), cookie="") == (403, "cross-site-request")
    assert refusal(rules, from_our_page(rules), cookie=new_cookie()) == (403, "cross-site-request")


def test_browser_is_old_and_sends_a_cookie_alone_it_is_a_browser() -> None:
    """The cookie would come with another site's form, too."""
    headers = {"host": "127.0.0.1:8050", "cookie": f"{CSRF_COOKIE}={COOKIE}"}

    assert refusal(access(), headers) == (403, "cross-site-request")


@pytest.mark.parametrize(
    ("authorization", "refused"),
    [
        (f"Bearer {TOKEN}", (0, "")),
        (f"bearer  {TOKEN}", (0, "")),
        ("", (401, "control-token-needed")),
        (f"Basic {TOKEN}", (401, "control-token-needed")),
        ("Bearer ", (401, "control-token-needed")),
        ("Bearer another", (401, "wrong-control-token")),
        ("Bearer \udcff", (401, "wrong-control-token")),
    ],
)
def test_control_token_is_set_who_gives_it_may(
    authorization: str, refused: tuple[int, str]
) -> None:
    """From wherever."""
    headers = {"host": "10.0.0.7:8050", "authorization": authorization}

    assert refusal(access(host="0.0.0.0", control_token=TOKEN), headers, cookie="") == refused


def test_control_token_is_set_it_is_needed_on_loopback_too() -> None:
    """Who sets one has others on the machine."""
    rules = access(control_token=TOKEN)

    assert refusal(rules, from_our_page(rules)) == (401, "control-token-needed")


def test_page_of_another_site_has_the_control_token_it_is_refused_all_the_same() -> None:
    """The page's own token is always needed of a browser."""
    rules = access(control_token=TOKEN)
    headers = from_our_page(rules, authorization=f"Bearer {TOKEN}", x_headwater_csrf="")

    assert refusal(rules, headers) == (403, "cross-site-request")


@pytest.mark.parametrize(
    "rules", [{"host": "0.0.0.0"}, {"allowed_hosts": ("hw.example",)}], ids=["bound", "proxy"]
)
def test_server_is_reached_from_elsewhere_without_a_control_token_nobody_may(
    rules: dict[str, Any],
) -> None:
    """Viewing and controlling are separate: such a page only shows."""
    refused = refusal(access(**rules), {"host": "127.0.0.1:8050"}, cookie="")

    assert refused == (403, "control-token-needed")
    assert not access(**rules).control_is_possible
    assert access(**rules, control_token=TOKEN).control_is_possible


def test_proxy_has_another_name_its_pages_are_ours() -> None:
    """Behind it the Host may be this machine's."""
    rules = access(allowed_hosts=("hw.example",), control_token=TOKEN)
    headers = from_our_page(rules, origin="https://hw.example", authorization=f"Bearer {TOKEN}")

    assert refusal(rules, headers) == (0, "")
