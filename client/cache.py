"""Model files on disk by digest: fetched once for all clients of a user, the oldest deleted.

Several processes share the folder. Who fetches holds a lock on the unfinished ``<sha256>.part``,
and whoever uses a whole ``<sha256>.h5`` holds a shared lock on it, so that nobody deletes it. The
system takes the locks back when a process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from federation.chunking import Verifier
from federation.errors import PeerError, SettingsError, StoreError, TransferError
from federation.runtime.disk import remove_quietly, store_errors, temporary_path
from federation.runtime.telemetry import get_logger
from federation.tensors import Buffer

log = get_logger()

_BLOCK_BYTES = 1 << 20

_OURS = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{8})?\.(h5|part)")
"""The names of our files; nothing else in the folder is looked at."""


class Download:
    """One unfinished file; its calls block. What it holds outlives it, for who begins it anew."""

    def __init__(self, file: FileIO, part: Path, size: int) -> None:
        self.part = part
        self._file = file
        self._verifier = Verifier(size)

    @property
    def size(self) -> int:
        """Bytes declared."""
        return self._verifier.size

    @property
    def received(self) -> int:
        """Bytes so far, and the offset that the next chunk must have."""
        return self._verifier.received

    def resume(self) -> None:
        """Hash what an earlier try left, as far as it can belong to this file."""
        with store_errors(self.part, "read"):
            if os.fstat(self._file.fileno()).st_size > self.size:
                self._file.truncate(0)
            while data := self._file.read(_BLOCK_BYTES):
                self._verifier.take(memoryview(data))

    def add(self, offset: int, data: Buffer) -> None:
        """Write and hash the next chunk.

        Raises:
            TransferError: It is not the next one; nothing changed.
            StoreError: The disk refused.
        """
        view = self._verifier.check(offset, data)
        with store_errors(self.part, "write"):
            try:
                written = 0
                while written < len(view):
                    written += self._file.write(view[written:])
            except OSError:
                # So that the file still is what was hashed.
                self._file.truncate(self.received)
                self._file.seek(self.received)
                raise
        self._verifier.take(view)

    def finish(self, sha256: bytes) -> None:
        """Check that all bytes are here and right.

        Raises:
            TransferError: They are not; with ``wrong-digest`` the next try starts from byte 0.
        """
        verifier = self._verifier
        try:
            verifier.finish(chunks=verifier.chunks, size=self.size, sha256=sha256)
        except TransferError as error:
            if error.reason == "wrong-digest":
                with store_errors(self.part, "write"):
                    self._file.seek(0)
                    self._file.truncate()
                verifier.reset()
            raise

    @property
    def file(self) -> FileIO:
        """The open and locked file."""
        return self._file

    def close(self) -> None:
        """Let others go on with it."""
        self._file.close()


class ModelCache:
    """The folder. Its calls block: use a thread, one at a time.

    Args:
        folder: Made if it is missing.
        bytes_max: The least recently used files are deleted beyond it, those in use excepted.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self.folder = folder
        self._bytes_max = bytes_max
        self._used: dict[str, FileIO] = {}
        self._unfinished: set[FileIO] = set()
        self._closed = False

    def prepare(self) -> None:
        """Make the folder, and make sure that files can be written there.

        Raises:
            SettingsError: They cannot.
        """
        probe = temporary_path(self.folder)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe.touch()
        except OSError as error:
            raise SettingsError(
                "cache",
                str(self.folder),
                f"it cannot be written ({os.strerror(error.errno or 0)}); "
                "give a folder for model files with --cache",
            ) from error
        finally:
            remove_quietly(probe)

    def find(self, sha256: bytes, size: int) -> Path | None:
        """Return the file with this digest, which is kept until ``close``; None if it isn't here.

        Once a process all of it is hashed; a damaged file is deleted.
        """
        path = self._path(sha256)
        used = self._used.get(path.name)
        if used is not None and _is_at(used, path):
            _note_use(path)
            return path
        self._forget(path.name)
        with store_errors(path, "read"):
            file = _opened(path)
            if file is None:
                return None
            if _is_at(file, path) and self._is_whole(file, sha256, size):
                _note_use(path)
                self._used[path.name] = file
                return path
        file.close()
        return None

    def begin(self, sha256: bytes, size: int, *, alone: bool = False) -> Download | None:
        """Begin to fetch a file, or go on with it; None if another process is at it.

        Args:
            sha256: Its digest.
            size: Its bytes.
            alone: Do not go on with what is there, and wait for nobody.
        """
        whole = self._path(sha256)
        mark = f".{secrets.token_hex(4)}" if alone else ""
        part = whole.with_suffix(f"{mark}.part")
        with store_errors(part, "write"):
            file = _made(part)
            if not _locked(file, fcntl.LOCK_EX) or not _is_at(file, part):
                file.close()
                return None
            if whole.exists():  # placed just now, so that what was made here is a new one
                part.unlink()
                file.close()
                return None
        self._unfinished = {other for other in self._unfinished if not other.closed} | {file}
        try:
            download = Download(file, part, size)
            download.resume()
            self._make_room(size - download.received)
        except BaseException:
            file.close()
            raise
        if self._closed:  # who asked for it did not wait
            file.close()
        return download

    def place(self, download: Download, sha256: bytes) -> Path:
        """Give a finished file its name."""
        whole = self._path(sha256)
        file = download.file
        try:
            with store_errors(whole, "write"):
                os.rename(download.part, whole)
                fcntl.flock(file, fcntl.LOCK_SH)
        except StoreError:
            file.close()
            raise
        self._forget(whole.name)
        self._used[whole.name] = file
        self._unfinished.discard(file)
        if self._closed:  # who asked for it did not wait
            self._forget(whole.name)
        return whole

    def bytes_of_part(self, sha256: bytes) -> int:
        """Return how much there is of an unfinished file, to see whether it grows; -1: nothing."""
        try:
            return self._path(sha256).with_suffix(".part").stat().st_size
        except OSError:
            return -1

    def close(self) -> None:
        """Let others delete what was used here; hashing that goes on ends soon."""
        self._closed = True
        for name in list(self._used):
            self._forget(name)
        for file in list(self._unfinished):
            file.close()

    def _forget(self, name: str) -> None:
        file = self._used.pop(name, None)
        if file is not None:
            file.close()

    def _path(self, sha256: bytes) -> Path:
        name = f"{sha256.hex()}.h5"  # of digits and letters whatever a peer sends
        if not _OURS.fullmatch(name):
            raise PeerError("an artifact's digest has 32 bytes", reason="artifact-refused")
        return self.folder / name

    def _is_whole(self, file: FileIO, sha256: bytes, size: int) -> bool:
        """Hash a file; delete it if it is damaged."""
        digest = hashlib.sha256()
        if os.fstat(file.fileno()).st_size == size:
            while (data := file.read(_BLOCK_BYTES)) and not self._closed:
                digest.update(data)
        if digest.digest() == sha256:
            return True
        path = self._path(sha256)
        if not self._closed:
            log.warning("cached model damaged", path=str(path))
            remove_quietly(path)
        return False

    def _make_room(self, needed: int) -> None:
        """Delete the least recently used files that nobody uses, until there is room."""
        found = []
        for path in self.folder.iterdir():
            with suppress(OSError):
                if _OURS.fullmatch(path.name):
                    stat = path.lstat()
                    found.append((max(stat.st_atime_ns, stat.st_mtime_ns), stat.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total + needed <= self._bytes_max:
                return
            with _unused(path) as unused:
                if unused:
                    remove_quietly(path)
                    total -= size
        if total + needed > self._bytes_max:
            log.warning(
                "cache larger than its limit", bytes=total + needed, bytes_max=self._bytes_max
            )


def _opened(path: Path) -> FileIO | None:
    """Open a whole file, following no link, with a shared lock; None if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    file = open(descriptor, "rb", buffering=0)  # noqa: SIM115
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def _made(part: Path) -> FileIO:
    """Open or make an unfinished file, following no link."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(part, flags, 0o600), "r+b", buffering=0)


def _locked(file: FileIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: FileIO, path: Path) -> bool:
    """Say whether the open file still is the one of that name."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file.fileno()), there)


def _note_use(path: Path) -> None:
    """Note it as used now; when it was changed stays as it is, since trainers go by that."""
    with suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


@contextmanager
def _unused(path: Path) -> Iterator[bool]:
    """Say whether nobody uses or fetches a file, and see to it that nobody does meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    with open(descriptor, "rb", buffering=0) as file:
        yield _locked(file, fcntl.LOCK_EX)
