"""Partials as selectors write them, for tests of those who read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from coordinator.events import Owner, PartialReference
from federation.aggregation import WeightedMean
from federation.runtime.hdf5 import encode_checkpoint, read_spec
from federation.runtime.partials import PartialHeader, write_partial
from federation.runtime.store import SharedDirectory
from tests.raw_client import sha256

ROUND_ID = "this-round"

Update = tuple[Mapping[str, NDArray[Any]], int]
"""Weights and example count."""


def base_digest(directory: SharedDirectory) -> str:
    """The digest of the current checkpoint."""
    return sha256(encode_checkpoint(directory.checkpoint)).hex()


def hand_in(
    directory: SharedDirectory,
    owner: Owner,
    updates: Mapping[str, Update],
    round_id: str = ROUND_ID,
    **header: Any,
) -> PartialReference:
    """Write the sum of these updates; return what the selector says of it.

    Args:
        directory: The shared directory.
        owner: Whose partial it is.
        updates: By client id.
        round_id: Of which round it is.
        header: What the file says instead of the truth.
    """
    mean = WeightedMean(read_spec(directory.checkpoint))
    for client_id, (weights, weight) in updates.items():
        mean.add(weights, weight, client_id)
    assert mean.pick is not None
    told = PartialHeader(
        round_number=1,
        round_id=round_id,
        selector_id=owner.selector_id,
        incarnation=owner.incarnation,
        base_digest=base_digest(directory),
        client_ids=tuple(updates),
        weight=mean.weight,
        count=mean.count,
        pick_weight=mean.pick.weight,
        pick_client_id=mean.pick.client_id,
    )
    path = directory.partial(owner.selector_id)
    digest = write_partial(path, dataclasses.replace(told, **header), mean)
    return PartialReference(digest, mean.count, mean.weight, tuple(updates))
