"""Session tokens: proof that a client was admitted to a round, which every selector can check.

A token says round and client and is signed with a key that the coordinator makes and gives to its
selectors. It is the same for one claim wherever the client is configured, so that a client whose
selector died reports through another one with the token that it has. It is spent by the claim's
verdict, not by being shown; ``round_id`` is random, so that no token fits a second round.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple

KEY_BYTES = 32

_SEPARATOR = b"\n"


class Claimed(NamedTuple):
    """What a token proves."""

    round_id: str
    client_id: str


def mint(key: bytes, round_id: str, client_id: str) -> str:
    """Return the token of this client in this round: text of up to about 500 characters."""
    said = _SEPARATOR.join((round_id.encode(), client_id.encode()))
    return f"{_text(said)}.{_text(_signature(key, said))}"


def read(key: bytes, token: str) -> Claimed | None:
    """Return what a token proves; None if it was not made with this key."""
    said_text, _, signature_text = token.partition(".")
    try:
        said, signature = _bytes(said_text), _bytes(signature_text)
        round_id, client_id = (part.decode() for part in said.split(_SEPARATOR))
    except (ValueError, binascii.Error):
        return None
    if not hmac.compare_digest(signature, _signature(key, said)):
        return None
    return Claimed(round_id, client_id)


def _signature(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, said, hashlib.sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
