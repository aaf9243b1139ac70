"""The outbox's file: transactions that are durable or not at all, and what is done about damage."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from federation.errors import StoreError
from federation.runtime.disk import remove_quietly, store_errors
from federation.runtime.telemetry import get_logger

log = get_logger()

DAMAGED = "outbox-damaged"
"""Reason of the ``StoreError`` after which the file is set aside and begun anew."""

LOCK_TIMEOUT_S = 5.0
"""Another process that looks into the file is waited for so long."""

_REASONS = {
    sqlite3.SQLITE_FULL: "disk-full",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_PERM: "permission-denied",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
}


class OutboxFile:
    """One SQLite file, which a coordinator has to itself.

    Args:
        path: Made if it is missing.
        prepare: Makes what is missing in it, each time it is opened.
        begun_anew: Called when it was set aside.
    """

    def __init__(
        self,
        path: Path,
        prepare: Callable[[sqlite3.Connection], object],
        begun_anew: Callable[[], None],
    ) -> None:
        self._path = path
        self._prepare = prepare
        self._begun_anew = begun_anew
        self._connection: sqlite3.Connection | None = None
        self._damaged = False

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do all of it durably, or nothing.

        Raises:
            StoreError: The disk refused. The file is opened anew after that: a failed sync is never
                followed by another one of the same open file.
        """
        with self._errors():
            database = self._opened()
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")

    def shrink(self, above_bytes: int) -> None:
        """Give unused space back if the file is larger; raises ``StoreError``."""
        with store_errors(self._path, "read"):
            size = self._path.stat().st_size
        if size > above_bytes:
            with self._errors():
                self._opened().execute("VACUUM")

    def close(self) -> None:
        """Give the file back; what was not committed is undone."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, zlib.error) as error:
            self.close()
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            reason = _REASONS.get(code, "io-error")
            self._damaged = reason == DAMAGED
            raise StoreError(f"cannot use {self._path}: {error}", reason=reason) from error
        except BaseException:
            self.close()
            raise

    def _opened(self) -> sqlite3.Connection:
        if self._damaged:
            self._set_aside()
        if self._connection is None:
            self._connection = database = sqlite3.connect(
                self._path,
                timeout=LOCK_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,  # opened at the start, used by a thread of its own
            )
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = TRUNCATE")
            database.execute("PRAGMA synchronous = FULL")
            self._prepare(database)
        return self._connection

    def _set_aside(self) -> None:
        aside = self._path.with_name(f"{self._path.name}.damaged")
        with store_errors(self._path, "set aside"):
            os.replace(self._path, aside)
        remove_quietly(_journal_of(self._path))
        self._damaged = False
        self._begun_anew()
        log.error(
            "outbox cannot be read and was set aside; webservers may miss stages",
            reason=DAMAGED,
            file=str(aside),
        )


def remove_outbox(path: Path) -> None:
    """Nobody is to be told of anything: keep nothing."""
    remove_quietly(_journal_of(path))
    remove_quietly(path)


def _journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")
