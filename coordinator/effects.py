"""What a round wants done: orders in the imperative, carried out by the driver.

An effect that expects an answer always yields an event, failure included.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.events import Owner, PartialReference
from federation.phases import Outcome, Phase
from federation.plan import RetryWindow


@dataclass(frozen=True, slots=True)
class Admit:
    """The selector holds these clients for this round."""

    owner: Owner
    client_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decline:
    """The selector sends these clients away, to come back within the window."""

    owner: Owner
    client_ids: tuple[str, ...]
    reason: str
    retry_window: RetryWindow


@dataclass(frozen=True, slots=True)
class Release:
    """These clients are held through another selector now; their streams here end."""

    owner: Owner
    client_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Configure:
    """The selector configures these clients; answered by Configured or ClientsLeft for each."""

    owner: Owner
    client_ids: tuple[str, ...]
    deadline_s: float


@dataclass(frozen=True, slots=True)
class CloseReporting:
    """The selector seals its sum; answered by PartialSubmitted."""

    owner: Owner


@dataclass(frozen=True, slots=True)
class SettlePartial:
    """Tell the selector whether its partial counts."""

    owner: Owner
    round_id: str
    kept: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EndRound:
    """Tell the selector that it has no more duty in this round, and why."""

    owner: Owner
    committed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WriteCheckpoint:
    """Merge these partials and write the next checkpoint durably beside the current one.

    Answered by CheckpointWritten.
    """

    partials: tuple[tuple[Owner, PartialReference], ...]


@dataclass(frozen=True, slots=True)
class PublishCheckpoint:
    """Pass the commit point; answered by CommitFinished."""


@dataclass(frozen=True, slots=True)
class DropCheckpoint:
    """Forget the checkpoint that is being written: the round ended without it."""


@dataclass(frozen=True, slots=True)
class Announce:
    """A stage began; exactly once for each stage of a round, in order."""

    phase: Phase
    outcome: Outcome | None = None
    reason: str = ""


Effect = (
    Admit
    | Decline
    | Release
    | Configure
    | CloseReporting
    | SettlePartial
    | EndRound
    | WriteCheckpoint
    | PublishCheckpoint
    | DropCheckpoint
    | Announce
)
