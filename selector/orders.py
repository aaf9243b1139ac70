"""From the coordinator's order to a cohort: which checkpoint is meant, what clients fetch."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor

from federation.errors import StoreError
from federation.runtime import wire
from federation.runtime.telemetry import get_logger
from federation.v1 import coordination_pb2, participation_pb2
from selector.artifacts import Checkpoint, Shelf, base_for
from selector.cohort import Cohort, CohortOrder

log = get_logger()

CHECKPOINT_WAIT_S = 10.0
"""How long a checkpoint that the coordinator means may take to be seen here (NFS caches)."""

CHECKPOINT_LOOK_S = 0.2
"""Pause between two looks at it."""


async def open_cohort(
    order: coordination_pb2.ConfigureRound, shelf: Shelf, disk: Executor
) -> tuple[Cohort, list[participation_pb2.Artifact]]:
    """Return the cohort of a new round, and what its clients fetch.

    Raises:
        StoreError: The checkpoint or the model cannot be read here.
        PeerError: The order is none that can be carried out.
    """
    limits = wire.limits_from_wire(order.screening_limits)
    settings = CohortOrder(
        round_id=order.round_id,
        round_number=order.round_number,
        base_digest=order.base_digest,
        weighting=wire.weighting_from_wire(order.weighting),
        limits=limits,
        retry_window=wire.retry_window_from_wire(order.retry_window),
    )
    wait_s = min(wire.seconds_from_wire(order.deadline_s), CHECKPOINT_WAIT_S)
    checkpoint = await _checkpoint(order.base_digest, shelf, disk, wait_s)
    model = await asyncio.get_running_loop().run_in_executor(disk, shelf.load_model)
    artifacts = [found.descriptor() for found in (model, checkpoint) if found is not None]
    base = base_for(checkpoint, limits.update_norm_max is not None)
    return Cohort(settings, checkpoint.spec, base), artifacts


async def _checkpoint(digest: str, shelf: Shelf, disk: Executor, wait_s: float) -> Checkpoint:
    until_s = time.monotonic() + wait_s
    while True:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                disk, shelf.load_checkpoint, digest
            )
        except StoreError as error:
            if time.monotonic() >= until_s:
                raise
            log.warning("checkpoint not seen yet", reason=error.reason)
            await asyncio.sleep(CHECKPOINT_LOOK_S)
