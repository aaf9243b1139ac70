"""What the page knows: its API, asked as a browser would."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.containers.engine import eventually

ANSWER_TIMEOUT_S = 20.0


def ask(address: str, path: str) -> Any:
    """Return what the webserver at HOST:PORT answers to this path; None if it does not."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=ANSWER_TIMEOUT_S) as answer:
            return json.load(answer)
    except OSError:
        return None


def completed(address: str, count: int) -> list[dict[str, Any]]:
    """Return the first rounds, oldest first, once so many have an outcome."""

    def look() -> list[dict[str, Any]] | None:
        rounds = (ask(address, "/api/v1/rounds") or {}).get("rounds", [])
        done = [one for one in reversed(rounds) if one["outcome"]]
        return done if len(done) >= count else None

    return eventually(look, f"the page shows {count} completed rounds", within_s=240.0)
