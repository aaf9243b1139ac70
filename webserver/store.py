"""What the webserver remembers: updates taken into the tables, within bounds."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from federation.phases import Phase
from webserver.board import Picture, Update, drawn, event_of, is_news

FEDERATIONS_MAX = 100
"""Beyond it the one that was heard of longest ago is forgotten."""

CLIENTS_MAX = 2_000_000
"""Clients of past rounds that are kept, of all rounds of a federation together."""

SESSIONS_MAX = 10_000
"""Sessions of a federation that are kept."""

EVENTS_PER_ROUND = 5
"""Events that are kept a round: its stages, and one for changes of sessions."""

PRUNE_EVERY = 100
"""Events from one look at the bounds to the next, which takes milliseconds; so far they may be
passed."""

PRUNED_AT_ONCE = 1000
"""Rounds that are deleted at a time: a lowered limit takes effect step by step, without a pause."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An update that was news.

    Attributes:
        picture: Where the federation stands with it.
        event: What the event log says of it, with its ``event_id``; None for progress.
    """

    picture: Picture
    event: dict[str, Any] | None


class Store:
    """Writes; each call is one transaction of ``Database.write``.

    Args:
        history_rounds_max: Rounds of a federation that are kept.
        clients_max: Clients of past rounds that are kept.
        prune_every: Events from one look at these bounds to the next.
    """

    def __init__(
        self,
        history_rounds_max: int,
        clients_max: int = CLIENTS_MAX,
        prune_every: int = PRUNE_EVERY,
    ) -> None:
        self._rounds_max = history_rounds_max
        self._clients_max = clients_max
        self._prune_every = prune_every

    def take(self, connection: sqlite3.Connection, update: Update, heard_s: float) -> Taken | None:
        """Remember an update; None if one like it or a later one was taken before.

        Progress is remembered as the picture alone.
        """
        known = connection.execute(
            "SELECT federation, sequence FROM federations WHERE federation_id = ?",
            (update.federation_id,),
        ).fetchone()
        if not is_news(update, known["sequence"] if known else None):
            return None
        picture = drawn(update, heard_s)
        federation = _draw(connection, known["federation"] if known else None, picture)
        if update.facts["session"] is not None:
            _note_session(connection, federation, update)
        if update.kind == "stage":
            _note_stage(connection, federation, update)
        event = event_of(update)
        if event is not None:
            event_id = _note_event(connection, federation, event)
            event = {"event_id": event_id, **event}
            if event_id % self._prune_every == 0:
                self._prune(connection, federation)
        return Taken(picture, event)

    def _prune(self, connection: sqlite3.Connection, federation: int) -> None:
        """Forget what is beyond the bounds, oldest first."""
        here = {"federation": federation, "at_once": PRUNED_AT_ONCE}
        connection.execute(
            "DELETE FROM rounds WHERE federation = :federation AND round_number IN ("
            "  SELECT round_number FROM rounds WHERE federation = :federation"
            "  AND round_number <= (SELECT round_number FROM rounds"
            "    WHERE federation = :federation ORDER BY round_number DESC LIMIT 1 OFFSET :keep)"
            "  ORDER BY round_number LIMIT :at_once)",
            {**here, "keep": self._rounds_max},
        )
        connection.execute(
            "DELETE FROM events WHERE federation = :federation AND event_id <= ("
            "  SELECT event_id FROM events WHERE federation = :federation"
            "  ORDER BY event_id DESC LIMIT 1 OFFSET :keep)",
            {**here, "keep": self._rounds_max * EVENTS_PER_ROUND},
        )
        connection.execute(
            "DELETE FROM sessions WHERE federation = :federation AND session_number <= ("
            "  SELECT session_number FROM sessions WHERE federation = :federation"
            "  ORDER BY session_number DESC LIMIT 1 OFFSET :keep)",
            {**here, "keep": SESSIONS_MAX},
        )
        # Each round says how many clients it has; none is counted one by one.
        connection.execute(
            "DELETE FROM clients WHERE federation = :federation AND round_number <= ("
            "  SELECT round_number FROM (SELECT round_number,"
            "    sum(clients_total) OVER (ORDER BY round_number DESC) AS so_far FROM rounds"
            "    WHERE federation = :federation)"
            "  WHERE so_far > :keep ORDER BY round_number DESC LIMIT 1)",
            {**here, "keep": self._clients_max},
        )


def probe(connection: sqlite3.Connection) -> None:
    """Write something, to see that it is possible."""
    connection.execute(
        "INSERT INTO meta VALUES ('probe', '1') ON CONFLICT DO UPDATE SET value = 1 - value"
    )


def page_key(connection: sqlite3.Connection) -> bytes:
    """Return the key of the page's forms; it outlives the process, and so an open page does."""
    connection.execute(
        "INSERT INTO meta VALUES ('page key', ?) ON CONFLICT DO NOTHING", (secrets.token_hex(32),)
    )
    found = connection.execute("SELECT value FROM meta WHERE name = 'page key'").fetchone()
    return bytes.fromhex(found["value"])


def _draw(connection: sqlite3.Connection, federation: int | None, picture: Picture) -> int:
    """Replace a federation's picture; return its number."""
    values = (picture.sequence, picture.time_s, picture.heard_s, _json(picture.facts))
    if federation is not None:
        connection.execute(
            "UPDATE federations SET sequence = ?, time_s = ?, heard_s = ?, facts = ? "
            "WHERE federation = ?",
            (*values, federation),
        )
        return federation
    connection.execute(
        "DELETE FROM federations WHERE federation IN (SELECT federation FROM federations "
        "ORDER BY heard_s DESC LIMIT -1 OFFSET ?)",
        (FEDERATIONS_MAX - 1,),
    )
    cursor = connection.execute(
        "INSERT INTO federations (federation_id, sequence, time_s, heard_s, facts) "
        "VALUES (?, ?, ?, ?, ?)",
        (picture.federation_id, *values),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _note_session(connection: sqlite3.Connection, federation: int, update: Update) -> None:
    connection.execute(
        "INSERT INTO sessions (federation, session_id, rounds, rounds_completed, running, "
        "stopping, began_s, changed_s) VALUES (:federation, :session_id, :rounds, "
        ":rounds_completed, :running, :stopping, :time_s, :time_s) "
        "ON CONFLICT (federation, session_id) DO UPDATE SET rounds = excluded.rounds, "
        "rounds_completed = excluded.rounds_completed, running = excluded.running, "
        "stopping = excluded.stopping, changed_s = excluded.changed_s",
        {**update.facts["session"], "federation": federation, "time_s": update.time_s},
    )


def _note_stage(connection: sqlite3.Connection, federation: int, update: Update) -> None:
    round_ = update.facts["round"]
    _note_round(connection, federation, update)
    place = (federation, round_["round_number"], round_["stage"])
    connection.execute(
        "INSERT INTO stages VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "time_s = excluded.time_s, sequence = excluded.sequence",
        (*place, update.time_s, update.sequence),
    )
    if round_["stage"] == Phase.COMPLETED:
        _note_result(connection, federation, round_)


_ROUND_COLUMNS = (
    *("federation", "round_number", "round_id", "session_id", "stage", "outcome", "reason"),
    *("started_s", "ended_s", "checkpoint_digest", "metrics", "phase_seconds", "counts"),
    *("facts", "clients_total"),
)
_REST = ("rejected", "selectors", "entered", "weight", "plan", "deadline_s")
"""What is asked for with a round's detail only."""


def _note_round(connection: sqlite3.Connection, federation: int, update: Update) -> None:
    round_, session = update.facts["round"], update.facts["session"]
    values = {
        **{name: round_[name] for name in ("round_number", "round_id", "stage", "outcome")},
        **{name: round_[name] for name in ("reason", "checkpoint_digest", "clients_total")},
        **{name: _json(round_[name]) for name in ("metrics", "phase_seconds", "counts")},
        "federation": federation,
        "session_id": session["session_id"] if session else None,
        "started_s": round_["entered"].get(Phase.SELECTION),
        "ended_s": round_["entered"].get(Phase.COMPLETED),
        "facts": _json({name: round_[name] for name in _REST}),
    }
    marks = ", ".join(f":{name}" for name in _ROUND_COLUMNS)
    news = ", ".join(f"{name} = excluded.{name}" for name in _ROUND_COLUMNS[2:])
    connection.execute(
        f"INSERT INTO rounds ({', '.join(_ROUND_COLUMNS)}) VALUES ({marks}) "
        f"ON CONFLICT (federation, round_number) DO UPDATE SET {news}",
        values,
    )


def _note_result(
    connection: sqlite3.Connection, federation: int, round_: Mapping[str, Any]
) -> None:
    """Remember a completed round's metrics, by which the best is found, and its clients."""
    place = (federation, round_["round_number"])
    for table in ("metrics", "clients"):  # a round that is told once more is told anew
        connection.execute(f"DELETE FROM {table} WHERE federation = ? AND round_number = ?", place)
    connection.executemany(
        "INSERT INTO metrics VALUES (?, ?, ?, ?)",
        [(*place, name, value) for name, value in round_["metrics"].items()],
    )
    connection.executemany(
        "INSERT INTO clients VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(*place, position, client["client_id"], client["selector_id"]),
                *(client["standing"], client["reason"], client["num_examples"]),
                *(client["training_s"], _json(client["metrics"]), client["shape"]),
            )
            for position, client in enumerate(round_["clients"])
        ],
    )


def _note_event(connection: sqlite3.Connection, federation: int, event: Mapping[str, Any]) -> int:
    cursor = connection.execute(
        "INSERT INTO events (federation, time_s, type, round_number, stage, outcome, reason, "
        "words) VALUES (:federation, :time_s, :type, :round_number, :stage, :outcome, :reason, "
        ":words)",
        {**event, "federation": federation},
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
