"""A whole federation in this process: the real roles over real gRPC on loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from client.session import ClientSession
from client.trainer import Trainer
from coordinator.app import Coordinator
from coordinator.app import Limits as CoordinatorLimits
from coordinator.record import RoundOutcome
from federation.errors import FederationError, SettingsError
from federation.plan import RoundPlan
from federation.runtime.hdf5 import read_weights
from federation.runtime.initialise import initialise, initialise_with
from federation.runtime.store import SharedDirectory
from federation.runtime.tasks import until_first
from selector.app import Limits as SelectorLimits
from selector.app import SelectorServer

BUILTIN = Path(__file__).with_name("digits.h5")
"""The model that a federation starts from where none is given: a small digits classifier."""

HOST = "127.0.0.1"

RETRY_DELAY_MAX_S = 0.05
"""Clients in one process need no windows: they come back at once, and wait on their stream."""


class ClientsEnded(FederationError):
    """All clients of a local federation ended before its rounds were done."""

    reason = "clients-ended"


class LocalFederation:
    """Coordinator, selectors and clients in one process.

    ``async with`` starts coordinator and selectors; ``run`` starts a client for each trainer.

    Args:
        initial: Where training starts: weights by name, or the path of a Keras model (``.h5``).
        plan: What is asked of each round. Surplus clients are held for the next round
            (``pipelined``), and come back at once after a report.
        selectors: How many selectors.
        shared_data: The shared directory, made if it is missing; None makes a temporary one. One
            that is laid out already goes on from its checkpoint.

    Raises:
        SettingsError: The initial weights or the plan cannot be used.
    """

    def __init__(
        self,
        *,
        initial: Mapping[str, NDArray[Any]] | Path | str,
        plan: RoundPlan,
        selectors: int = 1,
        shared_data: Path | str | None = None,
    ) -> None:
        if selectors < 1:
            raise SettingsError("selectors", selectors, "it must be a whole number from 1")
        self.plan = dataclasses.replace(
            plan,
            pipelined=True,
            retry_delay_min_s=0.0,
            retry_delay_max_s=min(plan.retry_delay_max_s, RETRY_DELAY_MAX_S),
        )
        self._initial = initial
        self._selector_count = selectors
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if shared_data is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="headwater-")
            shared_data = self._temporary.name
        self.shared_data = Path(shared_data)
        self._servers: list[SelectorServer] = []

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._initialise)
        limits = CoordinatorLimits(return_s=self.plan.return_s)
        self._coordinator = Coordinator(self.shared_data, limits)
        await self._coordinator.start(HOST, 0)
        self._serving = [asyncio.create_task(self._coordinator.driver.run())]
        address = f"{HOST}:{self._coordinator.port}"
        for number in range(1, self._selector_count + 1):
            server = SelectorServer(
                f"selector-{number}", self.shared_data, address, SelectorLimits()
            )
            await server.start(HOST, 0)
            self._servers.append(server)
            self._serving.append(asyncio.create_task(server.run()))
        await asyncio.gather(*(server.uplink.attached.wait() for server in self._servers))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for server in self._servers:
            await server.stop(grace_s=0.0)
        await self._coordinator.stop(grace_s=0.0)
        if self._temporary is not None:
            await asyncio.to_thread(self._temporary.cleanup)

    @property
    def selector_addresses(self) -> list[str]:
        """HOST:PORT of each selector, for clients of one's own."""
        return [f"{HOST}:{server.port}" for server in self._servers]

    @property
    def coordinator_address(self) -> str:
        """HOST:PORT of the coordinator."""
        return f"{HOST}:{self._coordinator.port}"

    async def run(self, trainers: Sequence[Trainer], rounds: int) -> list[RoundOutcome]:
        """Run rounds with one client for each trainer, spread over the selectors in turn.

        Returns:
            One outcome a round, in order.

        Raises:
            SettingsError: There are fewer trainers than ``min_reports``, or one of them cannot
                work with this model.
            ClientsEnded: All clients ended before the rounds were done.
        """
        if len(trainers) < self.plan.min_reports:
            raise SettingsError(
                "trainers",
                len(trainers),
                f"a round needs at least min_reports = {self.plan.min_reports} of them",
            )
        addresses = self.selector_addresses
        sessions = []
        for index, trainer in enumerate(trainers):
            first = index % len(addresses)
            sessions.append(
                ClientSession(f"client-{index + 1}", addresses[first:] + addresses[:first], trainer)
            )
        outcomes: list[RoundOutcome] = []
        driver = self._coordinator.driver
        session = await driver.sessions.start(self.plan, rounds, outcomes.append)
        try:
            await until_first(self._wait(session.over), self._run_clients(sessions), self._watch())
        finally:
            for client in sessions:
                await client.close()
        for client in sessions:
            if client.wrong_setting is not None:
                raise client.wrong_setting
        if not session.over.is_set():
            raise ClientsEnded(
                f"all {len(sessions)} clients ended after {session.completed} of {rounds} rounds"
            )
        return outcomes

    def checkpoint(self) -> dict[str, NDArray[Any]]:
        """Return the current global weights by name; they are the caller's own."""
        weights = read_weights(SharedDirectory(self.shared_data).checkpoint)
        return {name: np.array(array) for name, array in weights.items()}

    def _initialise(self) -> None:
        if SharedDirectory(self.shared_data).is_initialised():
            return
        self.shared_data.mkdir(parents=True, exist_ok=True)
        if isinstance(self._initial, Mapping):
            initialise_with(self.shared_data, self._initial)
        else:
            initialise(self.shared_data, model=Path(self._initial), arrays=None, builtin=BUILTIN)

    async def _wait(self, event: asyncio.Event) -> None:
        await event.wait()

    async def _run_clients(self, sessions: Sequence[ClientSession]) -> None:
        await asyncio.gather(*(session.run() for session in sessions))

    async def _watch(self) -> None:
        """Fail with the first server that fails."""
        done, _ = await asyncio.wait(self._serving, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
