"""Files that appear whole or not at all, and the disk's refusals as ``StoreError``."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from federation.errors import StoreError

TEMPORARY_PREFIX = ".tmp-"
"""What is called so is unfinished; whoever owns the directory deletes it at its start."""

_REASONS = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EROFS: "read-only",
    errno.EACCES: "permission-denied",
    errno.EPERM: "permission-denied",
    errno.ENOENT: "file-missing",
    errno.ENOTDIR: "file-missing",
}


def store_error(number: int | None, path: Path, doing: str) -> StoreError:
    """Return what failed in our words.

    Args:
        number: The system's ``errno``, None if it is not known.
        path: What it happened to.
        doing: What was tried, as in "cannot ``doing`` ``path``".
    """
    why = os.strerror(number) if number is not None else "the system does not say why"
    reason = _REASONS.get(number, "io-error") if number is not None else "io-error"
    # The name of something unfinished says nothing to a person; where it was to be does.
    shown = path.parent if path.name.startswith(TEMPORARY_PREFIX) else path
    return StoreError(f"cannot {doing} {shown}: {why}", reason=reason)


@contextmanager
def store_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn every ``OSError`` inside into a ``StoreError`` that names ``path``."""
    try:
        yield
    except OSError as error:
        raise store_error(error.errno, path, doing) from error


def temporary_path(directory: Path) -> Path:
    """Return a new name in ``directory`` for something unfinished."""
    return directory / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Make or replace the file ``path``: readers see the old content or the new, never a mixture.

    Args:
        path: Its directory is there.
        write: Writes the content to the path that it is given, which is not there yet.

    Raises:
        StoreError: The old content is still there, unless the reason is that the directory could
            not be synced: then either may be there after a loss of power.
    """
    with staged_file(path, write) as temporary, store_errors(path, "write"):
        os.replace(temporary, path)
        sync_directory(path.parent)


@contextmanager
def staged_file(path: Path, write: Callable[[Path], object]) -> Iterator[Path]:
    """Write a durable file beside ``path``; what is not renamed inside is deleted afterwards."""
    temporary = temporary_path(path.parent)
    try:
        with store_errors(path, "write"):
            write(temporary)
            sync_file(temporary)
        yield temporary
    finally:
        # Also after success: renaming onto a hard link of the same file leaves both names.
        remove_quietly(temporary)


def remove_quietly(path: Path) -> None:
    """Delete a file that nobody needs; one that cannot be deleted is left to the next start."""
    try:
        path.unlink()
    except OSError:
        return


def make_directory(path: Path) -> None:
    """Make ``path`` durably if it is missing; raises ``OSError``, also if its parent is missing."""
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Return once the content of ``path`` is durable; raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Return once the names in ``path`` are durable; raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a directory and need not: renames go to the server.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)
