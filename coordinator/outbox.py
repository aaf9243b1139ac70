"""What webservers are still to be told, on disk, so that it survives every restart.

SQLite with a rollback journal, which a network file system can hold (docs/adr/0010). All calls
block, and all are made in one thread.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.outbox_file import DAMAGED, OutboxFile
from federation.errors import StoreError
from federation.runtime.telemetry import get_logger

log = get_logger()

UPDATES_MAX = 400_000
"""Updates that are kept, those of 100,000 rounds; the oldest are dropped beyond it."""

BYTES_MAX = 256 << 20
"""Their compressed bytes; the oldest are dropped beyond it, lest the disk of the rounds fills."""

SPARE_BYTES_MAX = 1 << 20
"""An empty file that is larger is made small."""

_TABLES = """
    CREATE TABLE IF NOT EXISTS updates (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        stage INTEGER NOT NULL,
        at_s REAL NOT NULL,
        sequence TEXT NOT NULL,
        size INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    CREATE TABLE IF NOT EXISTS receivers (key TEXT PRIMARY KEY, position INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Letter:
    """One update that is kept until it is delivered.

    Attributes:
        stage: The number of its stage, or of the stage before it.
        at_s: When it was so, Unix seconds.
        sequence: Its place among all updates of the federation, compared as text.
        body: As it is sent.
        position: Rises with each that is kept; 0 before.
    """

    stage: int
    at_s: float
    sequence: str
    body: bytes
    position: int = 0


@dataclass(frozen=True)
class Owed:
    """What one webserver is still to be told.

    Attributes:
        count: How many updates.
        oldest_s: When the oldest was so, Unix seconds; None where there is none.
    """

    count: int = 0
    oldest_s: float | None = None


class Outbox:
    """The file. A coordinator has it to itself.

    Args:
        path: Made if it is missing; one that cannot be read is set aside.
        updates_max: Most updates that are kept.
        bytes_max: Most bytes of them.

    Attributes:
        told: The number of the last stage that was put in; None: none ever was.
        session: Where the session stood that was told of last.
        dropped: Updates that were dropped since the limits were reached, in this process.

    Raises:
        StoreError: The disk refused.
    """

    def __init__(
        self, path: Path, *, updates_max: int = UPDATES_MAX, bytes_max: int = BYTES_MAX
    ) -> None:
        self._updates_max = updates_max
        self._bytes_max = bytes_max
        self._file = OutboxFile(path, self._prepare, self._begun_anew)
        self._keys: list[str] = []
        self._count = self._bytes = 0
        self.dropped = 0
        self.told: int | None = None
        self.session = ""
        try:
            self._load()
        except StoreError as error:
            if error.reason != DAMAGED:
                raise
            self._load()
            self.told = 0  # whatever the journal remembers is told once more

    def _load(self) -> None:
        with self._file.transaction() as database:
            facts = dict(database.execute("SELECT name, value FROM facts"))
            totals = database.execute("SELECT count(*), coalesce(sum(size), 0) FROM updates")
            self._count, self._bytes = totals.fetchone()
        self.told = int(facts["told"]) if "told" in facts else None
        self.session = facts.get("session", "")

    def begin(self, urls: Sequence[str], told: int) -> None:
        """Tell these webservers from now on, and forget all others.

        One that is new is told all that is still kept for another, who may be the same under a
        name that was wrong.

        Args:
            urls: Where they are.
            told: The number of the last stage so far, where none was ever put in.

        Raises:
            StoreError: The disk refused.
        """
        self._keys = keys = [_key(url) for url in urls]
        self.told = told if self.told is None else self.told
        with self._file.transaction() as database:
            marks = ", ".join("?" * len(keys))
            known = f"SELECT key FROM receivers WHERE key IN ({marks})"  # noqa: S608 - only marks
            old = {key for (key,) in database.execute(known, keys)}
            database.execute(f"DELETE FROM receivers WHERE key NOT IN ({marks})", keys)  # noqa: S608
            new = [(key,) for key in keys if key not in old]
            database.executemany("INSERT INTO receivers VALUES (?, 0)", new)
            _write_fact(database, "told", str(self.told))
            count, size = _forget_delivered(database)
        self._count, self._bytes = self._count - count, self._bytes - size
        self._shrink()

    def put(self, letters: Sequence[Letter], session: str | None = None) -> None:
        """Return once these are durable.

        Args:
            letters: In order.
            session: Where the session stands that they tell of; None: they tell of none.

        Raises:
            StoreError: The disk refused; none of them is kept.
        """
        told = max([self.told or 0, *(letter.stage for letter in letters)])
        rows = [
            (each.stage, each.at_s, each.sequence, len(packed), packed)
            for each in letters
            for packed in [zlib.compress(each.body)]
        ]
        with self._file.transaction() as database:
            count, size = self._count + len(rows), self._bytes + sum(row[3] for row in rows)
            database.executemany(
                "INSERT INTO updates (stage, at_s, sequence, size, body) VALUES (?, ?, ?, ?, ?)",
                rows,
            )
            _write_fact(database, "told", str(told))
            if session is not None:
                _write_fact(database, "session", session)
            dropped, size = self._drop_beyond(database, count, size)
        self._count, self._bytes = count - dropped, size
        self.told = told
        self.session = self.session if session is None else session
        if dropped:
            self.dropped += dropped
            log.error("updates dropped that no webserver took", reason="outbox-full", count=dropped)

    def _drop_beyond(self, database: sqlite3.Connection, count: int, size: int) -> tuple[int, int]:
        """Drop the oldest beyond the limits; return how many, and the bytes that are left."""
        dropped = 0
        oldest = database.execute("SELECT position, size FROM updates ORDER BY position")
        last = 0
        while count - dropped > self._updates_max or size > self._bytes_max:
            last, bytes_of_it = oldest.fetchone()
            dropped, size = dropped + 1, size - bytes_of_it
        oldest.close()
        if dropped:
            database.execute("DELETE FROM updates WHERE position <= ?", (last,))
        return dropped, size

    def waiting(self, url: str, count_max: int, bytes_max: int) -> list[Letter]:
        """Return the oldest updates that this webserver is owed, one at least if there is one.

        Raises:
            StoreError: The disk refused.
        """
        found: list[Letter] = []
        with self._file.transaction() as database:
            rows = database.execute(
                "SELECT stage, at_s, sequence, body, position FROM updates WHERE position > "
                "(SELECT position FROM receivers WHERE key = ?) ORDER BY position LIMIT ?",
                (_key(url), count_max),
            )
            for stage, at_s, sequence, packed, position in rows:
                letter = Letter(stage, at_s, sequence, zlib.decompress(packed), position)
                bytes_max -= len(letter.body)
                if found and bytes_max < 0:
                    break
                found.append(letter)
            rows.close()
        return found

    def delivered(self, url: str, position: int) -> None:
        """Everything up to there was delivered; what all have is forgotten.

        Raises:
            StoreError: The disk refused.
        """
        with self._file.transaction() as database:
            database.execute(
                "UPDATE receivers SET position = ? WHERE key = ?", (position, _key(url))
            )
            count, size = _forget_delivered(database)
        self._count, self._bytes = self._count - count, self._bytes - size
        self._shrink()

    def owed(self, urls: Sequence[str]) -> dict[str, Owed]:
        """Return what each of these is still to be told; raises ``StoreError``."""
        with self._file.transaction() as database:
            return {
                url: Owed(
                    *database.execute(
                        "SELECT count(*), min(at_s) FROM updates WHERE position > "
                        "coalesce((SELECT position FROM receivers WHERE key = ?), 0)",
                        (_key(url),),
                    ).fetchone()
                )
                for url in urls
            }

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def _shrink(self) -> None:
        """Give the space of what was delivered back, once nothing is left."""
        if self._count == 0:
            self._file.shrink(SPARE_BYTES_MAX)

    def _prepare(self, database: sqlite3.Connection) -> None:
        database.executescript(_TABLES)
        known = [(key,) for key in self._keys]
        database.executemany("INSERT OR IGNORE INTO receivers VALUES (?, 0)", known)

    def _begun_anew(self) -> None:
        self._count = self._bytes = 0


def _forget_delivered(database: sqlite3.Connection) -> tuple[int, int]:
    """Delete what every receiver has; return how many these were, and their bytes."""
    [(last,)] = database.execute("SELECT coalesce(min(position), 1 << 62) FROM receivers")
    delivered = "FROM updates WHERE position <= ?"
    totals = f"SELECT count(*), coalesce(sum(size), 0) {delivered}"
    [(count, size)] = database.execute(totals, (last,))
    database.execute(f"DELETE {delivered}", (last,))
    return count, size


def _write_fact(database: sqlite3.Connection, name: str, value: str) -> None:
    database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))


def _key(url: str) -> str:
    """Name a receiver without its URL, which may hold what nobody else is to read."""
    return hashlib.sha256(url.encode()).hexdigest()
