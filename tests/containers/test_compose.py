"""``compose.yaml`` as it is: it trains, shows the page, grows, and ends in time."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engine import (
    COMPOSE,
    HARDENED,
    ROOT,
    command,
    docker,
    eventually,
    image,
    inspect,
)
from tests.containers.page import ask, completed

ROUNDS = 3
STOP_WITHIN_S = 10.0
UP_TIMEOUT_S = 300.0


class Project:
    """One project of Compose, with a name and a port of its own."""

    def __init__(self) -> None:
        self.name = f"headwater{secrets.token_hex(4)}"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._environment = {
            "HEADWATER_ROUNDS": str(ROUNDS),
            "HEADWATER_PAGE_PORT": self.address.partition(":")[2],
        }

    def compose(self, *words: str) -> str:
        """Run a command of Compose on this project."""
        words = ("--project-name", self.name, "--file", str(ROOT / "compose.yaml"), *words)
        return command([*COMPOSE, *words], UP_TIMEOUT_S, self._environment)

    def containers(self) -> list[str]:
        """Return the ids of its containers, ended ones included."""
        label = f"label=com.docker.compose.project={self.name}"
        return docker("ps", "--all", "--quiet", "--filter", label).split()

    def selectors(self) -> list[dict[str, Any]]:
        """Return the selectors that are attached, as the page knows them."""
        overview = ask(self.address, "/api/v1/overview") or {}
        return [one for one in overview.get("selectors", []) if one["attached"]]


@pytest.fixture
def project(images: None) -> Iterator[Project]:
    """A project that is not up yet, and is gone afterwards."""
    made = Project()
    try:
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "1")


def test_compose_file_trains_shows_the_page_grows_and_ends_in_time(project: Project) -> None:
    """`docker compose up` is all; the result loads in Keras; `docker stop` need not kill."""
    project.compose("up", "--detach", "--no-build")

    rounds = completed(project.address, ROUNDS)

    assert [one["outcome"] for one in rounds[:ROUNDS]] == ["committed"] * ROUNDS
    assert [one["counts"]["reported"] for one in rounds[:ROUNDS]] == [4] * ROUNDS
    _loads_in_keras(f"{project.name}_shared")
    _grows(project)
    _stops_in_time(project)


def _loads_in_keras(volume: str) -> None:
    """The checkpoint knows more digits than the weights that training started from."""
    script = Path("tests/system/check_demo.py")
    said = docker(
        *("run", "--rm", *HARDENED, "--entrypoint", "python3"),
        *("--volume", f"{volume}:/shared:ro", "--volume", f"{ROOT / script}:/app/check.py:ro"),
        *(image("client"), "/app/check.py", "/shared"),
    )

    assert "accuracy on held-out digits" in said


def _grows(project: Project) -> None:
    """A further selector has an id of its own, which is its container's name for itself."""
    before = {one["selector_id"] for one in project.selectors()}
    scale = ("--scale", "selector=3")
    project.compose("up", "--detach", "--no-build", "--no-recreate", *scale)
    # The page hears of a selector with the next news, and a session is news.
    attached = eventually(lambda: _attached(project, 3), "three selectors are attached")

    assert len(before) == 2
    assert before < attached
    names = {str(inspect(name, "{{json .Config.Hostname}}")) for name in project.containers()}
    assert attached <= names


def _attached(project: Project, count: int) -> set[str]:
    coordinator = docker(
        *("ps", "--quiet", "--filter", f"label=com.docker.compose.project={project.name}"),
        *("--filter", "label=com.docker.compose.service=coordinator"),
    )
    said = command_in(coordinator, "headwater", "status", "--json")
    found = {one["selector_id"] for one in said["selectors"] if one["attached"]}
    return found if len(found) == count else set()


def command_in(container: str, *words: str) -> Any:
    """Return the JSON that a command prints in a container that runs."""
    return json.loads(docker("exec", container, *words))


def _stops_in_time(project: Project) -> None:
    running = docker(
        *("ps", "--quiet", "--filter", f"label=com.docker.compose.project={project.name}")
    ).split()
    began_s = time.monotonic()
    docker("stop", *running)

    assert time.monotonic() - began_s < STOP_WITHIN_S * len(running)
    assert {inspect(name, "{{json .State.ExitCode}}") for name in running} == {0}
