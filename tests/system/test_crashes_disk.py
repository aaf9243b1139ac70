"""The shared directory refuses: the round is abandoned with that reason, and the next one commits.

Real processes on real file systems. Root is refused nothing by permissions, so that a file system
of its own, or the immutable attribute, takes their place; where neither may be had the case is
skipped and says so.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from federation.runtime.hdf5 import read_weights
from federation.runtime.initialise import initialise_with
from federation.v1 import control_pb2 as pb
from tests.prove.trial import CLIENTS, CRASHING, Trial, digest_after, digest_of
from tests.system.crashing import GATE
from tests.system.processes import Federation
from tests.system.trainers import STEP

pytestmark = pytest.mark.prove


class Disks:
    """Mounts file systems, and makes files immutable; the end of the test undoes it."""

    def __init__(self) -> None:
        self._undo: list[tuple[str, ...]] = []

    def tmpfs(self, folder: Path, size: str) -> None:
        """Make this folder a small file system of its own."""
        folder.mkdir(exist_ok=True)
        _do("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
        self._undo.append(("umount", "--lazy", str(folder)))

    def read_only(self, folder: Path) -> None:
        """Let nobody write below this folder, as a mount that went read-only."""
        _do("mount", "--bind", str(folder), str(folder))
        self._undo.append(("umount", "--lazy", str(folder)))
        _do("mount", "-o", "remount,bind,ro", str(folder))

    def immutable(self, *paths: Path) -> None:
        """Let nobody write to these, not even who has them open."""
        for path in paths:
            _do("chattr", "+i", str(path))
            self._undo.append(("chattr", "-i", str(path)))

    def mend(self) -> None:
        """Undo everything."""
        while self._undo:
            subprocess.run(self._undo.pop(), check=True)


def _do(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip(f"there is no {command[0]} here")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{' '.join(command)} is not allowed here: {error.stderr.strip()}")


@pytest.fixture
def disks() -> Iterator[Disks]:
    """Outlives the processes."""
    disks = Disks()
    yield disks
    disks.mend()


@pytest.fixture
async def trial(disks: Disks, federation: Federation) -> AsyncIterator[Trial]:
    """Two rounds, whose trainers wait for their gates."""
    trial = Trial(federation)
    trial.settings["rounds"] = 2
    federation.directory.history.mkdir()
    yield trial
    for process in federation.all:
        await process.kill()


async def first_round_trains(trial: Trial) -> None:
    """Bring it there."""
    await trial.begin(trainer="Gated")
    for client in trial.clients:
        await client.logs("training", round_number=1)


async def second_round_commits(trial: Trial) -> None:
    """From the checkpoint that the first one left alone."""
    trial.federation.open_gate()
    second = await trial.federation.completed(2)

    assert second.outcome == pb.OUTCOME_COMMITTED
    assert second.counts.reported == len(CLIENTS)
    assert second.checkpoint_digest == digest_after(1)
    await trial.federation.until(lambda s: not s.session.running, "the end of the session")
    assert digest_of(trial.federation.directory.checkpoint) == digest_after(1)
    assert trial.federation.directory.rounds() == [2]


def check_abandoned(trial: Trial, record: pb.RoundRecord, reason: str) -> None:
    """Nothing of the round is left, and the checkpoint is whole."""
    assert (record.outcome, record.reason) == (pb.OUTCOME_ABANDONED, reason)
    checkpoint = read_weights(trial.federation.directory.checkpoint)
    assert np.all(checkpoint["w"] == 0.5)
    assert digest_of(trial.federation.directory.checkpoint) == digest_after(0)
    assert list(trial.federation.directory.history.glob("round-*")) == []


async def test_history_is_full_the_round_is_abandoned_and_the_next_one_commits(
    trial: Trial, disks: Disks
) -> None:
    """A file system of its own, with not a byte left."""
    history = trial.federation.directory.history
    disks.tmpfs(history, "256k")
    await first_round_trains(trial)
    filler = filled(history)
    trial.federation.open_gate(1)

    first = await trial.federation.completed(1)
    check_abandoned(trial, first, "disk-full")
    filler.unlink()

    await second_round_commits(trial)


@pytest.mark.prove
async def test_history_is_read_only_the_round_is_abandoned_and_the_next_one_commits(
    trial: Trial, disks: Disks
) -> None:
    """As after an error of the file system."""
    await first_round_trains(trial)
    disks.read_only(trial.federation.directory.history)
    trial.federation.open_gate(1)

    first = await trial.federation.completed(1)
    check_abandoned(trial, first, "read-only")
    disks.mend()

    await second_round_commits(trial)


@pytest.mark.prove
async def test_history_may_not_be_written_the_round_is_abandoned_and_the_next_one_commits(
    trial: Trial, disks: Disks
) -> None:
    """Somebody took the permission."""
    await first_round_trains(trial)
    disks.immutable(trial.federation.directory.history)
    trial.federation.open_gate(1)

    first = await trial.federation.completed(1)
    check_abandoned(trial, first, "permission-denied")
    disks.mend()

    await second_round_commits(trial)


async def test_journal_may_not_be_written_nothing_is_said_until_it_may(
    trial: Trial, disks: Disks
) -> None:
    """The status tells why; the outcome is durable before anybody hears of it."""
    await first_round_trains(trial)
    journal = trial.federation.directory.coordinator / "journal"
    disks.immutable(*journal.iterdir(), journal)
    trial.federation.open_gate(1)

    refused = await trial.federation.until(
        lambda status: status if status.storage_failure else None, "the disk's word in the status"
    )
    disks.mend()
    first = await trial.federation.completed(1)

    assert refused.storage_failure == "permission-denied"
    assert not refused.recent_rounds
    check_abandoned(trial, first, "permission-denied")
    await second_round_commits(trial)


async def test_whole_directory_is_full_the_round_is_abandoned_and_the_next_one_commits(
    disks: Disks, bare: Federation
) -> None:
    """Selectors cannot write their sums, and the coordinator cannot remember the round."""
    disks.tmpfs(bare.shared_data, "6m")
    half = np.full((2, 3), 0.5, np.float32)
    initialise_with(bare.shared_data, {"w": half, "b": half[0]})
    trial = Trial(bare)
    trial.settings["rounds"] = 2
    await first_round_trains(trial)
    filler = filled(bare.shared_data)
    bare.open_gate(1)

    first = await bare.completed(1)
    check_abandoned(trial, first, "disk-full")
    filler.unlink()

    await second_round_commits(trial)
    for process in bare.all:
        await process.kill()


@pytest.mark.parametrize(
    ("damage", "reason"), [("deleted", "file-missing"), ("tampered", "partial-changed")]
)
async def test_partial_is_not_what_was_kept_the_round_is_abandoned_and_the_next_one_commits(
    trial: Trial, damage: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at when it is handed in, and once more, byte by byte, as it is merged."""
    gate = trial.federation.folder / "merge"
    monkeypatch.setenv(GATE, str(gate))
    await trial.listen((*CRASHING, "hold=before-merging"))
    await trial.add_selectors()
    await trial.add_clients(trainers=dict.fromkeys(CLIENTS, "Gated"))
    trial.federation.open_gate(1)
    await trial.coordinator.logs("holds")
    partial = trial.federation.directory.partial("south")
    if damage == "deleted":
        partial.unlink()
    else:
        content = partial.read_bytes()
        examples = CLIENTS["client-3"][1]
        value = np.float64(examples * (0.5 + CLIENTS["client-3"][0] * STEP))
        assert content.count(value.tobytes()) == 9
        partial.write_bytes(content.replace(value.tobytes(), (value + STEP).tobytes(), 1))
    gate.touch()

    first = await trial.federation.completed(1)

    check_abandoned(trial, first, reason)
    await second_round_commits(trial)


def filled(folder: Path) -> Path:
    """Fill the file system of this folder to the last byte; return what is to be deleted."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return filler
