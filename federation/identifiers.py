"""What may be a selector's or a client's name: checked before it is used, shown or joined."""

from __future__ import annotations

import re

from federation.errors import PeerError, SettingsError

_SELECTOR_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
RESERVED_SELECTOR_IDS = frozenset({"initfiles", "coordinator", "history"})

SELECTOR_ID_RULE = (
    "a selector id has 1 to 63 of a-z, 0-9, '.', '_' and '-', starts with a letter or digit, "
    "and is not initFiles, coordinator or history"
)
CLIENT_ID_RULE = (
    "a client id has 1 to 128 of A-Z, a-z, 0-9, '.', '_', ':', '@' and '-', "
    "and starts with a letter or digit"
)


def is_selector_id(text: str) -> bool:
    """Say whether ``text`` may name a selector, and so a folder of the shared directory."""
    return bool(_SELECTOR_ID.fullmatch(text)) and text not in RESERVED_SELECTOR_IDS


def is_client_id(text: str) -> bool:
    """Say whether ``text`` may name a client."""
    return bool(_CLIENT_ID.fullmatch(text))


def checked_selector_id(text: str) -> str:
    """Return ``text`` if it may name a selector, else raise ``SettingsError``."""
    if not is_selector_id(text):
        raise SettingsError("selector_id", text, SELECTOR_ID_RULE, reason="malformed-selector-id")
    return text


def checked_client_id(text: str) -> str:
    """Return ``text`` if it may name a client, else raise ``PeerError``."""
    if not is_client_id(text):
        raise PeerError(CLIENT_ID_RULE, reason="malformed-client-id")
    return text
