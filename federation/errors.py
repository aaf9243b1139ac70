"""The error tree: whose fault it was, and the stable word for it.

``SettingsError`` is the operator's, ``PeerError`` the other side's, ``StoreError`` the disk's.
A bug is an assertion, not one of these. Errors carry facts; their text is derived from the facts.
"""

from __future__ import annotations


class FederationError(Exception):
    """Anything that went wrong in a way this project knows about.

    Attributes:
        reason: Stable lower-case word with hyphens, for logs, counters and the wire.
        detail: One sentence of facts that a person can act on.
    """

    reason: str = "federation-error"

    def __init__(self, detail: str, *, reason: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if reason is not None:
            self.reason = reason

    def __str__(self) -> str:
        return f"{self.detail} ({self.reason})"


class SettingsError(FederationError):
    """The operator asked for something that cannot be done.

    Attributes:
        setting: Name of the setting that is wrong.
        value: What was given.
        source: Where it was given, e.g. ``"flag --port"``; empty if not known.
        expected: What would be right.
    """

    reason = "wrong-setting"

    def __init__(
        self,
        setting: str,
        value: object,
        expected: str,
        *,
        source: str = "",
        reason: str | None = None,
    ) -> None:
        origin = f" from {source}" if source else ""
        super().__init__(f"{setting} = {value!r}{origin} is wrong: {expected}", reason=reason)
        self.setting = setting
        self.value = value
        self.source = source
        self.expected = expected


class PeerError(FederationError):
    """The other side sent something that breaks the contract."""

    reason = "peer-error"


class StoreError(FederationError):
    """The shared directory or a file in it cannot be used."""

    reason = "store-error"


class TransferError(PeerError):
    """Bytes that arrived are not the bytes that were declared; nothing was counted."""

    reason = "transfer-failed"


class UpdateRejected(PeerError):
    """A client's update failed screening and was not folded."""

    reason = "rejected"
