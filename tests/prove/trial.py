"""One federation whose coordinator dies and begins again, and what must have become of it.

Three clients at two selectors, three rounds; each client adds a known step to the weights and has a
known weight, so that the checkpoint of each round is known to the bit. Who is counted twice or left
out gives another one.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from coordinator.journal import Journal
from coordinator.ledger import Ledger
from federation.runtime.control import get_rounds, get_status
from federation.runtime.hdf5 import encode_checkpoint
from federation.tensors import encode
from federation.v1 import control_pb2 as pb
from tests.raw_client import sha256
from tests.system.processes import AT_ONCE, PYTHON, Federation, Process, Settings, standings
from tests.system.trainers import STEP

ROUNDS = 3

CRASHING = (sys.executable, "-m", "tests.system.crashing")

CLIENTS = {"client-1": (1, 1), "client-2": (2, 1), "client-3": (3, 2)}
"""Steps and examples of each; the weight of a round is a multiple of 4."""

STEPS_A_ROUND = 2.25
"""Their weighted mean, exact in float32 like all that comes of it here."""

PLAN: Settings = {
    "goal_count": len(CLIENTS),
    "min_reports": len(CLIENTS),
    "rounds": ROUNDS,
    "return_s": 20,
    **AT_ONCE,
}
"""Whoever loses a client abandons the round."""


def digest_after(rounds: int) -> str:
    """The digest of the checkpoint after so many rounds."""
    value = np.float32(0.5 + rounds * STEPS_A_ROUND * STEP)
    weights = {"w": np.full((2, 3), value), "b": np.full(3, value)}
    return sha256(encode(weights)).hex()


@dataclass
class Trial:
    """The federation of one case.

    Attributes:
        settings: Of the coordinator, at every start.
        figures: Seconds that the case took, for people.
    """

    federation: Federation
    settings: Settings = field(default_factory=PLAN.copy)
    figures: dict[str, float] = field(default_factory=dict)
    coordinator: Process = field(init=False)
    selectors: list[Process] = field(default_factory=list)
    clients: list[Process] = field(default_factory=list)
    remembered: Ledger = field(default_factory=Ledger)
    _began_s: float = 0.0

    async def begin(
        self,
        point: str = "",
        *,
        trainer: str = "Exact",
        trainers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start all processes; the coordinator dies at ``point`` if there is one.

        Args:
            point: As ``tests.system.crashing`` has it.
            trainer: Of each client.
            trainers: Those of some clients that have another.
        """
        if point:
            await self.listen((*CRASHING, point))
        else:
            await self.start_coordinator()
        await self.add_selectors()
        await self.add_clients(trainer, trainers)

    async def add_selectors(self, **settings: Any) -> None:
        """Start them."""
        self.selectors = await self.federation.selectors("north", "south", **settings)

    async def add_clients(
        self,
        trainer: str = "Exact",
        trainers: Mapping[str, str] = MappingProxyType({}),
        **settings: Any,
    ) -> None:
        """Start them; two know north first, and one south."""
        north, south = self.selectors
        for client_id, (steps, examples) in CLIENTS.items():
            order = (south, north) if client_id == "client-3" else (north, south)
            client = await self.federation.client(
                client_id,
                *order,
                trainer=trainers.get(client_id, trainer),
                steps=steps,
                examples=examples,
                rounds=ROUNDS,
                **settings,
            )
            self.clients.append(client)

    async def start_coordinator(self, *, port: int = 0) -> None:
        """Start the coordinator, and wait until it answers."""
        await self.listen(PYTHON, port=port)
        await get_status(self.coordinator.address)
        self.figures["serving_s"] = time.monotonic() - self._began_s

    async def listen(self, command: Sequence[str], *, port: int = 0) -> None:
        """Start the coordinator, and wait until it says where it listens."""
        self._began_s = time.monotonic()
        self.coordinator = await self.federation.coordinator(command, port=port, **self.settings)

    async def dies(self) -> None:
        """Wait until the coordinator has died at its point, and read its journal."""
        status = await self.coordinator.end()
        assert status == -9, f"it ended with {status} instead of at its point"
        self.remembered = journal_of(self.federation)

    async def kill(self) -> None:
        """End the coordinator in the middle of whatever it does."""
        await self.coordinator.kill()
        self.remembered = journal_of(self.federation)

    async def restart(self) -> None:
        """Start the coordinator again, with the same flags and on the same port."""
        await self.start_coordinator(port=self.coordinator.port)

    async def start_and_die(self, point: str) -> int:
        """Start it again to die at this point, perhaps before it listens; return its status."""
        dying = await self.federation.start(
            "dying coordinator",
            [*CRASHING, point, "coordinator"],
            shared_data=self.federation.shared_data,
            port=self.coordinator.port,
            **self.settings,
        )
        return await dying.end()

    async def finishes(self) -> None:
        """Wait for the end of the round that ran, and then of the session."""
        number = min(self.remembered.last_round_number or 1, ROUNDS)
        await self.federation.until(
            lambda status: status.session.rounds_completed >= number, f"round {number} completed"
        )
        self.figures["round_s"] = time.monotonic() - self._began_s
        await self.federation.until(
            lambda status: status.session.rounds_completed == ROUNDS and not status.session.running,
            "the end of the session",
        )

    async def check(self) -> None:
        """Everything is as if nothing had happened."""
        records = await get_rounds(self.coordinator.address)
        directory = self.federation.directory
        numbers = list(range(1, ROUNDS + 1))
        assert [record.round_number for record in records] == numbers
        assert directory.rounds() == numbers
        for number, record in zip(numbers, records, strict=True):
            assert record.outcome == pb.OUTCOME_COMMITTED, record.reason
            assert standings(record) == dict.fromkeys(CLIENTS, "reported")
            assert record.checkpoint_digest == digest_after(number)
            manifest = directory.manifest(number)
            assert manifest is not None
            assert manifest["round_id"] == record.round_id
            counted = [c for s in manifest["selectors"].values() for c in s["client_ids"]]
            assert sorted(counted) == sorted(CLIENTS)
        assert digest_of(directory.checkpoint) == digest_after(ROUNDS)
        assert not list(directory.history.glob(".tmp-*"))
        await self._check_same_round(records)
        for client in self.clients:
            assert await client.end() == 0
            fits = [line["round_number"] for line in client.logged("training")]
            assert fits == numbers, f"{client.name} trained {fits}"

    async def _check_same_round(self, records: list[pb.RoundRecord]) -> None:
        ran, session = self.remembered.round, self.remembered.session
        if ran is not None:
            assert records[ran.number - 1].round_id == ran.round_id
        if session is not None:
            status = await get_status(self.coordinator.address)
            assert status.session.session_id == session.session_id


def journal_of(federation: Federation) -> Ledger:
    """Read the journal of a coordinator that has ended, without touching it."""
    folder = federation.directory.coordinator / "journal"
    copied = federation.folder / f"journal-{time.monotonic_ns()}"
    shutil.copytree(folder, copied)
    recovered = Journal(copied).recover()
    assert recovered.set_aside is None
    return recovered.ledger


def digest_of(checkpoint: Path) -> str:
    """The digest of a checkpoint, from its bytes."""
    return sha256(encode_checkpoint(checkpoint)).hex()
