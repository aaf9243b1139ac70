"""Tests of ``webserver.board_words``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.webserver.telling import a_round, a_session, an_abandoned_round, counts, data
from webserver.board_words import picture_in_words, session_in_words, stage_in_words

NOBODY = {"selectors": [], "waiting_clients": 0}


@pytest.mark.parametrize(
    ("round_", "words"),
    [
        (
            a_round(
                1,
                "selection",
                counts=counts(admitted=3),
                selectors={"north": {"admitted": 2}, "south": {"admitted": 1}},
            ),
            "Selection: 3 of 4 clients, 2 selectors",
        ),
        (
            a_round(1, "configuration", counts=counts(admitted=4, configured=1)),
            "Configuration: 1 of 4 clients configured",
        ),
        (
            a_round(1, "reporting", counts=counts(admitted=4, folded=2)),
            "Reporting: 2 of 4 reports",
        ),
        (
            a_round(1, "reporting", counts=counts(admitted=4, folded=1, lost=2, rejected=1)),
            "Reporting: 1 of 4 reports, 1 rejected, 2 lost",
        ),
        (
            a_round(3, "completed", counts=counts(admitted=4, reported=4)),
            "Completed: round 3 committed with 4 reports",
        ),
        (
            an_abandoned_round(3) | {"counts": counts(admitted=1, lost=1)},
            "Completed: round 3 abandoned: too-few-reports, 1 lost",
        ),
    ],
)
def test_stage_of_a_round_is_said_in_words(round_: dict[str, Any], words: str) -> None:
    """Which stage it is, how far it is, and what went wrong."""
    assert stage_in_words(round_) == words


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            data(session=None, waiting_clients=3),
            "Waiting for a session: 3 clients waiting, 1 selector",
        ),
        (data(session=None, **NOBODY), "Waiting for a session: 0 clients waiting, 0 selectors"),
        (
            data(
                session=a_session(running=False, rounds_completed=5),
                round=a_round(5, "completed"),
                waiting_clients=1,
            ),
            (
                "Session over: 5 of 5 rounds. Waiting for the next session: 1 client waiting, "
                "1 selector"
            ),
        ),
        (
            data(session=a_session(), waiting_clients=2),
            "Session running: 0 of 5 rounds: 2 clients waiting, 1 selector",
        ),
        (data(round=a_round(1, "completed")), "Completed: round 1 committed with 2 reports"),
        (
            data(session=a_session(running=False), round=a_round(2, "reporting")),
            "Reporting: 0 of 0 reports",
        ),
        (
            data(storage_failure="No space left on device", round=a_round()),
            "Nothing can be made durable: No space left on device",
        ),
    ],
)
def test_picture_is_said_in_words_it_says_what_is_waited_for(
    facts: dict[str, Any], words: str
) -> None:
    """A round's stage while one runs, else what would start the next; a disk's refusal first."""
    assert picture_in_words(facts) == words


@pytest.mark.parametrize(
    ("session", "words"),
    [
        (None, "No session"),
        (a_session(rounds_completed=2), "Session running: 2 of 5 rounds"),
        (a_session(stopping=True), "Session running: 0 of 5 rounds, stops after this one"),
        (a_session(running=False, rounds_completed=2), "Session stopped: 2 of 5 rounds"),
        (a_session(running=False, rounds=1, rounds_completed=1), "Session over: 1 of 1 round"),
    ],
)
def test_session_is_said_in_words(session: dict[str, Any] | None, words: str) -> None:
    """How far it is, and how it ended."""
    assert session_in_words(session) == words
