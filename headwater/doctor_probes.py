"""How a check-up looks at a deployment: at the servers by gRPC, at the directory by using it."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from federation.errors import FederationError, SettingsError, StoreError
from federation.runtime.control import get_status
from federation.runtime.disk import (
    store_errors,
    sync_directory,
    sync_file,
    temporary_path,
    write_atomically,
)
from federation.runtime.hdf5 import encode_checkpoint, is_keras_model, read_spec, read_stamp
from federation.runtime.store import SharedDirectory
from federation.tensors import ModelSpec
from headwater.doctor_findings import CoordinatorSeen, Finding, Level, SelectorSeen, SpaceSeen
from headwater.health import NotReadyError, ask_grpc

# -- The servers ----------------------------------------------------------------------------------


async def see_coordinator(
    target: str, now_s: Callable[[], float] = time.time
) -> tuple[CoordinatorSeen, list[SelectorSeen]]:
    """Ask a coordinator how it is, and which selectors it knows.

    Args:
        target: HOST:PORT.
        now_s: Our clock, in Unix seconds.
    """
    if trouble := await asyncio.to_thread(trouble_of, target):
        return CoordinatorSeen(target, trouble), []
    try:
        await get_status(target)  # so that no connection is made while the clocks are compared
        asked_s = now_s()
        status = await get_status(target)
        heard_s = now_s()
    except FederationError as error:
        return CoordinatorSeen(target, str(error)), []
    seen = CoordinatorSeen(
        target=target,
        version=status.version,
        shared_data=status.shared_data,
        mark=status.directory_mark,
        storage_failure=status.storage_failure,
        ahead_s=status.time_s - (asked_s + heard_s) / 2,
        doubt_s=(heard_s - asked_s) / 2,
    )
    troubles = await asyncio.gather(
        *(asyncio.to_thread(trouble_of, selector.address) for selector in status.selectors)
    )
    selectors = [
        SelectorSeen(
            name=selector.selector_id,
            address=selector.address,
            attached=selector.attached,
            trouble=trouble,
            version=selector.version,
            mark=selector.directory_mark,
        )
        for selector, trouble in zip(status.selectors, troubles, strict=True)
    ]
    return seen, selectors


def see_named(addresses: Sequence[str], known: Sequence[SelectorSeen]) -> list[SelectorSeen]:
    """Ask the selectors that were named and that the coordinator did not name itself."""
    asked = {selector.address for selector in known}
    return [
        SelectorSeen(address, address, attached=None, trouble=trouble_of(address))
        for address in addresses
        if address not in asked
    ]


def trouble_of(target: str) -> str:
    """Return why the server at HOST:PORT is not ready; empty if it is, or if nobody says where."""
    if not target:
        return ""
    try:
        ask_grpc(target)
    except NotReadyError as why:
        return str(why)
    return ""


# -- The shared directory -------------------------------------------------------------------------


def examine(root: Path) -> Iterator[Finding]:
    """Look at a shared directory as this user; changes nothing that stays."""
    subject = f"shared directory {root}"
    directory = SharedDirectory(root)
    try:
        directory.check()
    except SettingsError as error:
        yield Finding(subject, Level.FAILED, str(error.expected), _remedy_of(error, root))
        if not root.is_dir():
            return
    else:
        yield Finding(subject, Level.OK, "is laid out")
    yield from _probe_disk(root, subject)
    yield from _examine_files(directory)


def see_space(directory: SharedDirectory, selectors: int) -> SpaceSeen:
    """Measure the room in a directory whose checkpoint, or else model, can be read.

    Raises:
        StoreError: It cannot.
    """
    source = directory.checkpoint if directory.checkpoint.exists() else directory.model
    with store_errors(source, "measure"):
        disk = os.statvfs(directory.root)
        checkpoint_bytes = source.stat().st_size
    return SpaceSeen(
        free_bytes=disk.f_bavail * disk.f_frsize,
        checkpoint_bytes=checkpoint_bytes,
        parameters=read_spec(source).parameters,
        rounds_kept=len(directory.rounds()),
        selectors=selectors,
    )


def _remedy_of(error: SettingsError, root: Path) -> str:
    if not root.is_dir():
        return "mount it or make it, then 'headwater init --shared-data DIR', or give another DIR"
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        return (
            f"let user {os.getuid()} read and write it (chown -R {os.getuid()}:{os.getgid()}), as "
            "whom this runs, and check that it is not mounted read only"
        )
    cause = error.__cause__
    if isinstance(cause, StoreError):
        return "put a whole file in its place, or start anew with 'headwater init --force'"
    return "'headwater init' lays it out; is it the right directory?"


def _probe_disk(root: Path, subject: str) -> Iterator[Finding]:
    """Do what commits do, in a folder that is deleted afterwards."""
    folder = temporary_path(root)
    mended = f"mend the mount; user {os.getuid()} must be able to write there"
    try:
        with store_errors(folder, "write"):
            folder.mkdir()
            _write_and_sync(folder)
        yield Finding(subject, Level.OK, f"user {os.getuid()} can write it, and sync works")
        with store_errors(folder, "rename in"):
            wrong = _renaming(folder)
            locks = _locks_hold(folder)
    except StoreError as error:
        yield Finding(subject, Level.FAILED, error.detail, mended)
        return
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if wrong:
        remedy = "use a file system with POSIX renames (a local disk, NFS): commits need them"
        yield Finding(subject, Level.FAILED, wrong, remedy)
    else:
        yield Finding(
            subject, Level.OK, "a rename replaces a file at once, and never a full folder"
        )
    if locks:
        yield Finding(subject, Level.OK, "a lock keeps a second one out")
    else:
        remedy = "see to it that no two coordinators are started on it"
        yield Finding(subject, Level.WARNING, "locks do not hold on it", remedy)


def _write_and_sync(folder: Path) -> None:
    path = folder / "synced"
    path.write_bytes(b"probe")
    sync_file(path)
    sync_directory(folder)


def _renaming(folder: Path) -> str:
    """Return what is wrong with renaming here; empty if nothing is. Raises ``OSError``."""
    path = folder / "replaced"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_atomically(path, lambda new: new.write_bytes(b"new"))
        if path.read_bytes() != b"new":
            return "a renamed file shows its old content"
        if reader.read() != b"old":
            return "a file that is being read changes when another takes its place"
    for name in ("staged", "published"):
        (folder / name).mkdir()
        (folder / name / "manifest").write_bytes(b"")
    try:
        (folder / "staged").rename(folder / "published")
    except OSError:
        return ""
    return "a rename replaces a folder that is not empty"


def _locks_hold(folder: Path) -> bool:
    """Say whether a second lock on one file is refused."""
    path = folder / "lock"
    with path.open("wb") as first, path.open("wb") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def _examine_files(directory: SharedDirectory) -> Iterator[Finding]:
    spec = None
    if directory.model.exists():
        try:
            spec = read_spec(directory.model)
        except StoreError as error:
            remedy = "put a whole file there, or 'headwater init --model FILE.h5 --force'"
            yield Finding("model.h5", Level.FAILED, str(error), remedy)
        else:
            yield Finding("model.h5", Level.OK, f"loads: {_size_of(spec)}")
            yield from _examine_with_keras(directory.model)
    if directory.checkpoint.exists():
        yield _examine_checkpoint(directory.checkpoint, spec)
    elif spec is not None:
        words = "is not there yet; the coordinator writes the first when it starts"
        yield Finding("fl_checkpoint", Level.OK, words)


def _examine_with_keras(model: Path) -> Iterator[Finding]:
    if not is_keras_model(model):
        return
    if importlib.util.find_spec("keras") is None:
        yield Finding("model.h5", Level.OK, "not tried with Keras, which is not installed here")
        return
    from client.keras_trainer import import_keras
    from federation.runtime import keras_weights

    try:
        import_keras()
        keras_weights.load_model(model)
    except FederationError as error:
        remedy = "save it again with model.save('FILE.h5'), of a Keras that clients have, too"
        yield Finding("model.h5", Level.FAILED, f"Keras cannot load it: {error}", remedy)
    else:
        yield Finding("model.h5", Level.OK, "loads in Keras")


def _examine_checkpoint(path: Path, model: ModelSpec | None) -> Finding:
    subject = "fl_checkpoint"
    anew = "put one of history/ in its place, or 'headwater init --force' starts anew"
    try:
        spec, stamp = read_spec(path), read_stamp(path)
        digest = _digest_of(path) if stamp is not None and stamp.digest else ""
    except StoreError as error:
        return Finding(subject, Level.FAILED, str(error), anew)
    if model is not None and spec != model:
        return Finding(subject, Level.FAILED, "has other tensors than model.h5", anew)
    if stamp is not None and stamp.digest != digest:
        return Finding(subject, Level.FAILED, "is damaged: it has not the digest it names", anew)
    return Finding(subject, Level.OK, f"loads: {_size_of(spec)}")


def _digest_of(path: Path) -> str:
    return hashlib.sha256(encode_checkpoint(path)).hexdigest()


def _size_of(spec: ModelSpec) -> str:
    return f"{len(spec.tensors)} tensors, {spec.parameters:,} values"
