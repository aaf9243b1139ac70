"""The images: small, unprivileged, honest about their health, quick to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.containers.engine import TARGETS, Stage, eventually, image, inspect

ALL = pytest.mark.parametrize("target", TARGETS)
SERVERS = ("coordinator", "selector", "webserver")

BASE = "python:3.11-slim"

SERVER_LAYERS_BYTES_MAX = 200_000_000

STOP_WITHIN_S = 10.0
"""After that `docker stop` kills."""

AT_ONCE = ("--health-interval=1s", "--health-retries=1", "--health-start-period=0s")

WHO_AND_WHERE = """
import json, os, pathlib, shutil, importlib.util
def can_write(folder):
    try:
        pathlib.Path(folder, "probe").write_text("")
    except OSError:
        return False
    return True
print(json.dumps({
    "uid": os.getuid(),
    "writable": [f for f in ("/", "/opt/headwater", "/etc", "/tmp") if can_write(f)],
    "found": [m for m in ("pip", "tensorflow", "fastapi") if importlib.util.find_spec(m)],
    "compiler": shutil.which("gcc") or shutil.which("cc"),
}))
"""

SECRET = "a secret that is long enough"


@ALL
def test_image_runs_it_is_nobody_s_root_and_writes_nowhere_but_where_it_should(
    target: str, stage: Stage
) -> None:
    """With a read-only root file system: /tmp, and a volume at /data."""
    facts = json.loads(stage.once(target, "python3", "-c", WHO_AND_WHERE))
    stage.once(target, "python3", "-c", "open('/data/probe', 'w')", options=stage.shared())

    assert facts["uid"] == 10001
    assert facts["writable"] == ["/tmp"]
    assert facts["compiler"] is None
    extra = {"webserver": ["fastapi"], "client": ["tensorflow"]}
    assert facts["found"] == extra.get(target, [])


@ALL
def test_image_is_described_and_needs_no_shell(target: str, images: None) -> None:
    """Labels for those who find it, commands in the form that no shell reads."""
    config = inspect(image(target), "{{json .Config}}")
    labels = config["Labels"]

    assert labels["org.opencontainers.image.title"] == f"Headwater {target}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Entrypoint"] == ["headwater", target]
    assert config["User"] == "10001:10001"
    check = config.get("Healthcheck", {}).get("Test", [])
    assert check[:1] == (["CMD"] if target in SERVERS else [])


def test_servers_are_small(images: None) -> None:
    """What is ours on top of the base: no TensorFlow, no compiler, no pip."""
    base_bytes = inspect(BASE, "{{json .Size}}")
    ours = {target: inspect(image(target), "{{json .Size}}") - base_bytes for target in SERVERS}

    assert max(ours.values()) < SERVER_LAYERS_BYTES_MAX, ours


def test_names_resolve_on_a_network_of_one_s_own(stage: Stage) -> None:
    """Containers find each other by name, and a selector by its container's id."""
    sleeping = ("-c", "import time; time.sleep(600)")
    stage.start("asked", "selector", *sleeping, options=("--entrypoint", "python3"))
    own_id = inspect(stage.full("asked"), "{{json .Config.Hostname}}")
    look = "import socket, sys; print(*map(socket.gethostbyname, sys.argv[1:]))"

    by_name, by_id = stage.once("selector", "python3", "-c", look, "asked", own_id).split()

    assert by_name == by_id


def test_selector_has_no_coordinator_it_is_unhealthy_until_there_is_one(stage: Stage) -> None:
    """Up is not ready: who starts in order waits for what is true."""
    stage.once("coordinator", "headwater", "init", options=stage.shared())
    coordinator = {"HEADWATER_COORDINATOR": "coordinator:50050", "HEADWATER_KEEPALIVE_S": 1}
    options = [*stage.shared(), *AT_ONCE]
    stage.start("selector", "selector", environment=coordinator, options=options)
    eventually(lambda: stage.health("selector") == "unhealthy", "a selector alone is unhealthy")

    stage.start("coordinator", "coordinator", options=[*stage.shared(), *AT_ONCE])
    eventually(lambda: stage.health("coordinator") == "healthy", "the coordinator is healthy")
    eventually(lambda: stage.health("selector") == "healthy", "the selector is healthy")

    assert stage.stop("coordinator")[0] == 0
    eventually(lambda: stage.health("selector") == "unhealthy", "the selector is alone again")


def test_health_begins_with_starting_and_the_page_is_asked_too(stage: Stage) -> None:
    """What was not asked yet is neither healthy nor not."""
    stage.start("webserver", "webserver", options=(*AT_ONCE, "--tmpfs", "/data:uid=10001"))

    assert stage.health("webserver") == "starting"
    eventually(lambda: stage.health("webserver") == "healthy", "the webserver is healthy")


def test_secret_is_given_by_a_file_and_logs_are_json_on_standard_output(
    stage: Stage, tmp_path: Path
) -> None:
    """As orchestrators hand over the one and collect the other."""
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    secret.chmod(0o644)
    stage.start(
        "webserver",
        "webserver",
        environment={"HEADWATER_CONTROL_TOKEN_FILE": "/run/secrets/token"},
        options=("--tmpfs", "/data:uid=10001", "--volume", f"{secret}:/run/secrets/token:ro"),
    )
    shown = eventually(lambda: stage.log("webserver")[0], "its first line")
    settings = stage.once(
        "webserver",
        "headwater",
        *("webserver", "--show-settings", "--json"),
        options=(
            *("--env", "HEADWATER_CONTROL_TOKEN_FILE=/run/secrets/token"),
            *("--volume", f"{secret}:/run/secrets/token:ro"),
        ),
    )
    status, took_s = stage.stop("webserver")

    told = json.loads(settings)["settings"]["control_token"]
    assert told["source"] == "environment HEADWATER_CONTROL_TOKEN_FILE"
    assert SECRET not in settings
    assert all(json.loads(line) for line in shown)
    assert stage.log("webserver")[1] == []
    assert (status, took_s < STOP_WITHIN_S) == (0, True)
