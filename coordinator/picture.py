"""What there is to see of a coordinator at one moment, and the stages that were announced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from coordinator.effects import Announce, Effect
from coordinator.events import Owner
from coordinator.ledger import Ledger, Session
from coordinator.roster import Standing
from coordinator.round import Round
from federation.phases import Phase

_ON_A_STREAM = (Standing.HELD, Standing.PENDING)


@dataclass(frozen=True)
class SelectorPicture:
    """One selector that is attached, or served the round.

    Attributes:
        selector_id: Its name.
        address: HOST:PORT at which clients reach it; empty unless it is attached.
        attached: It has a stream to the coordinator.
        held: Clients that are on its streams.
    """

    selector_id: str
    address: str
    attached: bool
    held: int


@dataclass(frozen=True)
class Picture:
    """A coordinator at one moment; nothing in it changes any more.

    Attributes:
        at_s: Unix seconds.
        sequence: How many stages were announced.
        session: The newest session.
        stopping: No further round begins in it.
        round: The newest round.
        selectors: By their ids.
        waiting_clients: Clients that are held and take part in no round.
        storage_failure: Why nothing can be made durable; empty while it can.
    """

    at_s: float
    sequence: int = 0
    session: Session | None = None
    stopping: bool = False
    round: Round | None = None
    selectors: tuple[SelectorPicture, ...] = ()
    waiting_clients: int = 0
    storage_failure: str = ""


@dataclass(frozen=True)
class Stage:
    """A stage that was announced, and what there was to see as it began.

    Attributes:
        sequence: Rises by one with each stage, also over restarts.
        announced: Which stage it is.
        picture: Its round may be further already, where several stages began at once.
    """

    sequence: int
    announced: Announce
    picture: Picture

    @property
    def at_s(self) -> float:
        """When it began, Unix seconds."""
        assert self.picture.round is not None
        return self.picture.round.entered_s[self.announced.phase]


def numbered(sequence: int, effects: Sequence[Effect]) -> Iterator[tuple[int, Announce]]:
    """Yield the stages among these effects with their numbers.

    Args:
        sequence: How many stages were announced before.
        effects: What a step wants done.
    """
    for effect in effects:
        if isinstance(effect, Announce):
            sequence += 1
            yield sequence, effect


def remembered(ledger: Ledger, at_s: float) -> Picture:
    """Return what a journal remembers of one moment: not who was attached or waited."""
    return Picture(
        at_s,
        sequence=ledger.sequence,
        session=ledger.session,
        stopping=ledger.session is not None and ledger.session.stopping,
        round=ledger.round,
        selectors=selectors_of(ledger.round, {}, {}),
    )


def waiting_in(round_: Round | None, lobby: Mapping[str, Owner]) -> Mapping[str, Owner]:
    """Return the clients that are held and take part in no round.

    Args:
        round_: The newest round.
        lobby: Those that are held between rounds.
    """
    if round_ is not None and round_.phase is not Phase.COMPLETED:
        return round_.waiting
    return lobby


def selectors_of(
    round_: Round | None, waiting: Mapping[str, Owner], addresses: Mapping[str, str]
) -> tuple[SelectorPicture, ...]:
    """Describe those that are attached, and those that are away but served the round.

    Args:
        round_: The newest round.
        waiting: Clients that take part in no round, and who holds them.
        addresses: HOST:PORT of those that are attached, by their ids.
    """
    claims = round_.claims.values() if round_ is not None else ()
    held = Counter(owner.selector_id for owner in waiting.values())
    served = {claim.owner.selector_id for claim in claims}
    held.update(claim.owner.selector_id for claim in claims if claim.standing in _ON_A_STREAM)
    return tuple(
        SelectorPicture(
            selector_id=selector_id,
            address=addresses.get(selector_id, ""),
            attached=selector_id in addresses,
            held=held[selector_id],
        )
        for selector_id in sorted({*addresses, *served})
    )
