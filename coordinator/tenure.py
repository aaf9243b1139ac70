"""One coordinator a directory: a lock that the system releases, and an epoch that only rises.

The lock keeps a second coordinator from starting. Where locks do not hold (some network file
systems), the epoch tells the loser: each start writes a higher one, and who finds another than its
own passes no commit point any more. All calls block.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from pathlib import Path

from federation.errors import SettingsError, StoreError
from federation.runtime.directory_mark import LOCK, MARK_BYTES
from federation.runtime.disk import make_directory, store_errors, write_atomically
from federation.tokens import KEY_BYTES

EPOCH_MAX = 2**63 - 1

SUPERSEDED = "coordinator-superseded"
"""Reason of the ``StoreError`` that ends a coordinator."""


class Tenure:
    """The right to commit on one shared directory, from construction to ``release``.

    Args:
        folder: The coordinator's own folder in the shared directory; made if it is missing.

    Attributes:
        epoch: Higher than that of every coordinator before.
        token_key: Signs session tokens; the same for every coordinator on the directory, so that
            the claims of a round outlive its coordinator.

        mark: Random, and readable in the lock: whoever finds it there sees this very directory.

    Raises:
        SettingsError: Another coordinator works on the directory; the text says which.
        StoreError: The disk refused.
    """

    def __init__(self, folder: Path) -> None:
        self._epoch_path = folder / "epoch"
        self.mark = secrets.token_hex(MARK_BYTES)
        lock = folder / LOCK
        with store_errors(lock, "lock"):
            make_directory(folder)
            self._descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(lock)
                os.close(self._descriptor)
                raise SettingsError(
                    "shared_data",
                    str(folder.parent),
                    f"another coordinator works on this directory: {holder}; stop it first, or "
                    "give this one a directory of its own",
                    reason="coordinator-running",
                ) from None
        try:
            self.token_key = _token_key(folder / "token_key")
            self.epoch = self._read() + 1
            write_atomically(self._epoch_path, lambda path: path.write_text(f"{self.epoch}\n"))
            with store_errors(lock, "write"):
                said = json.dumps(
                    {"host": socket.gethostname(), "pid": os.getpid(), "mark": self.mark}
                ).encode()
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, said, 0)
        except BaseException:
            self.release()
            raise

    def check(self) -> None:
        """Make sure that no other coordinator began meanwhile.

        Raises:
            StoreError: One did (``coordinator-superseded``), or the disk refused.
        """
        found = self._read()
        if found != self.epoch:
            raise StoreError(
                f"another coordinator began on this directory, in epoch {found}; this one is of "
                f"epoch {self.epoch}",
                reason=SUPERSEDED,
            )

    def release(self) -> None:
        """Let another coordinator begin."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> int:
        with store_errors(self._epoch_path, "read"):
            try:
                text = self._epoch_path.read_text()
            except FileNotFoundError:
                return 0
        if not (text.strip().isdecimal() and int(text) < EPOCH_MAX):
            raise StoreError(f"{self._epoch_path} is not a number", reason="epoch-unreadable")
        return int(text)


def _token_key(path: Path) -> bytes:
    """Read the key, or make it; only this user may read it."""
    with store_errors(path, "read"):
        if not path.exists():
            key = secrets.token_bytes(KEY_BYTES)
            write_atomically(path, lambda new: _write_secret(new, key))
        key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise StoreError(f"{path} does not hold {KEY_BYTES} bytes", reason="token-key-unreadable")
    return key


def _write_secret(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _holder(lock: Path) -> str:
    try:
        found = json.loads(lock.read_bytes())
        return f"process {int(found['pid'])} on host {str(found['host'])[:64]!r}"
    except (OSError, ValueError, KeyError, TypeError):
        return "which one, its lock does not say"
