"""What a round is told: facts in the past tense, plain data that a journal can hold as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Owner(NamedTuple):
    """One process of a selector: a restarted selector has another incarnation."""

    selector_id: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class FoldedReport:
    """One client's report that its selector folded.

    Attributes:
        client_id: Whose report it is.
        num_examples: Its example count, at least 1.
        metrics: Scalars of the local training.
        training_s: Seconds that it took, if the client said so.
    """

    client_id: str
    num_examples: int
    metrics: dict[str, float] = field(default_factory=dict)
    training_s: float | None = None


@dataclass(frozen=True, slots=True)
class PartialReference:
    """A selector's aggregated checkpoint in the shared directory, as it was found there.

    Attributes:
        sha256: Hex digest over the tensors' bytes; empty with count 0, where there is no file.
        count: Reports in the sum.
        weight: Total weight of the sum.
        client_ids: Whose reports are in the sum.
        failure: Reason word where the sums cannot be used; empty otherwise.
    """

    sha256: str
    count: int
    weight: int
    client_ids: tuple[str, ...]
    failure: str = ""


@dataclass(frozen=True, slots=True)
class CheckedIn:
    """Clients asked a selector to take part; each is admitted or declined exactly once.

    Attributes:
        owner: Which selector process holds them.
        client_ids: The clients, first come first.
        session_ids: For each client the session that it last took part in; empty where none.
    """

    owner: Owner
    client_ids: tuple[str, ...]
    session_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientsLeft:
    """The check-in streams of these clients ended."""

    owner: Owner
    client_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClientsReturned:
    """Clients that had left are on a stream of the same selector again."""

    owner: Owner
    round_id: str
    client_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClaimsReleased:
    """The selector will not fold these clients in this round, unless it is ordered anew."""

    owner: Owner
    round_id: str
    client_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Configured:
    """The configuration was written to these clients' streams."""

    owner: Owner
    round_id: str
    client_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportsFolded:
    """These reports are in the selector's sum."""

    owner: Owner
    round_id: str
    reports: tuple[FoldedReport, ...]


@dataclass(frozen=True, slots=True)
class ShapesSeen:
    """How far clients came that have not reported, as session shapes (federation/shapes.py)."""

    owner: Owner
    round_id: str
    shapes: dict[str, str]


@dataclass(frozen=True, slots=True)
class ReportRejected:
    """A report failed screening."""

    owner: Owner
    round_id: str
    client_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReportDiscarded:
    """A report was fine, but late or surplus."""

    owner: Owner
    round_id: str
    client_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A client bowed out."""

    owner: Owner
    round_id: str
    client_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class PartialSubmitted:
    """A selector wrote its partial, and what it names was looked at in the shared directory."""

    owner: Owner
    round_id: str
    partial: PartialReference


@dataclass(frozen=True, slots=True)
class SelectorAttached:
    """A selector has a stream; the facts of its hello about the round were told before this.

    Attributes:
        owner: Which process it is.
        held: The clients on its list that take part in no round, who check in after this; None
            where they are too many to name them at once.
    """

    owner: Owner
    held: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class SelectorLeft:
    """A selector's stream ended."""

    owner: Owner


@dataclass(frozen=True, slots=True)
class SelectorDetached:
    """A selector said that this incarnation will not come back."""

    owner: Owner


@dataclass(frozen=True, slots=True)
class CheckpointWritten:
    """The next checkpoint is durable beside the current one, or could not be made.

    Attributes:
        round_id: Which round it belongs to.
        failure: Reason word; empty if it was written.
        digest: Hex SHA-256 of the checkpoint's wire form, if it was written.
    """

    round_id: str
    failure: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class CommitFinished:
    """The commit point was passed, or could not be.

    Attributes:
        round_id: Which round it belongs to.
        failure: Reason word; empty if the checkpoint is in the history.
    """

    round_id: str
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The operator ended the session, or the coordinator drains."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed; nothing else happened."""


Event = (
    CheckedIn
    | ClientsLeft
    | ClientsReturned
    | ClaimsReleased
    | Configured
    | ReportsFolded
    | ShapesSeen
    | ReportRejected
    | ReportDiscarded
    | Withdrawn
    | PartialSubmitted
    | SelectorAttached
    | SelectorLeft
    | SelectorDetached
    | CheckpointWritten
    | CommitFinished
    | Stopped
    | Ticked
)
