"""The shared directory in memory: the same contract as on disk, without HDF5.

Each change happens whole at one moment or not at all. What a process on another machine reads may
be older (NFS caches).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.aggregation import WeightedMean
from federation.errors import PeerError, StoreError
from federation.runtime.partial_header import PartialHeader
from federation.tensors import ModelSpec, decode, encode
from selector.artifacts import Checkpoint
from tests.simulation.disk import Trouble
from tests.simulation.loop import VirtualLoop


@dataclass(frozen=True)
class Place:
    """Stands in for a path."""

    name: str


@dataclass(frozen=True)
class Staged:
    """A checkpoint that is not published yet."""

    digest: str
    wire: bytes
    manifest: Mapping[str, Any]


@dataclass
class Published:
    """A round in history."""

    wire: bytes
    manifest: dict[str, Any]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.wire).hexdigest()


@dataclass
class _Partial:
    written_s: float
    header: PartialHeader
    spec: ModelSpec
    sums: dict[str, NDArray[np.float64]]
    picks: dict[str, NDArray[Any]]
    _hash: Any = field(default_factory=hashlib.sha256)

    def opened(self) -> _Partial:
        return _Partial(self.written_s, self.header, self.spec, self.sums, self.picks)

    def blocks(self, name: str) -> Iterator[NDArray[np.float64]]:
        block = self.sums[name].reshape(-1)
        self._hash.update(block.tobytes())
        yield block

    def picked(self, name: str) -> NDArray[Any]:
        self._hash.update(self.picks[name].tobytes())
        return self.picks[name]

    def digest(self) -> str:
        return str(self._hash.hexdigest())


class SimulatedDirectory:
    """Stands in for ``SharedDirectory``.

    Attributes:
        current: The current checkpoint's wire form, and the round that made it.
        past: The rounds in history.
        on_publish: Told of each round that is published.
        happened: Told when something became visible.
    """

    def __init__(
        self, loop: VirtualLoop, trouble: Trouble, weights: Mapping[str, NDArray[Any]]
    ) -> None:
        self._loop = loop
        self._trouble = trouble
        self.checkpoint = Place("fl_checkpoint")
        self.current = (bytes(encode(weights)), 0)
        self.past: dict[int, Published] = {}
        self.on_publish: Callable[[int, Published], None] = lambda number, published: None
        self.happened: Callable[[str], None] = lambda trigger: None
        self._partials: dict[str, list[_Partial]] = {}

    def _write(self) -> None:
        if self._refuses() and not self._trouble.is_late:
            raise self._refusal()

    def _written(self) -> None:
        if self._refuses():
            raise self._refusal()

    def _refuses(self) -> bool:
        return self._loop.time() < self._trouble.refuses_until_s

    def _refusal(self) -> StoreError:
        return StoreError(os.strerror(self._trouble.error), reason="io-error")

    # -- Checkpoints ------------------------------------------------------------------------------

    @property
    def digest(self) -> str:
        """Of the current checkpoint."""
        return hashlib.sha256(self.current[0]).hexdigest()

    def encode_checkpoint(self, place: Place) -> bytearray:
        """Stands in for the function of that name."""
        return bytearray(self.current[0])

    def read_spec(self, place: Place) -> ModelSpec:
        """Stands in for the function of that name."""
        return ModelSpec.of(decode(self.current[0]))

    def stage_checkpoint(
        self, round_number: int, spec: ModelSpec, blocks: Any, manifest: Mapping[str, Any]
    ) -> Staged:
        self._write()
        weights = {}
        for tensor in spec.tensors:
            values = np.concatenate([np.asarray(b).reshape(-1) for b in blocks(tensor)])
            weights[tensor.name] = values.astype(tensor.wire_dtype).reshape(tensor.shape)
        wire = bytes(encode(weights))
        self._written()
        digest = hashlib.sha256(wire).hexdigest()
        return Staged(digest, wire, {**manifest, "round_number": round_number, "digest": digest})

    def discard(self, staged: Staged) -> None:
        """Nothing is left of it."""

    def publish(self, staged: Staged, round_number: int) -> None:
        self._write()
        if round_number in self.past:
            raise StoreError("this round was committed", reason="round-exists")
        self.past[round_number] = Published(staged.wire, dict(staged.manifest))
        self.on_publish(round_number, self.past[round_number])
        self.happened("published")
        self._written()

    def manifest(self, round_number: int) -> dict[str, Any] | None:
        self._written()
        found = self.past.get(round_number)
        return found.manifest if found is not None else None

    def make_current(self, round_number: int) -> None:
        self._write()
        if round_number not in self.past:
            raise StoreError("this round is not in history", reason="file-missing")
        self.current = (self.past[round_number].wire, round_number)
        self._written()

    def prune(self, keep: int) -> None:
        """History is short here."""

    def recover(self) -> int:
        """Finish a commit that was cut short; return the highest round number."""
        newest = max(self.past, default=0)
        if newest > self.current[1]:
            self.make_current(newest)
        return newest

    # -- Partials ---------------------------------------------------------------------------------

    def partial(self, selector_id: str) -> Place:
        return Place(selector_id)

    def write_partial(self, place: Place, header: PartialHeader, mean: WeightedMean) -> str:
        """Stands in for the function of that name."""
        self._write()
        sums = {name: value.copy() for name, value in mean.sums.items()}
        picks = {name: value.copy() for name, value in mean.picked.items()}
        partial = _Partial(self._loop.time(), header, mean.spec, sums, picks)
        self._partials.setdefault(place.name, []).append(partial)
        self.happened("partial")
        self._written()
        reading = partial.opened()
        for tensor in mean.spec.tensors:
            _ = [*reading.blocks(tensor.name)] if tensor.is_float else reading.picked(tensor.name)
        return reading.digest()

    @contextmanager
    def open_partial(self, place: Place) -> Iterator[_Partial]:
        """Stands in for the function of that name; sees what was there a while ago."""
        now_s = self._loop.time()
        seen_s = now_s - (self._trouble.lag_s if now_s < self._trouble.lag_until_s else 0.0)
        seen = [p for p in self._partials.get(place.name, []) if p.written_s <= seen_s]
        if not seen:
            raise StoreError("there is no partial", reason="file-missing")
        yield seen[-1].opened()


class SimulatedShelf:
    """Stands in for ``Shelf``: the newest two checkpoints that its selector read."""

    def __init__(self, directory: SimulatedDirectory) -> None:
        self._directory = directory
        self._checkpoints: dict[bytes, Checkpoint] = {}

    def find(self, sha256: bytes) -> Checkpoint:
        if sha256 not in self._checkpoints:
            raise PeerError("no artifact here has this digest", reason="unknown-artifact")
        return self._checkpoints[sha256]

    def load_checkpoint(self, digest: str) -> Checkpoint:
        known = self._checkpoints.get(bytes.fromhex(digest))
        if known is not None:
            return known
        wire = bytearray(self._directory.current[0])
        checkpoint = Checkpoint(hashlib.sha256(wire).digest(), wire)
        if checkpoint.sha256.hex() != digest:
            raise StoreError("it is another", reason="checkpoint-differs")
        self._checkpoints = dict([*self._checkpoints.items()][-1:])
        self._checkpoints[checkpoint.sha256] = checkpoint
        return checkpoint

    def load_model(self) -> None:
        """There is none."""
