"""The files of a spool: a checked line of facts, behind it an update's bytes; read with suspicion.

Each appears whole or not at all, and is durable once it is written.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from federation.errors import SettingsError
from federation.runtime.disk import store_errors, write_atomically
from federation.tensors import Buffer

_LINE_BYTES_MAX = 4 << 20
"""Longest line of facts that is read: an order that names 20,000 clients has 3 MB."""


class Damaged(Exception):
    """A file is not what was written."""


@dataclass(frozen=True)
class KeptUpdate:
    """An accepted update, without its bytes.

    Attributes:
        client_id: Whose it is.
        num_examples: What the report said.
        metrics: What the report said.
        training_s: What the report said, if it did.
        chunks: In which it came.
        size_bytes: Of its wire form.
        sha256: Of its wire form, hex.
        token: Proof of the claim; never logged.
    """

    client_id: str
    num_examples: int
    metrics: dict[str, float]
    training_s: float | None
    chunks: int
    size_bytes: int
    sha256: str
    token: str = field(repr=False)


def write_facts(path: Path, facts: Mapping[str, Any], payload: Buffer = b"") -> None:
    """Write a file that only this user may read; raises ``StoreError``.

    Args:
        path: Its folder is there.
        facts: What JSON can say.
        payload: Bytes that the facts tell the digest of; written from where they are.
    """
    line = json.dumps(facts).encode()
    header = hashlib.sha256(line).hexdigest().encode() + b"\n" + line + b"\n"

    def write(temporary: Path) -> None:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            for part in (header, payload):
                view = memoryview(part)
                while view:
                    view = view[file.write(view) :]

    write_atomically(path, write)


def read_facts(path: Path) -> dict[str, Any]:
    """Return a file's facts.

    Raises:
        FileNotFoundError: There is none.
        Damaged: They are not what was written, or cannot be read.
    """
    with _opened(path) as file:
        return _facts(file)


def write_update(path: Path, update: KeptUpdate, buffer: Buffer) -> None:
    """Write an update; raises ``StoreError``."""
    write_facts(path, asdict(update), buffer)


def read_update(path: Path, *, whole: bool = True) -> tuple[KeptUpdate, Buffer]:
    """Return an update and, unless only its facts are wanted, its bytes, verified.

    Raises:
        Damaged: It is not what was written, or cannot be read.
    """
    try:
        with _opened(path) as file:
            update = KeptUpdate(**_facts(file))
            if not whole:
                return update, b""
            if os.fstat(file.fileno()).st_size - file.tell() != update.size_bytes:
                raise Damaged("it has another size than was written")
            buffer = np.empty(update.size_bytes, np.uint8).data
            view = buffer
            while view:
                count = file.readinto(view)
                if not count:
                    raise Damaged("it ends too early")
                view = view[count:]
    except (OSError, TypeError, ValueError) as error:
        raise Damaged(repr(error)) from error
    if hashlib.sha256(buffer).hexdigest() != update.sha256:
        raise Damaged("its bytes are not those that were written")
    return update, buffer


def lock(folder: Path) -> FileIO:
    """Return the lock of a spool, which the system takes back when the process ends.

    Raises:
        SettingsError: Another process has it (``spool-in-use``); the text says which.
        StoreError: The disk refused.
    """
    path = folder / "lock"
    with store_errors(path, "lock"):
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read(200).decode(errors="replace") or "which does not say its name"
            file.close()
            raise SettingsError(
                "spool",
                str(folder),
                f"another process of this selector has it: {holder!a}; end that one first, or "
                "give this one a --selector-id of its own",
                reason="spool-in-use",
            ) from None
        except OSError:
            file.close()
            raise
        file.truncate(0)
        file.write(f"process {os.getpid()} on host {socket.gethostname()}".encode())
    return file


def _opened(path: Path) -> closing[FileIO]:
    return closing(FileIO(path, "r"))


def _facts(file: FileIO) -> dict[str, Any]:
    """Read the first two lines, and leave the file where the payload begins."""
    try:
        begin = file.read(65)
        found = b""
        while b"\n" not in found and len(found) < _LINE_BYTES_MAX:
            more = file.read(64 << 10)
            if not more:
                break
            found += more
        line, end, _ = found.partition(b"\n")
        if not end or hashlib.sha256(line).hexdigest().encode() + b"\n" != begin:
            raise Damaged("its facts are not those that were written")
        file.seek(len(begin) + len(line) + 1)
        facts = json.loads(line)
    except (OSError, ValueError) as error:
        raise Damaged(repr(error)) from error
    if not isinstance(facts, dict):
        raise Damaged("it has no facts")
    return facts
