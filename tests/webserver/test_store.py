"""Tests of ``webserver.store``: what is remembered, and within which bounds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.webserver.telling import (
    BEGAN_S,
    FEDERATION,
    Teller,
    a_client,
    a_round,
    a_session,
    update,
)
from webserver import queries
from webserver.schema import MIGRATIONS
from webserver.store import FEDERATIONS_MAX, Store


@pytest.fixture(name="connection")
def _connection() -> Iterator[sqlite3.Connection]:
    """A database without file and threads."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = 1")
        for migration in MIGRATIONS:
            connection.executescript(migration)
        yield connection


def taken(connection: sqlite3.Connection, store: Store, *documents: dict[str, Any]) -> list[bool]:
    """Take updates; return which were news."""
    return [
        store.take(connection, update(document), BEGAN_S + at) is not None
        for at, document in enumerate(documents)
    ]


def count(connection: sqlite3.Connection, table: str) -> int:
    """Return the rows of a table."""
    found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return found


def round_numbers(connection: sqlite3.Connection) -> list[int]:
    """Return the rounds that are remembered."""
    return [
        row[0]
        for row in connection.execute("SELECT round_number FROM rounds ORDER BY round_number")
    ]


def test_update_comes_twice_it_is_taken_once(connection: sqlite3.Connection) -> None:
    """Delivery is at least once; what is shown and remembered is exactly once."""
    store, first = Store(100), Teller().whole_round()

    assert taken(connection, store, *first, *first) == [True] * 4 + [False] * 4
    assert count(connection, "events") == 4
    assert count(connection, "stages") == 4


def test_update_comes_late_it_does_not_turn_time_back(connection: sqlite3.Connection) -> None:
    """A sequence that is lower than the last one is old."""
    store, teller = Store(100), Teller()
    first, second = teller.stage(a_round(1)), teller.stage(a_round(1, "configuration"))

    assert taken(connection, store, second, first) == [True, False]
    (picture,) = queries.pictures(connection)
    assert picture.facts["round"]["stage"] == "configuration"


def test_two_federations_tell_each_has_an_order_of_its_own(
    connection: sqlite3.Connection,
) -> None:
    """One webserver serves several."""
    store = Store(100)
    here, there = Teller(), Teller("fedcba9876543210")

    assert taken(connection, store, here.stage(a_round()), there.stage(a_round())) == [True, True]
    assert [p.federation_id for p in queries.pictures(connection)] == [
        FEDERATION,
        "fedcba9876543210",
    ]


def test_progress_comes_the_picture_changes_and_nothing_grows(
    connection: sqlite3.Connection,
) -> None:
    """There may be ten a second."""
    store, teller = Store(100), Teller()
    taken(connection, store, teller.stage(a_round()))

    taken(connection, store, *[teller.progress(a_round(), waiting_clients=n) for n in range(50)])

    assert count(connection, "events") == 1
    assert queries.pictures(connection)[0].facts["waiting_clients"] == 49


def test_completed_round_is_told_once_more_it_is_remembered_anew(
    connection: sqlite3.Connection,
) -> None:
    """As by a coordinator whose directory was restored: the last word holds, whole."""
    store, teller = Store(100), Teller()
    taken(connection, store, teller.stage(a_round(1, "completed")))
    again = a_round(1, "completed", clients=[a_client("client-9")], metrics={"loss": 0.25})

    taken(connection, store, teller.stage(again))

    found = queries.round_detail(connection, FEDERATION, 1, clients_limit=10, clients_offset=0)
    assert found is not None
    assert [client["client_id"] for client in found["clients"]] == ["client-9"]
    assert count(connection, "metrics") == 1


def test_session_changes_its_line_changes_with_it(connection: sqlite3.Connection) -> None:
    """A session is one, however often it is told of."""
    store, teller = Store(100), Teller()
    first = a_session()
    last = a_session(running=False, rounds_completed=5)

    taken(connection, store, teller.session(first), teller.session(last), teller.session(None))

    (session,) = queries.sessions(connection, FEDERATION, limit=10, before=None)
    assert (session["running"], session["rounds_completed"]) == (False, 5)


def test_rounds_are_beyond_the_limit_the_oldest_are_forgotten_with_all_of_theirs(
    connection: sqlite3.Connection,
) -> None:
    """The database does not grow for ever."""
    store, teller = Store(3, prune_every=1), Teller()

    for number in range(1, 9):
        taken(connection, store, *teller.whole_round(number))

    assert round_numbers(connection) == [6, 7, 8]
    assert count(connection, "clients") == 6
    assert count(connection, "metrics") == 6
    assert count(connection, "stages") == 12
    assert count(connection, "events") == 15


def test_limit_is_looked_at_now_and_then_it_is_kept_in_the_long_run(
    connection: sqlite3.Connection,
) -> None:
    """Looking costs more than taking, so that it is not done each time."""
    store, teller = Store(2, prune_every=20), Teller()

    for number in range(1, 11):
        taken(connection, store, *teller.whole_round(number))

    assert round_numbers(connection) == [9, 10]


def test_clients_are_beyond_the_limit_the_oldest_rounds_lose_theirs(
    connection: sqlite3.Connection,
) -> None:
    """The rounds themselves stay: they are small."""
    store, teller = Store(100, clients_max=5, prune_every=1), Teller()

    for number in range(1, 5):
        taken(connection, store, *teller.whole_round(number))

    kept = {row[0] for row in connection.execute("SELECT round_number FROM clients")}
    assert kept == {3, 4}
    assert round_numbers(connection) == [1, 2, 3, 4]


def test_federations_are_invented_the_longest_silent_one_is_forgotten(
    connection: sqlite3.Connection,
) -> None:
    """Whoever may send updates cannot fill the disk with names."""
    store = Store(100)
    told = [Teller(f"{number:016x}").stage(a_round()) for number in range(FEDERATIONS_MAX + 5)]

    taken(connection, store, *told)

    assert count(connection, "federations") == FEDERATIONS_MAX
    assert count(connection, "rounds") == FEDERATIONS_MAX
    assert queries.pictures(connection)[0].federation_id == f"{5:016x}"
