"""``headwater doctor`` as it is typed, over real servers on loopback."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner, Result

from federation.runtime.version import VERSION
from headwater.cli import application
from tests.servers import HOST, a_coordinator, a_selector, a_shared_directory
from tests.waiting import eventually

WEIGHTS = {"w": np.zeros(6, np.float32)}


async def doctor(port: int, *arguments: str) -> Result:
    """Type the verb, while the servers go on."""
    words = ["doctor", "--coordinator", f"{HOST}:{port}", *arguments]
    return await asyncio.to_thread(CliRunner().invoke, application("doctor"), words)


def found(result: Result) -> dict[str, list[str]]:
    """Return what was found of each level, from the JSON."""
    facts: dict[str, Any] = json.loads(result.stdout)
    levels: dict[str, list[str]] = {"ok": [], "warning": [], "failed": []}
    for finding in facts["findings"]:
        levels[finding["level"]].append(f"{finding['subject']}: {finding['words']}")
    return levels


async def test_deployment_is_sound_status_is_0_and_every_part_was_looked_at(tmp_path: Path) -> None:
    """Servers, releases, clock, and the directory, which is found by the coordinator's word."""
    a_shared_directory(tmp_path, WEIGHTS)
    async with (
        a_coordinator(tmp_path) as coordinator,
        a_selector(tmp_path, coordinator.port) as north,
    ):
        await eventually(north.uplink.attached.is_set)
        result = await doctor(coordinator.port, "--json")

    levels = found(result)
    assert result.exit_code == 0
    assert (levels["warning"], levels["failed"]) == ([], [])
    assert {line.split(":")[0].split()[0] for line in levels["ok"]} == {
        *("coordinator", "clock", "selector", "shared", "fl_checkpoint"),
    }
    assert f"selector north: version {VERSION}, the same as this command's" in levels["ok"]
    assert "selector north: sees the coordinator's shared directory" in levels["ok"]


async def test_selector_has_a_copy_of_the_directory_status_is_1(tmp_path: Path) -> None:
    """Two disks that look alike: the mark of the coordinator's start tells them apart."""
    a_shared_directory(tmp_path / "one", WEIGHTS)
    a_shared_directory(tmp_path / "other", WEIGHTS)
    async with (
        a_coordinator(tmp_path / "one") as coordinator,
        a_selector(tmp_path / "other", coordinator.port) as north,
    ):
        await eventually(north.uplink.attached.is_set)
        result = await doctor(coordinator.port, "--shared-data", str(tmp_path / "other"), "--json")

    assert result.exit_code == 1
    assert [line.partition(": ")[0] for line in found(result)["failed"]] == [
        "selector north",
        f"shared directory {tmp_path / 'other'}",
    ]


async def test_nobody_is_there_it_says_so_in_words(tmp_path: Path) -> None:
    """Of the coordinator, of the selector that was named, and that the directory is unseen."""
    result = await doctor(1, "--selector", f"{HOST}:2")

    assert result.exit_code == 1
    assert "failed   coordinator 127.0.0.1:1" in result.stdout
    assert "failed   selector 127.0.0.1:2" in result.stdout
    assert "to mend it: start it, or give the right --coordinator" in result.stdout
    assert result.stdout.rstrip().endswith("0 ok, 1 warning, 2 failed")
