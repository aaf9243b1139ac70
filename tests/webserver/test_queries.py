"""Tests of ``webserver.queries``: pages, series and the best checkpoint."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.webserver.telling import (
    FEDERATION,
    Teller,
    a_client,
    a_round,
    an_abandoned_round,
    update,
)
from webserver import queries
from webserver.schema import MIGRATIONS
from webserver.store import Store


class Told:
    """A database that was told of rounds."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.teller = Teller()
        self._store = Store(1000)

    def take(self, *documents: dict[str, Any]) -> None:
        """Take updates."""
        for document in documents:
            assert self._store.take(self.connection, update(document), 0.0)

    def completed(self, *metrics: dict[str, float]) -> None:
        """Take a completed round for each of these metrics."""
        for number, values in enumerate(metrics, 1):
            self.take(self.teller.stage(a_round(number, "completed", metrics=values)))


@pytest.fixture(name="told")
def _told() -> Iterator[Told]:
    """An empty database."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        for migration in MIGRATIONS:
            connection.executescript(migration)
        yield Told(connection)


def pages(told: Told, limit: int, outcome: str | None = None) -> list[list[int]]:
    """Return the round numbers of all pages."""
    found, before = [], None
    while page := queries.rounds(
        told.connection, FEDERATION, limit=limit, before=before, outcome=outcome
    ):
        found.append([line["round_number"] for line in page])
        before = found[-1][-1]
    return found


def test_rounds_are_paged_each_comes_once_newest_first(told: Told) -> None:
    """Also while new ones are added: a page begins where the last one ended."""
    for number in range(1, 8):
        told.take(*told.teller.whole_round(number))

    assert pages(told, 3) == [[7, 6, 5], [4, 3, 2], [1]]


def test_rounds_of_one_outcome_are_asked_for_the_others_are_left_out(told: Told) -> None:
    """And those that run have none."""
    told.take(told.teller.stage(a_round(1, "completed")))
    told.take(told.teller.stage(an_abandoned_round(2)))
    told.take(told.teller.stage(a_round(3)))

    assert pages(told, 10, "committed") == [[1]]
    assert pages(told, 10, "abandoned") == [[2]]
    assert pages(told, 10) == [[3, 2, 1]]


def test_round_runs_its_line_has_no_outcome_and_no_end(told: Told) -> None:
    """They come with its last stage."""
    told.take(told.teller.stage(a_round(1, "reporting")))

    (line,) = queries.rounds(told.connection, FEDERATION, limit=1, before=None, outcome=None)

    assert (line["outcome"], line["ended_s"]) == (None, None)
    assert line["started_s"] == a_round(1)["entered"]["selection"]
    assert line["session_id"] == "session-1"


def test_round_has_many_clients_they_are_paged_in_order(told: Told) -> None:
    """Each once, in the order of admission."""
    clients = [a_client(f"client-{number}") for number in range(25)]
    told.take(told.teller.stage(a_round(1, "completed", clients=clients, clients_total=25)))

    seen = []
    for offset in (0, 10, 20, 30):
        found = queries.round_detail(
            told.connection, FEDERATION, 1, clients_limit=10, clients_offset=offset
        )
        assert found is not None
        assert found["clients_total"] == 25
        seen += [client["client_id"] for client in found["clients"]]

    assert seen == [client["client_id"] for client in clients]


def test_round_is_asked_for_its_stages_come_in_order(told: Told) -> None:
    """With when each began."""
    told.take(*told.teller.whole_round(1))

    found = queries.round_detail(told.connection, FEDERATION, 1, clients_limit=10, clients_offset=0)

    assert found is not None
    assert [stage["stage"] for stage in found["stages"]] == [
        *("selection", "configuration", "reporting", "completed")
    ]
    assert found["plan"]["hyperparameters"]["learning_rate"] == 0.1


def test_round_is_not_known_there_is_no_detail(told: Told) -> None:
    """Nor of a federation that is not."""
    page = {"clients_limit": 10, "clients_offset": 0}

    assert queries.round_detail(told.connection, FEDERATION, 1, **page) is None
    assert queries.rounds(told.connection, "", limit=5, before=None, outcome=None) == []


@pytest.mark.parametrize(
    ("metrics", "best", "by"),
    [
        ([{"accuracy": 0.5}, {"accuracy": 0.9}, {"accuracy": 0.7}], 2, "accuracy"),
        ([{"loss": 0.1, "accuracy": 0.2}, {"loss": 0.9, "accuracy": 0.3}], 2, "accuracy"),
        ([{"loss": 0.5}, {"loss": 0.1}, {"loss": 0.3}], 2, "loss"),
        ([{"loss": 0.1}, {"accuracy": 0.2, "loss": 0.5}], 2, "accuracy"),
        ([{"accuracy": 0.9}, {"accuracy": 0.9}], 2, "accuracy"),
        ([{"loss": 0.2}, {"loss": 0.2}, {"loss": 0.3}], 2, "loss"),
    ],
)
def test_best_checkpoint_has_the_highest_accuracy_else_the_lowest_loss(
    told: Told, metrics: list[dict[str, float]], best: int, by: str
) -> None:
    """Of equals the newest."""
    told.completed(*metrics)

    last, found = queries.checkpoints(told.connection, FEDERATION)

    assert last is not None
    assert last.round_number == len(metrics)
    assert found is not None
    assert (found.round_number, found.by) == (best, by)


def test_round_with_the_best_metrics_was_abandoned_it_is_not_the_best_checkpoint(
    told: Told,
) -> None:
    """It made none."""
    told.completed({"accuracy": 0.5})
    told.take(told.teller.stage(an_abandoned_round(2) | {"metrics": {"accuracy": 0.99}}))

    last, best = queries.checkpoints(told.connection, FEDERATION)

    assert last == best or (last and best and last.round_number == best.round_number == 1)


def test_no_round_has_metrics_none_is_the_best(told: Told) -> None:
    """The newest is there all the same; before the first commit there is neither."""
    assert queries.checkpoints(told.connection, FEDERATION) == (None, None)
    told.completed({})

    last, best = queries.checkpoints(told.connection, FEDERATION)

    assert last is not None
    assert best is None


def test_series_has_more_rounds_than_asked_for_it_is_thinned(told: Told) -> None:
    """The running round is not in it."""
    told.completed(*({"loss": 1 / number} for number in range(1, 101)))
    told.take(told.teller.stage(a_round(101)))

    series = queries.series(told.connection, FEDERATION, limit=10)

    assert series["round_number"] == [1, 12, 23, 34, 45, 56, 67, 78, 89, 100]
    assert series["metrics"]["loss"][-1] == 1 / 100


def test_events_were_missed_they_are_told_in_order(told: Told) -> None:
    """The newest, if they are more than are told at once."""
    told.take(*told.teller.whole_round(1), *told.teller.whole_round(2))

    missed = queries.events_after(told.connection, FEDERATION, 5, limit=2)

    assert [event["event_id"] for event in missed] == [7, 8]
    assert queries.last_event_id(told.connection) == 8
    newest = queries.events(told.connection, FEDERATION, limit=3, before=None)
    assert [event["event_id"] for event in newest] == [8, 7, 6]
    older = queries.events(told.connection, FEDERATION, limit=3, before=6)
    assert [event["event_id"] for event in older] == [5, 4, 3]
