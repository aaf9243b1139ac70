"""One coordinator a directory; where locks fail, the one that began last."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coordinator.tenure import SUPERSEDED, Tenure
from federation.errors import SettingsError, StoreError
from federation.runtime.directory_mark import read_mark


def test_second_coordinator_on_a_directory_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    """By process and host."""
    tenure = Tenure(tmp_path / "coordinator")

    with pytest.raises(SettingsError, match=f"process {os.getpid()} on host") as refused:
        Tenure(tmp_path / "coordinator")

    assert refused.value.reason == "coordinator-running"
    tenure.release()


def test_coordinator_ends_the_next_one_has_a_higher_epoch(tmp_path: Path) -> None:
    """Also if it was killed: the system releases the lock."""
    epochs = []
    for _ in range(3):
        tenure = Tenure(tmp_path)
        epochs.append(tenure.epoch)
        tenure.release()

    assert epochs == [1, 2, 3]


def test_coordinator_starts_its_mark_is_a_new_one_and_can_be_read(tmp_path: Path) -> None:
    """By it others know the directory; a copy of it has the mark of an earlier start."""
    marks = []
    for _ in range(2):
        tenure = Tenure(tmp_path / "coordinator")
        assert read_mark(tmp_path) == tenure.mark
        marks.append(tenure.mark)
        tenure.release()

    assert marks[0] != marks[1]


def test_lock_did_not_hold_the_earlier_coordinator_finds_that_it_is_out_of_office(
    tmp_path: Path,
) -> None:
    """Some network file systems have no locks: the epoch decides before the commit point."""
    earlier = Tenure(tmp_path)
    earlier.check()
    (tmp_path / "lock").unlink()
    later = Tenure(tmp_path)

    with pytest.raises(StoreError, match="in epoch 2") as superseded:
        earlier.check()

    assert superseded.value.reason == SUPERSEDED
    later.check()
    earlier.release()
    later.release()


@pytest.mark.parametrize("text", ["", "one", "-1", "9" * 30])
def test_epoch_is_not_a_number_the_coordinator_does_not_guess(tmp_path: Path, text: str) -> None:
    """And lets go of the lock."""
    (tmp_path / "epoch").write_text(text)

    for _ in range(2):
        with pytest.raises(StoreError) as refused:
            Tenure(tmp_path)
        assert refused.value.reason == "epoch-unreadable"


def test_key_of_the_tokens_outlives_the_coordinator_and_is_for_this_user_only(
    tmp_path: Path,
) -> None:
    """A client that trained for an hour has a token of the coordinator before."""
    keys = []
    for _ in range(2):
        tenure = Tenure(tmp_path)
        keys.append(tenure.token_key)
        tenure.release()

    assert keys[0] == keys[1]
    assert (tmp_path / "token_key").stat().st_mode & 0o777 == 0o600
