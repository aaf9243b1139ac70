"""Spans of virtual time, and how much of a time they cover."""

from __future__ import annotations

from collections.abc import Callable

Span = tuple[float, float]


class Spans:
    """When something was the case.

    Attributes:
        past: From when to when, virtual seconds.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._since_s: float | None = None
        self.past: list[Span] = []

    def begin(self) -> None:
        """It is the case from now on."""
        if self._since_s is None:
            self._since_s = self._now_s()

    def end(self) -> None:
        """It is not the case any more."""
        if self._since_s is not None:
            self.past.append((self._since_s, self._now_s()))
            self._since_s = None


def covered_s(spans: list[Span], begin_s: float, end_s: float) -> float:
    """Return how much of a time the spans cover together."""
    total_s, reached_s = 0.0, begin_s
    for span in sorted(spans):
        since_s, until_s = max(span[0], reached_s), min(span[1], end_s)
        if until_s > since_s:
            total_s += until_s - since_s
            reached_s = until_s
    return total_s
