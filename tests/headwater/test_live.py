"""The live picture: what a person at a terminal sees of a status."""

from __future__ import annotations

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

    assert first.startswith("Round 1 of 9  Reporting: 1 of 3 clients reported")
    assert "42 s left at most" in first


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
    assert "0.50" in text
    assert "0.25" in text
    assert "1.00" in text
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
