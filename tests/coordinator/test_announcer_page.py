"""docs/status-updates.md: its schema describes what is sent, and its receiver receives it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

from client.session import ClientSession
from client.trainer import Trainer, TrainingResult, TrainingTask
from coordinator.outbox import BYTES_MAX, UPDATES_MAX
from coordinator.sender import BACKOFF_MAX_S, BACKOFF_MIN_S
from coordinator.settings import CoordinatorSettings
from coordinator.takeover import OUTBOX
from coordinator.updates import BODY_BYTES_MAX, CLIENTS_SHOWN
from coordinator.webhook import REQUEST_TIMEOUT_S, signature
from federation.plan import RoundPlan
from tests.receivers import a_receiver
from tests.servers import HOST, a_coordinator, a_selector, a_shared_directory
from tests.waiting import within

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "status-updates.md").read_text()
SCHEMA: dict[str, Any] = json.loads((DOCS / "status-updates.schema.json").read_text())


class SendsBack(Trainer):
    """Learns nothing."""

    def fit(self, weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        return TrainingResult(weights=weights, num_examples=3, metrics={"loss": 0.5})


def blocks(language: str) -> list[str]:
    """Return the page's blocks of code."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@asynccontextmanager
async def a_session(folder: Path, url: str, rounds: int) -> AsyncIterator[None]:
    """Run rounds of a real federation that tells this webserver."""
    a_shared_directory(folder, {"w": np.zeros(3, np.float32)})
    plan = RoundPlan(goal_count=1, retry_delay_min_s=0.0, retry_delay_max_s=0.1)
    settings = CoordinatorSettings(webservers=(url,))
    async with (
        a_coordinator(folder, settings=settings) as coordinator,
        a_selector(folder, coordinator.port) as selector,
    ):
        await within(selector.uplink.attached.wait())
        session = await coordinator.driver.sessions.start(plan, rounds)
        client = ClientSession("ann", [f"{HOST}:{selector.port}"], SendsBack(), one_session=True)
        await within(client.run())
        await client.close()
        await within(session.over.wait())
        yield


async def test_rounds_are_run_every_update_is_as_the_schema_says(tmp_path: Path) -> None:
    """Also the first of all, before there is a session, and the last."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    async with a_receiver() as receiver:
        async with a_session(tmp_path / "shared_data", receiver.url, rounds=2):
            pass

        for update in receiver.taken:
            validator.validate(update)
    kinds = {update["type"] for update in receiver.taken}
    assert kinds >= {"headwater.round.stage", "headwater.session.changed"}
    last = next(update for update in receiver.taken if update["id"] == "8")
    assert last["data"]["round"]["clients"][0]["training_s"] >= 0


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("id",), 42),
        (("data", "round", "stage"), "selecting"),
        (("data", "round", "clients", 0, "standing"), "gone"),
        (("data", "round", "something"), "new"),
        (("data", "session"), None),
        (("sequence",), "42"),
    ],
)
async def test_update_is_another_than_the_schema_says_it_is_found(
    tmp_path: Path, where: tuple[Any, ...], value: object
) -> None:
    """A schema that takes everything would prove nothing."""
    example = json.loads(blocks("json")[0])
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.validate(example)
    place = example
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value

    assert validator.is_valid(example) == (where == ("data", "session"))


async def test_receiver_of_the_page_is_run_it_prints_the_stages_of_a_round(tmp_path: Path) -> None:
    """Ten lines of plain Python, as they stand there but for the port."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    script = tmp_path / "receiver.py"
    script.write_text(blocks("python")[0].replace("8050", str(port)))
    assert sum(bool(line.strip()) for line in script.read_text().splitlines()) == 10
    receiver = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with a_session(tmp_path / "shared_data", f"http://{HOST}:{port}", rounds=1):
            assert receiver.stdout is not None
            printed = [(await within(receiver.stdout.readline())).decode() for _ in range(4)]
    finally:
        receiver.kill()
        await receiver.wait()

    assert "".join(printed) == blocks("text")[0]


def test_page_tells_limits_they_are_the_code_s() -> None:
    """Who plans a disk or a receiver relies on them."""
    for words in (
        f"{UPDATES_MAX:,} updates",
        f"{BYTES_MAX >> 20} MiB of them",
        f"at most {BODY_BYTES_MAX >> 20} MiB",
        f"first {CLIENTS_SHOWN}",
        f"{BACKOFF_MIN_S:g} s to {BACKOFF_MAX_S:g} s",
        f"within {REQUEST_TIMEOUT_S:g} s",
        f"coordinator/{OUTBOX}",
    ):
        assert words in re.sub(r"\s+", " ", PAGE), words


def test_signature_is_checked_as_the_page_says_it_is_genuine() -> None:
    """And no other."""
    names: dict[str, Any] = {}
    exec(blocks("python")[1], names)
    is_genuine = names["is_genuine"]

    assert is_genuine(b"secret", b"{}", signature(b"secret", b"{}"))
    assert not is_genuine(b"secret", b"{} ", signature(b"secret", b"{}"))


def test_schema_has_a_field_the_page_explains_it() -> None:
    """Prose and schema are about the same thing; the plan's fields are those of settings.md."""
    parts = SCHEMA["$defs"]
    told = [SCHEMA["properties"]["data"]]
    told += [parts[name] for name in ("session", "round", "client", "selector")]
    fields = {name for part in told for name in part["properties"]}

    assert [name for name in sorted(fields) if f"`{name}`" not in PAGE] == []
