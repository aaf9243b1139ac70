"""What the operator asks of a round, and what a client is asked to do in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from federation.errors import SettingsError

Weighting = Literal["examples", "equal"]

IMPOSSIBLE_PLAN = "impossible-plan"
"""Reason of the ``SettingsError`` for a plan that no round can follow."""

OVER_SELECTION_MAX = 100.0
"""Largest factor on admissions."""

_DEADLINES = (
    "selection_timeout_s",
    "report_window_s",
    "grace_s",
    "return_s",
    "commit_timeout_s",
)
"""Each must leave some time: without grace no partial would ever arrive before its end."""


@dataclass(frozen=True)
class RetryWindow:
    """When to come back: a moment between the two delays, drawn evenly by the client."""

    delay_min_s: float
    delay_max_s: float

    def not_before(self, delay_s: float) -> RetryWindow:
        """Return a window of the same width that begins no earlier."""
        later_s = max(0.0, delay_s - self.delay_min_s)
        return RetryWindow(self.delay_min_s + later_s, self.delay_max_s + later_s)


@dataclass(frozen=True)
class Hyperparameters:
    """How a client trains; handed to every trainer as they are.

    Attributes:
        epochs: Passes over the client's own data, at least 1.
        batch_size: Examples a step, at least 1.
        learning_rate: Step size of the client's optimizer, above 0.
    """

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        _require("epochs", self.epochs, self.epochs >= 1, "a whole number from 1")
        _require("batch_size", self.batch_size, self.batch_size >= 1, "a whole number from 1")
        positive = math.isfinite(self.learning_rate) and self.learning_rate > 0
        _require("learning_rate", self.learning_rate, positive, "a finite number above 0")


@dataclass(frozen=True)
class RoundPlan:
    """What the operator asks of a round.

    Attributes:
        goal_count: Reports aimed for; reporting closes once this many are folded.
        over_selection: Factor on admissions, from 1 to ``OVER_SELECTION_MAX``.
        min_reports: Fewest reports for a commit; 0 means half of ``goal_count``, rounded up.
        selection_timeout_s: At its end the round goes on with ``min_reports`` clients or more,
            else it is abandoned.
        report_window_s: From Configure on; at its end reporting closes with what was folded.
        grace_s: From Close on; at its end the round goes on with the partials that arrived.
        return_s: How long a client or selector that went away may take to come back before it
            counts as lost.
        commit_timeout_s: At its end a checkpoint that is not yet written abandons the round.
        pipelined: Hold surplus clients for the next round instead of declining them.
        weighting: ``"examples"`` weighs a report by its example count, ``"equal"`` by 1.
        weight_max: Largest example count that a report may claim.
        update_norm_max: Largest L2 norm of (trained weights - global weights); None: no limit.
        retry_delay_min_s: Earliest return of a client that was told to come back.
        retry_delay_max_s: Latest return of a client that was told to come back.
        hyperparameters: How the clients train.
    """

    goal_count: int
    over_selection: float = 1.0
    min_reports: int = 0
    selection_timeout_s: float = 300.0
    report_window_s: float = 600.0
    grace_s: float = 15.0
    return_s: float = 30.0
    commit_timeout_s: float = 60.0
    pipelined: bool = False
    weighting: Weighting = "examples"
    weight_max: int = 1_000_000_000
    update_norm_max: float | None = None
    retry_delay_min_s: float = 1.0
    retry_delay_max_s: float = 5.0
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)

    def __post_init__(self) -> None:
        _require("goal_count", self.goal_count, self.goal_count >= 1, "a whole number from 1")
        if self.min_reports == 0:
            object.__setattr__(self, "min_reports", (self.goal_count + 1) // 2)
        _require(
            "min_reports",
            self.min_reports,
            1 <= self.min_reports <= self.goal_count,
            f"a whole number from 1 to goal_count, which is {self.goal_count}",
        )
        _require(
            "over_selection",
            self.over_selection,
            1 <= self.over_selection <= OVER_SELECTION_MAX,
            f"a number from 1.0 to {OVER_SELECTION_MAX}",
        )
        for name in _DEADLINES:
            seconds = getattr(self, name)
            _require(name, seconds, math.isfinite(seconds) and seconds > 0, "seconds, above 0")
        earliest = self.retry_delay_min_s
        _require(
            "retry_delay_min_s",
            earliest,
            math.isfinite(earliest) and earliest >= 0,
            "seconds, 0 or more",
        )
        _require(
            "retry_delay_max_s",
            self.retry_delay_max_s,
            math.isfinite(self.retry_delay_max_s)
            and self.retry_delay_max_s >= self.retry_delay_min_s,
            f"seconds, at least retry_delay_min_s, which is {self.retry_delay_min_s}",
        )
        _require(
            "weighting",
            self.weighting,
            self.weighting in ("examples", "equal"),
            "'examples' or 'equal'",
        )
        _require(
            "weight_max",
            self.weight_max,
            1 <= self.weight_max <= 2**53,
            "a whole number from 1 to 2**53",
        )
        norm = self.update_norm_max
        _require(
            "update_norm_max",
            norm,
            norm is None or (math.isfinite(norm) and norm > 0),
            "a finite number above 0, or nothing for no limit",
        )

    @property
    def admit_limit(self) -> int:
        """Clients that may be admitted: ``goal_count * over_selection``, rounded up."""
        return math.ceil(round(self.goal_count * self.over_selection, 9))

    @property
    def retry_window(self) -> RetryWindow:
        """When a client that is sent away may come back."""
        return RetryWindow(self.retry_delay_min_s, self.retry_delay_max_s)


def _require(setting: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise SettingsError(setting, value, f"it must be {expected}", reason=IMPOSSIBLE_PLAN)
