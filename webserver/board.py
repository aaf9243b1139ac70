"""What a federation looks like now: the picture that its updates draw, and what a page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from federation.phases import Phase
from webserver.board_words import picture_in_words, session_in_words, stage_in_words

Facts = Mapping[str, Any]

Kind = Literal["stage", "progress", "session"]
"""What an update tells: a stage that begins, how far it is, or that the session changed."""

CLIENTS_SHOWN = 200
"""Clients of a round in the picture; a completed round's are all in the database."""

NOBODY_YET = "Waiting for a coordinator"


@dataclass(frozen=True, slots=True)
class Update:
    """One status update, checked.

    Attributes:
        federation_id: Whose.
        kind: What it tells.
        type: The same as its sender says it, e.g. ``"headwater.round.stage"``.
        sequence: Orders the updates of a federation: see ``order_of``.
        time_s: Unix seconds by the coordinator's clock.
        facts: Its data, by the names of the schema.
    """

    federation_id: str
    kind: Kind
    type: str
    sequence: str
    time_s: float
    facts: Facts


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A round's checkpoint.

    Attributes:
        round_number: Its round.
        digest: Of the weights in wire form, hex.
        metrics: Of the round.
        by: The metric that makes it the best; None if it is not called the best.
        here: It can be downloaded from here.
    """

    round_number: int
    digest: str
    metrics: Mapping[str, float]
    by: str | None = None
    here: bool = False

    def as_facts(self, federation_id: str) -> dict[str, Any]:
        """Return what the API says of it.

        Args:
            federation_id: Whose it is.
        """
        url = f"/api/v1/checkpoints/{self.round_number}?federation={federation_id}"
        return {
            "round_number": self.round_number,
            "digest": self.digest,
            "metrics": dict(self.metrics),
            "url": url if self.here else None,
            "by": self.by,
        }


@dataclass(frozen=True, slots=True)
class Picture:
    """Where one federation stands, as its last update says.

    Attributes:
        federation_id: Which.
        sequence: Of the last update.
        time_s: Of the last update, by the coordinator's clock.
        heard_s: When it came, by our clock.
        facts: Its data, with ``CLIENTS_SHOWN`` clients at most.
    """

    federation_id: str
    sequence: str
    time_s: float
    heard_s: float
    facts: Facts = field(repr=False)


def order_of(sequence: str) -> tuple[int, ...]:
    """Return what puts updates in order; as the text would, also beyond its padded width."""
    return tuple(int(part) for part in sequence.split("."))


def is_news(update: Update, last: str | None) -> bool:
    """Say whether an update comes after the last that was taken, and so is no duplicate."""
    return last is None or order_of(update.sequence) > order_of(last)


def drawn(update: Update, heard_s: float) -> Picture:
    """Return the picture after an update: each tells all that is the case now."""
    facts = dict(update.facts)
    if facts["round"] is not None and len(facts["round"]["clients"]) > CLIENTS_SHOWN:
        facts["round"] = {**facts["round"], "clients": facts["round"]["clients"][:CLIENTS_SHOWN]}
    return Picture(update.federation_id, update.sequence, update.time_s, heard_s, facts)


def event_of(update: Update) -> dict[str, Any] | None:
    """Return what the event log says of an update, without its id; None: nothing, it is progress.

    A session's change has no stage, even while a round runs.
    """
    if update.kind == "progress":
        return None
    event = {
        "time_s": update.time_s,
        "type": update.type,
        "round_number": None,
        "stage": None,
        "outcome": None,
        "reason": "",
        "words": session_in_words(update.facts["session"]),
    }
    round_ = update.facts["round"]
    if update.kind == "stage":
        event |= {name: round_[name] for name in ("round_number", "stage", "outcome", "reason")}
        event["words"] = stage_in_words(round_)
    return event


def overview(
    picture: Picture | None,
    *,
    last: Checkpoint | None,
    best: Checkpoint | None,
    last_event_id: int,
) -> dict[str, Any]:
    """Return what a page shows first, apart from the present time and who may control.

    Args:
        picture: The federation's; None while none was heard of.
        last: The checkpoint of the newest committed round.
        best: The best one: see ``BEST_BY``.
        last_event_id: Of the newest event that the picture includes.
    """
    if picture is None:
        return {
            "federation": None,
            "words": NOBODY_YET,
            "session": None,
            "round": None,
            "selectors": [],
            "waiting_clients": 0,
            "storage_failure": "",
            "checkpoints": {"last": None, "best": None},
            "last_event_id": last_event_id,
        }
    facts, federation_id = picture.facts, picture.federation_id
    return {
        "federation": {
            "federation_id": federation_id,
            "version": facts["version"],
            "heard_s": picture.heard_s,
            "coordinator_time_s": picture.time_s,
        },
        "words": picture_in_words(facts),
        "session": facts["session"],
        "round": _with_deadline(facts["round"], picture.time_s),
        "selectors": facts["selectors"],
        "waiting_clients": facts["waiting_clients"],
        "storage_failure": facts["storage_failure"],
        "checkpoints": {
            "last": last.as_facts(federation_id) if last else None,
            "best": best.as_facts(federation_id) if best else None,
        },
        "last_event_id": last_event_id,
    }


def _with_deadline(round_: Facts | None, time_s: float) -> dict[str, Any] | None:
    """Say when the stage must end, by the coordinator's clock."""
    if round_ is None:
        return None
    remains_s = None if round_["stage"] == Phase.COMPLETED else round_["deadline_s"]
    return {**round_, "deadline_at_s": None if remains_s is None else time_s + remains_s}


def with_present(round_: dict[str, Any], picture: Picture | None) -> dict[str, Any]:
    """Return a remembered round as it is now, if it is the one that runs.

    Args:
        round_: As it was when its last stage began.
        picture: Of its federation.
    """
    now = picture.facts["round"] if picture else None
    if now is None or now["outcome"] or now["round_number"] != round_["round_number"]:
        return round_
    return {**round_, **{name: value for name, value in now.items() if name in round_}}
