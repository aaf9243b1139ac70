"""Tests of ``federation.runtime.clock``."""

from __future__ import annotations

from federation.runtime.clock import Clock


class Hand:
    """A clock that a test turns by hand."""

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    def __call__(self) -> float:
        return self.at_s


def test_monotonic_time_passes_now_advances_from_the_wall_clock() -> None:
    """Now is the wall clock at construction plus the monotonic seconds since."""
    monotonic = Hand(50.0)
    clock = Clock(wall=Hand(1_000.0), monotonic=monotonic)

    monotonic.at_s += 2.5

    assert clock.now_s() == 1_002.5


def test_wall_clock_is_set_while_it_runs_now_does_not_jump() -> None:
    """The wall clock is read once only."""
    wall = Hand(1_000.0)
    clock = Clock(wall=wall, monotonic=Hand(50.0))

    wall.at_s = 9_000.0

    assert clock.now_s() == 1_000.0


def test_wall_clock_was_set_back_now_starts_at_the_least_given() -> None:
    """Time that was journaled has been reached, whatever the wall clock says."""
    clock = Clock(at_least_s=2_000.0, wall=Hand(1_000.0), monotonic=Hand(50.0))

    assert clock.now_s() == 2_000.0
