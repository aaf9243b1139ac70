"""What a selector knows of sessions, and the clients that wait for the end of one.

A client asks for the result of its session, and the answer waits until the session is over. What is
known comes from the coordinator, with each attachment and with each change:

| the coordinator says | to who asks for that session | for another      | for any                |
|----------------------|------------------------------|------------------|------------------------|
| it runs              | wait                         | refused          | wait for that one      |
| it is over           | its end                      | refused          | its end                |
| there is none        |                              | the current checkpoint                   ||
| nothing, not heard   | ask again (``not-attached``)                                          |||

An end that was heard of is remembered, and beats the table. *Refused* (``session-unknown``) is a
session whose end is not remembered while another one ran since. The third line is a coordinator
that lost its sessions: none goes on, so the current checkpoint is as far as any of them came.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from federation.errors import PeerError
from federation.v1 import coordination_pb2 as pb

ENDS_MAX = 64
"""Ended sessions whose final checkpoints' digests are remembered."""

WAIT_MAX_S = 30.0
"""An answer waits so long at most, so that a client soon sees that a selector is gone."""


@dataclass(frozen=True)
class Result:
    """What can be said of a session now.

    Attributes:
        session_id: Which; empty where none is known.
        running: It is not over.
        digest: Hex SHA-256 of the checkpoint that it ended with; empty if that is the current one.
    """

    session_id: str
    running: bool
    digest: str = ""


class Sessions:
    """The session that runs, the ends of those before it, and who waits."""

    def __init__(self) -> None:
        self._news: pb.SessionNews | None = None
        self._ends: dict[str, str] = {}
        self._changed = asyncio.Event()

    @property
    def running_id(self) -> str:
        """The session that runs; empty where none does or none is known of."""
        news = self._news
        return news.session_id if news is not None and not news.over else ""

    def learn(self, news: pb.SessionNews) -> None:
        """Take in what the coordinator says."""
        self._news = news
        if news.over:
            self._ends[news.session_id] = news.final_digest
            while len(self._ends) > ENDS_MAX:
                del self._ends[next(iter(self._ends))]
        self._tell_changed()

    def lose(self) -> None:
        """The coordinator is not heard: what ended stays ended, of the rest nothing is known."""
        self._news = None

    async def result(self, session_id: str, wait_s: float) -> Result:
        """Wait for the end of a session, an empty id meaning any; if it does not come, say so.

        Raises:
            PeerError: The coordinator was not heard all the while (``not-attached``), or the
                session's end is not known here (``session-unknown``).
        """
        try:
            async with asyncio.timeout(min(wait_s, WAIT_MAX_S)):
                while (found := self._now(session_id)) is None or found.running:
                    # Who asked for any session waits for the one that runs now, and no other.
                    session_id = found.session_id if found is not None else session_id
                    await self._changed.wait()
        except TimeoutError:
            found = self._now(session_id)
        if found is None:
            raise PeerError("the coordinator is not heard from here", reason="not-attached")
        return found

    def _now(self, session_id: str) -> Result | None:
        """Say what is known; None if the coordinator is not heard."""
        news = self._news
        if session_id in self._ends:
            return Result(session_id, running=False, digest=self._ends[session_id])
        if news is None:
            return None
        if not news.session_id:
            return Result("", running=False)
        if session_id not in ("", news.session_id):
            raise PeerError(
                "that session's end is not known here: another one ran since; without a session "
                "the current checkpoint is given",
                reason="session-unknown",
            )
        return Result(news.session_id, not news.over, news.final_digest)

    def _tell_changed(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
