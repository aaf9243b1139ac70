"""A Docker engine as its users have it: by its command, nothing else."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

ROOT = Path(__file__).parent.parent.parent

DOCKER = shlex.split(os.environ.get("DOCKER", "docker"))
"""The client; the environment may name another one."""

COMPOSE = shlex.split(os.environ.get("COMPOSE", "docker compose"))
"""The same for Compose, of which Debian has its own: ``COMPOSE=docker-compose``."""

TARGETS = ("coordinator", "selector", "webserver", "client")

COMMAND_TIMEOUT_S = 120.0
BUILD_TIMEOUT_S = 1500.0

WITHIN_S = 180.0
"""Far beyond what anything here takes, also on a loaded machine."""

LOOK_S = 0.2
"""Pause between two looks at what sends no word."""

STORY_LINES = 40
"""Of each container's log so many are shown when its test fails."""

HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")
"""How the documentation runs every container."""

T = TypeVar("T")


class Refused(Exception):
    """A command ended with another status than 0; the text is what it said."""


def command(
    words: Sequence[str],
    timeout_s: float = COMMAND_TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command and return what it printed on standard output.

    Raises:
        Refused: Its status is not 0.
    """
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=os.environ | dict(environment or {}),
    )
    if done.returncode:
        raise Refused(f"$ {shlex.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


def docker(*words: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Run a ``docker`` command; see ``command``."""
    return command([*DOCKER, *words], timeout_s).strip()


def trouble_with_engine() -> str:
    """Return why no engine can be used; empty if one can."""
    try:
        docker("version", "--format", "{{.Server.Version}}", timeout_s=20.0)
    except FileNotFoundError:
        return f"there is no command {DOCKER[0]}"
    except (Refused, subprocess.TimeoutExpired) as why:
        return str(why).strip().splitlines()[-1]
    return ""


def build(target: str) -> None:
    """Build one image under its usual name."""
    words = ["build", "--network", "host", "--target", target, "--tag", image(target), str(ROOT)]
    command([*DOCKER, *words], BUILD_TIMEOUT_S, {"DOCKER_BUILDKIT": "1"})


def image(target: str) -> str:
    """Return an image's name, the same as in ``compose.yaml``."""
    return f"headwater-{target}"


def inspect(name: str, template: str = "{{json .}}") -> Any:
    """Return what the engine knows of a container or an image."""
    return json.loads(docker("inspect", "--format", template, name))


def eventually(look: Callable[[], T | None], what: str, within_s: float = WITHIN_S) -> T:
    """Return what ``look`` returns once that is true; for what sends no word of itself."""
    deadline_s = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"did not come within {within_s:.0f} s: {what}"
        time.sleep(LOOK_S)
    return found


class Stage:
    """A network, a volume and the containers of one test; leaving the block removes them all."""

    def __init__(self) -> None:
        self.name = f"headwater-{secrets.token_hex(4)}"
        self.containers: list[str] = []

    def __enter__(self) -> Self:
        docker("network", "create", self.name)
        docker("volume", "create", self.name)
        return self

    def __exit__(self, *error: object) -> None:
        docker("rm", "--force", "--volumes", *map(self.full, self.containers), "no-such-container")
        docker("volume", "rm", "--force", self.name)
        docker("network", "rm", self.name)

    def full(self, name: str) -> str:
        """Return what the engine calls a container, where others may have one of that name."""
        return f"{self.name}-{name}"

    def start(
        self,
        name: str,
        target: str,
        *arguments: str,
        environment: Mapping[str, object] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Start a container that others reach under ``name``."""
        variables = [f"--env={key}={value}" for key, value in (environment or {}).items()]
        self.containers.append(name)
        docker(
            *("run", "--detach", "--name", self.full(name)),
            *("--network", self.name, "--network-alias", name),
            *(*HARDENED, *variables, *options, image(target), *arguments),
        )

    def once(
        self, target: str, entrypoint: str, *arguments: str, options: Sequence[str] = ()
    ) -> str:
        """Run something to its end in a container, and return what it printed."""
        named = ("--network", self.name, "--entrypoint", entrypoint)
        return docker("run", "--rm", *named, *HARDENED, *options, image(target), *arguments)

    def shared(self, *, at: str = "/data", read_only: bool = False) -> list[str]:
        """Return the options that mount the volume."""
        return ["--volume", f"{self.name}:{at}{':ro' if read_only else ''}"]

    def address(self, name: str, port: int) -> str:
        """Return HOST:PORT at which a published port is reached from here."""
        return docker("port", self.full(name), str(port)).splitlines()[0]

    def health(self, name: str) -> str:
        """Return ``starting``, ``healthy`` or ``unhealthy``."""
        return str(inspect(self.full(name), "{{json .State.Health.Status}}"))

    def stop(self, name: str) -> tuple[int, float]:
        """End a container as people do; return its exit status and the seconds that it took."""
        began_s = time.monotonic()
        docker("stop", self.full(name))
        took_s = time.monotonic() - began_s
        return int(inspect(self.full(name), "{{json .State.ExitCode}}")), took_s

    def log(self, name: str) -> tuple[list[str], list[str]]:
        """Return what a container wrote to standard output, and to standard error."""
        done = subprocess.run(
            [*DOCKER, "logs", self.full(name)],
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=True,
        )
        return done.stdout.splitlines(), done.stderr.splitlines()

    def story(self) -> dict[str, str]:
        """Return the end of every container's log, for a person."""
        logs = {name: self.log(name) for name in self.containers}
        return {name: "\n".join([*out, *err][-STORY_LINES:]) for name, (out, err) in logs.items()}
