"""Status updates as they arrive: the signature, and each field checked before it is believed."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from federation.errors import PeerError
from webserver.board import Kind, Update

BODY_BYTES_MAX = 32 * 2**20
"""The largest update; above it nobody reads on."""

SIGNATURE_HEADER = "Headwater-Signature"

CONTENT_TYPES = ("application/cloudevents+json", "application/json")
"""None that a browser sends across sites without asking."""

OUR_TYPES = "headwater."
"""How the types of our updates begin."""

_KINDS: dict[str, Kind] = {
    "headwater.round.stage": "stage",
    "headwater.round.progress": "progress",
    "headwater.session.changed": "session",
}

Word = Annotated[str, Field(max_length=128)]
Text = Annotated[str, Field(max_length=2000)]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
"""As far as JavaScript counts exactly."""
RoundNumber = Annotated[int, Field(ge=1, le=10**12)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Metrics = Annotated[dict[Word, Finite], Field(max_length=256)]
Stage = Literal["selection", "configuration", "reporting", "completed"]
Ended = Literal["committed", "abandoned"]


class Facts(BaseModel):
    """A part of an update; what a later release adds is passed over."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Session(Facts):
    session_id: Word
    rounds: Count
    rounds_completed: Count
    running: bool
    stopping: bool


class SelectorCounts(Facts):
    admitted: Count = 0
    configured: Count = 0
    folded: Count = 0
    pending: Count = 0
    away: Count = 0
    reported: Count = 0
    rejected: Count = 0
    discarded: Count = 0
    withdrawn: Count = 0
    lost: Count = 0
    expired: Count = 0


class Counts(SelectorCounts):
    goal_count: Count = 0
    admit_limit: Count = 0
    min_reports: Count = 0


class Client(Facts):
    client_id: Word
    selector_id: Word
    standing: Word
    reason: Word = ""
    num_examples: Count = 0
    training_s: Finite | None = None
    metrics: Metrics = {}
    shape: Text = ""


class Hyperparameters(Facts):
    epochs: Count
    batch_size: Count
    learning_rate: Finite


class Plan(Facts):
    goal_count: Count
    over_selection: Finite
    min_reports: Count
    selection_timeout_s: Finite
    report_window_s: Finite
    grace_s: Finite
    hyperparameters: Hyperparameters


class Round(Facts):
    round_number: RoundNumber
    round_id: Word
    stage: Stage
    outcome: Ended | None
    reason: Word = ""
    deadline_s: Finite | None = None
    counts: Counts
    rejected: Annotated[dict[Word, Count], Field(max_length=1000)] = {}
    selectors: Annotated[dict[Word, SelectorCounts], Field(max_length=10_000)] = {}
    entered: Annotated[dict[Stage, Finite], Field(max_length=4)] = {}
    phase_seconds: Annotated[dict[Stage, Finite], Field(max_length=4)] = {}
    metrics: Metrics = {}
    checkpoint_digest: Word = ""
    weight: Count = 0
    plan: Plan
    clients: Annotated[list[Client], Field(max_length=200_000)] = []
    clients_total: Count = 0


class Selector(Facts):
    selector_id: Word
    address: Text
    attached: bool
    held: Count


class Data(Facts):
    session: Session | None
    round: Round | None
    selectors: Annotated[list[Selector], Field(max_length=10_000)]
    waiting_clients: Count
    storage_failure: Text = ""
    version: Word = ""


class _Kind(BaseModel):
    """What every CloudEvent has; enough to see whether the rest is meant for us."""

    model_config = ConfigDict(strict=True, extra="ignore")

    specversion: Literal["1.0"]
    id: Annotated[str, Field(min_length=1, max_length=200)]
    source: Annotated[str, Field(max_length=200)]
    type: Annotated[str, Field(min_length=1, max_length=200)]


class _Event(_Kind):
    source: Annotated[str, Field(pattern=r"^urn:headwater:[0-9a-f]{16}\z")]
    time: AwareDatetime
    sequence: Annotated[str, Field(pattern=r"^[0-9]{12,18}\.[0-9]{6,18}\.[0-9]{6,18}\z")]
    data: Data


def signature_fits(secret: str, body: bytes, signature: str) -> bool:
    """Say whether a body was signed with the secret, taking the same time for every wrong one."""
    signed = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"sha256={signed}".encode(), signature.encode())


def parsed(body: bytes) -> Update | None:
    """Read an update; None if it is of a type that this release does not know, which is no fault.

    Raises:
        PeerError: It is malformed; names the first field that is wrong.
    """
    try:
        kind = _KINDS.get(type_ := _Kind.model_validate_json(body).type)
        if kind is None and type_.startswith(OUR_TYPES):
            return None
        event = _Event.model_validate_json(body)
    except ValidationError as invalid:
        raise _malformed(_first_of(invalid)) from None
    if kind is None:
        raise _malformed(f"type: none of ours begins otherwise than with {OUR_TYPES}")
    if kind == "stage" and event.data.round is None:
        raise _malformed("data.round: a stage is of a round")
    facts: dict[str, Any] = event.data.model_dump(mode="json")
    federation_id = event.source.rpartition(":")[2]
    time_s = event.time.timestamp()
    return Update(federation_id, kind, event.type, event.sequence, time_s, facts)


def _malformed(detail: str) -> PeerError:
    return PeerError(f"this is no status update: {detail}", reason="malformed-update")


def _first_of(invalid: ValidationError) -> str:
    """Name the first mistake; without the input, which may be long and is the sender's anyway."""
    error = invalid.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(map(str, error["loc"]))[:200]
    return f"{place}: {error['msg'][:200]}" if place else error["msg"][:200]
