"""Tests of ``webserver.database``: files that are ours, and files that are not."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from federation.errors import SettingsError, StoreError
from webserver.database import Database
from webserver.schema import MIGRATIONS
from webserver.store import page_key, probe


@contextmanager
def opened(path: Path) -> Iterator[Database]:
    """Open a database for a while."""
    database = Database(path)
    try:
        yield database
    finally:
        database.close()


def version_of(path: Path) -> int:
    """Return the version that the file says."""
    with closing(sqlite3.connect(path)) as connection:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return version


async def test_database_is_not_there_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """With its folder; it holds the key of the page's forms."""
    path = tmp_path / "new" / "folder" / "webserver.db"

    with opened(path) as database:
        await database.write(probe)

    assert version_of(path) == len(MIGRATIONS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_database_is_opened_again_what_was_written_is_there(tmp_path: Path) -> None:
    """And migrations are not run twice."""
    with opened(tmp_path / "w.db") as database:
        key = await database.write(page_key)

    with opened(tmp_path / "w.db") as database:
        assert await database.write(page_key) == key


async def test_write_fails_half_way_nothing_of_it_is_kept(tmp_path: Path) -> None:
    """A call is a transaction."""

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO meta VALUES ('half', 'done')")
        raise KeyError("no more")

    def count(connection: sqlite3.Connection) -> int:
        found: int = connection.execute("SELECT count(*) FROM meta").fetchone()[0]
        return found

    with opened(tmp_path / "w.db") as database:
        with pytest.raises(KeyError):
            await database.write(half)

        assert await database.read(count) == 0
        await database.write(probe)


async def test_disk_is_full_the_write_is_refused_and_the_next_one_works(tmp_path: Path) -> None:
    """SQLite says so, and nothing is broken by it."""

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO meta VALUES ('much', ?)", ("x" * 10**6,))

    def pages(most: int) -> str:
        return f"PRAGMA max_page_count = {most}"

    with opened(tmp_path / "w.db") as database:
        await database.write(lambda connection: connection.execute(pages(1)))
        with pytest.raises(StoreError, match="full") as caught:
            await database.write(fill)
        await database.write(lambda connection: connection.execute(pages(10_000)))
        await database.write(fill)

    assert caught.value.reason == "database-unavailable"


def test_file_is_no_database_the_error_names_it(tmp_path: Path) -> None:
    """The operator is told which file, and that it stays as it is."""
    path = tmp_path / "holiday.jpg"
    path.write_bytes(b"\xff\xd8" * 5000)

    with pytest.raises(SettingsError, match=r"holiday\.jpg") as caught:
        Database(path)

    assert caught.value.reason == "database-unusable"
    assert path.read_bytes() == b"\xff\xd8" * 5000


def test_database_is_another_program_s_it_is_left_alone(tmp_path: Path) -> None:
    """Its tables could have our names."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE rounds (x)")

    with pytest.raises(SettingsError, match="another program"):
        Database(path)


async def test_database_is_of_a_newer_release_it_is_left_alone(tmp_path: Path) -> None:
    """This release does not know its tables."""
    path = tmp_path / "w.db"
    Database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")

    with pytest.raises(SettingsError, match="newer release"):
        Database(path)


async def test_database_is_damaged_the_error_names_it(tmp_path: Path) -> None:
    """A page in its middle is no page any more."""
    path = tmp_path / "w.db"
    Database(path).close()
    content = bytearray(path.read_bytes())
    content[4096 : 4096 * 4] = b"\x99" * (4096 * 3)
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=r"w\.db"):
        Database(path)


def test_folder_cannot_be_made_the_error_names_the_database(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match=r"w\.db") as caught:
        Database(tmp_path / "file" / "w.db")

    assert caught.value.setting == "database"


def test_webserver_runs_on_it_a_second_one_refuses(tmp_path: Path) -> None:
    """Each would show the other's federation as it was."""
    with opened(tmp_path / "w.db"), pytest.raises(SettingsError) as caught:
        Database(tmp_path / "w.db")

    assert caught.value.reason == "database-in-use"
    Database(tmp_path / "w.db").close()


async def test_reader_tries_to_write_it_is_refused(tmp_path: Path) -> None:
    """One thread writes."""
    with opened(tmp_path / "w.db") as database, pytest.raises(StoreError, match="readonly"):
        await database.read(probe)


async def test_process_was_killed_the_database_is_whole(tmp_path: Path) -> None:
    """What was written is in the log beside the file, which the next opening takes over."""
    with opened(tmp_path / "w.db") as database:
        key = await database.write(page_key)
        for suffix in ("", "-wal", "-shm"):  # as a kill leaves them
            shutil.copy(tmp_path / f"w.db{suffix}", tmp_path / f"killed.db{suffix}")

    with opened(tmp_path / "killed.db") as database:
        assert await database.write(page_key) == key
