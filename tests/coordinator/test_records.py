"""What is remembered of completed rounds, over restarts, within a limit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from coordinator.events import CommitFinished
from coordinator.record import RoundOutcome, record_of
from coordinator.records import Records
from coordinator.round import Closing
from federation.phases import Phase
from tests.coordinator.rounds import ROUND_ID, a_round_in, play


def a_record(number: int) -> RoundOutcome:
    """A committed round."""
    round_, _ = play(a_round_in(Phase.REPORTING, Closing.PUBLISHING), CommitFinished(ROUND_ID))
    record = record_of(round_)
    return dataclasses.replace(record, round_number=number)


def test_record_is_read_as_it_was_saved(tmp_path: Path) -> None:
    """Also by the next process."""
    Records(tmp_path / "rounds").save(a_record(41))

    records = Records(tmp_path / "rounds")

    assert records.load(41) == a_record(41)
    assert records.highest == 41


def test_round_that_nobody_remembers_is_none(tmp_path: Path) -> None:
    """Nothing is made up."""
    assert Records(tmp_path).load(7) is None


def test_record_is_saved_again_it_is_there_once(tmp_path: Path) -> None:
    """A restart does it again."""
    records = Records(tmp_path)
    records.save(a_record(1))
    records.save(a_record(1))

    assert records.numbers(0) == [1]


def test_more_records_than_are_kept_the_oldest_go(tmp_path: Path) -> None:
    """A limit on everything that grows."""
    records = Records(tmp_path, keep=2)
    for number in (1, 2, 3):
        records.save(a_record(number))

    assert records.numbers(0) == Records(tmp_path).numbers(0) == [2, 3]
    assert records.numbers(3) == [3]


def test_record_is_damaged_the_others_are_read(tmp_path: Path) -> None:
    """One file must not hide the history."""
    records = Records(tmp_path)
    records.save(a_record(1))
    records.save(a_record(2))
    (tmp_path / "round-000001.json").write_text("{}")

    assert records.load(1) is None
    assert records.load(2) == a_record(2)


def test_newest_records_are_read_as_far_as_there_is_time(tmp_path: Path) -> None:
    """Oldest first; a start does not read the whole history."""
    records = Records(tmp_path)
    for number in (1, 2, 3):
        records.save(a_record(number))
    size = (tmp_path / "round-000003.json").stat().st_size

    assert [record.round_number for record in records.newest(2, 10 * size)] == [2, 3]
    assert [record.round_number for record in records.newest(3, 2 * size)] == [2, 3]
    assert records.newest(3, size - 1) == []
