"""The live picture: what a person at a terminal sees of a status."""

from __future__ import annotations

import pytest
from rich.console import Console

from federation.v1 import control_pb2 as pb
from headwater.live import Metrics, metric, metric_names, picture, sparkline
from tests.headwater.statuses import a_record, a_status


def drawn(status: pb.Status, held_out: Metrics) -> str:
    """Draw the picture as plain text."""
    console = Console(width=140, color_system=None)
    with console.capture() as capture:
        console.print(picture(status, held_out))
    return capture.get()


def test_sparkline_of_rising_values_rises() -> None:
    """The smallest value is the lowest bar, the largest the highest."""
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"


def test_sparkline_of_equal_values_lies_in_the_middle() -> None:
    """Nothing changed: no bar stands out, and nothing is divided by zero."""
    assert sparkline([2.0, 2.0]) == "▄▄"
    assert sparkline([]) == ""


def test_running_round_shows_its_stage_in_words_and_what_is_left() -> None:
    """The first line is the stage line."""
    first = drawn(a_status(), {}).splitlines()[0]

    assert first.startswith("Round 1 of 9  Reporting: 1 of 3 reported, 2 selectors")
    assert "42 s left at most" in first


def test_status_is_some_time_old_less_is_left() -> None:
    """A clock that stands still looks like a program that does."""
    console = Console(width=140, color_system=None)
    with console.capture() as capture:
        console.print(picture(a_status(), {}, age_s=12.0))

    assert "30 s left at most" in capture.get()


@pytest.mark.parametrize(
    ("completed", "words"),
    [(0, "Round 1 of 9  Reporting"), (3, "Round 1, 4 of 9  Reporting")],
)
def test_round_is_named_by_its_number_and_its_place_in_the_session(
    completed: int, words: str
) -> None:
    """Numbers go on from one session to the next; "11 of 10" is nonsense."""
    status = a_status()
    status.session.rounds_completed = completed

    assert drawn(status, {}).startswith(words)


def test_no_round_runs_the_line_says_who_waits() -> None:
    """Between sessions clients are held."""
    assert drawn(pb.Status(waiting_clients=1), {}) == "No round yet, 1 client waiting\n"


def test_disk_refuses_the_first_line_says_so() -> None:
    """Nothing else is as urgent to know."""
    status = a_status()
    status.storage_failure = "disk-full"

    assert "no round begins: disk-full" in drawn(status, {}).splitlines()[0]


def test_selector_has_no_client_yet_its_row_says_so() -> None:
    """0/0 with a bar is a riddle."""
    status = a_status()
    del status.round.clients[:]

    assert drawn(status, {}).count("no clients yet") == 2


def test_clients_are_drawn_each_keeps_its_place() -> None:
    """By number, however the clients came."""
    status = a_status()
    del status.round.clients[:]
    for number in (10, 2, 1):
        status.round.clients.add(client_id=f"client-{number}", selector_id="north")

    row = next(line for line in drawn(status, {}).splitlines() if line.startswith("north"))
    assert row.index("client-1 ") < row.index("client-2") < row.index("client-10")


def test_selectors_have_a_row_each_with_their_clients_and_what_is_the_matter() -> None:
    """Who is away or lost is said in words beside the mark."""
    lines = drawn(a_status(), {}).splitlines()

    north = next(line for line in lines if line.startswith("north"))
    south = next(line for line in lines if line.startswith("south"))
    assert "1/2" in north
    assert "✓ ann" in north
    assert "… bob" in north
    assert "away" in south
    assert "✗ cy lost, client-lost" in south


def test_completed_rounds_show_seconds_by_stage_metrics_and_sparklines() -> None:
    """Training and held-out metrics are columns; under each with two values is its course."""
    status = a_status(a_record(1, loss=0.9), a_record(2, loss=0.4))
    text = drawn(status, {1: {"accuracy": 0.5}, 2: {"accuracy": 0.75}})

    assert "committed, 3 reports" in text
    assert "0.5  " in text
    assert "0.2  " in text
    assert "1.0  " in text
    assert "trend" in text
    assert "0.900" in text
    assert "0.750" in text
    assert "█▁" in text
    assert "▁█" in text


def test_abandoned_round_shows_its_reason() -> None:
    """Failure is an outcome with a reason, not an empty row."""
    assert "abandoned, too-few-reports" in drawn(
        a_status(a_record(1, loss=0.9, reason="too-few-reports")), {}
    )


def test_hostile_client_id_stays_text() -> None:
    """What peers send is never mark-up."""
    status = a_status()
    status.round.clients[0].reason = "[red]boo[/red]"

    assert "[red]boo[/red]" in drawn(status, {})


def test_metric_that_a_round_lacks_is_empty() -> None:
    """Rounds without a metric leave a gap, not a zero."""
    records = [a_record(1, loss=0.9)]

    assert metric_names(records, {2: {"accuracy": 1.0}}) == ["training loss", "held-out accuracy"]
    assert metric(records[0], {}, "held-out accuracy") is None
