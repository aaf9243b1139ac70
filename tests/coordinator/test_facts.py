"""What selectors say, as events."""

from __future__ import annotations

import pytest

from coordinator.events import ReportsFolded
from coordinator.facts import event_of
from federation.v1 import coordination_pb2 as pb
from tests.coordinator.rounds import NORTH


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"training_s": 1.5}, 1.5),
        ({"training_s": 0.0}, 0.0),
        ({}, None),
        ({"training_s": float("nan")}, None),
        ({"training_s": float("inf")}, None),
        ({"training_s": -1.0}, 0.0),
    ],
)
def test_report_says_how_long_training_took_it_is_kept_if_it_is_a_duration(
    said: dict[str, float], kept: float | None
) -> None:
    """A client of another release says nothing; what is no number never reaches JSON."""
    report = pb.FoldedReport(client_id="ann", num_examples=1, **said)  # type: ignore[arg-type]
    folded = pb.ReportsFolded(round_id="this-round", reports=[report])

    event = event_of(NORTH, pb.SelectorEvent(reports_folded=folded))

    assert isinstance(event, ReportsFolded)
    assert event.reports[0].training_s == kept
