"""What a demo does when one of its processes has ended by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

WRONG_SETTING = 2
"""Exit status of a process that cannot work with what it was given."""

STARTS_MAX = 4
"""A process that has ended by itself so often is not started again."""


def after_loss(
    module: str, status: int | None, starts: int, modules_left: Sequence[str]
) -> Literal["start-again", "go-on", "end"]:
    """Say what a demo does when one of its processes has ended by itself.

    Args:
        module: What it ran.
        status: Its exit status, or minus the signal that ended it.
        starts: How often a process of its name has been started.
        modules_left: What those run that are still there.
    """
    again = status != WRONG_SETTING and starts < STARTS_MAX
    if module == "client" and again:
        return "start-again"  # rounds wait for all clients
    if module == "webserver":
        return "start-again" if again else "go-on"  # no round needs it
    if module == "selector" and "selector" in modules_left:
        return "go-on"  # its clients know the others
    return "end"
