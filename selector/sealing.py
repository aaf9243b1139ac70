"""From a cohort's sum to the partial in the shared directory, and to what is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor

from federation.errors import StoreError
from federation.runtime.partials import PartialHeader, write_partial
from federation.runtime.store import SharedDirectory
from federation.runtime.telemetry import get_logger
from federation.v1 import coordination_pb2 as pb
from selector.cohort import Cohort

log = get_logger()


class Sealer:
    """Writes the partials of one selector process, one after the other.

    One thread: a write that the disk held up must not replace a later round's partial.

    Args:
        directory: The shared directory.
        selector_id: Whose partials these are.
    """

    def __init__(self, directory: SharedDirectory, selector_id: str) -> None:
        self._directory = directory
        self._selector_id = selector_id
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="seal")

    async def seal(
        self, cohort: Cohort, incarnation: str, folds: Awaitable[None], grace_s: float
    ) -> pb.PartialWritten:
        """Wait for the last folds and write the sum; what is said of it follows in any case.

        Args:
            cohort: Closed.
            incarnation: That served it.
            folds: Ends with the last of its folds.
            grace_s: At its end the partial is given up, with the reason ``partial-late``.
        """
        try:
            async with asyncio.timeout(grace_s):
                await folds
                cohort.seal()
                if cohort.broken:
                    return failed(cohort, cohort.broken)
                return await self._write(cohort, incarnation)
        except TimeoutError:
            return failed(cohort, "partial-late")
        except StoreError as error:
            log.error("partial not written", reason=error.reason, detail=error.detail)
            return failed(cohort, error.reason)
        finally:
            cohort.seal()

    async def _write(self, cohort: Cohort, incarnation: str) -> pb.PartialWritten:
        mean = cohort.mean
        client_ids = [member.client_id for member in cohort.accepted]
        written = pb.PartialWritten(
            round_id=cohort.order.round_id,
            count=mean.count,
            weight=mean.weight,
            client_ids=client_ids,
        )
        if mean.pick is None:
            return written
        header = PartialHeader(
            round_number=cohort.order.round_number,
            round_id=cohort.order.round_id,
            selector_id=self._selector_id,
            incarnation=incarnation,
            base_digest=cohort.order.base_digest,
            client_ids=tuple(client_ids),
            weight=mean.weight,
            count=mean.count,
            pick_weight=mean.pick.weight,
            pick_client_id=mean.pick.client_id,
        )
        path = self._directory.partial(self._selector_id)
        loop = asyncio.get_running_loop()
        written.sha256 = await loop.run_in_executor(self._disk, write_partial, path, header, mean)
        return written

    def shut_down(self) -> None:
        """Give the thread back."""
        self._disk.shutdown(wait=False, cancel_futures=True)


def failed(cohort: Cohort, reason: str) -> pb.PartialWritten:
    """Say that there are no sums, although reports may have been folded."""
    return pb.PartialWritten(round_id=cohort.order.round_id, failure=reason)
