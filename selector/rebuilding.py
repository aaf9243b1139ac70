"""From a spool to the cohort that an earlier process had, whose updates are then folded again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from federation.errors import StoreError
from federation.runtime.telemetry import get_logger
from federation.tensors import Buffer
from federation.v1 import coordination_pb2 as pb
from federation.v1 import participation_pb2
from selector.artifacts import Shelf
from selector.cohort import Cohort, Member, Transfer
from selector.orders import open_cohort
from selector.spool import FoundRound
from selector.spool_files import Damaged, KeptUpdate, read_update

log = get_logger()

DAMAGED = "spool-damaged"
"""Reason of an update in the spool that is not what was written."""


@dataclass(frozen=True)
class Rebuilt:
    """A round as an earlier process had it.

    Attributes:
        cohort: With the clients whose reports the earlier process accepted. Their claims are marked
            and not judged, or, once the partial was written, accepted.
        artifacts: What clients of the round fetch.
        unfolded: What is to be folded into the sum, in this order, and where it is.
        away: Clients that the earlier process was to configure, and did not accept.
    """

    cohort: Cohort
    artifacts: Sequence[participation_pb2.Artifact]
    unfolded: Sequence[tuple[Member, Path]]
    away: frozenset[str]


async def rebuild(found: FoundRound, shelf: Shelf, disk: Executor) -> Rebuilt | None:
    """Rebuild a round; None if its checkpoint is not the current one any more: it is over.

    An update whose facts are not what was written is left out.

    Raises:
        StoreError: The checkpoint cannot be read.
    """
    order = pb.ConfigureRound()
    order.CopyFrom(found.order)
    order.deadline_s = 0.0  # so that no other checkpoint is waited for
    try:
        cohort, artifacts = await open_cohort(order, shelf, disk)
    except StoreError as error:
        if error.reason != "checkpoint-differs":
            raise
        return None
    updates = await asyncio.get_running_loop().run_in_executor(disk, _facts, found.updates)
    unfolded = []
    for update, path in updates:
        if found.partial is not None and update.client_id not in found.partial.client_ids:
            continue
        member = _marked(cohort, update)
        if member is None:
            log.error("client is in the spool twice", client_id=update.client_id)
        elif found.partial is not None:
            cohort.accept(member)
        else:
            unfolded.append((member, path))
    if found.partial is not None:
        cohort.close()
        cohort.seal()
    away = found.claimed - cohort.members.keys()
    return Rebuilt(cohort, artifacts, unfolded, frozenset(away))


def load(path: Path) -> Buffer:
    """Return an update's bytes, verified; raises ``StoreError``."""
    try:
        return read_update(path)[1]
    except Damaged as damage:
        raise StoreError(f"{path} is not usable: {damage}", reason=DAMAGED) from damage


def _facts(paths: Sequence[Path]) -> list[tuple[KeptUpdate, Path]]:
    found = []
    for path in paths:
        try:
            found.append((read_update(path, whole=False)[0], path))
        except Damaged as damage:
            log.error("spooled update not usable", update=str(path), why=str(damage))
    return found


def _marked(cohort: Cohort, update: KeptUpdate) -> Member | None:
    member = cohort.claim(update.client_id, update.token)
    # Whoever has no receipt asks for it, and is not told to train.
    member.receipt_given = True
    transfer = Transfer(update.chunks, update.size_bytes, bytes.fromhex(update.sha256))
    marked = cohort.begin_fold(
        member, transfer, update.num_examples, update.metrics, update.training_s
    )
    return member if marked else None
