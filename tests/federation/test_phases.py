"""Tests of ``federation.phases``."""

from __future__ import annotations

from itertools import pairwise

from federation.phases import NEXT_PHASES, Fate, Outcome, Phase


def test_phases_are_the_four_of_a_round_in_order() -> None:
    """Selection, Configuration, Reporting, Completed; failure is an outcome, not a fifth phase."""
    assert list(Phase) == ["selection", "configuration", "reporting", "completed"]
    assert list(Outcome) == ["committed", "abandoned"]


def test_each_phase_leads_to_the_next_one_or_to_the_end() -> None:
    """No phase is skipped on the way to a commit, and each can be abandoned."""
    moves = {phase: set(NEXT_PHASES[phase]) for phase in Phase}

    assert moves == {
        Phase.SELECTION: {Phase.CONFIGURATION, Phase.COMPLETED},
        Phase.CONFIGURATION: {Phase.REPORTING, Phase.COMPLETED},
        Phase.REPORTING: {Phase.COMPLETED},
        Phase.COMPLETED: set(),
    }


def test_phases_only_go_forward() -> None:
    """A round never comes back to a phase."""
    order = list(Phase)

    assert all(order.index(later) > order.index(p) for p in Phase for later in NEXT_PHASES[p])
    assert all(later in NEXT_PHASES[earlier] for earlier, later in pairwise(order))


def test_fates_are_the_six_of_an_admitted_client() -> None:
    """Away is not among them: it is waited for."""
    assert set(Fate) == {"reported", "rejected", "discarded", "withdrawn", "lost", "expired"}
