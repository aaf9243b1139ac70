"""What webservers are told: stages, progress and sessions as CloudEvents documents.

The schema in prose is docs/status-updates.md. Source: CloudEvents 1.0.2, "JSON event format" and
the extension "sequence".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import Any

from coordinator.effects import Announce
from coordinator.picture import Picture, Stage
from coordinator.record import phase_seconds
from coordinator.roster import Claim, Counts, Standing, mean_metrics
from coordinator.round import Round
from federation.phases import Phase
from federation.plan import RoundPlan
from federation.reasons import bounded

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"

CLIENTS_SHOWN = 200
"""Clients, first come first, in an update that is not of a completed round, which has all."""

BODY_BYTES_MAX = 32 << 20
"""Largest update; one of a round with more clients than fit lists as many as do."""

TURNS_MAX = 999_999
"""Updates between two stages of one process: their number has six digits in ``sequence``."""


class Kind(StrEnum):
    """What an update is about."""

    STAGE = "headwater.round.stage"
    PROGRESS = "headwater.round.progress"
    SESSION = "headwater.session.changed"


@dataclass(frozen=True)
class Update:
    """What is told.

    Attributes:
        kind: What it is about.
        picture: What there was to see.
        stage: The number of the stage, or of the one before it where it is none.
        announced: The stage; None where it is none.
        epoch: Rises with each start of the coordinator; 0 for a stage.
        turn: Rises with each update since the stage; 0 for the stage.
    """

    kind: Kind
    picture: Picture
    stage: int
    announced: Announce | None = None
    epoch: int = 0
    turn: int = 0

    @property
    def id(self) -> str:
        """What a receiver tells a repeated update by."""
        is_stage = self.kind is Kind.STAGE
        return str(self.stage) if is_stage else f"{self.stage}.{self.epoch}.{self.turn}"

    @property
    def sequence(self) -> str:
        """Compared as text it gives the order of all updates of a federation."""
        return f"{self.stage:012}.{self.epoch:06}.{self.turn:06}"

    @property
    def at_s(self) -> float:
        """When it was so, Unix seconds."""
        round_ = self.picture.round
        if self.announced is None or round_ is None:
            return self.picture.at_s
        return round_.entered_s[self.announced.phase]


def stage_update(stage: Stage) -> Update:
    """Tell of a stage."""
    return Update(Kind.STAGE, stage.picture, stage.sequence, stage.announced)


def body_of(update: Update, federation_id: str, version: str) -> bytes:
    """Return the update as it is sent, at most ``BODY_BYTES_MAX`` long.

    Args:
        update: What is told.
        federation_id: Whose update it is.
        version: Of this release.
    """
    completed = update.announced is not None and update.announced.phase is Phase.COMPLETED
    round_ = update.picture.round
    clients_max = len(round_.claims) if completed and round_ is not None else CLIENTS_SHOWN
    while True:
        document = _document(update, federation_id, version, clients_max)
        body = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
        if len(body) <= BODY_BYTES_MAX:
            return body
        clients_max //= 2


def _document(update: Update, federation_id: str, version: str, clients_max: int) -> dict[str, Any]:
    picture = update.picture
    time = datetime.fromtimestamp(update.at_s, UTC).isoformat(timespec="microseconds")
    about = picture.round if update.kind is not Kind.SESSION else None
    return {
        "specversion": "1.0",
        "id": update.id,
        "source": f"urn:headwater:{federation_id}",
        "type": update.kind.value,
        **({"subject": f"round/{about.number}"} if about is not None else {}),
        "time": time.replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "sequence": update.sequence,
        "data": {
            "session": _session(picture),
            "round": _round(update, clients_max),
            "selectors": [
                {
                    "selector_id": selector.selector_id,
                    "address": selector.address,
                    "attached": selector.attached,
                    "held": selector.held,
                }
                for selector in picture.selectors
            ],
            "waiting_clients": picture.waiting_clients,
            "storage_failure": picture.storage_failure,
            "version": version,
        },
    }


def _session(picture: Picture) -> dict[str, Any] | None:
    session = picture.session
    if session is None:
        return None
    return {
        "session_id": session.session_id,
        "rounds": session.rounds,
        "rounds_completed": session.completed,
        "running": not session.over,
        "stopping": picture.stopping,
    }


def _round(update: Update, clients_max: int) -> dict[str, Any] | None:
    round_ = update.picture.round
    if round_ is None:
        return None
    announced = update.announced or Announce(round_.phase, round_.outcome, round_.reason)
    completed = announced.phase is Phase.COMPLETED
    until = list(Phase)[: list(Phase).index(announced.phase) + 1]
    seconds = phase_seconds(round_)
    claims = round_.claims
    reported = [claim for claim in claims.values() if claim.standing is Standing.REPORTED]
    by_examples = round_.plan.weighting == "examples"
    return {
        "round_number": round_.number,
        "round_id": round_.round_id,
        "stage": announced.phase.value,
        "outcome": announced.outcome.value if announced.outcome is not None else None,
        "reason": announced.reason,
        "deadline_s": None if completed else max(0.0, round_.phase_deadline_s - update.at_s),
        "counts": _counts(round_.counts, round_.plan),
        "rejected": _rejected(round_),
        "selectors": _by_selector(claims),
        "entered": {
            phase.value: round_.entered_s[phase] for phase in until if phase in round_.entered_s
        },
        "phase_seconds": {
            phase.value: seconds[phase.value] for phase in until[:-1] if phase.value in seconds
        },
        "metrics": mean_metrics(claims, by_examples=by_examples) if completed else {},
        "checkpoint_digest": round_.checkpoint_digest if completed else "",
        "weight": sum(claim.num_examples for claim in reported),
        "plan": _plan(round_.plan),
        "clients": [
            _client(client_id, claim) for client_id, claim in islice(claims.items(), clients_max)
        ],
        "clients_total": len(claims),
    }


def _counts(counts: Counts, plan: RoundPlan) -> dict[str, int]:
    asked = {
        "goal_count": plan.goal_count,
        "admit_limit": plan.admit_limit,
        "min_reports": plan.min_reports,
    }
    return asked | told_counts(counts)


def told_counts(counts: Counts) -> dict[str, int]:
    """Return the counts by name; who is held waits for its configuration, and is pending."""
    told = {field.name: getattr(counts, field.name) for field in fields(counts)}
    told["pending"] += told.pop("held")
    return told


def _rejected(round_: Round) -> dict[str, int]:
    reasons = Counter(
        bounded(claim.reason)
        for claim in round_.claims.values()
        if claim.standing is Standing.REJECTED
    )
    return dict(sorted(reasons.items()))


def _by_selector(claims: Mapping[str, Claim]) -> dict[str, dict[str, int]]:
    counters: dict[str, Counter[str]] = {}
    for claim in claims.values():
        counter = counters.setdefault(claim.owner.selector_id, Counter())
        counter["admitted"] += 1
        counter["configured"] += claim.configured
        counter[claim.standing.value] += 1
    return {
        selector_id: told_counts(Counts(**counters[selector_id]))
        for selector_id in sorted(counters)
    }


def _plan(plan: RoundPlan) -> dict[str, Any]:
    return {
        "goal_count": plan.goal_count,
        "over_selection": plan.over_selection,
        "min_reports": plan.min_reports,
        "selection_timeout_s": plan.selection_timeout_s,
        "report_window_s": plan.report_window_s,
        "grace_s": plan.grace_s,
        "hyperparameters": {
            "epochs": plan.hyperparameters.epochs,
            "batch_size": plan.hyperparameters.batch_size,
            "learning_rate": plan.hyperparameters.learning_rate,
        },
    }


def _client(client_id: str, claim: Claim) -> dict[str, Any]:
    return {
        "client_id": client_id,
        "selector_id": claim.owner.selector_id,
        "standing": claim.standing.value,
        "reason": claim.reason,
        "num_examples": claim.num_examples,
        "training_s": claim.training_s,
        "metrics": dict(claim.metrics),
        "shape": claim.shape,
    }
