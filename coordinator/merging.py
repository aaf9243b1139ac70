"""From the selectors' partials in the shared directory to the next checkpoint, streamed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from numpy.typing import NDArray

from coordinator.events import Owner, PartialReference
from coordinator.strategy import Strategy
from federation.aggregation import Pick
from federation.errors import StoreError
from federation.runtime.hdf5 import read_spec
from federation.runtime.partials import PartialFile, PartialHeader, open_partial
from federation.runtime.store import SharedDirectory, StagedCheckpoint
from federation.tensors import ModelSpec, TensorSpec

Kept = Sequence[tuple[Owner, PartialReference]]


def check_header(
    header: PartialHeader, owner: Owner, round_id: str, base_digest: str, said: PartialReference
) -> None:
    """Compare a partial file with what its selector said of it.

    Raises:
        StoreError: It is another file (``stale-partial``): of another round, process or sum.
    """
    found = (
        header.round_id,
        header.selector_id,
        header.incarnation,
        header.base_digest,
        header.count,
        header.weight,
        frozenset(header.client_ids),
    )
    expected = (
        round_id,
        owner.selector_id,
        owner.incarnation,
        base_digest,
        said.count,
        said.weight,
        frozenset(said.client_ids),
    )
    if found != expected:
        raise StoreError(
            f"the partial of {owner.selector_id} in the shared directory is not the one that it "
            f"told of: it is of round {header.round_number} with {header.count} reports",
            reason="stale-partial",
        )


def merge(
    directory: SharedDirectory,
    kept: Kept,
    round_number: int,
    manifest: Mapping[str, Any],
    strategy: Strategy,
    dropped: threading.Event,
) -> StagedCheckpoint:
    """Merge the kept partials and write the next checkpoint beside the current one; blocking.

    Args:
        directory: The shared directory.
        kept: Which partials count; their clients are disjoint.
        round_number: Of the round that commits.
        manifest: What is kept beside the checkpoint, with ``round_id`` and ``base_digest``.
        strategy: Makes the next values.
        dropped: Set when the round ended without this checkpoint.

    Raises:
        StoreError: A partial is not what was kept, or the disk refuses.
    """
    clients = [client_id for _, partial in kept for client_id in partial.client_ids]
    assert len(set(clients)) == len(clients), "a client is in two partials"
    spec = read_spec(directory.checkpoint)
    with ExitStack() as stack:
        files = []
        for owner, partial in kept:
            file = stack.enter_context(open_partial(directory.partial(owner.selector_id)))
            check_header(file.header, owner, manifest["round_id"], manifest["base_digest"], partial)
            _check_spec(file.spec, spec, owner)
            files.append(file)
        blocks = _Blocks(files, sum(partial.weight for _, partial in kept), strategy, dropped)
        staged = directory.stage_checkpoint(round_number, spec, blocks, manifest)
        for file, (owner, partial) in zip(files, kept, strict=True):
            if file.digest() != partial.sha256:
                directory.discard(staged)
                raise StoreError(
                    f"the partial of {owner.selector_id} is not the bytes that it wrote",
                    reason="partial-changed",
                )
    return staged


def _check_spec(found: ModelSpec, expected: ModelSpec, owner: Owner) -> None:
    if found != expected:
        raise StoreError(
            f"the partial of {owner.selector_id} has other tensors than the checkpoint",
            reason="stale-partial",
        )


class _Blocks:
    """Gives the next checkpoint's entries, tensor by tensor, block by block."""

    def __init__(
        self,
        files: Sequence[PartialFile],
        total_weight: int,
        strategy: Strategy,
        dropped: threading.Event,
    ) -> None:
        self._files = files
        self._total_weight = total_weight
        self._strategy = strategy
        self._dropped = dropped
        best: Pick | None = None
        self._picked = 0
        for index, file in enumerate(files):
            pick = Pick(file.header.pick_weight, file.header.pick_client_id)
            if pick.beats(best):
                best, self._picked = pick, index

    def __call__(self, tensor: TensorSpec) -> Iterator[NDArray[Any]]:
        if self._dropped.is_set():
            raise StoreError("the round ended without this checkpoint", reason="commit-dropped")
        if not tensor.is_float:
            # Every file is read whole, since what is read is what is hashed.
            yield [file.picked(tensor.name) for file in self._files][self._picked]
            return
        for sums in zip(*(file.blocks(tensor.name) for file in self._files), strict=True):
            yield self._strategy.next_block(sums, self._total_weight, tensor.wire_dtype)
