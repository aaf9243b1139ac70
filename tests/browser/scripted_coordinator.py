"""A coordinator of words only: it tells a webserver of rounds that never were.

For what a real federation does not do on demand: hundreds of clients, failures of all kinds, and
text that wants to be markup.
"""

from __future__ import annotations

import hashlib
import json
import math
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Facts = dict[str, Any]

ANSWER_TIMEOUT_S = 30.0
STAGES = ("selection", "configuration", "reporting", "completed")
STAGE_SECONDS = {"selection": 0.8, "configuration": 0.4, "reporting": 6.5}

FATES = ("folded", "pending", "away", "reported", "rejected", "discarded", "withdrawn", "lost")
SHAPES = {
    "held": "-",
    "pending": "-v[",
    "away": "-v[!",
    "folded": "-v[]+^",
    "reported": "-v[]+^",
    "rejected": "-v[]+#",
    "discarded": "-v[]+!",
    "withdrawn": "-v[!",
    "lost": "-v[!",
}


def a_client(
    number: int, standing: str, selector_id: str = "", reason: str = "", client_id: str = ""
) -> Facts:
    """Return a client of a round; every second one is north's."""
    done = standing in ("folded", "reported", "rejected", "discarded")
    return {
        "client_id": client_id or f"client-{number}",
        "selector_id": selector_id or ("north", "south")[number % 2],
        "standing": standing,
        "reason": reason,
        "num_examples": 100 + 37 * (number % 11) if done else 0,
        "training_s": 3.1 + 0.37 * (number % 7) if done else None,
        "metrics": {"loss": round(0.2 + 0.01 * (number % 9), 4)} if done else {},
        "shape": SHAPES[standing],
    }


def metrics_of(round_number: int) -> dict[str, float]:
    """Return what a federation that learns reports: better each round, with some noise."""
    learned = 1 - math.exp(-round_number / 14)
    noise = math.sin(round_number * 1.7) * 0.012
    accuracy = 0.31 + 0.64 * learned + noise
    return {"accuracy": round(accuracy, 4), "loss": round(2.1 - 1.85 * learned - noise * 3, 4)}


def a_round(
    round_number: int, stage: str, clients: Sequence[Facts], *, at_s: float, reason: str = ""
) -> Facts:
    """Return a round's facts; completed it is committed, unless a reason is given."""
    completed = stage == "completed"
    outcome = ("abandoned" if reason else "committed") if completed else None
    committed = outcome == "committed"
    digest = hashlib.sha256(str(round_number).encode()).hexdigest() if committed else ""
    before = STAGES[: STAGES.index(stage)]
    seconds = {
        name: STAGE_SECONDS[name] * (1 + 0.25 * math.sin(round_number * (2 + place)))
        for place, name in enumerate(before)
    }
    entered = {}
    begun_s = at_s - sum(seconds.values())
    for name in (*before, stage):
        entered[name] = begun_s
        begun_s += seconds.get(name, 0.0)
    counts = counted(clients, stage)
    limits = {
        "goal_count": max(1, len(clients)),
        "admit_limit": max(1, len(clients)),
        "min_reports": max(1, len(clients) // 2),
    }
    selector_ids = sorted({client["selector_id"] for client in clients})
    return {
        "round_number": round_number,
        "round_id": hashlib.sha256(f"id {round_number}".encode()).hexdigest()[:32],
        "stage": stage,
        "outcome": outcome,
        "reason": reason if completed else "",
        "deadline_s": None if completed else 60.0,
        "counts": {**limits, **counts},
        "rejected": dict(Counter(c["reason"] for c in clients if c["standing"] == "rejected")),
        "selectors": {
            name: counted([c for c in clients if c["selector_id"] == name], stage)
            for name in selector_ids
        },
        "entered": entered,
        "phase_seconds": seconds,
        "metrics": metrics_of(round_number) if committed else {},
        "checkpoint_digest": digest,
        "weight": sum(c["num_examples"] for c in clients if c["standing"] == "reported"),
        "plan": {
            "goal_count": limits["goal_count"],
            "over_selection": 1.0,
            "min_reports": limits["min_reports"],
            "selection_timeout_s": 300.0,
            "report_window_s": 60.0,
            "grace_s": 15.0,
            "hyperparameters": {"epochs": 2, "batch_size": 32, "learning_rate": 0.05},
        },
        "clients": list(clients) if completed else list(clients)[:200],
        "clients_total": len(clients),
    }


def counted(clients: Sequence[Facts], stage: str) -> dict[str, int]:
    """Return how many clients have each standing."""
    standings = Counter(client["standing"] for client in clients)
    configured = 0 if stage == "selection" else len(clients) - standings["held"]
    fates = {fate: standings[fate] for fate in FATES}
    return {"admitted": len(clients), "configured": configured, "expired": 0, **fates}


@dataclass
class ScriptedCoordinator:
    """Tells one webserver, an update after the other.

    Attributes:
        url: Where updates go.
        federation_id: Its own.
        rounds: Of its session.
        sequence: Stage updates so far.
    """

    url: str
    federation_id: str = "5eed0f00d5eed0f0"
    rounds: int = 50
    sequence: int = 0
    selectors: tuple[str, ...] = ("north", "south")
    storage_failure: str = ""
    running: bool = True
    _progress: int = 0

    def stage(self, round_: Facts, at_s: float | None = None) -> None:
        """Tell of a stage that begins."""
        self._post(self.told_of_stage(round_, at_s))

    def progress(self, round_: Facts | None) -> None:
        """Tell how far a stage is."""
        self._post(self._further("headwater.round.progress", round_))

    def session_changed(self, round_: Facts | None) -> None:
        """Tell that the session is another."""
        self._post(self._further("headwater.session.changed", round_))

    def whole_round(self, round_number: int, clients: Sequence[Facts], reason: str = "") -> None:
        """Tell of all stages of a round that is over."""
        for stage in STAGES:
            now_s = datetime.now(UTC).timestamp()
            why = reason if stage == "completed" else ""
            self.stage(a_round(round_number, stage, clients, at_s=now_s, reason=why))

    def told_of_stage(self, round_: Facts, at_s: float | None = None) -> Facts:
        """Return the update of a stage that begins, to be told next."""
        self.sequence += 1
        self._progress = 0
        order = f"{self.sequence:012}.000000.000000"
        return self._update("headwater.round.stage", str(self.sequence), order, round_, at_s)

    def _update(
        self, kind: str, id_: str, order: str, round_: Facts | None, at_s: float | None
    ) -> Facts:
        """Return the status update as a CloudEvent."""
        at = datetime.now(UTC) if at_s is None else datetime.fromtimestamp(at_s, UTC)
        completed = 0 if round_ is None else round_["round_number"]
        running = round_ is not None and round_["stage"] != "completed"
        session = {
            "session_id": "0f1e2d3c4b5a6978",
            "rounds": max(self.rounds, completed),
            "rounds_completed": completed - running,
            "running": self.running,
            "stopping": False,
        }
        event = {
            "specversion": "1.0",
            "id": id_,
            "source": f"urn:headwater:{self.federation_id}",
            "type": kind,
            "time": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "sequence": order,
            "data": {
                "session": session,
                "round": round_,
                "selectors": [
                    {
                        "selector_id": name,
                        "address": f"127.0.0.1:{50051 + place}",
                        "attached": True,
                        "held": 0,
                    }
                    for place, name in enumerate(self.selectors)
                ],
                "waiting_clients": 0,
                "storage_failure": self.storage_failure,
                "version": "0.1.0",
            },
        }
        if round_ is not None:
            event["subject"] = f"round/{round_['round_number']}"
        return event

    def _further(self, kind: str, round_: Facts | None) -> Facts:
        self._progress += 1
        order = f"{self.sequence:012}.000001.{self._progress:06}"
        id_ = f"{self.sequence}.1.{self._progress}"
        return self._update(kind, id_, order, round_, None)

    def _post(self, update: Facts) -> None:
        request = urllib.request.Request(
            self.url,
            data=json.dumps(update).encode(),
            headers={"Content-Type": "application/cloudevents+json; charset=utf-8"},
        )
        with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as answer:
            assert answer.status == 204
