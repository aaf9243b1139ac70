"""Mistakes that somebody could make in the real code; the simulation must find each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from coordinator import durability, progress
from coordinator import ledger as ledgers
from coordinator import round as core
from coordinator.draft import Draft
from coordinator.driver import Driver
from coordinator.effects import WriteCheckpoint
from coordinator.roster import OPEN, Standing
from federation.phases import Outcome
from selector.cohort import Cohort, Member
from selector.cohort import Standing as CohortStanding
from selector.selector import Selector
from tests.simulation.seeds import scenario
from tests.simulation.world import play


@dataclass(frozen=True)
class Mutation:
    """A mistake.

    Attributes:
        name: What is done wrong.
        patches: What stands in for what, by its dotted name.
        profile: Where it is looked for.
        seeds_max: It is found within so many seeds.
        known: Seeds that found it once, tried first; others do when these have changed.
    """

    name: str
    patches: dict[str, Any]
    profile: str = "storm"
    seeds_max: int = 60
    known: tuple[int, ...] = ()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Make the mistake for as long as the block lasts."""
        with ExitStack() as stack:
            for name, what in self.patches.items():
                stack.enter_context(patch(name, what))
            yield


def _with_one_report(original: Callable[[Draft], None]) -> Callable[[Draft], None]:
    def mutated(draft: Draft) -> None:
        plan = draft.plan
        draft.plan = dataclasses.replace(plan, min_reports=1)
        try:
            original(draft)
        finally:
            draft.plan = plan

    return mutated


_is_open_to = Cohort.is_open_to


def _open_again(self: Cohort, member: Member) -> bool:
    if member.standing is CohortStanding.ACCEPTED and not self.closed:
        member.standing = CohortStanding.CONFIGURED
    return _is_open_to(self, member)


_close = Selector._close


async def _close_and_forget(self: Selector, close: Any) -> None:
    await _close(self, close)
    if self.cohort is not None and self.cohort.order.round_id == close.round_id:
        self.cohort.end()
        self._served.end()


async def _take_then_write(self: Driver, happenings: Any) -> None:
    now_s = self.clock.now_s()
    lasting = [each for each in happenings if durability._must_last(self.ledger, each)]
    for happening in happenings:
        self._take(happening, now_s)
    if lasting:
        await self.memory.append(lasting, now_s)
    self._go_on()


def _void_nobody(self: Draft, owner: Any, reason: str) -> None:
    for client_id, claim in self.claims.items():
        if claim.owner == owner and claim.standing in (*OPEN, Standing.FOLDED) and self.collecting:
            self.send_away(client_id)
    self.duties[owner] = dataclasses.replace(self.duties[owner], away_until_s=None)


_begin_round = ledgers._begin_round


def _begin_with_the_number_before(ledger: ledgers.Ledger, began: Any, now_s: float) -> Any:
    if ledger.round is not None and ledger.round.outcome is Outcome.ABANDONED:
        ledger = dataclasses.replace(ledger, last_round_number=ledger.round.number - 1)
    return _begin_round(ledger, began, now_s)


_begin_commit = progress.begin_commit


def _begin_commit_again(draft: Draft) -> None:
    _begin_commit(draft)
    if draft.kept_reports() > 1:
        draft.effects.append(next(e for e in draft.effects if isinstance(e, WriteCheckpoint)))


_resume = core.resume


def _resume_without_looking(round_: Any, now_s: float, *, base_digest: str, committed: bool) -> Any:
    return _resume(round_, now_s, base_digest=base_digest, committed=False)


MUTATIONS = (
    Mutation(
        "the fewest reports are not asked for",
        {
            "coordinator.progress._try_to_close": _with_one_report(progress._try_to_close),
            "coordinator.progress._try_to_write": _with_one_report(progress._try_to_write),
        },
        known=(24,),
    ),
    Mutation(
        "a report that is repeated is folded again",
        {"selector.cohort.Cohort.is_open_to": _open_again},
    ),
    Mutation(
        "the sum is forgotten before the partial is acknowledged",
        {"selector.selector.Selector._close": _close_and_forget},
    ),
    Mutation(
        "a partial of another round is taken",
        {
            "coordinator.inspector.check_header": lambda *_: None,
            "coordinator.merging.check_header": lambda *_: None,
        },
        known=(18,),
    ),
    Mutation(
        "effects are visible before they are durable",
        {"coordinator.driver.Driver._take_all": _take_then_write},
        profile="calm",
        seeds_max=1,
    ),
    Mutation(
        "the journal is not synced",
        {"tests.simulation.disk.JournalOs.fdatasync": lambda self, descriptor: None},
        profile="calm",
        seeds_max=1,
    ),
    Mutation(
        "a report is accepted that is not in the spool",
        {"selector.spool.Spool.keep": lambda *_: None},
        known=(14,),
    ),
    Mutation("a void is forgotten", {"coordinator.draft.Draft.void": _void_nobody}, known=(9,)),
    Mutation(
        "the number of an abandoned round is given again",
        {"coordinator.ledger._begin_round": _begin_with_the_number_before},
    ),
    Mutation("a commit is begun twice", {"coordinator.progress.begin_commit": _begin_commit_again}),
    Mutation(
        "a commit that was done is not seen after a restart",
        {"coordinator.ledger.core.resume": _resume_without_looking},
        seeds_max=200,
        known=(63, 22),
    ),
    Mutation(
        "a lost client is waited for without end",
        {"coordinator.progress._rule_on_the_away": lambda draft: None},
    ),
)


def found_by(mutation: Mutation) -> tuple[int, str] | None:
    """Return the first seed that finds a mistake, and what it says of it; None if none does."""
    for seed in (*mutation.known, *range(mutation.seeds_max)):
        with mutation.in_place():
            verdict = play(scenario(seed, mutation.profile))
        if verdict.violations:
            return seed, verdict.violations[0]
    return None
