"""What outlives a client's process: written in order, whole or not at all, read with suspicion."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client import state as module
from client.kept import Claim, StateUnusable, Tally
from client.state import ClientState, DiskState
from client.update import Update
from federation.errors import SettingsError, StoreError
from federation.runtime import disk
from federation.v1 import participation_pb2 as pb
from tests.raw_client import sha256

CLAIM = Claim("round-1", "this-session", "north:50051", 11, "a-token")
TALLY = Tally(3, "round-0", "this-session")


def an_update(round_id: str = "round-1", data: bytes = b"wire form\n\x00") -> Update:
    """What was trained."""
    start = pb.ReportStart(
        size_bytes=len(data), num_examples=7, metrics={"loss": 0.25}, client_id="ann"
    )
    return Update(round_id, bytearray(data), sha256(data), start)


Opening = Callable[..., DiskState]


@pytest.fixture(name="opened")
def _opened(tmp_path: Path) -> Iterator[Opening]:
    """Begin a process of ann; the one before has ended by then."""
    states: list[DiskState] = []

    def opened(client_id: str | None = "ann", new_client_id: str = "") -> DiskState:
        for state in states:
            state.close()
        states.append(DiskState(tmp_path / "ann", client_id, new_client_id))
        return states[-1]

    yield opened
    for state in states:
        state.close()


def test_first_process_finds_nothing(opened: Opening) -> None:
    """The folder is made."""
    state = opened()

    assert (state.client_id, state.tally, state.update, state.claim) == ("ann", Tally(), None, None)


def test_kept_update_is_found_by_the_next_process(opened: Opening) -> None:
    """With all that its report says."""
    opened().keep(an_update(), None)

    found = opened().update

    assert found is not None
    update = an_update()
    assert (found.round_id, found.buffer, found.sha256) == ("round-1", update.buffer, update.sha256)
    assert found.start == update.start


def test_empty_update_is_kept_too(opened: Opening) -> None:
    """No bytes are bytes as well."""
    opened().keep(an_update(data=b""), None)

    found = opened().update

    assert found is not None
    assert found.buffer == b""


def test_kept_update_comes_with_where_it_was_reported(opened: Opening) -> None:
    """So that its receipt can be asked for."""
    state = opened()
    state.keep(an_update(), None)
    state.report_at(CLAIM)

    assert opened().claim == CLAIM


def test_process_was_killed_before_its_update_was_written_the_claim_is_found(
    opened: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer of the two files is right: the report may have arrived."""
    state = opened()
    state.keep(an_update("round-0"), None).result(30.0)
    monkeypatch.setattr(module, "write_update", lambda *_: False)
    state.keep(an_update(), CLAIM)

    found = opened()

    assert (found.update, found.claim) == (None, CLAIM)


def test_dropped_update_is_gone_and_the_count_stays(opened: Opening, tmp_path: Path) -> None:
    """It has its receipt."""
    state = opened()
    state.keep(an_update(), None)
    state.count(TALLY)
    state.drop()

    found = opened()

    assert (found.tally, found.update, found.claim) == (TALLY, None, None)
    assert sorted(path.name for path in (tmp_path / "ann").iterdir()) == ["client.json", "lock"]


def test_update_that_is_dropped_before_its_turn_is_not_written(
    opened: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fast round does not pay for the disk."""
    state = opened()
    state.keep(an_update("round-0"), None).result(30.0)
    go_on = threading.Event()
    synced: list[Path] = []
    monkeypatch.setattr(module, "write_record", lambda *_: go_on.wait(30.0))
    monkeypatch.setattr(disk, "sync_file", synced.append)
    state.count(TALLY)  # so that the writer is busy

    state.keep(an_update(), None)
    state.drop()
    go_on.set()
    state.close()

    assert not synced


def test_client_that_did_what_it_was_to_do_begins_anew(opened: Opening) -> None:
    """The next process is another order."""
    state = opened()
    state.keep(an_update(), None)
    state.count(TALLY)
    state.forget()

    found = opened()

    assert (found.tally, found.update) == (Tally(), None)


def test_only_the_newest_update_is_kept(opened: Opening, tmp_path: Path) -> None:
    """At most one on disk."""
    state = opened()
    for number in (1, 2):
        state.keep(an_update(f"round-{number}"), None)

    found = opened()

    assert found.update is not None
    assert found.update.round_id == "round-2"
    assert len(list((tmp_path / "ann").iterdir())) == 3


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"\x00",
    "another byte": lambda content: content[:-1] + b"\xff",
    "other facts": lambda content: content.replace(b"round-1", b"round-2"),
    "empty": lambda _: b"",
    "no line": lambda _: b"\xff" * 1000,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_update_is_not_used(opened: Opening, tmp_path: Path, damage: str) -> None:
    """It is trained again, and what is left is deleted."""
    opened().keep(an_update(), None)
    opened()
    path = tmp_path / "ann" / "update"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))

    assert opened().update is None
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"\xff", b'{"client_id": "ann", "tally": {"accepted": -1}, "claim": null}'],
)
def test_damaged_count_is_not_used(opened: Opening, tmp_path: Path, content: bytes) -> None:
    """It counts anew; the update beside it is as good as it was."""
    state = opened()
    state.count(TALLY)
    state.keep(an_update(), None)
    state.close()
    (tmp_path / "ann" / "client.json").write_bytes(content)

    found = opened()

    assert found.tally == Tally()
    assert found.update is not None


def test_unfinished_files_of_a_killed_process_are_deleted(opened: Opening, tmp_path: Path) -> None:
    """And nothing else of the folder."""
    opened()
    mine, other = tmp_path / "ann" / ".tmp-0123456789abcdef", tmp_path / "ann" / ".tmp-mine"
    mine.touch()
    other.touch()

    opened()

    assert (mine.exists(), other.exists()) == (False, True)


# -- Whose it is ------------------------------------------------------------------------------


def test_second_process_of_the_client_is_refused(opened: Opening, tmp_path: Path) -> None:
    """The error says what would be right."""
    opened()

    with pytest.raises(SettingsError, match="--state") as refused:
        DiskState(tmp_path / "ann", "ann")

    assert (refused.value.setting, refused.value.reason) == ("state", "state-in-use")


def test_folder_of_another_client_begins_anew(opened: Opening) -> None:
    """Its update would be reported under a name that did not train it."""
    state = opened("ann")
    state.keep(an_update(), None)
    state.count(TALLY)

    found = opened("bob")

    assert (found.client_id, found.tally, found.update) == ("bob", Tally(), None)


def test_client_without_a_given_name_is_the_same_as_before(opened: Opening) -> None:
    """A folder that was given makes it the same client, not another one each time."""
    first = opened(None, "client-1").client_id
    second = opened(None, "client-2").client_id

    assert (first, second) == ("client-1", "client-1")


# -- Disks ------------------------------------------------------------------------------------


def test_folder_cannot_be_made_it_is_said(tmp_path: Path) -> None:
    """Who opens it knows whether it was asked for."""
    (tmp_path / "file").touch()

    with pytest.raises(StateUnusable, match="Not a directory"):
        DiskState(tmp_path / "file" / "ann", "ann")


def test_disk_refuses_the_client_goes_on(opened: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be kept costs the next process a training."""

    def refuse(*_: Any) -> None:
        raise StoreError("cannot write: No space left on device", reason="disk-full")

    state = opened()
    monkeypatch.setattr(module, "write_update", refuse)
    kept = state.keep(an_update(), None)

    assert kept.result(30.0) is None
    assert state.update is not None
    assert opened().update is None


def test_files_are_nobody_elses_to_read(opened: Opening, tmp_path: Path) -> None:
    """An update says something of the data that it was trained on."""
    opened().keep(an_update(), None)
    opened()

    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "ann").iterdir()}

    assert modes == {"client.json": 0o600, "lock": 0o600, "update": 0o600}
    assert (tmp_path / "ann").stat().st_mode & 0o777 == 0o700


def test_state_without_a_folder_is_gone_with_its_process() -> None:
    """The same words, and no disk."""
    state = ClientState()
    kept = state.keep(an_update(), None)
    state.report_at(CLAIM)
    before = state.claim
    state.count(TALLY)
    state.drop()

    assert (kept, before, state.tally, state.claim) == (None, CLAIM, TALLY, None)
