"""What must hold, checked as it happens: against what is durable, and from step to step."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from coordinator import ledger as ledgers
from coordinator.draft import Closing
from coordinator.effects import (
    Announce,
    Effect,
    PublishCheckpoint,
    SettlePartial,
    WriteCheckpoint,
)
from coordinator.events import CheckpointWritten
from coordinator.journal_lines import entry_of, snapshot_of
from coordinator.ledger import Happening, Ledger
from coordinator.roster import FATES, Standing
from coordinator.round import Round
from federation.phases import NEXT_PHASES, Outcome, Phase
from tests.simulation.spans import Spans

take = ledgers.take
"""The real one, whatever stands in for it in the coordinator."""

IMPOSSIBLE = frozenset({"foreign-partial", "partial-changed", "repeated"})
"""Reasons that honest selectors never give cause for."""


class Book:
    """The ledger as the durable journal tells it, kept beside the coordinator's own.

    Attributes:
        ledger: What a crash now would leave.
        unseen: What is durable and the coordinator has not taken yet.
        stages: The stages that were durably announced, by their sequence number.
        visible: Those that the outside was told of.
        entered_s: When each became durable, virtual seconds.
        publishing: When a commit point was being passed.
        outcomes: The rounds that completed.
        happened: Told when something became durable.
        violated: Told of what must not be.
    """

    def __init__(self, now_s: Callable[[], float], violated: Callable[[str], None]) -> None:
        self._now_s = now_s
        self.violated = violated
        self.entered_s: dict[int, dict[Phase, float]] = {}
        self.publishing = Spans(now_s)
        self.ledger = Ledger()
        self.unseen: deque[tuple[Happening, float, Ledger, tuple[Effect, ...]]] = deque()
        self.stages: dict[int, tuple[int, Phase]] = {}
        self.visible: dict[int, tuple[int, Phase]] = {}
        self.round_ids: dict[int, str] = {}
        self.outcomes: dict[int, Round] = {}
        self.happened: Callable[[str], None] = lambda trigger: None
        self._coordinator = Ledger()
        self._writing = ""

    # -- The journal ------------------------------------------------------------------------------

    def line(self, data: bytes) -> None:
        """An entry became durable."""
        entry = entry_of(data.removesuffix(b"\n"))
        for happening in entry.happenings:
            before = self.ledger
            self.ledger, effects = take(before, happening, entry.at_s)
            self._check_step(before, happening, entry.at_s, effects)
            self.unseen.append((happening, entry.at_s, self.ledger, effects))
        self.happened("durable")

    def snapshot(self, data: bytes) -> None:
        """A new generation stands for all that was durable before."""
        ledger = snapshot_of(data.rstrip(b"\0").split(b"\n")[0]).ledger
        if self.unseen or ledger != self.ledger.numbered_from(ledger.last_round_number):
            self.violated("a new generation of the journal forgets what was durable")
        self.ledger = ledger

    def recovered(self, ledger: Ledger) -> None:
        """A coordinator starts with this ledger."""
        self.unseen.clear()
        if ledger != self.ledger.numbered_from(ledger.last_round_number):
            self.violated("the journal does not replay to what was durable")
        self._coordinator = ledger

    # -- The coordinator --------------------------------------------------------------------------

    def taken(
        self, before: Ledger, happening: Happening, now_s: float, after: Ledger, effects: Any
    ) -> None:
        """The coordinator took a happening, and its effects become visible from here on."""
        self._coordinator = after
        if self.unseen and self.unseen[0][:2] == (happening, now_s):
            _, _, durable, wanted = self.unseen.popleft()
            if durable != after or wanted != effects:
                self.violated(f"{type(happening).__name__} has other consequences when replayed")
        elif before.running is not None or after != before:
            self.violated(f"{type(happening).__name__} was taken before it was durable")

    def told(self) -> None:
        """Something leaves the coordinator."""
        if not self.unseen and self._coordinator != self.ledger:
            self.violated("something became visible that a crash would forget")

    def announced(self, sequence: int, round_number: int, phase: Phase) -> None:
        """A stage is told to the outside."""
        if sequence in self.visible:
            self.violated(f"stage {sequence} was announced twice")
        self.visible[sequence] = (round_number, phase)
        if self.stages.get(sequence) != (round_number, phase):
            self.violated(f"stage {sequence} was announced as {phase}, which is not durable")

    # -- Each step --------------------------------------------------------------------------------

    def _check_step(
        self, before: Ledger, happening: Happening, now_s: float, effects: tuple[Effect, ...]
    ) -> None:
        after = self.ledger
        round_ = after.round
        for effect in effects:
            if isinstance(effect, Announce):
                assert round_ is not None
                self.stages[len(self.stages) + 1] = (round_.number, effect.phase)
                self.entered_s.setdefault(round_.number, {})[effect.phase] = self._now_s()
            elif isinstance(effect, SettlePartial) and effect.reason in IMPOSSIBLE:
                self.violated(f"the partial of {effect.owner} was refused as {effect.reason}")
        if len(self.stages) != after.sequence:
            self.violated(f"{len(self.stages)} stages, but the sequence is {after.sequence}")
        if round_ is None:
            return
        if round_.closing is Closing.PUBLISHING:
            self.publishing.begin()
        else:
            self.publishing.end()
        known = self.round_ids.setdefault(round_.number, round_.round_id)
        if known != round_.round_id or round_.number < max(self.round_ids):
            self.violated(f"round number {round_.number} was given twice")
        announced = [phase for number, phase in self.stages.values() if number == round_.number]
        steps = itertools.pairwise(announced)
        if announced[0] is not Phase.SELECTION or any(b not in NEXT_PHASES[a] for a, b in steps):
            self.violated(f"round {round_.number} went through {announced}")
        self._check_round(round_, happening, now_s, effects)

    def _check_round(
        self,
        round_: Round,
        happening: Happening,
        now_s: float,
        effects: tuple[Effect, ...],
    ) -> None:
        over = round_.phase is Phase.COMPLETED
        if not over and not (round_.deadline_s or 0.0) > now_s:
            self.violated("a deadline lies in the past")
        standings = Counter(claim.standing for claim in round_.claims.values())
        if sum(standings.values()) != round_.counts.admitted:
            self.violated("the counts are not those of the claims")
        kept = [
            client_id
            for duty in round_.duties.values()
            if duty.partial is not None
            for client_id in duty.partial.client_ids
        ]
        if len(kept) != len(set(kept)):
            self.violated("a client is in two kept partials")
        self._check_orders(round_, happening, len(kept), effects)
        if over and round_.number not in self.outcomes:
            self.outcomes[round_.number] = round_
            if round_.reason in IMPOSSIBLE:
                self.violated(f"round {round_.number} was abandoned as {round_.reason}")
            if not set(standings) <= FATES:
                self.violated(f"not everybody has a fate: {standings}")
            reported = {
                c for c, claim in round_.claims.items() if claim.standing is Standing.REPORTED
            }
            if reported != set(kept) and round_.outcome is Outcome.COMMITTED:
                self.violated("who reported is not who is in the kept partials")

    def _check_orders(
        self, round_: Round, happening: Happening, kept: int, effects: tuple[Effect, ...]
    ) -> None:
        for effect in effects:
            if isinstance(effect, WriteCheckpoint) and kept < round_.plan.min_reports:
                self.violated("a commit was begun with too few reports")
            if isinstance(effect, WriteCheckpoint):
                known = self._writing == round_.round_id
                if known and not isinstance(happening, ledgers.Restarted):
                    self.violated("a second commit was begun")
                self._writing = round_.round_id
            written = isinstance(happening, CheckpointWritten) and not happening.failure
            if isinstance(effect, PublishCheckpoint) and not written:
                self.violated("a checkpoint was published that was not written")
            if isinstance(effect, SettlePartial) and effect.kept:
                duty = round_.duties.get(effect.owner)
                if duty is None or duty.partial is None:
                    self.violated("a partial was called kept that is not")
