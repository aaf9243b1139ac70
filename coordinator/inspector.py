"""Looks at the partial that a selector told of, before the round counts it."""

from __future__ import annotations

import asyncio
import dataclasses
from concurrent.futures import ThreadPoolExecutor

from coordinator.driver import Driver
from coordinator.events import Owner, PartialReference, PartialSubmitted
from coordinator.merging import check_header
from federation.errors import StoreError
from federation.runtime.partials import open_partial
from federation.runtime.store import SharedDirectory
from federation.runtime.telemetry import get_logger
from federation.v1 import coordination_pb2 as pb

log = get_logger()

LOOK_AGAIN_S = 0.2
"""Pause before another look at a file that is missing or different (NFS caches)."""


class Inspector:
    """Turns a selector's word about a partial into an event about what was found."""

    def __init__(self, directory: SharedDirectory, driver: Driver) -> None:
        self._directory = directory
        self._driver = driver
        self._disk = ThreadPoolExecutor(4, thread_name_prefix="inspect")

    def submit(self, owner: Owner, message: pb.PartialWritten) -> None:
        """Inspect in the background; the event follows in any case."""
        self._driver.spawn(self._inspect(owner, message))

    async def _inspect(self, owner: Owner, message: pb.PartialWritten) -> None:
        said = PartialReference(
            message.sha256,
            message.count,
            message.weight,
            tuple(message.client_ids),
            message.failure,
        )
        if said.count > 0 and not said.failure:
            failure = await self._look(owner, message.round_id, said)
            said = dataclasses.replace(said, failure=failure)
        await self._driver.post(PartialSubmitted(owner, message.round_id, said))

    async def _look(self, owner: Owner, round_id: str, said: PartialReference) -> str:
        """Look until it is what was said, or grace ends; return why it is not."""
        round_ = self._driver.round
        if round_ is None or round_.round_id != round_id:
            return "stale-partial"
        until_s = self._driver.clock.now_s() + round_.plan.grace_s
        base_digest = round_.base_digest
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(
                    self._disk, self._check, owner, round_id, base_digest, said
                )
            except StoreError as error:
                if self._driver.clock.now_s() >= until_s:
                    log.error("partial not usable", reason=error.reason, detail=error.detail)
                    return error.reason
                await asyncio.sleep(LOOK_AGAIN_S)
            else:
                return ""

    def _check(self, owner: Owner, round_id: str, base_digest: str, said: PartialReference) -> None:
        with open_partial(self._directory.partial(owner.selector_id)) as partial:
            check_header(partial.header, owner, round_id, base_digest, said)

    def shut_down(self) -> None:
        """Give the threads back."""
        self._disk.shutdown(wait=False, cancel_futures=True)
