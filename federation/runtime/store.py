"""The shared directory: where everything lies, and the three steps of a commit.

A commit is (a) a staged folder ``history/.tmp-…`` with checkpoint and manifest, synced; (b) its
rename to ``history/round-000041``, the commit point; (c) that checkpoint as the current one,
``initFiles/fl_checkpoint``, which ``recover`` redoes at the next start if it did not come to it.

The current checkpoint says by its attributes which round made it. One that ``headwater init``
placed carries the highest round number of the history, so that a history which is older than the
operator's wish never replaces it. A file without these attributes counts as older than any round.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from federation.errors import SettingsError, StoreError
from federation.identifiers import checked_selector_id
from federation.runtime.disk import (
    TEMPORARY_PREFIX,
    make_directory,
    store_errors,
    write_atomically,
)
from federation.runtime.hdf5 import (
    ROUND_ATTRIBUTE,
    Blocks,
    blocks_of,
    read_spec,
    read_stamp,
    read_weights,
    write_checkpoint,
)
from federation.runtime.history import CHECKPOINT_NAME, History, StagedCheckpoint, stamp_of
from federation.runtime.partials import WEIGHT_SUFFIX
from federation.runtime.progress import Progress, Unwatched, watched
from federation.tensors import ModelSpec

__all__ = ["SharedDirectory", "StagedCheckpoint", "write_atomically"]

_PARTIAL = "fl_agg_checkpoint"


class SharedDirectory:
    """The directory that coordinator and selectors share. Its calls block: use a thread.

    The coordinator alone, under its lock, commits, recovers and prunes.

    Attributes:
        root: The directory itself.
        model: The Keras model; read only, missing if the weights began as plain arrays.
        checkpoint: The current global weights.
        history: Past checkpoints with their manifests.
        coordinator: The coordinator's own files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = root / "initFiles" / "model.h5"
        self.checkpoint = root / "initFiles" / CHECKPOINT_NAME
        self.history = root / "history"
        self._history = History(self.history)
        self.coordinator = root / "coordinator"

    def partial(self, selector_id: str) -> Path:
        """Return where a selector's sum lies; raises ``SettingsError`` for a malformed id."""
        return self.root / checked_selector_id(selector_id) / _PARTIAL

    def partial_weight(self, selector_id: str) -> Path:
        """Return where the weight of a selector's sum lies."""
        return self.root / checked_selector_id(selector_id) / (_PARTIAL + WEIGHT_SUFFIX)

    def round_files(self, selector_id: str) -> Path:
        """Return where a selector keeps accepted updates, if it is told to."""
        return self.root / checked_selector_id(selector_id) / "roundFiles"

    def spool(self, selector_id: str) -> Path:
        """Return where a selector keeps what it must not forget, if it is told to."""
        return self.root / checked_selector_id(selector_id) / "spool"

    def current_round_number(self) -> int:
        """Return which round made the current checkpoint; 0 if none did. Raises ``StoreError``."""
        stamp = read_stamp(self.checkpoint)
        return stamp.round_number if stamp is not None else 0

    def prepare_selector(self, selector_id: str) -> None:
        """Make a selector's folder, and delete what an earlier process of it left unfinished."""
        folder = self.partial(selector_id).parent
        with store_errors(folder, "make"):
            make_directory(folder)
        _delete_unfinished(folder)

    def check(self) -> None:
        """Refuse a directory that no federation can run in.

        Raises:
            SettingsError: It is missing, not a directory, not ours, not initialised, or cannot be
                read and written.
        """
        if not self.root.is_dir():
            raise self._unusable("there is no such directory")
        if not os.access(self.root, os.R_OK | os.W_OK | os.X_OK):
            raise self._unusable("this user may not read and write it", init=False)
        try:
            if not self.is_initialised():
                raise self._unusable("it holds neither a model nor a checkpoint of ours")
            if self.model.exists():
                read_spec(self.model)
        except StoreError as error:
            raise self._unusable(error.detail) from error

    def is_initialised(self) -> bool:
        """Say whether there are weights to start or go on from; raises ``StoreError``."""
        with store_errors(self.root, "read"):
            return self.model.exists() or self.checkpoint.exists() or bool(self._history.rounds())

    def ensure_checkpoint(self) -> None:
        """Write a missing current checkpoint from the model; needs no Keras.

        Raises:
            SettingsError: There is nothing to write it from, or model and checkpoint do not belong
                together.
            StoreError: A file cannot be read or written.
        """
        has_model = self.model.exists()
        if self.checkpoint.exists():
            if has_model and read_spec(self.model) != read_spec(self.checkpoint):
                raise self._unusable(f"{self.checkpoint} has other tensors than {self.model}")
            return
        if not has_model:
            raise self._unusable("it holds neither a model nor a checkpoint of ours")
        weights = read_weights(self.model)
        write_atomically(
            self.checkpoint,
            lambda temporary: self.write_first_checkpoint(temporary, weights, self.model),
        )

    def write_first_checkpoint(
        self,
        path: Path,
        weights: Mapping[str, NDArray[Any]],
        layout: Path | None,
        progress: Progress | None = None,
    ) -> None:
        """Write to ``path``, atomically or not, a checkpoint that no round made.

        It is stamped as new as all history, so that ``recover`` leaves it alone.
        """
        stamp = {ROUND_ATTRIBUTE: self._history.highest()}
        spec = ModelSpec.of(weights)
        progress = progress or Unwatched()
        progress.begin(f"Writing {self.checkpoint.name}", spec.nbytes)
        blocks = watched(blocks_of(weights), progress)
        write_checkpoint(path, spec, blocks, layout=layout, attributes=stamp)

    def stage_checkpoint(
        self, round_number: int, spec: ModelSpec, blocks: Blocks, manifest: Mapping[str, Any]
    ) -> StagedCheckpoint:
        """Commit, step (a): see ``History.stage``; laid out like the current checkpoint."""
        return self._history.stage(round_number, spec, blocks, manifest, self.checkpoint)

    def discard(self, staged: StagedCheckpoint) -> None:
        """Forget a staged checkpoint that is not to be published."""
        self._history.discard(staged)

    def publish(self, staged: StagedCheckpoint, round_number: int) -> None:
        """Commit, step (b), the commit point: see ``History.publish``."""
        self._history.publish(staged, round_number)

    def make_current(self, round_number: int) -> None:
        """Commit, step (c): make a round's checkpoint the current one; may be done again.

        Raises:
            StoreError: The current checkpoint is the old one or the new one, and whole.
        """
        source = self._history.checkpoint(round_number)
        write_atomically(self.checkpoint, lambda temporary: _link_or_copy(source, temporary))

    def rounds(self) -> list[int]:
        """Return the round numbers in history, ascending."""
        return self._history.rounds()

    def past_checkpoint(self, round_number: int) -> Path:
        """Return where a committed round's checkpoint lies."""
        return self._history.checkpoint(round_number)

    def manifest(self, round_number: int) -> dict[str, Any] | None:
        """Return what is remembered of a committed round: see ``History.manifest``."""
        return self._history.manifest(round_number)

    def recover(self) -> int | None:
        """Delete what is unfinished and finish a commit that was cut short, at a start.

        Returns:
            The highest round number that history or the current checkpoint knows, so that none is
            given twice; None if no round was ever committed.

        Raises:
            StoreError: The disk refused.
        """
        for folder in (self.history, self.checkpoint.parent, self.coordinator):
            _delete_unfinished(folder)
        current = stamp_of(self.checkpoint)
        committed = (number for number in reversed(self._history.rounds()) if self.manifest(number))
        newest = next(committed, None)
        if newest is not None and (current is None or current.round_number < newest):
            self.make_current(newest)
        return max(self._history.highest(), current.round_number if current else 0) or None

    def prune(self, keep: int) -> None:
        """Delete all but the ``keep`` newest rounds of history, at least 1."""
        self._history.prune(keep)

    def _unusable(self, fact: str, *, init: bool = True) -> SettingsError:
        advice = f"; 'headwater init --shared-data {self.root}' makes one" if init else ""
        return SettingsError(
            "shared_data",
            str(self.root),
            f"{fact}{advice}",
            reason="shared-directory-unusable",
        )


def _link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, which costs nothing, or copy it where that cannot be done."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _delete_unfinished(folder: Path) -> None:
    with store_errors(folder, "clean up"):
        for found in folder.glob(f"{TEMPORARY_PREFIX}*"):
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink(missing_ok=True)
