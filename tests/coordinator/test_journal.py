"""What was appended is there after every crash; what was not may be, whole, or is not."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from coordinator import journal as module
from coordinator.events import CommitFinished, FoldedReport, ReportsFolded, Stopped
from coordinator.journal import OLDER_MAX, RESERVE_BYTES, Journal
from coordinator.journal_lines import Entry, entry_of, line_of_entry
from coordinator.ledger import (
    Happening,
    Ledger,
    NumberSeen,
    RoundBegan,
    SessionStarted,
    take,
)
from federation.errors import StoreError
from tests.coordinator.rounds import NORTH, ROUND_ID, START_S, a_plan

STARTED = SessionStarted("this-session", a_plan(2), 3)


def after(*happenings: Happening, ledger: Ledger | None = None) -> Ledger:
    """Return the ledger after these."""
    ledger = ledger or Ledger()
    for happening in happenings:
        ledger, _ = take(ledger, happening, START_S)
    return ledger


def a_journal(folder: Path, ledger: Ledger | None = None) -> Journal:
    """Begin one."""
    journal = Journal(folder)
    journal.recover()
    journal.renew(ledger or Ledger(), START_S)
    return journal


def files(folder: Path) -> list[str]:
    """Name what is there."""
    return sorted(os.listdir(folder))


def test_nothing_is_there_the_ledger_is_empty(tmp_path: Path) -> None:
    """A first start."""
    recovered = Journal(tmp_path / "journal").recover()

    assert (recovered.ledger, recovered.at_s, recovered.set_aside) == (Ledger(), 0.0, None)


def test_process_dies_after_an_append_it_is_all_there(tmp_path: Path) -> None:
    """With the time that was reached."""
    journal = a_journal(tmp_path)
    journal.append([STARTED], START_S + 1)
    journal.append([NumberSeen(7), NumberSeen(9)], START_S + 2)

    recovered = Journal(tmp_path).recover()

    assert recovered.ledger == after(STARTED, NumberSeen(9))
    assert recovered.at_s == START_S + 2


def test_journal_is_of_a_release_without_training_times_it_is_read() -> None:
    """What a later release adds to a happening or a claim has a default."""
    folded = ReportsFolded(NORTH, ROUND_ID, (FoldedReport("ann", 7, {"loss": 0.5}),))
    line = line_of_entry(Entry(1, START_S, (folded,)))
    content = line.split(b" ", 1)[1].replace(b',"training_s":null', b"")
    assert b"training_s" in line
    assert b"training_s" not in content

    old = b"%08x %s" % (zlib.crc32(content.rstrip(b"\n")), content)

    assert entry_of(old.rstrip(b"\n")).happenings == (folded,)


def test_new_generation_replaces_the_old_one(tmp_path: Path) -> None:
    """It begins with everything at that moment."""
    journal = a_journal(tmp_path)
    journal.append([STARTED], START_S)
    journal.renew(after(STARTED), START_S)
    journal.append([NumberSeen(3)], START_S)

    assert files(tmp_path) == ["00000002.jsonl"]
    assert Journal(tmp_path).recover().ledger == after(STARTED, NumberSeen(3))


def a_round_with(count: int) -> list[Happening]:
    """Return what makes the first so many stages of rounds that nobody takes part in."""
    rounds = [(RoundBegan(f"round-{n}", "ba5e"), Stopped("session-stopped")) for n in range(9)]
    return [STARTED, *[happening for both in rounds for happening in both][:count]]


def untold(folder: Path, told: int | None) -> list[tuple[int, str]]:
    """Return the stages that a process finds that is to tell of those after this one."""
    recovered = Journal(folder).recover(told)
    return [(stage.sequence, stage.announced.phase.value) for stage in recovered.untold]


def test_process_dies_before_stages_are_told_the_next_one_finds_them(tmp_path: Path) -> None:
    """What is durable is announced; a stage that was told is not found again."""
    journal = a_journal(tmp_path)
    journal.append(a_round_with(3), START_S)

    assert untold(tmp_path, 0) == [(1, "selection"), (2, "completed"), (3, "selection")]
    assert untold(tmp_path, 2) == [(3, "selection")]
    assert untold(tmp_path, 3) == []
    assert untold(tmp_path, None) == []


def test_new_generation_begins_before_stages_are_told_the_older_one_is_kept(tmp_path: Path) -> None:
    """Until a further one begins when they are."""
    happenings = a_round_with(3)
    journal = a_journal(tmp_path)
    journal.append(happenings[:2], START_S)
    journal.renew(after(*happenings[:2]), START_S, keep_older=True)
    journal.append(happenings[2:], START_S)

    assert untold(tmp_path, 0) == [(1, "selection"), (2, "completed"), (3, "selection")]
    journal.renew(after(*happenings), START_S)
    assert files(tmp_path) == ["00000003.jsonl"]


def test_write_failed_and_something_else_happened_only_that_is_told(tmp_path: Path) -> None:
    """The older generation may end with a line that nobody took."""
    journal = a_journal(tmp_path)
    journal.append(a_round_with(1), START_S)
    journal.append([Stopped("never-taken")], START_S)
    journal.renew(after(*a_round_with(1)), START_S, keep_older=True)
    journal.append([Stopped("taken")], START_S)

    found = Journal(tmp_path).recover(0).untold
    assert [(stage.sequence, stage.announced.reason) for stage in found] == [(1, ""), (2, "taken")]


def test_older_generation_is_damaged_what_follows_it_is_told(tmp_path: Path) -> None:
    """Never the session, nor the running round."""
    journal = a_journal(tmp_path)
    journal.append(a_round_with(1), START_S)
    journal.renew(after(*a_round_with(1)), START_S, keep_older=True)
    journal.append([Stopped("taken")], START_S)
    (tmp_path / "00000001.jsonl").write_bytes(b"no journal")

    assert untold(tmp_path, 0) == [(2, "completed")]


def test_nothing_is_told_for_long_no_more_than_some_generations_are_kept(tmp_path: Path) -> None:
    """An outbox that takes nothing does not fill the disk with journals."""
    journal = a_journal(tmp_path)
    for _ in range(OLDER_MAX + 5):
        journal.renew(Ledger(), START_S, keep_older=True)

    assert len(files(tmp_path)) == OLDER_MAX + 1


def test_last_line_is_torn_the_others_hold(tmp_path: Path) -> None:
    """As after a loss of power in mid-write; space taken ahead is no line."""
    journal = a_journal(tmp_path)
    journal.append([STARTED], START_S)
    journal.append([NumberSeen(3)], START_S)
    path = tmp_path / "00000001.jsonl"
    content = path.read_bytes()
    end = len(content.rstrip(b"\0"))
    path.write_bytes(content[: end - 9] + bytes(len(content) - end + 9))

    assert Journal(tmp_path).recover().ledger == after(STARTED)


def test_line_in_the_middle_is_damaged_the_journal_is_set_aside(tmp_path: Path) -> None:
    """It is kept for people; numbering goes on from elsewhere."""
    journal = a_journal(tmp_path)
    journal.append([STARTED], START_S)
    journal.append([NumberSeen(3)], START_S)
    path = tmp_path / "00000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b"this-session", b"that-session"))

    recovered = Journal(tmp_path).recover()

    assert recovered.ledger == Ledger()
    assert recovered.set_aside == tmp_path / "00000001.jsonl.damaged"
    assert files(tmp_path) == ["00000001.jsonl.damaged"]


def test_generation_is_set_aside_the_next_one_has_a_higher_number(tmp_path: Path) -> None:
    """So that two damaged ones have two names."""
    a_journal(tmp_path)
    (tmp_path / "00000001.jsonl").write_bytes(b"nonsense")
    journal = a_journal(tmp_path)

    journal.append([STARTED], START_S)

    assert files(tmp_path) == ["00000001.jsonl.damaged", "00000002.jsonl"]


def failing(name: str, number: int) -> Any:
    """Have a call of the system fail in the journal's module."""
    return patch.object(os, name, side_effect=OSError(number, os.strerror(number)))


def test_sync_fails_nothing_is_written_to_that_file_any_more(tmp_path: Path) -> None:
    """The kernel may have dropped what it could not write: only a new file is to be trusted."""
    journal = a_journal(tmp_path)
    with failing("fdatasync", errno.EIO), pytest.raises(StoreError):
        journal.append([STARTED], START_S)

    with pytest.raises(StoreError):
        journal.append([STARTED], START_S)
    journal.renew(Ledger(), START_S)
    journal.append([STARTED], START_S)

    assert Journal(tmp_path).recover().ledger == after(STARTED)


def test_new_generation_cannot_be_written_the_old_one_goes_on(tmp_path: Path) -> None:
    """It is the newest that is whole."""
    journal = a_journal(tmp_path)
    with failing("fsync", errno.EIO), pytest.raises(StoreError):
        journal.renew(after(NumberSeen(99)), START_S)

    journal.append([STARTED], START_S)

    assert files(tmp_path) == ["00000001.jsonl"]
    assert Journal(tmp_path).recover().ledger == after(STARTED)


def test_new_generation_may_be_there_or_not_neither_is_written_until_the_next_is(
    tmp_path: Path,
) -> None:
    """A restart would read the newer one, and not know what went into the older."""
    journal = a_journal(tmp_path)
    full = StoreError("no", reason="io-error")
    with patch.object(module, "sync_directory", side_effect=full), pytest.raises(StoreError):
        journal.renew(after(NumberSeen(5)), START_S)

    with pytest.raises(StoreError):
        journal.append([STARTED], START_S)
    journal.renew(after(NumberSeen(5)), START_S)
    journal.append([STARTED], START_S)

    assert Journal(tmp_path).recover().ledger == after(NumberSeen(5), STARTED)


def test_disk_is_full_events_are_refused_an_outcome_is_not(tmp_path: Path) -> None:
    """Space for it was taken ahead."""
    journal = a_journal(tmp_path)
    with failing("posix_fallocate", errno.ENOSPC):
        journal.append([STARTED], START_S)
        with pytest.raises(StoreError) as refused:
            journal.append([STARTED] * 4_000, START_S)
        journal.append([NumberSeen(7)], START_S, is_outcome=True)

    assert refused.value.reason == "disk-full"
    assert Journal(tmp_path).recover().ledger == after(STARTED, NumberSeen(7))


@pytest.mark.parametrize("outcome", [CommitFinished("f" * 32), Stopped("permission-denied")])
def test_outcome_fits_the_reserve(outcome: Happening) -> None:
    """It is a word, not a list, however many clients the round has."""
    assert len(line_of_entry(Entry(2_000, START_S, (outcome,)))) < RESERVE_BYTES


def test_journal_has_grown_a_new_generation_is_due(tmp_path: Path) -> None:
    """A limit on everything that grows."""
    journal = a_journal(tmp_path)
    journal.append([STARTED] * 10, START_S)
    grown = [journal.has_grown]

    for limit, value in (("GENERATION_BYTES_MAX", 1_000), ("GENERATION_LINES_MAX", 1)):
        with patch.object(module, limit, value):
            grown.append(journal.has_grown)

    assert grown == [False, True, True]
