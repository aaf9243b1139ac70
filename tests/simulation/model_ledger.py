"""The coordinator of the model check: the real ledger, each of its steps taken once and numbered.

No clock runs. A deadline that is set lies in the future until the model lets it pass, alone or
with others, in whatever order: what is found holds for any time-outs and any delays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from coordinator.effects import Configure, Effect
from coordinator.events import Owner, Ticked
from coordinator.ledger import Happening, Ledger, Restarted, RoundBegan, SessionStarted, take
from coordinator.round import Closing, Round
from federation.plan import RoundPlan
from tests.simulation.model_parts import BASE, ROUND_ID, Message
from tests.simulation.model_rounds import (
    NOW_S,
    SELECTORS,
    Partials,
    events_of,
    key_of,
    merged,
    orders,
    renamed,
    timers,
)
from tests.simulation.model_side import CLIENTS, Sent

OVER = -1
"""Number of every ledger whose round is over, or is being committed."""

PLAN = RoundPlan(goal_count=2, min_reports=1)
"""The goal is both clients, and one report is enough: so no round is abandoned while one is left
that could be wrong."""

_WHO = [(CLIENTS[0],), (CLIENTS[1],), CLIENTS]
_ALL_SAID: list[Message] = [("gone",), ("detached",), ("attached",), ("failed",), ("partial",)] + [
    (kind, *who)
    for kind in ("checked_in", "left", "returned", "configured", "folded", "rejected", "partial")
    for who in _WHO
]


@dataclass(frozen=True)
class Step:
    """What became of a ledger.

    Attributes:
        after: Number of the next one.
        orders: To which selector and incarnation, and what.
        merged: What a commit that begins is to merge.
        outcome: How the round ended, or is about to: what it was, and the clients' standings.
        wrong: What may never happen, and did.
    """

    after: int
    orders: tuple[tuple[int, int, Message], ...] = ()
    merged: Partials | None = None
    outcome: str = ""
    wrong: str = ""


class Ledgers:
    """All ledgers that were met, by number, and the steps between them."""

    def __init__(self) -> None:
        self._ledgers: list[Ledger] = []
        self._numbers: dict[Any, int] = {}
        ledger, _ = take(Ledger(), SessionStarted("session", PLAN, 1), NOW_S)
        ledger, _ = take(ledger, RoundBegan(ROUND_ID, BASE), NOW_S)
        self.first = self._number(ledger)

    def round(self, number: int) -> Round:
        """Return the round of a ledger."""
        round_ = self._ledgers[number].round
        assert round_ is not None
        return round_

    def told(self, number: int, selector: int, sent: Sent) -> Step:
        """Take what a selector said."""
        owner = Owner(SELECTORS[selector], str(sent.incarnation))
        return self._after(self._ledgers[number], events_of(owner, sent.message))

    def restarted(self, number: int) -> Step:
        """Go on as the next coordinator process."""
        return self._after(self._ledgers[number], [Restarted(BASE)])

    def timed_out(self, number: int) -> Iterator[tuple[str, Step]]:
        """Let deadlines pass, in every combination."""
        ledger, due = self._ledgers[number], timers(self.round(number))
        for count in range(1, len(due) + 1):
            for names in combinations(due, count):
                round_ = self.round(number)
                for name in names:
                    round_ = due[name](round_)
                step = self._after(replace(ledger, round=round_), [Ticked()])
                yield f"deadline of {', '.join(names)} passes", step

    def renamed(self, number: int, *, selectors: bool, clients: bool) -> int:
        """Return the number of the ledger with selectors or clients in each other's place."""
        renaming = dict(zip(SELECTORS, reversed(SELECTORS), strict=True)) if selectors else {}
        renaming |= dict(zip(CLIENTS, reversed(CLIENTS), strict=True)) if clients else {}
        round_ = renamed(self.round(number), renaming)
        return self._number(replace(self._ledgers[number], round=round_))

    def is_closing(self, number: int) -> bool:
        """Say whether reporting has closed: nobody is configured any more."""
        return self.round(number).closing is not Closing.OPEN

    def is_unknown(self, number: int, selector: int) -> bool:
        """Say whether a selector has no part in the round."""
        round_ = self.round(number)
        owners = {*round_.duties, *(claim.owner for claim in round_.claims.values())}
        return all(owner.selector_id != SELECTORS[selector] for owner in owners)

    def is_settled(self, number: int, selector: int) -> bool:
        """Say whether nothing that a selector says or does makes a difference any more.

        Its duty is void or its partial is kept, and stays so: that is looked at in each step. That
        the coordinator takes nothing from it or its successor then is not believed but tried.
        """
        served = [
            (int(owner.incarnation), duty)
            for owner, duty in self.round(number).duties.items()
            if owner.selector_id == SELECTORS[selector]
        ]
        if not served or any(duty.owing for _, duty in served):
            return False
        newest = max(incarnation for incarnation, _ in served)
        return all(
            self._is_vain(number, selector, Sent(incarnation, message))
            for incarnation in range(newest + 2)
            for message in _ALL_SAID
        )

    def _is_vain(self, number: int, selector: int, sent: Sent) -> bool:
        step = self.told(number, selector, sent)
        answers = all(to == selector and kind != "configure" for to, _, (kind, *_) in step.orders)
        return step.after == number and answers and not step.wrong

    def _number(self, ledger: Ledger) -> int:
        assert ledger.round is not None
        number = self._numbers.setdefault(key_of(ledger.round), len(self._ledgers))
        if number == len(self._ledgers):
            self._ledgers.append(ledger)
        return number

    def _after(self, before: Ledger, happenings: Iterable[Happening]) -> Step:
        ledger, effects = before, list[Effect]()
        try:
            for happening in happenings:
                ledger, more = take(ledger, happening, NOW_S)
                effects += more
            again = take(ledger, Restarted(BASE), NOW_S)[1]
        except AssertionError as error:
            return Step(OVER, wrong=f"the coordinator stops: {error!r}")
        assert before.round is not None
        assert ledger.round is not None
        wrong, commit = _wrong_step(before.round, ledger.round), merged(effects)
        standings = sorted(claim.standing.value for claim in ledger.round.claims.values())
        outcome = f"{ledger.round.reason or 'commit'}, clients {', '.join(standings)}"
        if before.round.closing is not Closing.OPEN and any(
            isinstance(effect, Configure) for effect in effects
        ):
            wrong = "a client is configured after reporting closed"
        if commit is not None and merged(again) != commit:
            wrong = f"{commit} is merged, and after a restart {merged(again)}"
        if wrong or commit is not None or ledger.running is None:
            return Step(OVER, merged=commit, outcome=outcome, wrong=wrong)
        return Step(self._number(ledger), tuple(orders(effects)))


def _wrong_step(before: Round, after: Round) -> str:
    """Compare with what a round never takes back, and whom it never gives away."""
    for owner, duty in before.duties.items():
        now = after.duties[owner]
        if not duty.owing and (now.void, now.partial) != (duty.void, duty.partial):
            return f"{owner} was void or had its partial kept, and then had {now}"
    for client_id, claim in before.claims.items() if before.duties else ():
        other = after.claims[client_id].owner
        if other != claim.owner and after.duties[claim.owner].owing:
            return f"the claim of {client_id} moved from {claim.owner}, which serves, to {other}"
    return ""
