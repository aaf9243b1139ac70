"""Past checkpoints and what is remembered of their rounds: staged, published, read, pruned."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federation.errors import StoreError
from federation.runtime.disk import (
    make_directory,
    store_errors,
    sync_directory,
    sync_file,
    temporary_path,
)
from federation.runtime.hdf5 import ROUND_ATTRIBUTE, Blocks, Stamp, read_stamp, write_checkpoint
from federation.tensors import ModelSpec

CHECKPOINT_NAME = "fl_checkpoint"

_MANIFEST = "manifest.json"
_UNDECIDED = ("permission-denied", "io-error")
"""Reasons why a file cannot be looked at, which does not mean that it is missing or bad."""
_ROUND = re.compile(r"round-([0-9]{6,18})")


@dataclass(frozen=True)
class StagedCheckpoint:
    """A checkpoint that is durable but not yet of any round.

    Attributes:
        folder: Holds checkpoint and manifest, and nothing else.
        round_number: The round that it was made for.
        digest: sha256 of its wire form, hex.
    """

    folder: Path
    round_number: int
    digest: str


class History:
    """The folder ``history``, with a folder for each committed round.

    Attributes:
        folder: The folder itself; missing before the first commit.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def checkpoint(self, round_number: int) -> Path:
        """Return where a round's checkpoint lies."""
        return self._round(round_number) / CHECKPOINT_NAME

    def rounds(self) -> list[int]:
        """Return the round numbers in history, ascending, whatever is in their folders."""
        with store_errors(self.folder, "read"):
            names = os.listdir(self.folder) if self.folder.is_dir() else []
        return sorted(int(found[1]) for found in map(_ROUND.fullmatch, names) if found)

    def highest(self) -> int:
        """Return the highest round number in history, 0 if it is empty."""
        return max(self.rounds(), default=0)

    def manifest(self, round_number: int) -> dict[str, Any] | None:
        """Return what is remembered of a round; None if it is not in history, whole and valid.

        Raises:
            StoreError: It may well be there, but the disk does not let us look.
        """
        path = self._round(round_number) / _MANIFEST
        try:
            with store_errors(path, "read"):
                facts = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return None
        except StoreError as error:
            if error.reason in _UNDECIDED:
                raise
            return None
        stamp = stamp_of(self.checkpoint(round_number))
        if not isinstance(facts, dict) or stamp is None:
            return None
        said = (facts.get("round_number"), facts.get("digest"))
        return facts if said == (round_number, stamp.digest) else None

    def stage(
        self,
        round_number: int,
        spec: ModelSpec,
        blocks: Blocks,
        manifest: Mapping[str, Any],
        layout: Path,
    ) -> StagedCheckpoint:
        """Commit, step (a): write checkpoint and manifest where nobody looks, and sync them.

        Args:
            round_number: The round to be committed, from 1.
            spec: The tensors.
            blocks: Where they come from, in a stream; may raise ``StoreError``.
            manifest: What is to be remembered of the round, fit for JSON without NaN; its
                ``round_number`` and ``digest`` are put in here.
            layout: As for ``write_checkpoint``.

        Returns:
            What ``publish`` takes; one that is not published is for ``discard``.

        Raises:
            StoreError: Nothing is left behind.
        """
        folder = temporary_path(self.folder)
        try:
            with store_errors(folder, "write"):
                make_directory(self.folder)
                folder.mkdir()
                digest = write_checkpoint(
                    folder / CHECKPOINT_NAME,
                    spec,
                    blocks,
                    layout=layout,
                    attributes={ROUND_ATTRIBUTE: round_number},
                )
                facts = {**manifest, "round_number": round_number, "digest": digest}
                (folder / _MANIFEST).write_text(_json_of(facts, folder), encoding="utf-8")
                sync_file(folder / CHECKPOINT_NAME)
                sync_file(folder / _MANIFEST)
                sync_directory(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return StagedCheckpoint(folder, round_number, digest)

    def discard(self, staged: StagedCheckpoint) -> None:
        """Forget a staged checkpoint; what cannot be deleted is left to ``recover``."""
        shutil.rmtree(staged.folder, ignore_errors=True)

    def publish(self, staged: StagedCheckpoint, round_number: int) -> None:
        """Commit, step (b), the commit point: give the staged checkpoint its round's name.

        Raises:
            StoreError: With the reason ``round-exists`` if history has that round: nothing was
                changed. With any other reason the rename may have happened all the same:
                ``manifest(round_number)`` tells.
        """
        assert staged.round_number == round_number
        target = self._round(round_number)
        # A rename silently replaces an empty directory, and fails on any other.
        if os.path.lexists(target):
            raise _round_exists(target)
        with store_errors(target, "commit"):
            try:
                os.rename(staged.folder, target)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise _round_exists(target) from error
                raise
            sync_directory(self.folder)

    def prune(self, keep: int) -> None:
        """Delete all but the ``keep`` newest rounds of history, at least 1."""
        assert keep >= 1
        for round_number in self.rounds()[:-keep]:
            folder = self._round(round_number)
            with store_errors(folder, "delete"):
                # Renamed first, so that no half-deleted round can be found.
                doomed = temporary_path(self.folder)
                os.rename(folder, doomed)
                shutil.rmtree(doomed)

    def _round(self, round_number: int) -> Path:
        return self.folder / f"round-{round_number:06d}"


def stamp_of(checkpoint: Path) -> Stamp | None:
    """Return a checkpoint's stamp; None if it is missing, damaged or not ours.

    Raises:
        StoreError: It may well be there and fine, but the disk does not let us look.
    """
    try:
        return read_stamp(checkpoint)
    except StoreError as error:
        if error.reason in _UNDECIDED:
            raise
        return None


def _json_of(facts: Mapping[str, Any], folder: Path) -> str:
    try:
        return json.dumps(facts, indent=1, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"cannot write the manifest in {folder}: {error}", reason="malformed-manifest"
        ) from error


def _round_exists(target: Path) -> StoreError:
    return StoreError(
        f"{target} is there already: this round was committed, perhaps by another coordinator",
        reason="round-exists",
    )
