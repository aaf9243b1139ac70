"""Status updates for tests, as a coordinator would send them."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

from webserver.board import Update
from webserver.updates import parsed

FEDERATION = "0123456789abcdef"
BEGAN_S = 1_790_000_000.0
PHASES = ("selection", "configuration", "reporting", "completed")

_FATES = ("reported", "rejected", "discarded", "withdrawn", "lost", "expired")
_PROGRESS = ("admitted", "configured", "folded", "pending", "away", *_FATES)


def counts(**given: int) -> dict[str, int]:
    """Counts of a round for four clients, of which nobody came yet."""
    aims = {"goal_count": 4, "admit_limit": 4, "min_reports": 2}
    return dict.fromkeys(_PROGRESS, 0) | aims | given


def a_client(name: str, **changes: Any) -> dict[str, Any]:
    """A client that reported."""
    facts = {
        "client_id": name,
        "selector_id": "north",
        "standing": "reported",
        "reason": "",
        "num_examples": 100,
        "training_s": 1.5,
        "metrics": {"loss": 0.5},
        "shape": "-v[]+^",
    }
    return facts | changes


def a_round(number: int = 1, stage: str = "selection", **changes: Any) -> dict[str, Any]:
    """A round that goes well; its stages are a second apart."""
    at = PHASES.index(stage)
    began_s = BEGAN_S + 10 * number
    completed = stage == "completed"
    facts: dict[str, Any] = {
        "round_number": number,
        "round_id": f"round-{number}",
        "stage": stage,
        "outcome": "committed" if completed else None,
        "reason": "",
        "deadline_s": None if completed else 60.0,
        "counts": counts(admitted=2, configured=2, reported=2) if completed else counts(),
        "rejected": {},
        "selectors": {"north": dict.fromkeys(_PROGRESS, 0) | {"admitted": 2}},
        "entered": {phase: began_s + place for place, phase in enumerate(PHASES[: at + 1])},
        "phase_seconds": dict.fromkeys(PHASES[:at], 1.0),
        "metrics": {"loss": 1 / number, "accuracy": 1 - 1 / (number + 1)} if completed else {},
        "checkpoint_digest": f"{number:064x}" if completed else "",
        "weight": 200 if completed else 0,
        "plan": {
            "goal_count": 4,
            "over_selection": 1.0,
            "min_reports": 2,
            "selection_timeout_s": 300.0,
            "report_window_s": 600.0,
            "grace_s": 15.0,
            "hyperparameters": {"epochs": 1, "batch_size": 32, "learning_rate": 0.1},
        },
        "clients": [a_client("client-1"), a_client("client-2")] if completed else [],
        "clients_total": 2 if completed else 0,
    }
    return facts | changes


def an_abandoned_round(number: int, reason: str = "too-few-reports") -> dict[str, Any]:
    """A round that made nothing."""
    return a_round(
        number, "completed", outcome="abandoned", reason=reason, checkpoint_digest="", metrics={}
    )


def a_session(**changes: Any) -> dict[str, Any]:
    """A session of five rounds that runs."""
    facts = {
        "session_id": "session-1",
        "rounds": 5,
        "rounds_completed": 0,
        "running": True,
        "stopping": False,
    }
    return facts | changes


def data(**changes: Any) -> dict[str, Any]:
    """What an update says, of a session that runs."""
    facts: dict[str, Any] = {
        "session": a_session(),
        "round": None,
        "selectors": [
            {"selector_id": "north", "address": "127.0.0.1:50051", "attached": True, "held": 2}
        ],
        "waiting_clients": 0,
        "storage_failure": "",
        "version": "0.1.0",
    }
    return facts | changes


class Teller:
    """Tells of one federation; each update comes after the one before."""

    def __init__(self, federation_id: str = FEDERATION) -> None:
        self._federation_id = federation_id
        self._stage = 0
        self._turn = 0

    def stage(self, round_: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """Tell that a stage of a round began."""
        self._stage += 1
        self._turn = 0
        time_s = round_["entered"][round_["stage"]]
        return self._document("headwater.round.stage", time_s, data(round=round_) | changes)

    def progress(self, round_: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
        """Tell how far a round is."""
        self._turn += 1
        facts = data(round=round_) | changes
        return self._document("headwater.round.progress", BEGAN_S, facts)

    def session(self, session: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
        """Tell that the session changed."""
        self._turn += 1
        facts = data(session=session) | changes
        return self._document("headwater.session.changed", BEGAN_S, facts)

    def whole_round(self, number: int = 1) -> list[dict[str, Any]]:
        """Tell the four stages of a round."""
        return [self.stage(a_round(number, phase)) for phase in PHASES]

    def _document(self, type_: str, time_s: float, facts: dict[str, Any]) -> dict[str, Any]:
        epoch = 1 if self._turn else 0
        return {
            "specversion": "1.0",
            "id": f"{self._stage}.{epoch}.{self._turn}",
            "source": f"urn:headwater:{self._federation_id}",
            "type": type_,
            "time": _rfc3339(time_s),
            "datacontenttype": "application/json",
            "sequence": f"{self._stage:012}.{epoch:06}.{self._turn:06}",
            "data": copy.deepcopy(facts),
        }


def body(document: dict[str, Any]) -> bytes:
    """Return an update as it is sent."""
    return json.dumps(document).encode()


def update(document: dict[str, Any]) -> Update:
    """Return an update as it is understood."""
    understood = parsed(body(document))
    assert understood is not None
    return understood


def signed(content: bytes, secret: str) -> str:
    """Return what stands in the header of a signed update."""
    return f"sha256={hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()}"


def _rfc3339(time_s: float) -> str:
    text = datetime.fromtimestamp(time_s, UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")
