"""What a selector does with its spool, off the event loop; without a spool it is nothing."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from federation.errors import StoreError
from federation.runtime.telemetry import get_logger
from federation.tensors import Buffer
from federation.v1 import coordination_pb2 as pb
from selector.artifacts import Shelf
from selector.cohort import Cohort, Member
from selector.rebuilding import Rebuilt, rebuild
from selector.spool import FoundRound, Spool
from selector.spool_files import KeptUpdate

log = get_logger()


class Spooling:
    """One selector's use of its spool.

    Args:
        spool: None: updates are in memory only.
        disk: Its threads do the waiting.

    Attributes:
        incarnation: Of this process.
        keep: Makes an update durable that is about to be folded; blocks, and raises
            ``StoreError``. None without a spool.
    """

    def __init__(self, spool: Spool | None, disk: Executor) -> None:
        self._spool = spool
        self._disk = disk
        self.incarnation = spool.incarnation if spool is not None else secrets.token_hex(8)
        self.keep = self._keep if spool is not None else None

    def holds(self, cohort: Cohort) -> bool:
        """Say whether reports of this cohort outlive the process."""
        return self._spool is not None and bool(cohort.accepted or cohort.folding)

    async def resume(self, shelf: Shelf) -> tuple[FoundRound, Rebuilt] | None:
        """Return the round of an earlier process, if it left one that is not over.

        Raises:
            StoreError: The round's checkpoint cannot be read.
        """
        if self._spool is None or self._spool.found is None:
            return None
        found = self._spool.found
        rebuilt = await rebuild(found, shelf, self._disk)
        if rebuilt is None:
            log.info("spooled round is over", round_number=found.order.round_number)
            self._spool.renew()
            self.incarnation = self._spool.incarnation
            return None
        log.info(
            "round goes on after a restart",
            round_number=found.order.round_number,
            accepted=len(rebuilt.cohort.members),
            away=len(rebuilt.away),
            sealed=found.partial is not None,
        )
        return found, rebuilt

    async def begin(self, order: pb.ConfigureRound) -> None:
        """A round is about to be served; raises ``StoreError``."""
        if self._spool is not None:
            await self._do(self._spool.begin, order)

    async def claim(self, order: pb.ConfigureRound) -> None:
        """Further clients are about to be claimed."""
        if self._spool is None:
            return
        try:
            await self._do(self._spool.claim, order.round_id, order.client_ids)
        except StoreError as error:  # after a crash they are waited for until reporting closes
            log.warning("claims not noted", reason=error.reason, detail=error.detail)

    async def note_partial(self, partial: pb.PartialWritten) -> None:
        """This is about to be said; a sum that is given up is given up for the next process too."""
        if self._spool is None:
            return
        if partial.failure:
            await self._do(self._spool.discard, partial.round_id)
            return
        try:
            await self._do(self._spool.note_partial, partial)
        except StoreError as error:  # the next process writes the same partial again
            log.warning("partial not noted", reason=error.reason, detail=error.detail)

    def forget(self, round_id: str) -> None:
        """The round is settled or over; returns at once."""
        if self._spool is not None:
            self._disk.submit(self._spool.discard, round_id)

    def renew(self) -> None:
        """Another process serves: nothing of what the spool holds will ever count. Blocks."""
        if self._spool is not None:
            self._spool.renew()

    def close(self) -> None:
        """Let another process have the spool."""
        if self._spool is not None:
            self._spool.close()

    def _keep(self, cohort: Cohort, member: Member, update: Buffer) -> None:
        assert self._spool is not None
        assert member.transfer is not None
        kept = KeptUpdate(
            client_id=member.client_id,
            num_examples=member.num_examples,
            metrics=member.metrics,
            training_s=member.training_s,
            chunks=member.transfer.chunks,
            size_bytes=member.transfer.size_bytes,
            sha256=member.transfer.sha256.hex(),
            token=member.token,
        )
        self._spool.keep(cohort.order.round_id, kept, update)

    async def _do(self, do: Callable[..., None], *arguments: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._disk, do, *arguments)
