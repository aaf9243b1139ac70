"""What is written is what is read, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.journal_lines import (
    DamagedLine,
    Entry,
    Snapshot,
    entries_of,
    entry_of,
    line_of_entry,
    line_of_snapshot,
    snapshot_of,
)
from coordinator.ledger import Ledger, RoundBegan, SessionStarted, take
from coordinator.round import Closing
from federation.phases import Phase
from tests.coordinator.happenings import facts
from tests.coordinator.rounds import BASE, NORTH, START_S, a_plan, a_round_in

PHASES = [
    (Phase.SELECTION, Closing.OPEN),
    (Phase.CONFIGURATION, Closing.OPEN),
    *((Phase.REPORTING, closing) for closing in Closing),
]


@given(st.lists(st.one_of(*facts.values()), max_size=5), st.floats(0, 1e10))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_events_are_read_as_they_were_written(happened: list[object], at_s: float) -> None:
    """All kinds, with whatever is in them."""
    entry = Entry(7, at_s, tuple(happened))  # type: ignore[arg-type]

    assert entry_of(line_of_entry(entry).rstrip(b"\n")) == entry


@pytest.mark.parametrize(("phase", "closing"), PHASES)
def test_round_is_read_as_it_was_written(phase: Phase, closing: Closing) -> None:
    """In each phase, with claims, duties and partials."""
    ledger, _ = take(Ledger(), SessionStarted("this-session", a_plan(2), 3), START_S)
    ledger, _ = take(ledger, RoundBegan("first", BASE, (("ann", NORTH),)), START_S)
    snapshot = Snapshot(START_S, Ledger(5, 9, ledger.session, a_round_in(phase, closing)))

    assert snapshot_of(line_of_snapshot(snapshot).rstrip(b"\n")) == snapshot


def lines(count: int) -> list[bytes]:
    """Return so many entries, as lines."""
    return [line_of_entry(Entry(n, START_S, ())).rstrip(b"\n") for n in range(1, count + 1)]


@pytest.mark.parametrize("kept", range(30))
def test_last_line_is_torn_it_is_left_out(kept: int) -> None:
    """Nobody heard of what it says."""
    written = lines(3)
    written[-1] = written[-1][:kept]

    assert [entry.index for entry in entries_of(written)] == [1, 2]


def test_line_in_the_middle_is_damaged_the_journal_is() -> None:
    """Something that was durable is not there any more."""
    written = lines(3)
    written[1] = written[1].replace(b"2", b"3", 1)

    with pytest.raises(DamagedLine):
        list(entries_of(written))


def test_line_in_the_middle_is_missing_the_journal_is_damaged() -> None:
    """The numbers say so."""
    first, _, third = lines(3)

    with pytest.raises(DamagedLine, match="entry 2 is missing"):
        list(entries_of([first, third]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"00000000 {}",
        line_of_snapshot(Snapshot(1.0, Ledger())).replace(b'"format":1', b'"format":2'),
    ],
)
def test_first_line_is_none_of_ours_the_journal_is_damaged(content: bytes) -> None:
    """Also if it is of another format."""
    with pytest.raises(DamagedLine):
        snapshot_of(content)
