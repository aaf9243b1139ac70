"""The selectors of a client: which one is asked, over which channel, after which pause."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc.aio

from federation.runtime.frames import participation_stub
from federation.runtime.rpc import create_channel

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.2, 5.0
"""Pause after a failed try: doubles up to the largest, drawn evenly from half of it up."""

TARGETS_MAX = 32
"""Selectors that a client knows: those that it was given, and those that it was told of."""

TRIES_AT_ONE_SELECTOR = 3
"""Failed tries in a row after which the next selector of the list is asked."""


class Selectors:
    """A list of selectors, asked in turn.

    Args:
        targets: HOST:PORT of each, at least one; the first is asked first.
        keepalive_s: A silent connection is pinged after so long.
        keepalive_timeout_s: A connection whose ping is unanswered for so long is closed.
    """

    def __init__(
        self, targets: Sequence[str], keepalive_s: float, keepalive_timeout_s: float
    ) -> None:
        self._targets = list(targets)
        self._keepalive = (keepalive_s, keepalive_timeout_s)
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._failed_tries = 0

    @property
    def known(self) -> set[str]:
        """HOST:PORT of each."""
        return set(self._targets)

    @property
    def target(self) -> str:
        """The selector that is asked now."""
        return self._targets[0]

    @property
    def stub(self) -> Any:
        """Its service."""
        return self.stub_of(self.target)

    def stub_of(self, target: str) -> Any:
        """The service of one of them."""
        channel = self._channels.get(target)
        if channel is None:
            channel = create_channel(target, *self._keepalive)
            self._channels[target] = channel
        return participation_stub(channel)

    def learn(self, fallbacks: Iterable[str]) -> None:
        """Take in selectors that one of them told of: they come after those that were given."""
        for target in fallbacks:
            if len(self._targets) < TARGETS_MAX and target not in self._targets:
                self._targets.append(target)

    def next(self) -> None:
        """Ask the next one from now on."""
        self._targets.append(self._targets.pop(0))
        self._failed_tries = 0

    def answered(self) -> None:
        """The selector is there."""
        self._failed_tries = 0

    def failed(self) -> float:
        """Note a failed try; return the longest pause before the next one, in seconds."""
        self._failed_tries += 1
        pause_s: float = min(BACKOFF_MIN_S * 2 ** (self._failed_tries - 1), BACKOFF_MAX_S)
        if len(self._targets) > 1 and self._failed_tries >= TRIES_AT_ONE_SELECTOR:
            self.next()
        return pause_s

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            await channel.close()
