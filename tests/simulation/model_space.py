"""The states of the model check, and what leads from one to another.

A state is a ledger and two sides, each by its number, and the numbers are one integer: what
follows from a part is worked out once for each part, by the real code, and looked up afterwards.

A state stands for all that are alike, and what cannot matter is left out of it:

- The selectors may change places, and so may the clients: nothing asks for their names.
- A selector whose duty is void, or whose partial is kept, is *settled*: the coordinator takes
  nothing from it any more, and gives it no client. That is tried with every message it or a
  successor could send; that it stays so is looked at in each step of the ledger. What is left of it
  is its file. Its clients are elsewhere: each could have ended there at any moment.
- A selector that has no part in the round and nothing but news of its stream on its way is as good
  as new, since that news is taken before it can get a part.
- Once reporting has closed, nobody is configured any more. If no client is then in both sums, or
  could still come into both, no commit can count one twice: the state is *closed* and not followed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from tests.simulation.model_ledger import OVER, Ledgers, Step
from tests.simulation.model_moves import Moves
from tests.simulation.model_parts import Stream, forget, wrong_sum
from tests.simulation.model_rounds import SELECTORS, alike
from tests.simulation.model_side import CLIENTS, Sent, Side, restarted, settled, takes
from tests.simulation.model_swap import swapped

BITS = 24
MASK = (1 << BITS) - 1

T = TypeVar("T")
EVENLY = (0, 1)
"""At which selector each client is when the round is configured."""

UNEVENLY = ((0, 0), (0,))


class Entry(NamedTuple):
    """A move of a side, by numbers; it is called otherwise at each selector."""

    labels: tuple[str, ...]
    side: int
    comes: int
    tells: Sent | None


class Traits(NamedTuple):
    """What is asked of a ledger for each state with it.

    Attributes:
        renamed: Its number with the selectors, the clients, or both in each other's place.
        settled: For each selector whether it is.
        is_simple: For each selector whether it is settled, or has no part in the round.
        is_closing: Reporting has closed.
    """

    renamed: tuple[int, int, int]
    settled: tuple[bool, bool]
    is_simple: tuple[bool, bool]
    is_closing: bool


class Space:
    """All states.

    Args:
        reduced: What is said above holds; else each state stands for itself.
        prompt: Some moves are, see ``model_moves``.
        to_the_end: Closed states are followed all the same.

    Attributes:
        closed: How often a closed state was reached.
        commits: How often a commit began.
        outcomes: How rounds ended, and how often.
        wrong: What may never happen, and did; empty as long as nothing is.
    """

    def __init__(
        self, *, reduced: bool = True, prompt: bool = True, to_the_end: bool = False
    ) -> None:
        forget()
        self.closed = self.commits = 0
        self.outcomes: Counter[str] = Counter()
        self.wrong = ""
        self._reduced, self._to_the_end = reduced, to_the_end or not reduced
        self._ledgers, self._moves = Ledgers(), Moves(prompt=prompt)
        self._sides: list[Side] = []
        self._numbers: dict[Side, int] = {}
        self._parts: dict[Any, Any] = {}
        self._here: list[int] = []
        self._possible: list[int] = []
        self._traits: dict[int, Traits] = {}
        self._swapped: dict[int, int] = {}
        self._settled: dict[int, int] = {}
        self._renewed: dict[int, int] = {}
        self._restarted: dict[int, int] = {}
        self._labels: dict[str, tuple[str, ...]] = {}
        self._free: dict[int, list[Entry]] = {}
        self._faulty: dict[int, list[Entry]] = {}
        self._taken: dict[int, list[tuple[tuple[str, ...], Sent, int]]] = {}
        self._told: dict[tuple[int, int, Sent], Step] = {}
        self._timed_out: dict[int, list[tuple[str, Step]]] = {}
        self._resumed: dict[int, list[tuple[str, Step]]] = {}
        self._ordered: dict[object, int] = {}

    # -- States ---------------------------------------------------------------------------------

    def start(self, places: tuple[int, ...]) -> int:
        """Return the state in which a round has been configured with clients at these places."""
        ledger, sides = self._ledgers.first, [Side(), Side()]
        for client_id, place in zip(CLIENTS, places, strict=False):
            selector = sides[place].selector.with_stream(Stream(client_id))
            sides[place] = sides[place]._replace(selector=selector)
            step = self._ledgers.told(ledger, place, Sent(0, ("checked_in", client_id)))
            ledger = step.after
        if len(places) < len(CLIENTS):
            step = dict(self._ledgers.timed_out(ledger))["deadline of the phase passes"]
        a, b = map(self._number, sides)
        state = self._after(step, a, b)
        assert state is not None
        return state

    def _number(self, side: Side) -> int:
        number = self._numbers.get(side)
        if number is None:
            # Equal parts of many sides are one part.
            selector = self._parts.setdefault(side.selector, side.selector)
            up = tuple(self._parts.setdefault(sent, sent) for sent in side.up)
            side = side._replace(selector=selector, up=up)
            number = self._numbers[side] = len(self._sides)
            self._sides.append(side)
            self._here.append(_bits(side.here))
            self._possible.append(_bits(side.possible))
            self.wrong = self.wrong or wrong_sum(side.selector)
        return number

    def _state(self, ledger: int, a: int, b: int) -> int | None:
        """Return the state that stands for this one; None if it is not followed."""
        if not self._reduced:
            return ledger << 2 * BITS | a << BITS | b
        traits = self._traits.get(ledger) or self._look_at(ledger)
        if traits.is_simple[0]:
            a = self._simplified(a, traits.settled[0])
        if traits.is_simple[1]:
            b = self._simplified(b, traits.settled[1])
        if traits.is_closing and not self._to_the_end and not self._possible[a] & self._possible[b]:
            self.closed += 1
            return None
        of_selectors, of_clients, of_both = traits.renamed
        a_swapped = self._swapped.get(a) or self._swap(a)
        b_swapped = self._swapped.get(b) or self._swap(b)
        return min(
            ledger << 2 * BITS | a << BITS | b,
            of_selectors << 2 * BITS | b << BITS | a,
            of_clients << 2 * BITS | a_swapped << BITS | b_swapped,
            of_both << 2 * BITS | b_swapped << BITS | a_swapped,
        )

    def _look_at(self, ledger: int) -> Traits:
        ledgers = self._ledgers
        is_settled = ledgers.is_settled(ledger, 0), ledgers.is_settled(ledger, 1)
        traits = self._traits[ledger] = Traits(
            (
                ledgers.renamed(ledger, selectors=True, clients=False),
                ledgers.renamed(ledger, selectors=False, clients=True),
                ledgers.renamed(ledger, selectors=True, clients=True),
            ),
            is_settled,
            (
                is_settled[0] or ledgers.is_unknown(ledger, 0),
                is_settled[1] or ledgers.is_unknown(ledger, 1),
            ),
            ledgers.is_closing(ledger),
        )
        return traits

    def _simplified(self, side: int, is_settled: bool) -> int:
        if is_settled:
            return self._once(self._settled, side, lambda: self._number(settled(self._sides[side])))
        is_new = self._sides[side].is_idle
        return self._once(self._renewed, side, lambda: self._number(Side()) if is_new else side)

    def _swap(self, side: int) -> int:
        other = self._number(swapped(self._sides[side]))
        self._swapped[side], self._swapped[other] = other, side
        return other

    @staticmethod
    def _once(known: dict[int, T], key: int, find: Callable[[], T]) -> T:
        found = known.get(key)
        if found is None:
            found = known[key] = find()
        return found

    def rounds(self, states: Iterable[int]) -> frozenset[str]:
        """Return the rounds of these states, each under one of its names."""
        return frozenset(
            alike(self._ledgers.round(ledger)) for ledger in {s >> 2 * BITS for s in states}
        )

    # -- Moves ----------------------------------------------------------------------------------

    def following(self, state: int, *, faulty: bool) -> list[tuple[str, int | None]]:
        """Return what can happen, and the state then; None where nothing follows.

        Args:
            state: Before it.
            faulty: What one fault leads to; else what happens without any.
        """
        ledger, a, b = state >> 2 * BITS, state >> BITS & MASK, state & MASK
        found: list[tuple[str, int | None]] = []
        known = self._faulty if faulty else self._free
        for place, side, other in ((0, a, b), (1, b, a)):
            entries = known.get(side)
            if entries is None:
                entries = known[side] = self._entries(side, faulty)
            here = self._here[other]
            for labels, after, comes, tells in entries:
                if comes & here:
                    continue
                pair = (other, after) if place else (after, other)
                if tells is None:
                    found.append((labels[place], self._state(ledger, *pair)))
                    continue
                step = self._tell(ledger, place, tells)
                if comes and step.after == ledger and _only_declines(step):
                    continue  # it is where it was
                found.append((labels[place], self._after(step, *pair)))
            if not faulty:
                for labels, sent, rest in self._taken.get(side) or self._takes(side):
                    pair = (other, rest) if place else (rest, other)
                    found.append(
                        (labels[place], self._after(self._tell(ledger, place, sent), *pair))
                    )
        for label, step in self._elsewhere(ledger, faulty):
            pair = (self._cut_off(a), self._cut_off(b)) if faulty else (a, b)
            found.append((label, self._after(step, *pair)))
        return found

    def _elsewhere(self, ledger: int, faulty: bool) -> list[tuple[str, Step]]:
        """Return what happens to the coordinator alone."""
        known = self._resumed if faulty else self._timed_out

        def look() -> list[tuple[str, Step]]:
            if faulty:
                return [("the coordinator restarts", self._ledgers.restarted(ledger))]
            return list(self._ledgers.timed_out(ledger))

        return self._once(known, ledger, look)

    def _entries(self, side: int, faulty: bool) -> list[Entry]:
        before = self._sides[side]
        moves = self._moves.with_fault(before) if faulty else self._moves.without_fault(before)
        return [
            Entry(
                self._labels_of(f"{{}} {move.label}"),
                self._number(move.side),
                _bits({move.comes} if move.comes else ()),
                None if move.tells is None else Sent(before.selector.incarnation, move.tells),
            )
            for move in moves
        ]

    def _takes(self, side: int) -> list[tuple[tuple[str, ...], Sent, int]]:
        self._taken[side] = [
            (
                self._labels_of(f"the coordinator takes {sent.message} of {{}}"),
                sent,
                self._number(rest),
            )
            for sent, rest in takes(self._sides[side])
        ]
        return self._taken[side]

    def _labels_of(self, form: str) -> tuple[str, ...]:
        """Return what a move is called at each selector; equal ones are one, for there are many."""
        labels = self._labels.get(form)
        if labels is None:
            labels = self._labels[form] = tuple(form.replace("{}", name) for name in SELECTORS)
        return labels

    def _cut_off(self, side: int) -> int:
        return self._once(self._restarted, side, lambda: self._number(restarted(self._sides[side])))

    def _tell(self, ledger: int, place: int, sent: Sent) -> Step:
        key = (ledger, place, sent)
        step = self._told.get(key)
        if step is None:
            step = self._told[key] = self._ledgers.told(ledger, place, sent)
        return step

    def _after(self, step: Step, a: int, b: int) -> int | None:
        """Carry out what the coordinator wants done."""
        if step.after == OVER:
            self.wrong = self.wrong or step.wrong or self._wrong_commit(step, a, b)
            self.commits += step.merged is not None
            self.outcomes[step.outcome] += 1
            return None
        for place, incarnation, order in step.orders:
            key = (b if place else a, incarnation, order)
            after = self._ordered.get(key)
            if after is None:
                side = self._moves.ordered(self._sides[key[0]], incarnation, order)
                after = self._ordered[key] = self._number(side)
            a, b = (a, after) if place else (after, b)
        return self._state(step.after, a, b)

    def _wrong_commit(self, step: Step, a: int, b: int) -> str:
        """Add up what is really in the files that are merged; say what is wrong with it."""
        added: Counter[str] = Counter()
        for place, incarnation, client_ids in step.merged or ():
            file = self._sides[b if place else a].file
            if file is None or file[0] != incarnation:
                return ""  # the merge refuses another file, and nothing is committed
            if file[1] != client_ids:
                return f"the partial lists {client_ids}, its file has {file[1]}"
            added.update(client_ids)
        return f"{dict(added)} in {step.merged}" if max(added.values(), default=0) > 1 else ""


def _bits(client_ids: Iterable[str]) -> int:
    return sum(1 << number for number, c in enumerate(CLIENTS) if c in client_ids)


def _only_declines(step: Step) -> bool:
    return bool(step.orders) and all(order[0] == "decline" for _, _, order in step.orders)
