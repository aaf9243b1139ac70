"""The webserver's database file: opened, checked, migrated; one thread writes, two read."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from federation.errors import SettingsError, StoreError
from federation.runtime.telemetry import get_logger
from webserver.schema import APPLICATION_ID, MIGRATIONS

log = get_logger()

READERS = 2
"""Threads that read; SQLite lets them read while one writes."""

BUSY_TIMEOUT_S = 5.0
"""Somebody else, e.g. a backup, may hold the file for so long."""

CHECKED_BYTES_MAX = 64 * 2**20
"""A database up to this size is checked page by page at the start, in less than a second."""

T = TypeVar("T")
Call = Callable[[sqlite3.Connection], T]


class Database:
    """One SQLite file.

    Args:
        path: Made if it is not there; its folder, too.

    Raises:
        SettingsError: It is damaged, another program's, a newer release's, in use by another
            webserver, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = _locked(path)
        try:
            self._writing = self._connect()
            _prepare(self._writing, path)
        except sqlite3.Error as error:
            os.close(self._lock)
            raise _unusable(path, f"it cannot be used as a SQLite database ({error})") from error
        except BaseException:
            os.close(self._lock)
            raise
        self._writer = ThreadPoolExecutor(1, "database writer")
        self._readers = ThreadPoolExecutor(READERS, "database reader")
        self._reading = threading.local()
        self._opened = [self._writing]

    async def write(self, call: Call[T]) -> T:
        """Run a call in a transaction, after those before it; durable when it returns.

        Raises:
            StoreError: Nothing of it was kept.
        """
        return await self._run(self._writer, self._transact, call)

    async def read(self, call: Call[T]) -> T:
        """Run a call that sees one state of the database throughout.

        Raises:
            StoreError: The file cannot be read.
        """
        return await self._run(self._readers, self._look, call)

    def close(self) -> None:
        """End what is under way, and give file and threads back."""
        self._writer.shutdown()
        self._readers.shutdown()
        for connection in self._opened:
            connection.close()
        os.close(self._lock)

    async def _run(
        self, threads: ThreadPoolExecutor, run: Callable[[Call[T]], T], call: Call[T]
    ) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, run, call)
        except sqlite3.Error as error:
            log.error("database failed", path=str(self._path), detail=str(error))
            raise StoreError(
                f"the database {self._path} cannot be used: {error}", reason="database-unavailable"
            ) from error

    def _transact(self, call: Call[T]) -> T:
        connection = self._writing
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = call(connection)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # a full disk may have rolled back already
                connection.execute("ROLLBACK")
            raise
        return result

    def _look(self, call: Call[T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._reading, "connection", None)
        if connection is None:
            connection = self._connect()
            connection.execute("PRAGMA query_only = 1")
            self._reading.connection = connection
            self._opened.append(connection)
        connection.execute("BEGIN")
        try:
            return call(connection)
        finally:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")

    def _connect(self) -> sqlite3.Connection:
        # Opened in one thread and closed in another, never used by two at a time.
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = 1")
        connection.execute("PRAGMA synchronous = FULL")
        return connection


def _locked(path: Path) -> int:
    """Take the lock of the file's one webserver; it ends with the process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(path, f"its folder cannot be written ({error.strerror})") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        expected = "another webserver uses it; end that one, or give another --database"
        raise SettingsError("database", str(path), expected, reason="database-in-use") from None
    return lock


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the file is ours and whole, and bring it to this release's version."""
    application_id = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application_id != APPLICATION_ID:
        raise _unusable(path, "it is a database of another program")
    if version > len(MIGRATIONS):
        raise _unusable(path, f"a newer release made it (version {version})")
    if path.stat().st_size <= CHECKED_BYTES_MAX:
        finding = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if finding != "ok":
            raise _unusable(path, f"it is damaged ({finding})")
    if not tables:
        path.chmod(0o600)  # it holds the key of the page's forms
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for number, migration in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {migration}; PRAGMA user_version = {number}; COMMIT;"
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _unusable(path: Path, what: str) -> SettingsError:
    expected = f"{what}; give another --database, or move that file away"
    return SettingsError("database", str(path), expected, reason="database-unusable")
