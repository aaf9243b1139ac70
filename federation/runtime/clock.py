"""The time that deadlines are counted in: Unix seconds that never jump."""

from __future__ import annotations

import time
from collections.abc import Callable


def _since_boot_s() -> float:
    """Return seconds that grow also while the machine sleeps, where the system counts them."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Clock:
    """The wall clock as it was at construction, advanced by monotonic time.

    A deadline survives a restart (it is Unix time), and an operator or NTP who sets the wall
    clock while a round runs neither ends nor prolongs it.
    """

    def __init__(
        self,
        *,
        at_least_s: float = 0.0,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = _since_boot_s,
    ) -> None:
        """Read both clocks once.

        Args:
            at_least_s: Unix seconds that time has certainly reached, e.g. the last journaled
                time: a wall clock that was set back does not take time back.
            wall: Unix seconds.
            monotonic: Seconds from an arbitrary start that only grow.
        """
        self._monotonic = monotonic
        self._offset_s = max(wall(), at_least_s) - monotonic()

    def now_s(self) -> float:
        """Return the present in Unix seconds."""
        return self._offset_s + self._monotonic()
