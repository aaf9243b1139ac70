"""Tests of ``webserver.board_series``."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from webserver.board_series import METRICS_SHOWN, columns, thinned


@given(st.integers(0, 3000), st.integers(2, 500))
def test_series_is_thinned_both_ends_stay_and_the_gaps_are_even(count: int, limit: int) -> None:
    """A chart of many rounds shows the first, the newest, and no part more densely than another."""
    shown = thinned(count, limit)

    assert len(shown) == min(count, limit)
    assert shown[:1] == [0][:count]
    assert shown[-1:] == [count - 1][:count]
    gaps = {after - before for before, after in pairwise(shown)}
    assert all(gap >= 1 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_one_is_shown_it_is_the_newest() -> None:
    """There is no room for the other end."""
    assert thinned(10, 1) == [9]


def test_round_has_no_value_its_place_in_the_column_is_empty() -> None:
    """All columns are of one length, in the order of the rounds."""
    rounds = [
        {
            "round_number": 1,
            "outcome": "committed",
            "metrics": {"loss": 0.5},
            "phase_seconds": {"selection": 1.0, "reporting": 2.0},
        },
        {"round_number": 2, "outcome": "abandoned", "metrics": {}, "phase_seconds": {}},
    ]

    assert columns(rounds) == {
        "round_number": [1, 2],
        "outcome": ["committed", "abandoned"],
        "metrics": {"loss": [0.5, None]},
        "phase_seconds": {
            "selection": [1.0, None],
            "configuration": [None, None],
            "reporting": [2.0, None],
        },
    }


def test_clients_invent_metrics_the_chart_stays_readable() -> None:
    """The names come from clients."""
    invented = {f"metric-{number:03}": 1.0 for number in range(METRICS_SHOWN + 5)}

    found = columns(
        [{"round_number": 1, "outcome": "committed", "metrics": invented, "phase_seconds": {}}]
    )

    assert len(found["metrics"]) == METRICS_SHOWN
