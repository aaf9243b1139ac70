"""Containers are killed, paused, cut off and restarted: each ends as docs/reliability.md promises.

Eight containers a test, as `docker run` starts them: a coordinator, two selectors, four clients
whose training ends when the test says so, and the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from federation.errors import PeerError
from federation.runtime.control import watch_status
from federation.v1 import control_pb2 as pb
from tests.containers.engine import LOOK_S, ROOT, WITHIN_S, Refused, Stage, docker, eventually
from tests.containers.page import completed

CLIENTS = tuple(f"client-{number}" for number in range(1, 5))
STOP_WITHIN_S = 10.0

SOON: dict[str, object] = {"HEADWATER_KEEPALIVE_S": 2, "HEADWATER_KEEPALIVE_TIMEOUT_S": 2}
"""A peer that is gone is noticed after four seconds."""

PLAN: dict[str, object] = {
    "HEADWATER_GOAL_COUNT": len(CLIENTS),
    "HEADWATER_MIN_REPORTS": 1,
    "HEADWATER_ROUNDS": 2,
    "HEADWATER_RETURN_S": 6,
    "HEADWATER_REPORT_WINDOW_S": 600,
    "HEADWATER_SELECTION_TIMEOUT_S": 600,
    "HEADWATER_SELECTION_PIPELINED": "true",
    "HEADWATER_WEBSERVERS": "http://webserver:8050/api/v1/updates",
}

T = TypeVar("T")


class Town:
    """The federation of a test, and what its operator sees."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self._gate = folder / "gate"
        self._gate.mkdir(mode=0o755)
        self._arrays = folder / "arrays.npz"
        np.savez(self._arrays, w=np.full((2, 3), 0.5, np.float32))
        self._arrays.chmod(0o644)

    def begin(self) -> None:
        """Start everything; clients train until the gate is open."""
        stage = self.stage
        mounted = ["--volume", f"{self._arrays}:/arrays.npz:ro", *stage.shared()]
        stage.once("coordinator", "headwater", "init", "--arrays", "/arrays.npz", options=mounted)
        # All at once: who finds nobody tries again, as after a power cut.
        starts = [self._webserver, self._coordinator]
        starts += [functools.partial(self._selector, name) for name in ("north", "south")]
        for number, name in enumerate(CLIENTS):
            nearest = ("north", "south") if number < 2 else ("south", "north")
            starts.append(functools.partial(self._client, name, *nearest))
        with ThreadPoolExecutor(len(starts)) as pool:
            for started in [pool.submit(start) for start in starts]:
                started.result()

    def _webserver(self) -> None:
        options = ("--publish", "127.0.0.1::8050", "--tmpfs", "/data:uid=10001")
        self.stage.start("webserver", "webserver", options=options)

    def _coordinator(self) -> None:
        options = ["--publish", "127.0.0.1::50050", *self.stage.shared()]
        self.stage.start("coordinator", "coordinator", environment=PLAN | SOON, options=options)

    def _selector(self, name: str) -> None:
        environment: dict[str, object] = {
            "HEADWATER_COORDINATOR": "coordinator:50050",
            "HEADWATER_SELECTOR_ID": name,
            "HEADWATER_ADVERTISE": f"{name}:50051",
        }
        options = self.stage.shared()
        self.stage.start(name, "selector", environment=environment | SOON, options=options)

    def _client(self, name: str, *selectors: str) -> None:
        """Start one in a server's image, which starts sooner: its trainer needs no TensorFlow."""
        trainers = ROOT / "tests" / "system" / "trainers.py"
        environment: dict[str, object] = {
            "HEADWATER_CLIENT_ID": name,
            "HEADWATER_SELECTORS": ",".join(f"{selector}:50051" for selector in selectors),
            "HEADWATER_TRAINER": "trainers:Gated",
            "TRAINER_GATE": "/gate",
            "XDG_STATE_HOME": "/tmp/state",
        }
        options = [
            *("--workdir", "/app", "--entrypoint", "headwater"),
            *("--volume", f"{trainers}:/app/trainers.py:ro", "--volume", f"{self._gate}:/gate:ro"),
        ]
        self.stage.start(
            name, "selector", "client", environment=environment | SOON, options=options
        )

    def open_gate(self, gate: int | str) -> None:
        """Let the training of a round end, or of every round."""
        (self._gate / str(gate)).touch()

    async def until(self, condition: Callable[[pb.Status], T | None], what: str) -> T:
        """Watch the coordinator until the condition returns something."""
        last = pb.Status()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WITHIN_S):
                while True:
                    address = self.stage.address("coordinator", 50050)
                    with contextlib.suppress(PeerError):  # it may be about to start
                        async with contextlib.aclosing(watch_status(address)) as statuses:
                            async for last in statuses:
                                if found := condition(last):
                                    return found
                    await asyncio.sleep(LOOK_S)
        raise AssertionError(f"did not come: {what}; the last status:\n{last}")

    async def trains(self) -> pb.RoundStatus:
        """Wait until all clients of round 1 have their configuration."""
        return await self.until(
            lambda status: status.round if status.round.counts.configured == len(CLIENTS) else None,
            "all clients train",
        )

    async def attached(self, *selector_ids: str) -> None:
        """Wait until exactly these selectors are attached."""

        def are_attached(status: pb.Status) -> bool:
            return {s.selector_id for s in status.selectors if s.attached} == set(selector_ids)

        await self.until(are_attached, f"{selector_ids} attached, and no other")

    async def completed(self, round_number: int) -> pb.RoundRecord:
        """Wait for a round's end and return what is remembered of it."""

        def record(status: pb.Status) -> pb.RoundRecord | None:
            return next((r for r in status.recent_rounds if r.round_number == round_number), None)

        return await self.until(record, f"the end of round {round_number}")

    def cut_off(self, name: str) -> None:
        """Take a container from the network."""
        docker("network", "disconnect", self.stage.name, self.stage.full(name))

    def heal(self, name: str) -> None:
        """Put it back, under the name by which others know it."""
        network, full = self.stage.name, self.stage.full(name)
        docker("network", "connect", "--alias", name, network, full)

    async def ends_well(self) -> pb.RoundRecord:
        """Expect that the next round has everybody, the volume a whole checkpoint, the page both.

        Returns:
            The first round, the one that was disturbed.
        """
        first = await self.completed(1)
        self.open_gate("always")
        second = await self.completed(2)

        assert [first.outcome, second.outcome] == [pb.OUTCOME_COMMITTED] * 2
        assert set(standings(second).values()) == {"reported"}
        self._is_sound()
        self._is_told([first, second])
        return first

    def _is_sound(self) -> None:
        """The check-up finds nothing wrong: selectors, directory, a checkpoint that loads."""

        def look() -> bool:
            with contextlib.suppress(Refused):
                said = docker(
                    "exec", self.stage.full("coordinator"), "headwater", "doctor", "--json"
                )
                return bool(json.loads(said)["healthy"])
            return False

        eventually(look, "headwater doctor finds nothing wrong")

    def _is_told(self, records: list[pb.RoundRecord]) -> None:
        """The page has each round with the same end and the same counts."""
        shown = completed(self.stage.address("webserver", 8050), len(records))
        told = [facts_of_page(one) for one in shown[: len(records)]]

        assert told == [facts_of_record(record) for record in records]


def facts_of_page(one: dict[str, Any]) -> tuple[Any, ...]:
    """Return what the page says of a round."""
    counts = one["counts"]
    return one["round_number"], one["round_id"], counts["reported"], counts["lost"]


def facts_of_record(record: pb.RoundRecord) -> tuple[Any, ...]:
    """Return what the coordinator says of it."""
    return record.round_number, record.round_id, record.counts.reported, record.counts.lost


def standings(record: pb.RoundRecord) -> dict[str, str]:
    """Return where each client of a round stands."""
    return {client.client_id: client.standing for client in record.clients}


@pytest.fixture
def town(stage: Stage, tmp_path: Path) -> Town:
    """A federation whose four clients begin to train."""
    made = Town(stage, tmp_path)
    made.begin()
    return made


async def test_selector_is_killed_its_clients_report_through_the_other_one(town: Town) -> None:
    """A dead selector costs what it had, not the round; started again it is there for the next."""
    await town.trains()
    docker("kill", town.stage.full("south"))
    await town.attached("north")
    town.open_gate(1)
    first = await town.completed(1)
    docker("start", town.stage.full("south"))
    await town.attached("north", "south")

    await town.ends_well()

    assert {client.selector_id for client in first.clients if client.standing == "reported"} == {
        "north"
    }
    assert first.counts.reported + first.counts.lost == len(CLIENTS)


async def test_selector_is_paused_for_longer_than_the_keepalive_the_round_ends_without_it(
    town: Town,
) -> None:
    """It answers nobody and closes nothing; keepalive finds it, and it comes back by itself."""
    await town.trains()
    docker("pause", town.stage.full("south"))
    await town.attached("north")
    town.open_gate(1)
    await town.completed(1)
    docker("unpause", town.stage.full("south"))
    await town.attached("north", "south")

    first = await town.ends_well()

    assert first.counts.reported >= 2


async def test_client_is_cut_off_in_mid_round_it_is_lost_and_comes_back(town: Town) -> None:
    """Nobody waits for the report window, and nobody is counted twice."""
    await town.trains()
    town.cut_off("client-4")
    town.open_gate(1)
    first = await town.completed(1)
    town.heal("client-4")

    await town.ends_well()

    assert standings(first) == dict.fromkeys(CLIENTS[:3], "reported") | {"client-4": "lost"}


async def test_selector_is_cut_off_in_mid_round_the_round_ends_and_it_comes_back(
    town: Town,
) -> None:
    """Both sides act as for a lost peer; when it heals, the same process attaches again."""
    await town.trains()
    town.cut_off("south")
    await town.attached("north")
    town.open_gate(1)
    await town.completed(1)
    town.heal("south")
    await town.attached("north", "south")

    first = await town.ends_well()

    assert first.counts.reported >= 2


async def test_coordinator_is_stopped_and_started_the_same_round_goes_on(town: Town) -> None:
    """It ends within the engine's ten seconds; clients neither train again nor count twice."""
    round_ = await town.trains()
    status, took_s = town.stage.stop("coordinator")
    docker("start", town.stage.full("coordinator"))
    await town.attached("north", "south")
    town.open_gate(1)

    first = await town.ends_well()

    assert (status, took_s < STOP_WITHIN_S) == (0, True)
    assert first.round_id == round_.round_id
    assert standings(first) == dict.fromkeys(CLIENTS, "reported")
    said = [line for name in CLIENTS for line in town.stage.log(name)[1]]
    trained = [line for line in said if json.loads(line).get("event") == "training"]
    assert len(trained) == 2 * len(CLIENTS)
