"""The simulation can fail: each planted mistake is found within a few seeds."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation, found_by


# A mutant may forget its coroutines.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mistake_is_planted_the_simulation_finds_it(mutation: Mutation) -> None:
    """A check that nothing can break checks nothing."""
    found = found_by(mutation)

    assert found is not None, f"not found within {mutation.seeds_max} seeds"
