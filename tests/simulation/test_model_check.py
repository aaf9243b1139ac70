"""The rule of exactly once, in every order of what can happen: see ``model_check``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from coordinator import round as core
from coordinator.draft import Draft, Round
from coordinator.events import Owner, PartialReference, SelectorAttached
from coordinator.roster import Duty
from selector.cohort import Cohort, Member, Standing
from tests.simulation.model_check import explore
from tests.simulation.mutations import Mutation


def test_one_fault_happens_at_any_moment_no_client_is_in_a_sum_twice() -> None:
    """All that one fault can lead to; ``python -m tests.simulation.model_check`` tries three."""
    found = explore(faults=1)

    assert found.complete
    assert sum(level.closed for level in found.levels) > 1_000
    assert not found.wrong, "\n".join(found.wrong)


def test_round_is_followed_to_its_end_each_commit_counts_each_client_once() -> None:
    """That no commit after a closed state is wrong is looked at, too, and not only argued."""
    found = explore(faults=1, to_the_end=True)

    assert sum(level.commits for level in found.levels) > 500
    assert sum(level.closed for level in found.levels) == 0
    assert not found.wrong, "\n".join(found.wrong)


@pytest.mark.parametrize("faults", [0, pytest.param(1, marks=pytest.mark.prove)])
def test_no_state_stands_for_another_the_same_rounds_are_met(faults: int) -> None:
    """Every round that can be, and every end of one, is among the few states that are looked at."""
    reduced = explore(faults, to_the_end=True)
    plain = explore(faults, reduced=False, prompt=False)

    assert reduced.rounds == plain.rounds
    assert reduced.outcomes == plain.outcomes
    assert reduced.wrong == plain.wrong == []
    assert plain.levels[-1].states > 10 * reduced.levels[-1].states


@pytest.mark.prove
def test_no_move_is_prompt_the_same_rounds_are_met_after_two_faults() -> None:
    """What two faults do together to a message on its way is not lost by taking it at once."""
    prompt = explore(faults=2)
    waiting = explore(faults=2, prompt=False)

    assert prompt.rounds == waiting.rounds
    assert prompt.outcomes == waiting.outcomes
    assert prompt.wrong == waiting.wrong == []
    assert waiting.levels[-1].states > 10 * prompt.levels[-1].states


# -- Planted mistakes ---------------------------------------------------------------------------

_claim = Cohort.claim
_resume = core.resume


def _claimed_afresh(self: Cohort, client_id: str, token: str) -> Member:
    member = _claim(self, client_id, token)
    member.standing = Standing.CLAIMED
    return member


def _wanted_until_close(self: Cohort, member: Member) -> bool:
    return not self.closed


def _everybody(self: Cohort) -> tuple[Member, ...]:
    return tuple(self.members.values())


def _welcomed(draft: Draft, event: SelectorAttached) -> None:
    duty = draft.duties.get(event.owner)
    if duty is not None and duty.void:
        draft.duties[event.owner] = Duty()
    core._selector_attached(draft, event)


def _believed(draft: Draft) -> Iterator[tuple[Owner, PartialReference]]:
    for owner, duty in draft.duties.items():
        if duty.partial is not None:
            yield owner, duty.partial


def _forgiven(round_: Round, now_s: float, **more: Any) -> Any:
    duties = {owner: replace(duty, void=False) for owner, duty in round_.duties.items()}
    return _resume(replace(round_, duties=duties), now_s, **more)


COHORT, ROUND = "selector.cohort.Cohort", "coordinator.round"
CLAIMS_MOVE = {"coordinator.draft.Draft.may_move": lambda self, claim: True}
STALE_IS_TAKEN = {
    f"{ROUND}._HANDLERS": {**core._HANDLERS, SelectorAttached: _welcomed},
    f"{ROUND}._judge_partial": lambda draft, event: (True, ""),
}
ALL_IS_TAKEN = {f"{ROUND}._judge_partial": lambda draft, event: (True, "")}
MERGED_UNSEEN = {
    "coordinator.progress._kept_partials": _believed,
    "tests.simulation.model_ledger._wrong_step": lambda before, after: "",
}
MISTAKES = (
    Mutation("a report that is repeated is folded", {f"{COHORT}.may_report": _wanted_until_close}),
    Mutation("a claim made anew has no verdict", {f"{COHORT}.claim": _claimed_afresh}),
    Mutation("a partial lists who did not report", {f"{COHORT}.accepted": property(_everybody)}),
    Mutation("the claim of a selector that serves moves", CLAIMS_MOVE),
    Mutation("the partial of a void selector is taken", STALE_IS_TAKEN),
    Mutation("a restart forgives who is void", {f"{ROUND}.resume": _forgiven}),
    Mutation("claims move, and the sum tells", CLAIMS_MOVE | ALL_IS_TAKEN | MERGED_UNSEEN),
    Mutation("a stale partial counts, and the sum tells", STALE_IS_TAKEN | MERGED_UNSEEN),
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_mistake_is_planted_the_way_to_a_wrong_sum_is_found(mistake: Mutation) -> None:
    """A check that nothing can break checks nothing."""
    with mistake.in_place():
        found = explore(faults=2)

    assert found.wrong
    assert len(found.wrong) < 30, "breadth first, so the way is a short one"
