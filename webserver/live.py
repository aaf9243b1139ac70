"""The present for all who watch: each federation's picture, the newest events, and a wake-up."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from webserver.board import Checkpoint, Picture, overview
from webserver.store import FEDERATIONS_MAX, Taken

EVENTS_REMEMBERED = 256
"""Newest events in memory; who missed more gets them from the database."""

STAYS_S = 60.0
"""The federation that is shown unasked stays so long after it was last heard of, while its session
runs: two that tell at the same time do not take turns."""

Checkpoints = tuple[Checkpoint | None, Checkpoint | None]
"""The newest one and the best one."""


@dataclass
class _Scene:
    """One federation.

    Attributes:
        picture: Where it stands.
        checkpoints: Its newest and its best.
        text: What a page shows of it, as JSON; None until it is asked for.
    """

    picture: Picture
    checkpoints: Checkpoints
    text: str | None = None


class Live:
    """What is known of all federations now; of this process's event loop.

    A watcher keeps nothing here but the number of the state that it saw, so that a slow one costs
    no memory: it misses pictures, never events.

    Args:
        control: What pages are told of who may control.
        last_event_id: The highest event id that was ever given.
    """

    def __init__(self, control: Mapping[str, Any], last_event_id: int) -> None:
        self.version = 0
        self.closed = False
        self.last_event_id = last_event_id
        self._control = dict(control)
        self._scenes: dict[str, _Scene] = {}  # the one that was heard of last at the end
        self._usual: str | None = None
        self._events: deque[tuple[str, dict[str, Any]]] = deque(maxlen=EVENTS_REMEMBERED)
        self._forgotten = last_event_id
        self._changed = asyncio.Event()

    def restore(self, pictures: Iterable[tuple[Picture, Checkpoints]]) -> None:
        """Take over what the database remembers, the one that was heard of last at the end."""
        for picture, checkpoints in pictures:
            self._scenes[picture.federation_id] = _Scene(picture, checkpoints)
            self._usual = picture.federation_id

    def show(self, taken: Taken, checkpoints: Checkpoints | None) -> None:
        """Take an update that was remembered, and wake those who watch.

        Args:
            taken: The update, in the order in which they were remembered.
            checkpoints: The newest and the best; None: they are as they were.
        """
        federation_id = taken.picture.federation_id
        if not self._stays(taken.picture.heard_s):
            self._usual = federation_id
        before = self._scenes.pop(federation_id, None)
        kept = before.checkpoints if before else (None, None)
        self._scenes[federation_id] = _Scene(
            taken.picture, kept if checkpoints is None else checkpoints
        )
        if before is None:
            if len(self._scenes) > FEDERATIONS_MAX:  # the database has forgotten it, too
                del self._scenes[next(iter(self._scenes))]
            self._draw_all_anew()
        if taken.event is not None:
            if len(self._events) == EVENTS_REMEMBERED:
                self._forgotten = self._events[0][1]["event_id"]
            self._events.append((federation_id, taken.event))
            self.last_event_id = taken.event["event_id"]
            self._draw_all_anew()  # each has the last event's id in it
        self._wake()

    def _stays(self, now_s: float) -> bool:
        """Say whether the federation that is shown unasked goes on being it."""
        picture = self.picture(self._usual)
        session = picture.facts["session"] if picture else None
        if picture is None or session is None or not session["running"]:
            return False
        return now_s - picture.heard_s < STAYS_S

    def _draw_all_anew(self) -> None:
        for scene in self._scenes.values():
            scene.text = None

    def federation_id(self, asked: str | None) -> str | None:
        """Return the federation that is meant: that which was asked for, else see ``STAYS_S``."""
        return self._usual if asked is None else asked

    def knows(self, federation_id: str) -> bool:
        """Say whether a federation was ever heard of."""
        return federation_id in self._scenes

    def picture(self, federation_id: str | None) -> Picture | None:
        """Return a federation's picture."""
        scene = self._scenes.get(federation_id or "")
        return scene.picture if scene else None

    def overview(self, federation_id: str | None, now_s: float) -> dict[str, Any]:
        """Return what a page shows first."""
        found: dict[str, Any] = json.loads(self.overview_text(federation_id, now_s))
        return found

    def overview_text(self, federation_id: str | None, now_s: float) -> str:
        """Return the same as JSON, made once for all who watch."""
        scene = self._scenes.get(federation_id or "")
        if scene is None:
            text = self._drawn(None, (None, None))
        else:
            if scene.text is None:
                scene.text = self._drawn(scene.picture, scene.checkpoints)
            text = scene.text
        return f'{{"now_s":{now_s!r},{text[1:]}'

    def _drawn(self, picture: Picture | None, checkpoints: Checkpoints) -> str:
        last, best = checkpoints
        facts = overview(picture, last=last, best=best, last_event_id=self.last_event_id)
        shared = {"control": self._control, "federations": sorted(self._scenes)}
        return json.dumps({**facts, **shared}, allow_nan=False)

    def events_after(self, federation_id: str, event_id: int) -> list[dict[str, Any]] | None:
        """Return a federation's events after one, oldest first; None if memory has not all."""
        if event_id < self._forgotten:
            return None
        return [
            event
            for owner, event in self._events
            if owner == federation_id and event["event_id"] > event_id
        ]

    async def changed_since(self, version: int) -> None:
        """Return once the state is another than the one of that number, or nothing follows."""
        while self.version == version and not self.closed:
            await self._changed.wait()

    def close(self) -> None:
        """Tell all who watch that nothing follows."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()
