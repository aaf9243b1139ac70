"""The spool on a real disk: what is found again, what is not, and who may have it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from unittest.mock import patch

import pytest

from federation.errors import SettingsError, StoreError
from federation.v1 import coordination_pb2 as pb
from selector import spool_files
from selector.spool import Spool
from selector.spool_files import Damaged, KeptUpdate, read_update
from tests.raw_client import sha256
from tests.servers import an_order

BYTES_MAX = 1 << 20

ORDER = an_order("ann", "ben", base_digest="ba5e")


def an_update(client_id: str, content: bytes) -> KeptUpdate:
    """An update's facts."""
    return KeptUpdate(
        client_id=client_id,
        num_examples=3,
        metrics={"loss": 0.1},
        training_s=1.5,
        chunks=1,
        size_bytes=len(content),
        sha256=sha256(content).hex(),
        token=f"token-of-{client_id}",
    )


def kept(spool: Spool, client_id: str, content: bytes = b"weights") -> None:
    """Keep an update."""
    spool.keep("round-1", an_update(client_id, content), content)


@contextmanager
def reopened(spool: Spool, folder: Path) -> Iterator[Spool]:
    """End the process that has it, and start another."""
    spool.close()
    again = Spool(folder, BYTES_MAX)
    try:
        yield again
    finally:
        again.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    opened = Spool(folder, BYTES_MAX)
    yield opened
    opened.close()


def test_round_is_spooled_the_next_process_finds_all_of_it_as_the_same_incarnation(
    spool: Spool, folder: Path
) -> None:
    """Order, claims, updates in the order of folding, and what was said of the partial."""
    partial = pb.PartialWritten(round_id="round-1", count=2, client_ids=["zoe", "ann"])
    spool.begin(ORDER)
    spool.claim("round-1", ["zoe"])
    kept(spool, "zoe", b"first")
    kept(spool, "ann", b"second")
    spool.note_partial(partial)

    with reopened(spool, folder) as again:
        found = again.found

        assert again.incarnation == spool.incarnation
        assert found is not None
        assert found.order.round_id == "round-1"
        assert 0 < found.order.deadline_s <= ORDER.deadline_s
        assert found.claimed == {"ann", "ben", "zoe"}
        assert found.partial == partial
        assert [read_update(path) for path in found.updates] == [
            (an_update("zoe", b"first"), b"first"),
            (an_update("ann", b"second"), b"second"),
        ]


def test_round_is_discarded_the_next_process_is_a_new_incarnation(
    spool: Spool, folder: Path
) -> None:
    """Who has nothing of a round must not go on as the one that had."""
    spool.begin(ORDER)
    kept(spool, "ann")
    spool.discard("another-round")
    assert (folder / "round").exists()
    spool.discard("round-1")

    with reopened(spool, folder) as again:
        assert again.found is None
        assert again.incarnation != spool.incarnation
        assert [path.name for path in folder.iterdir()] == ["lock"]


def test_next_round_begins_nothing_is_left_of_the_one_before(spool: Spool, folder: Path) -> None:
    """The spool is as large as one round, also if the end of one was not heard."""
    spool.begin(ORDER)
    kept(spool, "ann")
    spool.begin(an_order("cleo", base_digest="ba5e", round_number=2))

    with pytest.raises(StoreError, match="round-over"):
        kept(spool, "ben")
    with reopened(spool, folder) as again:
        assert again.found is not None
        assert again.found.order.round_id == "round-2"
        assert again.found.updates == ()


@pytest.mark.parametrize("length", [0, 10, 70, -1])
def test_order_is_damaged_the_round_is_not_found(spool: Spool, folder: Path, length: int) -> None:
    """Nobody knows what the updates are of: they count for nothing."""
    spool.begin(ORDER)
    kept(spool, "ann")
    order = folder / "round" / "order"
    order.write_bytes(order.read_bytes()[:length])

    with reopened(spool, folder) as again:
        assert again.found is None
        assert again.incarnation != spool.incarnation


@pytest.mark.parametrize("damage", ["torn", "changed", "longer", "empty", "other facts"])
def test_update_is_damaged_it_is_refused(spool: Spool, folder: Path, damage: str) -> None:
    """What is folded was verified once more."""
    spool.begin(ORDER)
    kept(spool, "ann", b"weights")
    [path] = (folder / "round").glob("*.update")
    content = path.read_bytes()
    path.write_bytes(
        {
            "torn": content[:-1],
            "changed": content[:-1] + b"S",
            "longer": content + b"s",
            "empty": b"",
            "other facts": content.replace(b"ann", b"ben"),
        }[damage]
    )

    with pytest.raises(Damaged):
        read_update(path)


def test_partial_is_damaged_the_rest_of_the_round_is_found(spool: Spool, folder: Path) -> None:
    """The same updates in the same order make the same partial once more."""
    spool.begin(ORDER)
    kept(spool, "ann")
    spool.note_partial(pb.PartialWritten(round_id="round-1", count=1))
    (folder / "round" / "partial").write_bytes(b"{}")

    with reopened(spool, folder) as again:
        assert again.found is not None
        assert again.found.partial is None
        assert len(again.found.updates) == 1


def test_spool_is_full_the_next_update_is_refused_and_nothing_is_left_of_it(
    folder: Path,
) -> None:
    """The limit is a number of bytes that the operator gave; a further round has it anew."""
    spool = Spool(folder, 10)
    spool.begin(ORDER)
    kept(spool, "ann", b"123456")

    with pytest.raises(StoreError, match="spool-full"):
        kept(spool, "ben", b"12345")
    kept(spool, "cleo", b"1234")
    assert len([*(folder / "round").glob("*.update")]) == 2
    spool.begin(ORDER)
    kept(spool, "ben", b"1234567890")
    spool.close()


@pytest.mark.parametrize("refusal", ["write", "fsync", "sync_directory"])
def test_disk_refuses_an_update_it_is_not_found_later(
    spool: Spool, folder: Path, refusal: str
) -> None:
    """A client that was refused may be folded elsewhere."""
    spool.begin(ORDER)
    kept(spool, "ann")
    refuses = OSError(28, os.strerror(28))
    place = {
        "write": "selector.spool_files.os.open",
        "fsync": "federation.runtime.disk.os.fsync",
        "sync_directory": "federation.runtime.disk.sync_directory",
    }[refusal]

    with patch(place, side_effect=refuses), pytest.raises(StoreError, match="disk-full"):
        kept(spool, "ben")

    with reopened(spool, folder) as again:
        assert again.found is not None
        assert [read_update(path)[0].client_id for path in again.found.updates] == ["ann"]


def test_second_process_on_a_spool_refuses_to_start_and_names_the_first(
    spool: Spool, folder: Path
) -> None:
    """Two that fold into one spool would each think the other's reports their own."""
    with pytest.raises(SettingsError) as caught:
        Spool(folder, BYTES_MAX)

    assert caught.value.reason == "spool-in-use"
    assert f"process {os.getpid()}" in caught.value.detail


def test_process_was_killed_while_it_wrote_what_is_unfinished_is_removed(
    spool: Spool, folder: Path
) -> None:
    """Only whole files count, and nothing fills the disk for ever."""
    spool.begin(ORDER)
    (folder / ".tmp-0123456789abcdef").mkdir()
    (folder / "round" / ".tmp-0123456789abcdef").write_bytes(b"half")

    with reopened(spool, folder) as again:
        assert again.found is not None
        assert again.found.updates == ()
        assert sorted(path.name for path in folder.rglob("*")) == ["lock", "order", "round"]


def test_spool_is_read_by_its_user_only(spool: Spool, folder: Path) -> None:
    """It holds session tokens."""
    spool.begin(ORDER)
    kept(spool, "ann")

    modes = [path.stat().st_mode & 0o077 for path in (folder / "round").iterdir()]

    assert modes == [0, 0]
    assert "token-of-ann" not in repr(an_update("ann", b""))


def test_file_is_written_in_pieces_all_of_them_are_written(tmp_path: Path) -> None:
    """A write may take less than it was given, as beyond 2 GiB."""

    class Short(FileIO):
        def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
            return super().write(bytes(data[:3]))

    with patch.object(
        spool_files, "open", lambda fd, mode, buffering: Short(fd, mode), create=True
    ):
        spool_files.write_update(tmp_path / "u", an_update("ann", b"weights"), b"weights")

    assert read_update(tmp_path / "u")[1] == b"weights"
