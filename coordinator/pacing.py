"""Pace steering: when the clients that are sent away come back.

Who is not needed now is of use when the next round selects, so the window begins where the running
round is expected to end. All of them at once would be a wave of check-ins that nobody needs, so the
window is as wide as it takes to see no more than ``CHECK_INS_PER_S``; each client draws its moment
evenly from it. How long a round takes is learnt from its work alone, from Configure on: a Selection
that waited for clients that were told to come back late must not send the next ones away for longer
still. What is expected may be wrong, so nobody is sent away for longer than a Selection could bear
that began at once.

Source: Bonawitz et al. 2019, arXiv:1902.01046, section 2.3.
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.plan import RetryWindow, RoundPlan

CHECK_INS_PER_S = 100.0
"""Rate of returning clients that a window is made wide enough for."""

DELAY_MAX_S = 3600.0
"""No client is sent away for longer, whatever was observed."""

SELECTION_SHARE = 0.5
"""Of ``selection_timeout_s``: who is sent away for no longer is back before it ends, also if the
round ended at once; else a round that is much shorter than expected leaves the next without
clients, and that one is abandoned."""

NEWEST_SHARE = 0.3
"""Weight of the newest round in what is expected of the next."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What was observed of earlier rounds.

    Attributes:
        work_s: Expected seconds from Configure to Completed; None before the first round.
        crowd: Clients that the round before sent away.
    """

    work_s: float | None = None
    crowd: int = 0

    def after(self, work_s: float | None, crowd: int) -> Pace:
        """Return the pace after one more round; ``work_s`` is None if it never configured."""
        if work_s is None:
            return Pace(self.work_s, crowd)
        if self.work_s is None:
            return Pace(work_s, crowd)
        return Pace(self.work_s + NEWEST_SHARE * (work_s - self.work_s), crowd)


def expected_s(plan: RoundPlan, pace: Pace, configured_s: float | None, now_s: float) -> float:
    """Return in how many seconds the round is expected to be over, and whoever is away needed.

    Args:
        plan: A pipelined round has no use for it: who comes early is held for the next one.
        pace: What was observed.
        configured_s: When the round configured, Unix seconds; None if it has not.
        now_s: Unix seconds.
    """
    if pace.work_s is None or plan.pipelined:
        return 0.0
    began_s = configured_s if configured_s is not None else now_s
    bearable_s = SELECTION_SHARE * plan.selection_timeout_s
    return min(max(0.0, began_s + pace.work_s - now_s), bearable_s, DELAY_MAX_S)


def retry_window(plan: RoundPlan, crowd: int, in_s: float = 0.0) -> RetryWindow:
    """Return when clients that are sent away now come back.

    Args:
        plan: Its own window is the narrowest.
        crowd: How many share the window.
        in_s: They are not needed for so long, seconds.
    """
    width_s = max(plan.retry_delay_max_s - plan.retry_delay_min_s, crowd / CHECK_INS_PER_S)
    delay_min_s = max(plan.retry_delay_min_s, in_s)
    return RetryWindow(delay_min_s, min(delay_min_s + width_s, delay_min_s + DELAY_MAX_S))
