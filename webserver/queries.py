"""What the webserver is asked: pages of rounds, events and sessions, series, checkpoints."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from federation.phases import Outcome, Phase
from webserver.board import Checkpoint, Picture
from webserver.board_series import BEST_BY, columns, thinned

Row = dict[str, Any]


def pictures(connection: sqlite3.Connection) -> list[Picture]:
    """Return the pictures of all federations, the one that was heard of last at the end."""
    rows = connection.execute("SELECT * FROM federations ORDER BY heard_s").fetchall()
    return [
        Picture(
            row["federation_id"],
            row["sequence"],
            row["time_s"],
            row["heard_s"],
            json.loads(row["facts"]),
        )
        for row in rows
    ]


def last_event_id(connection: sqlite3.Connection) -> int:
    """Return the highest event id that was ever given, 0 if none was."""
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return found["seq"] if found else 0


def checkpoints(
    connection: sqlite3.Connection, federation_id: str
) -> tuple[Checkpoint | None, Checkpoint | None]:
    """Return the newest committed checkpoint and the best one."""
    federation = _number_of(connection, federation_id)
    newest = connection.execute(
        "SELECT round_number, checkpoint_digest, metrics FROM rounds "
        "WHERE federation = ? AND outcome = ? ORDER BY round_number DESC LIMIT 1",
        (federation, Outcome.COMMITTED),
    ).fetchone()
    if newest is None:
        return None, None
    return _checkpoint(newest), _best(connection, federation)


def checkpoint_digest(
    connection: sqlite3.Connection, federation_id: str, round_number: int
) -> str | None:
    """Return the digest of the checkpoint that a round committed; None if it committed none."""
    found = connection.execute(
        "SELECT checkpoint_digest FROM rounds "
        "WHERE federation = ? AND round_number = ? AND outcome = ?",
        (_number_of(connection, federation_id), round_number, Outcome.COMMITTED),
    ).fetchone()
    return found["checkpoint_digest"] if found else None


def rounds(
    connection: sqlite3.Connection,
    federation_id: str,
    *,
    limit: int,
    before: int | None,
    outcome: str | None,
) -> list[Row]:
    """Return up to ``limit`` rounds, newest first, from the one before ``before`` on."""
    federation = _number_of(connection, federation_id)
    wanted = "AND outcome = :outcome" if outcome else ""
    found = connection.execute(
        "SELECT * FROM rounds WHERE federation = :federation AND round_number < :before "
        f"{wanted} ORDER BY round_number DESC LIMIT :limit",
        {
            "federation": federation,
            "before": _NO_END if before is None else before,
            "outcome": outcome,
            "limit": limit,
        },
    )
    return [_round(row) for row in found]


def round_detail(
    connection: sqlite3.Connection,
    federation_id: str,
    round_number: int,
    *,
    clients_limit: int,
    clients_offset: int,
) -> Row | None:
    """Return all of a round, with a page of its clients; None if it is not remembered.

    A round that runs has no clients yet: they are in the federation's picture.
    """
    place = (_number_of(connection, federation_id), round_number)
    row = connection.execute(
        "SELECT * FROM rounds WHERE federation = ? AND round_number = ?", place
    ).fetchone()
    if row is None:
        return None
    stages = connection.execute(
        "SELECT stage, time_s, sequence FROM stages WHERE federation = ? AND round_number = ? "
        "ORDER BY sequence",
        place,
    )
    clients = connection.execute(
        "SELECT client_id, selector_id, standing, reason, num_examples, training_s, metrics, shape "
        "FROM clients WHERE federation = ? AND round_number = ? AND position >= ? "
        "ORDER BY position LIMIT ?",
        (*place, clients_offset, clients_limit),
    )
    return {
        **_round(row),
        **json.loads(row["facts"]),
        "clients": [{**client, "metrics": json.loads(client["metrics"])} for client in clients],
        "clients_total": row["clients_total"],
        "stages": [dict(stage) for stage in stages],
    }


def series(connection: sqlite3.Connection, federation_id: str, *, limit: int) -> Row:
    """Return all completed rounds as columns, oldest first, thinned evenly above ``limit``."""
    federation = _number_of(connection, federation_id)
    # From the index alone; the rounds themselves are read only where they are shown.
    numbers = sorted(
        row[0]
        for row in connection.execute(
            "SELECT round_number FROM rounds INDEXED BY rounds_by_outcome "
            "WHERE federation = ? AND outcome IS NOT NULL",
            (federation,),
        )
    )
    shown = [numbers[index] for index in thinned(len(numbers), limit)]
    found = connection.execute(
        "SELECT round_number, outcome, metrics, phase_seconds FROM rounds "
        "WHERE federation = ? AND round_number IN (SELECT value FROM json_each(?)) "
        "ORDER BY round_number",
        (federation, json.dumps(shown)),
    )
    return columns(
        [
            {
                "round_number": row["round_number"],
                "outcome": row["outcome"],
                "metrics": json.loads(row["metrics"]),
                "phase_seconds": json.loads(row["phase_seconds"]),
            }
            for row in found
        ]
    )


def events(
    connection: sqlite3.Connection, federation_id: str, *, limit: int, before: int | None
) -> list[Row]:
    """Return up to ``limit`` events, newest first, from the one before ``before`` on."""
    found = connection.execute(
        f"SELECT {_EVENT} FROM events WHERE federation = ? AND event_id < ? "
        "ORDER BY event_id DESC LIMIT ?",
        (_number_of(connection, federation_id), _NO_END if before is None else before, limit),
    )
    return [dict(row) for row in found]


def events_after(
    connection: sqlite3.Connection, federation_id: str, event_id: int, *, limit: int
) -> list[Row]:
    """Return the newest events after one, at most ``limit``, oldest first."""
    found = connection.execute(
        f"SELECT {_EVENT} FROM events WHERE federation = ? AND event_id > ? "
        "ORDER BY event_id DESC LIMIT ?",
        (_number_of(connection, federation_id), event_id, limit),
    )
    return [dict(row) for row in found][::-1]


def sessions(
    connection: sqlite3.Connection, federation_id: str, *, limit: int, before: int | None
) -> list[Row]:
    """Return up to ``limit`` sessions, newest first, from the one before ``before`` on."""
    found = connection.execute(
        "SELECT session_number, session_id, rounds, rounds_completed, running, stopping, began_s, "
        "changed_s FROM sessions WHERE federation = ? AND session_number < ? "
        "ORDER BY session_number DESC LIMIT ?",
        (_number_of(connection, federation_id), _NO_END if before is None else before, limit),
    )
    return [
        {**row, "running": bool(row["running"]), "stopping": bool(row["stopping"])}
        for row in map(dict, found)
    ]


_NO_END = 2**63 - 1
_EVENT = "event_id, time_s, type, round_number, stage, outcome, reason, words"


def _number_of(connection: sqlite3.Connection, federation_id: str) -> int:
    """Return a federation's number, 0 for one that is not known: it has no rows."""
    found = connection.execute(
        "SELECT federation FROM federations WHERE federation_id = ?", (federation_id,)
    ).fetchone()
    return found["federation"] if found else 0


def _best(connection: sqlite3.Connection, federation: int) -> Checkpoint | None:
    for name, which in BEST_BY:
        direction = "DESC" if which == "highest" else "ASC"
        # The metrics' index gives them in order; the first of a committed round ends the search.
        found = connection.execute(
            "SELECT m.round_number, r.checkpoint_digest, r.metrics FROM metrics AS m "
            "CROSS JOIN rounds AS r ON r.federation = m.federation "
            "AND r.round_number = m.round_number AND r.outcome = ? "
            f"WHERE m.federation = ? AND m.name = ? ORDER BY m.value {direction}, "
            "m.round_number DESC LIMIT 1",
            (Outcome.COMMITTED, federation, name),
        ).fetchone()
        if found is not None:
            return _checkpoint(found, by=name)
    return None


def _checkpoint(row: sqlite3.Row, by: str | None = None) -> Checkpoint:
    metrics = json.loads(row["metrics"])
    return Checkpoint(row["round_number"], row["checkpoint_digest"], metrics, by)


def _round(row: sqlite3.Row) -> Row:
    plain = ("round_number", "round_id", "session_id", "outcome", "reason", "stage")
    texts = ("phase_seconds", "counts", "metrics")
    return {
        **{name: row[name] for name in plain},
        "started_s": row["started_s"],
        "ended_s": row["ended_s"] if row["stage"] == Phase.COMPLETED else None,
        **{name: json.loads(row[name]) for name in texts},
        "checkpoint_digest": row["checkpoint_digest"],
    }
