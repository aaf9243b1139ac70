"""The checkpoints of a shared directory: listed, described, and exported for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from federation.errors import SettingsError
from federation.runtime import keras_weights
from federation.runtime.disk import remove_quietly, store_errors, write_atomically
from federation.runtime.exports import write_npz
from federation.runtime.hdf5 import Stamp, read_spec, read_stamp, read_weights
from federation.runtime.progress import Progress, Unwatched, copy_file
from federation.runtime.store import SharedDirectory
from federation.tensors import ModelSpec

Format = Literal["h5", "keras", "npz"]


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint.

    Attributes:
        round_number: The round of the history that made it; 0 if none did, as with the weights that
            ``headwater init`` placed.
        path: Its file.
        current: It is the one that the next round starts from.
        digest: Hex SHA-256 of its tensors' wire form; empty if another program wrote it.
        size_bytes: Of the file.
        manifest: What is remembered of the round; empty where nothing is.
    """

    round_number: int
    path: Path
    current: bool
    digest: str
    size_bytes: int
    manifest: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        """Return what is known, for JSON."""
        return {
            "round_number": self.round_number,
            "path": str(self.path),
            "current": self.current,
            "digest": self.digest,
            "size_bytes": self.size_bytes,
            "manifest": self.manifest,
        }


def list_checkpoints(root: Path) -> list[Checkpoint]:
    """Return the checkpoints of a shared directory, oldest first.

    Raises:
        SettingsError: It is not one.
        StoreError: A file cannot be read.
    """
    directory = SharedDirectory(root)
    directory.check()
    has_current = directory.checkpoint.exists()
    stamp = read_stamp(directory.checkpoint) if has_current else None
    found = []
    for number in directory.rounds():
        manifest = directory.manifest(number)
        if manifest is not None:
            # Of both: weights may repeat, and init stamps its own with the highest round number.
            is_current = stamp == Stamp(number, manifest["digest"])
            path = directory.past_checkpoint(number)
            found.append(_described(path, number, manifest, current=is_current))
    if has_current and not any(checkpoint.current for checkpoint in found):
        found.append(_described(directory.checkpoint, 0, {}, current=True))
    return found


def find_checkpoint(root: Path, round_number: int | None) -> Checkpoint:
    """Return the checkpoint of a round, or the current one.

    Raises:
        SettingsError: There is none.
    """
    checkpoints = list_checkpoints(root)
    for checkpoint in checkpoints:
        is_it = (
            checkpoint.current if round_number is None else checkpoint.round_number == round_number
        )
        if is_it:
            return checkpoint
    if round_number is None:
        expected = "it has no checkpoint yet; the coordinator writes the first when it starts"
        raise SettingsError("shared_data", str(root), expected, reason="checkpoint-missing")
    known = ", ".join(str(c.round_number) for c in checkpoints if c.round_number) or "none"
    raise SettingsError(
        "round",
        round_number,
        f"there is no checkpoint of it; those of these rounds are there: {known}",
        reason="checkpoint-missing",
    )


def _described(path: Path, number: int, manifest: dict[str, Any], *, current: bool) -> Checkpoint:
    stamp = read_stamp(path)
    with store_errors(path, "read"):
        size_bytes = path.stat().st_size
    return Checkpoint(
        round_number=number,
        path=path,
        current=current,
        digest=stamp.digest if stamp is not None else "",
        size_bytes=size_bytes,
        manifest=manifest,
    )


def spec_of(checkpoint: Checkpoint) -> ModelSpec:
    """Return names, shapes and dtypes of a checkpoint's tensors."""
    return read_spec(checkpoint.path)


def export(
    root: Path,
    checkpoint: Checkpoint,
    file_format: Format,
    output: Path,
    progress: Progress | None = None,
) -> None:
    """Write a checkpoint for another program.

    Args:
        root: The shared directory.
        checkpoint: Which one.
        file_format: ``h5``: a weights file for ``model.load_weights``; ``keras``: the whole model
            for ``keras.saving.load_model``; ``npz``: named arrays for ``numpy.load``.
        output: The file to make or to replace; its name must end in the format's name.
        progress: Told how far it is; None: nobody looks.

    Raises:
        SettingsError: The name does not fit, or there is no Keras model, or no Keras.
        StoreError: A file cannot be read or written; ``output`` is as it was.
    """
    if file_format not in get_args(Format):
        raise SettingsError(
            "format", file_format, f"it must be one of {', '.join(get_args(Format))}"
        )
    if output.suffix != f".{file_format}":
        raise SettingsError(
            "output", str(output), f"its name must end in .{file_format}, by which it is read"
        )
    if not output.absolute().parent.is_dir():
        raise SettingsError("output", str(output), "its folder must exist")
    progress = progress or Unwatched()
    progress.begin(f"Reading {checkpoint.path.name}", None)
    if file_format == "npz":
        weights = read_weights(checkpoint.path)
        write_atomically(output, lambda path: write_npz(path, weights, progress))
    elif file_format == "h5":
        write_atomically(output, lambda path: copy_file(checkpoint.path, path, progress))
    else:
        _export_keras(SharedDirectory(root), checkpoint, output)


def _export_keras(directory: SharedDirectory, checkpoint: Checkpoint, output: Path) -> None:
    if not directory.model.exists():
        raise SettingsError(
            "format",
            "keras",
            "this federation has no Keras model; export npz",
            reason="model-missing",
        )
    from client.keras_trainer import import_keras

    import_keras()
    model = keras_weights.load_model(directory.model)
    keras_weights.set_weights(model, read_weights(checkpoint.path))
    write_atomically(output, lambda path: _save_keras(model, path))


def _save_keras(model: keras_weights.Model, path: Path) -> None:
    # Keras goes by the name's end, which that of an unfinished file has not.
    named = path.with_name(f"{path.name}.keras")
    try:
        model.save(named)
        named.replace(path)
    finally:
        remove_quietly(named)
