"""The rule of exactly once, in every order of what can happen: see ``model_check``."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

from coordinator.draft import Draft
from coordinator.events import Owner, PartialReference
from tests.simulation.model_check import explore


def test_one_fault_happens_at_any_moment_no_client_is_in_a_sum_twice() -> None:
    """All that one fault can lead to; ``python -m tests.simulation.model_check`` tries three."""
    found = explore(faults=1)

    assert found.complete
    assert found.commits > 100
    assert not found.wrong, "\n".join(found.wrong)


def test_claim_moves_and_partials_are_believed_a_client_is_found_in_a_sum_twice() -> None:
    """The check can fail: these two rules together keep a report from being folded twice."""
    with (
        patch("coordinator.draft.Draft.may_move", lambda self, claim: True),
        patch("coordinator.round._judge_partial", lambda draft, event: (True, "")),
        patch("coordinator.progress._kept_partials", _believed),
    ):
        found = explore(faults=1, states_max=20_000)

    assert found.wrong


def _believed(draft: Draft) -> Iterator[tuple[Owner, PartialReference]]:
    for owner, duty in draft.duties.items():
        if duty.partial is not None:
            yield owner, duty.partial
