"""Files appear whole or not at all, and every refusal of the disk has a reason word."""

import errno
import os
from pathlib import Path

import pytest

from federation.errors import StoreError
from federation.runtime.disk import make_directory, store_errors, temporary_path, write_atomically


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_shorter_text_replaces_a_longer_one_without_a_rest(tmp_path: Path) -> None:
    """Files are replaced, not written over: "12" and then "5" reads "5", not "52"."""
    path = tmp_path / "weight"

    write_atomically(path, lambda temporary: temporary.write_text("12"))
    write_atomically(path, lambda temporary: temporary.write_text("5"))

    assert path.read_text() == "5"
    assert _names(tmp_path) == ["weight"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Readers see the old file or the new one; what is unfinished is deleted."""
    path = tmp_path / "weight"
    path.write_text("12")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StoreError) as caught:
        write_atomically(path, lambda temporary: temporary.write_text("5"))

    assert caught.value.reason == "disk-full"
    assert path.read_text() == "12"
    assert _names(tmp_path) == ["weight"]


def test_a_writer_that_raises_leaves_the_old_content(tmp_path: Path) -> None:
    """An error of the writer itself passes through and changes nothing."""
    path = tmp_path / "weight"
    path.write_text("12")

    def write(temporary: Path) -> None:
        temporary.write_text("5")
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        write_atomically(path, write)

    assert path.read_text() == "12"
    assert _names(tmp_path) == ["weight"]


def test_a_hard_link_of_the_file_itself_leaves_no_second_name(tmp_path: Path) -> None:
    """Renaming one name of a file onto another does nothing: the temporary one still goes."""
    path = tmp_path / "weight"
    path.write_text("12")

    write_atomically(path, lambda temporary: os.link(path, temporary))

    assert _names(tmp_path) == ["weight"]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "disk-full"),
        (errno.EDQUOT, "disk-full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission-denied"),
        (errno.EPERM, "permission-denied"),
        (errno.ENOENT, "file-missing"),
        (errno.EIO, "io-error"),
        (errno.ESTALE, "io-error"),
        (None, "io-error"),
    ],
)
def test_every_refusal_of_the_disk_has_a_reason_and_names_the_path(
    number: int | None, reason: str
) -> None:
    """Every ``OSError`` becomes a ``StoreError`` with a stable word and a sentence."""
    path = Path("/shared/fl_checkpoint")

    with pytest.raises(StoreError) as caught, store_errors(path, "write"):
        raise OSError(number, "text") if number is not None else OSError("text")

    assert caught.value.reason == reason
    assert str(path) in caught.value.detail


def test_an_error_over_something_unfinished_names_its_folder() -> None:
    """A random temporary name tells a person nothing."""
    with (
        pytest.raises(StoreError) as caught,
        store_errors(temporary_path(Path("/shared/initFiles")), "write"),
    ):
        raise OSError(errno.ENOSPC, "full")

    assert caught.value.detail == "cannot write /shared/initFiles: No space left on device"


def test_a_network_disk_that_cannot_sync_directories_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EINVAL for a directory means that there is nothing to sync."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "not for directories")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "weight", lambda temporary: temporary.write_text("5"))

    assert (tmp_path / "weight").read_text() == "5"


def test_a_directory_whose_parent_is_gone_is_not_made(tmp_path: Path) -> None:
    """An unmounted disk must not be replaced by directories on the disk below it."""
    make_directory(tmp_path / "there")
    make_directory(tmp_path / "there")
    with pytest.raises(FileNotFoundError):
        make_directory(tmp_path / "gone" / "selector")

    assert _names(tmp_path) == ["there"]


def test_a_file_in_the_place_of_a_directory_is_an_error(tmp_path: Path) -> None:
    """Something else of that name is not taken for the directory."""
    (tmp_path / "history").write_text("")

    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "history")


def test_content_is_durable_before_its_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a loss of power the name never stands for half a file."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        calls.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name[:5])
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> None:
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_atomically(tmp_path / "weight", lambda temporary: temporary.write_text("5"))

    assert calls == ["sync .tmp-", "replace", f"sync {tmp_path.name[:5]}"]
