"""The spool: accepted updates on this selector's disk until the sum that they are in is kept.

| file             | what                                                       |
|------------------|------------------------------------------------------------|
| `lock`           | locked while a process has the spool                       |
| `round/order`    | the order of the round that is served, and who serves it   |
| `round/claims-N` | clients that were claimed later                            |
| `round/N.update` | an accepted update, in the order in which they were folded |
| `round/partial`  | what was said of the partial, once it was written          |

There is a round in it while this incarnation may have folded what the coordinator has not settled.
So whoever finds one has all that the incarnation knew of its reports, and may go on as that
incarnation; whoever finds none is a new one.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from federation.errors import StoreError
from federation.runtime.disk import (
    TEMPORARY_PREFIX,
    make_directory,
    remove_quietly,
    store_errors,
    sync_directory,
    temporary_path,
)
from federation.runtime.telemetry import get_logger
from federation.tensors import Buffer
from federation.v1 import coordination_pb2 as pb
from selector.spool_files import (
    Damaged,
    KeptUpdate,
    lock,
    read_facts,
    write_facts,
    write_update,
)

log = get_logger()

_ORDER, _PARTIAL, _CLAIMS, _UPDATE = "order", "partial", "claims-", ".update"


@dataclass(frozen=True)
class FoundRound:
    """What an earlier process left.

    Attributes:
        order: What was asked of it; its seconds are those that remain, by the wall clock.
        claimed: The clients that it was to configure.
        updates: Where the accepted updates are, in the order in which they were folded.
        partial: What was said of the partial, if it was written.
    """

    order: pb.ConfigureRound
    claimed: frozenset[str]
    updates: tuple[Path, ...]
    partial: pb.PartialWritten | None


class Spool:
    """One selector's spool; its calls block, and may come from several threads.

    Args:
        folder: Its own; made if only that is missing. A symbolic link may lead to another disk.
        bytes_max: Bytes of updates that it holds.

    Attributes:
        incarnation: Of the process that has it: that of the round which was found, or a new one.
        found: The round of an earlier process, if it left one.

    Raises:
        SettingsError: Another process has it.
        StoreError: The disk refused.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._round = folder / "round"
        self._bytes_max = bytes_max
        self._guard = threading.Lock()
        self._round_id = ""
        self._files = 0
        self._bytes = 0
        with store_errors(folder, "make"):
            make_directory(folder)
        self._lock = lock(folder)
        try:
            for left in folder.glob(f"{TEMPORARY_PREFIX}*"):
                shutil.rmtree(left, ignore_errors=True)
            self.incarnation = secrets.token_hex(8)
            with store_errors(self._round, "read"):
                self.found = self._find()
        except BaseException:
            self._lock.close()
            raise

    # -- What an earlier process left -----------------------------------------------------------

    def _find(self) -> FoundRound | None:
        try:
            facts = read_facts(self._round / _ORDER)
            order = pb.ConfigureRound.FromString(base64.b64decode(facts["order"]))
            until_s, incarnation = float(facts["until_s"]), str(facts["incarnation"])
        except FileNotFoundError:
            self._clear()
            return None
        except (Damaged, KeyError, TypeError, ValueError, DecodeError) as damage:
            log.error("spooled round not usable", spool=str(self._folder), why=str(damage))
            self._clear()
            return None
        self.incarnation, self._round_id = incarnation, order.round_id
        remaining_s = min(max(0.0, until_s - time.time()), order.deadline_s)
        order.expected_s = max(0.0, order.expected_s - (order.deadline_s - remaining_s))
        order.deadline_s = remaining_s
        for unfinished in self._round.glob(f"{TEMPORARY_PREFIX}*"):
            remove_quietly(unfinished)
        updates = sorted(self._round.glob(f"*{_UPDATE}"))
        self._files = max((int(path.stem) for path in updates), default=0)
        self._bytes = sum(path.stat().st_size for path in updates)
        return FoundRound(
            order=order,
            claimed=frozenset(order.client_ids) | self._later_claims(),
            updates=tuple(updates),
            partial=self._found_partial(),
        )

    def _later_claims(self) -> frozenset[str]:
        claimed: set[str] = set()
        for path in self._round.glob(f"{_CLAIMS}*"):
            with suppress(Damaged, OSError):  # they are waited for until the round closes
                claimed.update(map(str, read_facts(path).get("client_ids", ())))
        return frozenset(claimed)

    def _found_partial(self) -> pb.PartialWritten | None:
        try:
            facts = read_facts(self._round / _PARTIAL)
            return pb.PartialWritten.FromString(base64.b64decode(facts["partial"]))
        except FileNotFoundError:
            return None
        except (Damaged, KeyError, TypeError, ValueError, DecodeError) as damage:
            # The same updates in the same order give the same one, to the bit.
            log.warning("spooled partial not usable", why=str(damage))
            return None

    # -- The round that is served ---------------------------------------------------------------

    def begin(self, order: pb.ConfigureRound) -> None:
        """Begin a round, which takes the place of the one before; raises ``StoreError``."""
        with self._guard:
            with store_errors(self._round, "clear"):
                self._clear()
            fresh = temporary_path(self._folder)
            facts = {
                "incarnation": self.incarnation,
                "until_s": time.time() + order.deadline_s,
                "order": base64.b64encode(order.SerializeToString()).decode(),
            }
            try:
                with store_errors(self._round, "write"):
                    fresh.mkdir(mode=0o700)
                write_facts(fresh / _ORDER, facts)
                with store_errors(self._round, "write"):
                    os.rename(fresh, self._round)
                    sync_directory(self._folder)
            except StoreError:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
            self._round_id = order.round_id

    def claim(self, round_id: str, client_ids: Iterable[str]) -> None:
        """Note clients that were claimed later; raises ``StoreError``."""
        with self._guard:
            self._require(round_id)
            self._files += 1
            write_facts(
                self._round / f"{_CLAIMS}{self._files:08}", {"client_ids": list(client_ids)}
            )

    def keep(self, round_id: str, update: KeptUpdate, buffer: Buffer) -> None:
        """Make an update durable that is about to be folded.

        Raises:
            StoreError: It is not in the spool: the disk refused, ``bytes_max`` is reached
                (``spool-full``), or the round is not in the spool any more (``round-over``).
        """
        with self._guard:
            self._require(round_id)
            if self._bytes + len(buffer) > self._bytes_max:
                raise StoreError(
                    f"{self._folder} holds {self._bytes} bytes, of {self._bytes_max} at most",
                    reason="spool-full",
                )
            path = self._round / f"{self._files + 1:08}{_UPDATE}"
            try:
                write_update(path, update, buffer)
            except StoreError:
                remove_quietly(path)  # it may be there if only its name could not be synced
                raise
            self._files += 1
            self._bytes += len(buffer)

    def note_partial(self, partial: pb.PartialWritten) -> None:
        """Note what is about to be said of the partial; raises ``StoreError``."""
        with self._guard:
            self._require(partial.round_id)
            encoded = base64.b64encode(partial.SerializeToString()).decode()
            write_facts(self._round / _PARTIAL, {"partial": encoded})

    def discard(self, round_id: str) -> None:
        """The round is settled or over: its updates are of no use any more; never raises."""
        with self._guard:
            if round_id == self._round_id:
                try:
                    self._clear()
                except OSError as error:  # the next round, or the next start, tries again
                    log.warning("spool not cleared", spool=str(self._folder), why=str(error))

    def renew(self) -> None:
        """Forget the round, if there is one, and be a new incarnation; never raises."""
        self.discard(self._round_id)
        self.incarnation = secrets.token_hex(8)
        self.found = None

    def close(self) -> None:
        """Let another process have it; what is being kept is finished, and nothing else begins."""
        with self._guard:
            self._round_id = ""
            self._lock.close()

    def _require(self, round_id: str) -> None:
        if round_id != self._round_id:
            raise StoreError("the round is not in the spool any more", reason="round-over")

    def _clear(self) -> None:
        """Remove the round, at one moment; raises ``OSError``."""
        self._round_id, self._files, self._bytes = "", 0, 0
        gone = temporary_path(self._folder)
        try:
            os.rename(self._round, gone)
        except FileNotFoundError:
            return
        sync_directory(self._folder)
        shutil.rmtree(gone, ignore_errors=True)
