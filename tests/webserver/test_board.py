"""Tests of ``webserver.board``."""

from __future__ import annotations

import pytest

from tests.webserver.telling import (
    BEGAN_S,
    FEDERATION,
    Teller,
    a_client,
    a_round,
    a_session,
    counts,
    update,
)
from webserver.board import (
    CLIENTS_SHOWN,
    Checkpoint,
    drawn,
    event_of,
    is_news,
    overview,
    with_present,
)


@pytest.mark.parametrize(
    ("last", "news"),
    [
        (None, True),
        ("000000000001.000000.000000", True),
        ("000000000002.000000.000000", False),
        ("000000000002.000001.000001", False),
        ("000000000001.000009.999999", True),
    ],
)
def test_update_comes_after_the_last_one_it_is_news(last: str | None, news: bool) -> None:
    """A sequence that is not greater was taken before, or came too late."""
    teller = Teller()
    teller.stage(a_round())
    second = update(teller.stage(a_round(1, "configuration")))

    assert is_news(second, last) is news


def test_sequence_outgrows_its_digits_the_order_stays() -> None:
    """Text of another width would compare wrongly."""
    document = Teller().progress(a_round()) | {"sequence": "000000000001.000001.1000000"}

    assert is_news(update(document), "000000000001.000001.999999")


def test_round_has_very_many_clients_the_picture_shows_the_first() -> None:
    """Pages and streams stay small; the rest is in the database."""
    clients = [a_client(f"client-{number}") for number in range(CLIENTS_SHOWN + 50)]
    many = update(Teller().stage(a_round(1, "completed", clients=clients, clients_total=250)))

    round_ = drawn(many, BEGAN_S).facts["round"]
    assert len(round_["clients"]) == CLIENTS_SHOWN
    assert round_["clients_total"] == 250
    assert len(many.facts["round"]["clients"]) == CLIENTS_SHOWN + 50


def test_stage_is_told_its_event_has_round_stage_and_words() -> None:
    """What the event log shows, and what a stream sends."""
    event = event_of(update(Teller().stage(a_round(7, "completed"))))

    assert event is not None
    assert event | {"time_s": 0.0} == {
        "time_s": 0.0,
        "type": "headwater.round.stage",
        "round_number": 7,
        "stage": "completed",
        "outcome": "committed",
        "reason": "",
        "words": "Completed: round 7 committed with 2 reports",
    }


def test_session_changes_its_event_has_no_stage() -> None:
    """Also while a round runs: the event is not the round's."""
    told = Teller().session(a_session(stopping=True), round=a_round())

    event = event_of(update(told))

    assert event is not None
    assert (event["round_number"], event["stage"]) == (None, None)
    assert event["words"] == "Session running: 0 of 5 rounds, stops after this one"


def test_progress_is_told_it_is_no_event() -> None:
    """The log has what happened, the picture has how far it is."""
    assert event_of(update(Teller().progress(a_round()))) is None


def test_nothing_was_heard_the_overview_says_that_it_waits() -> None:
    """A page is of use before the first coordinator."""
    shown = overview(None, last=None, best=None, last_event_id=0)

    assert shown["federation"] is None
    assert shown["words"] == "Waiting for a coordinator"
    assert shown["round"] is None


def test_stage_has_a_deadline_the_overview_says_when_it_is() -> None:
    """What remained when the update was made, from that moment on."""
    picture = drawn(update(Teller().stage(a_round(1, "reporting"))), BEGAN_S + 100)

    shown = overview(picture, last=None, best=None, last_event_id=3)

    assert shown["round"]["deadline_at_s"] == pytest.approx(picture.time_s + 60.0)
    assert shown["federation"]["federation_id"] == FEDERATION
    assert shown["federation"]["heard_s"] == BEGAN_S + 100
    assert shown["last_event_id"] == 3


def test_round_has_completed_it_has_no_deadline() -> None:
    """Nothing is waited for."""
    picture = drawn(update(Teller().stage(a_round(1, "completed"))), BEGAN_S)

    shown = overview(picture, last=None, best=None, last_event_id=1)

    assert shown["round"]["deadline_at_s"] is None


@pytest.mark.parametrize(
    ("here", "url"), [(True, f"/api/v1/checkpoints/41?federation={FEDERATION}"), (False, None)]
)
def test_checkpoint_is_here_the_overview_says_where_it_is_downloaded(
    here: bool, url: str | None
) -> None:
    """A link that leads nowhere, or to another federation's, is not shown."""
    picture = drawn(update(Teller().stage(a_round(1, "completed"))), BEGAN_S)
    checkpoint = Checkpoint(41, "ab", {"loss": 0.1}, "loss", here)

    shown = overview(picture, last=checkpoint, best=None, last_event_id=0)["checkpoints"]

    assert shown["last"]["url"] == url
    assert shown["last"]["by"] == "loss"
    assert shown["best"] is None


def test_round_runs_what_is_remembered_of_it_is_brought_up_to_date() -> None:
    """The tables know its last stage, the picture its last progress."""
    teller = Teller()
    remembered = {"round_number": 1, "counts": counts(), "stage": "selection", "session_id": "s"}
    picture = drawn(update(teller.progress(a_round(counts=counts(admitted=3)))), BEGAN_S)

    now = with_present(remembered, picture)

    assert now["counts"]["admitted"] == 3
    assert now["session_id"] == "s"
    assert now.keys() == remembered.keys()


def test_round_has_completed_what_is_remembered_of_it_stays() -> None:
    """Its clients are all in the tables."""
    remembered = {"round_number": 1, "clients": ["all"]}
    completed = drawn(update(Teller().stage(a_round(1, "completed"))), BEGAN_S)
    another = drawn(update(Teller().stage(a_round(2))), BEGAN_S)

    assert with_present(remembered, completed) is remembered
    assert with_present(remembered, another) is remembered
    assert with_present(remembered, None) is remembered
