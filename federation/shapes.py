"""Session shapes: how far a client came in a round, a character for each step.

| mark | step |
|---|---|
| `-` | checked in and admitted |
| `v` | got its configuration |
| `[` | has the checkpoint and trains |
| `]` | is done training |
| `+` | sends its report |
| `^` | its report arrived whole and was not refused |
| `#` | its report arrived whole and was rejected |
| `!` | interrupted after the step before |

``-v[]+^`` is a client that did all that was asked of it, ``-v[!`` one that was lost while it
trained.

Source: Bonawitz et al. 2019, arXiv:1902.01046, section 5, table 1.
"""

from __future__ import annotations

import re

ADMITTED, CONFIGURED, TRAINING, TRAINED, SENDING, ARRIVED = "-v[]+^"
REJECTED = "#"
INTERRUPTED = "!"

_STEPS = ADMITTED + CONFIGURED + TRAINING + TRAINED + SENDING
_SHAPE = re.compile(r"-(v(\[(\](\+[\^#]?)?)?)?)?!?")


def is_shape(text: str) -> bool:
    """Say whether this is a shape."""
    return _SHAPE.fullmatch(text) is not None


def reached(shape: str, mark: str) -> str:
    """Return the shape with this step taken, and those before it; one that is further stays.

    Args:
        shape: What was reached before; empty at first.
        mark: The step.
    """
    whole = _STEPS + mark if mark in (ARRIVED, REJECTED) else _STEPS[: _STEPS.index(mark) + 1]
    return whole if len(whole) > len(shape.rstrip(INTERRUPTED)) else shape


def interrupted(shape: str) -> str:
    """Return the shape of a client that does not go on; one that is done stays."""
    return shape if shape.endswith((ARRIVED, REJECTED, INTERRUPTED)) else shape + INTERRUPTED
