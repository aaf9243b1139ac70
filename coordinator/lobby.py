"""The clients that selectors hold while no round admits: before, between and after rounds."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from coordinator.effects import Decline, Effect, Release
from coordinator.events import CheckedIn, Owner
from federation.plan import RetryWindow


class Lobby:
    """Holds clients first come, first served, up to a limit; pure bookkeeping.

    Args:
        held_max: Most clients held; beyond it they are declined as ``full``.
    """

    def __init__(self, held_max: int) -> None:
        self.held_max = held_max
        self.waiting: dict[str, Owner] = {}
        self.ended_session_id = ""

    def check_in(self, event: CheckedIn, retry_window: RetryWindow) -> list[Effect]:
        """Hold these clients, or decline them with this window."""
        effects: list[Effect] = []
        owner = event.owner
        for client_id, session_id in zip_longest(event.client_ids, event.session_ids):
            earlier = self.waiting.get(client_id)
            if earlier is not None and earlier != owner:
                effects.append(Release(earlier, (client_id,)))
            if session_id and session_id == self.ended_session_id:
                self.waiting.pop(client_id, None)
                effects.append(Decline(owner, (client_id,), "session-over", retry_window))
            elif earlier is None and len(self.waiting) >= self.held_max:
                effects.append(Decline(owner, (client_id,), "full", retry_window))
            else:
                self.waiting[client_id] = owner
        return effects

    def leave(self, owner: Owner, client_ids: Iterable[str]) -> None:
        """Forget clients whose streams ended."""
        for client_id in client_ids:
            if self.waiting.get(client_id) == owner:
                del self.waiting[client_id]

    def selector_left(self, owner: Owner) -> None:
        """Forget the clients of a selector whose stream ended; its hello will name them again."""
        self.waiting = {c: other for c, other in self.waiting.items() if other != owner}

    def take(self) -> dict[str, Owner]:
        """Hand over all that wait, first come first, and hold nobody any more."""
        waiting, self.waiting = self.waiting, {}
        return waiting

    def end_session(self, session_id: str, reason: str, retry_window: RetryWindow) -> list[Effect]:
        """Send everybody away; if the session is over, those who took part hear so later too."""
        if reason == "session-over":
            self.ended_session_id = session_id
        by_owner: dict[Owner, list[str]] = {}
        for client_id, owner in self.take().items():
            by_owner.setdefault(owner, []).append(client_id)
        return [Decline(owner, tuple(ids), reason, retry_window) for owner, ids in by_owner.items()]
