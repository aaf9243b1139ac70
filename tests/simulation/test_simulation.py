"""The whole federation in virtual time: whatever goes wrong, the law holds."""

from __future__ import annotations

import pytest

from tests.simulation.seeds import failure, scenario
from tests.simulation.world import play

# A process that is killed leaves coroutines behind that nobody awaits any more.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]

CASES = [
    ("calm", range(20)),
    ("usual", range(50)),
    ("usual", range(50, 100)),
    ("storm", range(30)),
    ("storm", range(30, 60)),
]


@pytest.mark.parametrize(
    ("profile", "seeds"), CASES, ids=[f"{profile}-{seeds.start}" for profile, seeds in CASES]
)
def test_anything_goes_wrong_the_law_holds_and_the_session_ends(profile: str, seeds: range) -> None:
    """All that ``watch``, ``outside`` and ``bounds`` check holds at each moment of each run."""
    for seed in seeds:
        verdict = play(scenario(seed, profile))

        assert not verdict.violations, failure(seed, profile, verdict)


def test_many_clients_come_at_once_each_is_in_the_sum_once_or_not_at_all() -> None:
    """The rules hold for hundreds of clients as for two."""
    verdict = play(scenario(0, "crowd"))

    assert not verdict.violations, "\n".join(verdict.violations)


def test_same_seed_is_run_again_the_same_happens() -> None:
    """A failing seed can be looked at: nothing depends on anything but the seed."""
    first = play(scenario(7, "storm"), traced=True)
    second = play(scenario(7, "storm"), traced=True)

    assert first.trace == second.trace
