"""What the JSON API answers, as models: the OpenAPI document is made of them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from webserver import updates

Metrics = dict[str, float]


class Problem(BaseModel):
    """Why a request was refused."""

    reason: str = Field(description="Stable word: docs/errors.md says what each means.")
    detail: str = Field(description="A sentence for people.")


class Federation(BaseModel):
    federation_id: str
    version: str
    heard_s: float = Field(description="Unix seconds of our clock when the last update came.")
    coordinator_time_s: float = Field(description="Unix seconds of its clock in that update.")


class CurrentRound(updates.Round):
    deadline_at_s: float | None = Field(
        description="Unix seconds of the coordinator's clock when the stage ends at the latest."
    )


class Checkpoint(BaseModel):
    round_number: int
    digest: str
    metrics: Metrics
    url: str | None = Field(description="Where to download it; null if it is not here.")
    by: str | None = Field(description="The metric that makes it the best.")


class Checkpoints(BaseModel):
    last: Checkpoint | None
    best: Checkpoint | None


class Control(BaseModel):
    possible: bool = Field(description="Sessions can be started and stopped from here.")
    needs_token: bool = Field(description="It takes the control token.")


class Overview(BaseModel):
    federation: Federation | None
    now_s: float = Field(description="Unix seconds of our clock.")
    words: str
    session: updates.Session | None
    round: CurrentRound | None
    selectors: list[updates.Selector]
    waiting_clients: int
    storage_failure: str
    checkpoints: Checkpoints
    control: Control
    federations: list[str] = Field(description="All that can be asked for.")
    last_event_id: int


class RoundLine(BaseModel):
    round_number: int
    round_id: str
    session_id: str | None
    outcome: str | None = Field(description="committed, abandoned, or null while it runs.")
    reason: str
    stage: str
    started_s: float | None
    ended_s: float | None
    phase_seconds: Metrics
    counts: updates.Counts
    metrics: Metrics
    checkpoint_digest: str


class Rounds(BaseModel):
    rounds: list[RoundLine]
    next: int | None = Field(description="The `before` of the next page; null: this is the last.")


class Stage(BaseModel):
    stage: str
    time_s: float
    sequence: str


class RoundDetail(RoundLine):
    deadline_s: float | None
    rejected: dict[str, int]
    selectors: dict[str, updates.SelectorCounts]
    entered: dict[str, float]
    weight: int
    plan: updates.Plan
    clients: list[updates.Client]
    clients_total: int
    stages: list[Stage]


class Series(BaseModel):
    round_number: list[int]
    outcome: list[str]
    metrics: dict[str, list[float | None]]
    phase_seconds: dict[str, list[float | None]]


class Event(BaseModel):
    event_id: int
    time_s: float
    type: str
    round_number: int | None
    stage: str | None
    outcome: str | None
    reason: str
    words: str


class Events(BaseModel):
    events: list[Event]
    next: int | None


class Session(updates.Session):
    session_number: int
    began_s: float
    changed_s: float


class Sessions(BaseModel):
    sessions: list[Session]
    next: int | None


class ReasonWord(BaseModel):
    word: str
    means: str = Field(description="What happened.")
    to_do: str = Field(description="What helps.")


class ReasonWords(BaseModel):
    reasons: list[ReasonWord]


class Health(BaseModel):
    status: str
    version: str


def problems(**meanings: str) -> dict[int | str, dict[str, Any]]:
    """Describe the refusals of a route: ``problems(_404="There is no such round.")``."""
    return {
        int(status.removeprefix("_")): {"model": Problem, "description": meaning}
        for status, meaning in meanings.items()
    }
