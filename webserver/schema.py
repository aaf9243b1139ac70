"""The webserver's tables, as migrations: each brings a database from one version to the next."""

from __future__ import annotations

APPLICATION_ID = 0x48574442
"""Marks a SQLite file as ours: "HWDB"."""

MIGRATIONS = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    CREATE TABLE federations (
        federation INTEGER PRIMARY KEY,
        federation_id TEXT NOT NULL UNIQUE,
        sequence TEXT NOT NULL,
        time_s REAL NOT NULL,
        heard_s REAL NOT NULL,
        facts TEXT NOT NULL
    );

    CREATE TABLE sessions (
        session_number INTEGER PRIMARY KEY AUTOINCREMENT,
        federation INTEGER NOT NULL REFERENCES federations ON DELETE CASCADE,
        session_id TEXT NOT NULL,
        rounds INTEGER NOT NULL,
        rounds_completed INTEGER NOT NULL,
        running INTEGER NOT NULL,
        stopping INTEGER NOT NULL,
        began_s REAL NOT NULL,
        changed_s REAL NOT NULL,
        UNIQUE (federation, session_id)
    );
    CREATE INDEX sessions_in_order ON sessions (federation, session_number);

    CREATE TABLE rounds (
        federation INTEGER NOT NULL REFERENCES federations ON DELETE CASCADE,
        round_number INTEGER NOT NULL,
        round_id TEXT NOT NULL,
        session_id TEXT,
        stage TEXT NOT NULL,
        outcome TEXT,
        reason TEXT NOT NULL,
        started_s REAL,
        ended_s REAL,
        checkpoint_digest TEXT NOT NULL,
        metrics TEXT NOT NULL,
        phase_seconds TEXT NOT NULL,
        counts TEXT NOT NULL,
        facts TEXT NOT NULL,
        clients_total INTEGER NOT NULL,
        UNIQUE (federation, round_number)
    );
    CREATE INDEX rounds_by_outcome ON rounds (federation, outcome, round_number);

    CREATE TABLE stages (
        federation INTEGER NOT NULL,
        round_number INTEGER NOT NULL,
        stage TEXT NOT NULL,
        time_s REAL NOT NULL,
        sequence TEXT NOT NULL,
        PRIMARY KEY (federation, round_number, stage),
        FOREIGN KEY (federation, round_number)
            REFERENCES rounds (federation, round_number) ON DELETE CASCADE
    ) WITHOUT ROWID;

    CREATE TABLE clients (
        federation INTEGER NOT NULL,
        round_number INTEGER NOT NULL,
        position INTEGER NOT NULL,
        client_id TEXT NOT NULL,
        selector_id TEXT NOT NULL,
        standing TEXT NOT NULL,
        reason TEXT NOT NULL,
        num_examples INTEGER NOT NULL,
        training_s REAL,
        metrics TEXT NOT NULL,
        shape TEXT NOT NULL,
        PRIMARY KEY (federation, round_number, position),
        FOREIGN KEY (federation, round_number)
            REFERENCES rounds (federation, round_number) ON DELETE CASCADE
    ) WITHOUT ROWID;

    CREATE TABLE metrics (
        federation INTEGER NOT NULL,
        round_number INTEGER NOT NULL,
        name TEXT NOT NULL,
        value REAL NOT NULL,
        PRIMARY KEY (federation, round_number, name),
        FOREIGN KEY (federation, round_number)
            REFERENCES rounds (federation, round_number) ON DELETE CASCADE
    ) WITHOUT ROWID;
    CREATE INDEX metrics_by_value ON metrics (federation, name, value, round_number);

    CREATE TABLE events (
        event_id INTEGER PRIMARY KEY AUTOINCREMENT,
        federation INTEGER NOT NULL REFERENCES federations ON DELETE CASCADE,
        time_s REAL NOT NULL,
        type TEXT NOT NULL,
        round_number INTEGER,
        stage TEXT,
        outcome TEXT,
        reason TEXT NOT NULL,
        words TEXT NOT NULL
    );
    CREATE INDEX events_in_order ON events (federation, event_id);
    """,
)
"""What is released is never changed; a change is one more migration."""
