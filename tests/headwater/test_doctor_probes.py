"""How a check-up looks at a directory, sound and broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from federation.runtime import disk
from federation.runtime.hdf5 import blocks_of, read_spec
from federation.runtime.store import SharedDirectory
from headwater import doctor_probes
from headwater.digits_model import BUILTIN_MODEL
from headwater.doctor_findings import Finding, Level
from headwater.doctor_probes import examine, see_named, see_space
from tests.servers import HOST, a_shared_directory

WEIGHTS = {"w": np.arange(6, dtype=np.float32)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory that is laid out."""
    return a_shared_directory(tmp_path / "shared", WEIGHTS).root


def bad(root: Path) -> list[Finding]:
    """Return the findings of a directory that are not ok."""
    return [finding for finding in examine(root) if finding.level is not Level.OK]


def test_directory_is_sound_every_line_is_ok_and_nothing_is_left(root: Path) -> None:
    """The probe cleans up after itself."""
    before = sorted(root.rglob("*"))

    assert bad(root) == []
    assert sorted(root.rglob("*")) == before


def test_directory_is_missing_that_alone_is_said(tmp_path: Path) -> None:
    """With what makes one."""
    (finding,) = examine(tmp_path / "nowhere")

    assert finding.level is Level.FAILED
    assert "headwater init" in finding.remedy


def test_directory_is_empty_it_is_probed_all_the_same(tmp_path: Path) -> None:
    """Who mounts a new disk learns at once whether it will do."""
    findings = list(examine(tmp_path))

    assert [f.level for f in findings] == [Level.FAILED, Level.OK, Level.OK, Level.OK]


def test_disk_refuses_the_probe_it_says_why(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only mount is found here, before a round is lost."""

    def refuse(path: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(doctor_probes, "sync_file", refuse)

    assert [f.words for f in bad(root)] == [f"cannot write {root}: Read-only file system"]
    assert not list(root.glob(f"{disk.TEMPORARY_PREFIX}*"))


def test_rename_replaces_a_full_folder_it_is_found(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit must never take the place of another one."""

    def rename(source: Path, target: Path) -> None:
        shutil.rmtree(target)
        shutil.move(source, target)

    monkeypatch.setattr(Path, "rename", rename)

    assert [f.words for f in bad(root)] == ["a rename replaces a folder that is not empty"]


def test_reader_sees_a_replacement_it_is_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads a checkpoint must not get half of the next one."""

    def write_in_place(path: Path, write: object) -> None:
        path.write_bytes(b"new")

    monkeypatch.setattr(doctor_probes, "write_atomically", write_in_place)

    assert [f.level for f in bad(root)] == [Level.FAILED]
    assert "being read" in bad(root)[0].words


def test_locks_do_not_hold_it_is_a_warning(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits are safe all the same: the epoch decides."""
    monkeypatch.setattr("fcntl.flock", lambda *_: None)

    assert [(f.level, f.words) for f in bad(root)] == [
        (Level.WARNING, "locks do not hold on it"),
    ]


def test_model_cannot_be_read_the_file_is_named(root: Path) -> None:
    """A copy that was cut is the usual case."""
    model = SharedDirectory(root).model
    model.write_bytes(BUILTIN_MODEL.read_bytes()[:2000])

    assert "model.h5" in {f.subject for f in bad(root)}


def test_checkpoint_is_another_model_s_it_is_found(root: Path) -> None:
    """The coordinator would refuse to start."""
    shutil.copy(BUILTIN_MODEL, SharedDirectory(root).model)

    assert [f.words for f in bad(root)] == ["has other tensors than model.h5"]


def test_checkpoint_is_damaged_its_digest_tells(root: Path) -> None:
    """HDF5 alone reads changed numbers without a word."""
    directory = SharedDirectory(root)
    spec = read_spec(directory.checkpoint)
    staged = directory.stage_checkpoint(1, spec, blocks_of(WEIGHTS), {})
    directory.publish(staged, 1)
    directory.make_current(1)
    assert bad(root) == []

    with h5py.File(directory.checkpoint, "r+") as file:
        file["w"][0] = 99.0

    assert [f.words for f in bad(root)] == ["is damaged: it has not the digest it names"]


def test_room_is_measured_of_what_is_there(root: Path) -> None:
    """The checkpoint's size, its values, and the history."""
    directory = SharedDirectory(root)

    seen = see_space(directory, selectors=3)

    assert (seen.parameters, seen.rounds_kept, seen.selectors) == (6, 0, 3)
    assert seen.checkpoint_bytes == directory.checkpoint.stat().st_size
    assert seen.free_bytes > 0


def test_selector_that_was_named_and_is_known_is_asked_once() -> None:
    """Its coordinator has told more of it."""
    named = see_named([f"{HOST}:1"], [])

    assert [(s.name, s.attached) for s in named] == [(f"{HOST}:1", None)]
    assert "no answer" in named[0].trouble
    assert see_named([f"{HOST}:1"], named) == []
