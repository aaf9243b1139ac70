"""What people read about a federation."""

from __future__ import annotations

import pytest

from federation.v1 import control_pb2 as pb
from headwater.words import (
    EXCEPTIONS_SHOWN,
    metrics_in_words,
    plural,
    round_in_words,
    session_in_words,
    stage_in_words,
    status_in_words,
)


def a_round(phase: pb.Phase.ValueType, **counts: int) -> pb.RoundStatus:
    """Make round 3 of 4 clients through north and south."""
    clients = [
        pb.ClientStatus(client_id=f"client-{n}", selector_id=("north", "south")[n % 2])
        for n in range(counts.get("admitted", 0))
    ]
    return pb.RoundStatus(
        round_number=3,
        phase=phase,
        counts=pb.Counts(goal_count=4, admit_limit=4, **counts),
        clients=clients,
    )


@pytest.mark.parametrize(
    ("round_", "words"),
    [
        (a_round(pb.PHASE_SELECTION), "Selection: 0 of 4 checked in"),
        (
            a_round(pb.PHASE_SELECTION, admitted=1),
            "Selection: 1 of 4 checked in, 1 selector",
        ),
        (
            a_round(pb.PHASE_CONFIGURATION, admitted=4, configured=3),
            "Configuration: 3 of 4 configured, 2 selectors",
        ),
        (
            a_round(pb.PHASE_REPORTING, admitted=4, folded=1, lost=1, rejected=1),
            "Reporting: 1 of 4 reported, 2 selectors, 1 rejected, 1 lost",
        ),
    ],
)
def test_round_runs_it_is_told_with_what_it_has_and_what_it_waits_for(
    round_: pb.RoundStatus, words: str
) -> None:
    """One line, each phase with the count that moves in it."""
    assert round_in_words(round_) == words


def test_round_commits_it_is_told_with_the_fates_of_the_others() -> None:
    """Fewer reports than clients raises the question what became of the rest."""
    stage = pb.Stage(
        phase=pb.PHASE_COMPLETED,
        outcome=pb.OUTCOME_COMMITTED,
        counts=pb.Counts(admitted=3, reported=1, withdrawn=1, expired=1),
    )

    assert stage_in_words(stage) == "Completed: committed with 1 report, 1 withdrawn, 1 expired"


def test_round_is_abandoned_it_is_told_with_the_reason() -> None:
    """The reason word is the one in logs and on the wire."""
    stage = pb.Stage(
        phase=pb.PHASE_COMPLETED,
        outcome=pb.OUTCOME_ABANDONED,
        reason="too-few-reports",
        counts=pb.Counts(admitted=2, lost=2),
    )

    assert stage_in_words(stage) == "Completed: abandoned, too-few-reports, 2 lost"


def test_nothing_runs_yet_the_status_says_who_is_there() -> None:
    """An operator sees selectors and waiting clients before the first session."""
    status = pb.Status(
        waiting_clients=1,
        selectors=[
            pb.SelectorStatus(selector_id="north", address="n:1", attached=True, held=1),
            pb.SelectorStatus(selector_id="south"),
        ],
    )

    assert status_in_words(status) == [
        "No session yet",
        "1 selector attached, 1 client waiting",
        "  north (n:1): 1 client",
        "  south (away): 0 clients",
    ]


def test_something_is_the_matter_with_clients_the_status_names_them_and_stops_at_some() -> None:
    """Who and why comes first; ten thousand lost clients do not fill the screen."""
    round_ = a_round(pb.PHASE_REPORTING, admitted=2, pending=2)
    round_.deadline_s = 41.7
    lost = pb.ClientStatus(
        client_id="gone", selector_id="north", standing="lost", reason="client-lost"
    )
    round_.clients.extend([lost] * (EXCEPTIONS_SHOWN + 5))
    status = pb.Status(round=round_, session=pb.SessionStatus(rounds=9, running=True))

    lines = status_in_words(status)

    assert lines[0] == "Session running: 0 of 9 rounds"
    assert lines[1] == ("Round 3, Reporting: 0 of 2 reported, 2 selectors, 42 s left at most")
    assert lines[2 : 2 + EXCEPTIONS_SHOWN] == ["  gone (north): lost, client-lost"] * (
        EXCEPTIONS_SHOWN
    )
    assert lines[2 + EXCEPTIONS_SHOWN] == "  and 5 more"


@pytest.mark.parametrize(("count", "words"), [(0, "0 clients"), (1, "1 client"), (2, "2 clients")])
def test_things_are_counted_one_is_singular(count: int, words: str) -> None:
    """Nobody reads ``1 clients``."""
    assert plural(count, "client") == words


@pytest.mark.parametrize(
    ("session", "words"),
    [
        (pb.SessionStatus(rounds=3, rounds_completed=1, running=True), "running: 1 of 3 rounds"),
        (
            pb.SessionStatus(rounds=3, rounds_completed=1, running=True, stopping=True),
            "running: 1 of 3 rounds, stops after this one",
        ),
        (pb.SessionStatus(rounds=3, rounds_completed=2, stopping=True), "stopped: 2 of 3 rounds"),
        (pb.SessionStatus(rounds=3, rounds_completed=3, stopping=True), "over: 3 of 3 rounds"),
    ],
)
def test_session_is_told_with_how_far_it_came(session: pb.SessionStatus, words: str) -> None:
    """One that was stopped in its last round is over like any other."""
    assert session_in_words(session) == f"Session {words}"


def test_metric_is_named_by_a_client_nothing_in_the_name_acts_on_a_terminal() -> None:
    """Names come as they are from whoever trains."""
    assert metrics_in_words({"loss": 0.123456, "\x1b[2J\n": 2.0}) == "\\x1b[2J\\n 2, loss 0.1235"
