"""The files of a client's state: a folder's lock, a record and an update, read with suspicion.

| file          | what                                                                             |
|---------------|----------------------------------------------------------------------------------|
| `lock`        | locked while a process has the folder; the system takes the lock back at its end |
| `client.json` | whose folder it is, the count of accepted reports, where one more is under way   |
| `update`      | a line with the SHA-256 of the next one, a line of facts, the update's wire form |

The last two appear whole or not at all.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from client.update import Update
from federation.errors import FederationError, SettingsError
from federation.runtime.disk import (
    remove_quietly,
    store_errors,
    sync_directory,
    sync_file,
    temporary_path,
    write_atomically,
)
from federation.v1 import participation_pb2 as pb

_LINE_BYTES_MAX = 1 << 20
"""Longest line of facts that is read; metrics are a few."""

_UNFINISHED = re.compile(r"\.tmp-[0-9a-f]{16}")
"""What a process that was killed left; nothing else in the folder is deleted."""


class StateUnusable(FederationError):
    """The folder cannot be made, locked or written."""

    reason = "state-unusable"


class Damaged(Exception):
    """A file is not what was written."""


@dataclass(frozen=True)
class Claim:
    """Where an update is reported, and its receipt asked for.

    Attributes:
        round_id: The round.
        session_id: Its session.
        selector: HOST:PORT of the selector.
        size_bytes: The update's.
        token: Proof of the claim there; never logged.
    """

    round_id: str
    session_id: str
    selector: str
    size_bytes: int
    token: str = field(repr=False)


@dataclass(frozen=True)
class Tally:
    """How many reports were accepted.

    Attributes:
        accepted: Reports that were folded.
        round_id: The round of the last of them, whose receipt may come twice.
        session_id: The session of the last of them.
    """

    accepted: int = 0
    round_id: str = ""
    session_id: str = ""


@dataclass(frozen=True)
class Record:
    """What is known of a client beside its update.

    Attributes:
        client_id: Its name.
        tally: Its accepted reports.
        claim: Where a report without a receipt was to go, if there is one.
    """

    client_id: str
    tally: Tally = Tally()
    claim: Claim | None = None


def lock_folder(folder: Path) -> FileIO:
    """Make the folder, and return its lock; what was left unfinished there is deleted.

    Raises:
        SettingsError: Another process has it (``state-in-use``).
        StateUnusable: The disk refused.
    """
    probe = temporary_path(folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe.touch()
        lock = FileIO(os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise
        unfinished = [path for path in folder.iterdir() if _UNFINISHED.fullmatch(path.name)]
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            expected = (
                "another process of this client has it; end that one, or give this one a name "
                "(--client-id) or a folder (--state) of its own"
            )
            raise SettingsError("state", str(folder), expected, reason="state-in-use") from None
        why = os.strerror(error.errno or 0)
        raise StateUnusable(f"{folder} cannot be written or locked: {why}") from error
    finally:
        remove_quietly(probe)
    for path in unfinished:
        remove_quietly(path)
    return lock


def write_record(folder: Path, record: Record) -> None:
    """Write it; raises ``StoreError``.

    The next process finds it at once, and a loss of power costs it only until it is durable, so
    that who is in a hurry need not wait.
    """
    path, temporary = _record_path(folder), temporary_path(folder)
    with store_errors(path, "write"):
        try:
            _write_private(temporary, json.dumps(asdict(record)).encode())
            os.replace(temporary, path)
        except OSError:
            remove_quietly(temporary)
            raise
        sync_file(path)
        sync_directory(folder)


def read_record(folder: Path) -> Record | None:
    """Return it; None if there is none. Raises ``Damaged``."""
    try:
        content = json.loads(_record_path(folder).read_bytes())
        tally, claim = Tally(**content["tally"]), content["claim"]
        if tally.accepted < 0:
            raise ValueError("a count below zero")
        return Record(str(content["client_id"]), tally, claim and Claim(**claim))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Damaged(repr(error)) from error


def write_update(
    folder: Path, client_id: str, update: Update, is_wanted: Callable[[], bool]
) -> bool:
    """Write it durably, unless it is not wanted any more by then; say whether it was.

    Raises:
        StoreError: The disk refused.
    """
    facts = {
        "client_id": client_id,
        "round_id": update.round_id,
        "sha256": update.sha256.hex(),
        "start": base64.b64encode(update.start.SerializeToString()).decode(),
    }
    line = json.dumps(facts).encode()
    header = hashlib.sha256(line).hexdigest().encode() + b"\n" + line + b"\n"

    def require_wanted() -> None:
        if not is_wanted():
            raise _NotWanted

    def write(path: Path) -> None:
        require_wanted()
        _write_private(path, header, update.buffer)
        require_wanted()  # making it durable is what takes long

    with suppress(_NotWanted):
        write_atomically(_update_path(folder), write)
        return True
    return False


def read_update(folder: Path, client_id: str) -> Update | None:
    """Read and verify it; None if there is none. Raises ``Damaged``."""
    try:
        with _update_path(folder).open("rb") as file:
            digest, line = file.readline(_LINE_BYTES_MAX), file.readline(_LINE_BYTES_MAX)
            if hashlib.sha256(line.rstrip(b"\n")).hexdigest().encode() != digest.rstrip(b"\n"):
                raise Damaged("its facts are not those that were written")
            facts: dict[str, Any] = json.loads(line)
            buffer = bytearray(os.fstat(file.fileno()).st_size - file.tell())
            file.readinto(buffer)
        sha256 = hashlib.sha256(buffer).digest()
        if sha256.hex() != facts["sha256"]:
            raise Damaged("its bytes are not those that were written")
        if facts["client_id"] != client_id:
            raise Damaged("it is another client's")
        start = pb.ReportStart.FromString(base64.b64decode(facts["start"]))
        return Update(str(facts["round_id"]), buffer, sha256, start)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, DecodeError) as error:
        raise Damaged(repr(error)) from error


def remove_update(folder: Path) -> None:
    """Delete it, if it is there."""
    remove_quietly(_update_path(folder))


class _NotWanted(Exception):
    """Unfinished, and of no use."""


def _record_path(folder: Path) -> Path:
    return folder / "client.json"


def _update_path(folder: Path) -> Path:
    return folder / "update"


def _write_private(path: Path, *parts: bytes | bytearray) -> None:
    """Write a new file that nobody else may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.writelines(parts)
