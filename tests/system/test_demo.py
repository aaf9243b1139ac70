"""``headwater demo`` as a newcomer meets it: its lines in order, its result, its end."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable
from typing import Any

import pytest

from tests.system.check_demo import check_demo
from tests.system.processes import HEADWATER, WITHIN_S, WITHOUT_TENSORFLOW, Federation, Process

needs_keras = pytest.mark.skipif(
    importlib.util.find_spec("keras") is None, reason="TensorFlow is not installed"
)


async def demo(bare: Federation, **settings: Any) -> Process:
    """Start a demo in the test's folder."""
    return await bare.start("demo", [*HEADWATER, "demo"], shared_data=bare.shared_data, **settings)


def processes_of(process: Process) -> dict[str, int]:
    """Return the process ids of a demo's processes, by their names' flags."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    found = {}
    for line in listed.stdout.splitlines():
        pid, parent, command = line.split(maxsplit=2)
        if int(parent) == process.pid:
            name = re.search(r"--(?:selector|client)-id (\S+)|-m (coordinator|webserver)", command)
            assert name is not None, command
            found[name[1] or name[2]] = int(pid)
    return found


def wait_until_gone(pids: Iterable[int]) -> None:
    """Wait until none of these processes runs; one that is yet to be reaped does not.

    They are not ours, so that nothing tells of their end.
    """
    asked = ["ps", "-o", "stat=", "-p", ",".join(map(str, pids))]
    until_s = time.monotonic() + WITHIN_S
    while True:
        listed = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        running = [line for line in listed.splitlines() if not line.startswith("Z")]
        if not running:
            return
        assert time.monotonic() < until_s, f"{len(running)} of {asked[-1]} still run"
        time.sleep(0.05)


@pytest.mark.slow
@needs_keras
async def test_demo_is_run_it_says_each_stage_in_order_and_leaves_weights_that_keras_loads(
    bare: Federation,
) -> None:
    """What is promised on the first page of the documentation."""
    running = await demo(bare, rounds=2, clients=2, selectors=2)

    status = await running.end()

    assert status == 0
    assert re.search(r"Watch it on http://127\.0\.0\.1:\d+/$", running.printed[0])
    stages = [
        (int(found[1]), found[2])
        for line in running.printed
        if (found := re.search(r"Round (\d)  (\w+):", line))
    ]
    began = [stage for at, stage in enumerate(stages) if stage not in stages[:at]]
    phases = ("Selection", "Configuration", "Reporting", "Completed")
    assert [stage for stage in began if stage[1] != "Result"] == [
        (number, phase) for number in (1, 2) for phase in phases
    ]
    assert {stage for stage in began if stage[1] == "Result"} == {(1, "Result"), (2, "Result")}
    assert running.log == []  # nothing of TensorFlow's in the terminal
    before, after = check_demo(bare.shared_data)
    assert after > before


@pytest.mark.prove
@needs_keras
async def test_demo_is_run_as_json_standard_output_is_json_lines_alone(bare: Federation) -> None:
    """A program follows the rounds, and finds the weights in the last line."""
    command = [*HEADWATER, "demo", "--json"]
    running = await bare.start(
        "demo", command, shared_data=bare.shared_data, rounds=1, clients=1, selectors=1
    )

    status = await running.end()

    assert status == 0
    lines = [json.loads(line) for line in running.printed]
    assert [line["phase"] for line in lines if line["event"] == "stage"] == [
        *("selection", "configuration", "reporting", "completed")
    ]
    (round_,) = [line for line in lines if line["event"] == "round"]
    assert round_["outcome"] == "OUTCOME_COMMITTED"
    assert lines[-1]["event"] == "end"
    assert lines[-1]["checkpoint"] == str(bare.directory.checkpoint)
    assert running.log == []


@pytest.mark.prove
@needs_keras
async def test_two_demos_begin_at_once_each_has_a_page_of_its_own(bare: Federation) -> None:
    """Both see the usual port free, and one of them is faster."""
    command = [*HEADWATER, "demo", "--rounds", "1", "--clients", "1", "--selectors", "1"]
    folders = [bare.shared_data / name for name in ("one", "other")]
    both = [
        await bare.start(folder.name, [*command, "--shared-data", str(folder)])
        for folder in folders
    ]

    pages = {await running.prints("Watch it on") for running in both}
    statuses = [await running.end() for running in both]

    assert len({page.rpartition(" ")[2] for page in pages}) == 2
    assert statuses == [0, 0]


@pytest.mark.prove
@needs_keras
async def test_client_of_a_demo_is_killed_the_demo_goes_on_and_starts_it_again(
    bare: Federation,
) -> None:
    """The round does without it, or with it if it is back in time."""
    running = await demo(bare, rounds=1, clients=2, selectors=1)
    await running.prints("Round 1  Configuration")
    os.kill(processes_of(running)["client-2"], signal.SIGKILL)

    status = await running.end()

    assert status == 0
    said = "\n".join(running.printed)
    assert "client-2 ended with status -9" in said
    assert "It is started again" in said
    assert re.search("Completed: committed with (1 report, 1 lost|2 reports)", said)


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.prove)],
    ids=["SIGINT", "SIGHUP"],
)
@needs_keras
async def test_demo_is_interrupted_all_its_processes_end(
    bare: Federation, number: signal.Signals
) -> None:
    """Ctrl-C and a closed terminal leave nothing behind; the status is the shell's for Ctrl-C."""
    running = await demo(bare, clients=1, selectors=1)
    await running.prints("All run")
    pids = processes_of(running)

    running.signal(number)
    status = await running.end()

    assert status == 130
    assert pids.keys() == {"webserver", "coordinator", "selector-1", "client-1"}
    await asyncio.to_thread(wait_until_gone, pids.values())


@pytest.mark.prove
@needs_keras
async def test_impatient_second_interrupt_ends_the_demo_and_all_its_processes_at_once(
    bare: Federation,
) -> None:
    """Who presses Ctrl-C twice does not mean to leave half of it running."""
    running = await demo(bare, clients=1, selectors=1, drain_s=100)
    await running.prints("All run")
    pids = processes_of(running)
    os.kill(pids["selector-1"], signal.SIGSTOP)

    running.signal(signal.SIGINT)
    await running.prints("Stopping all processes")
    running.signal(signal.SIGINT)
    status = await running.end()

    assert status == 130
    await asyncio.to_thread(wait_until_gone, pids.values())


async def test_tensorflow_is_missing_the_demo_says_how_to_install_it(bare: Federation) -> None:
    """Before it starts anything."""
    running = await bare.start("demo", [*WITHOUT_TENSORFLOW, f"-{HEADWATER[0]}", "demo"])

    status = await running.end()

    assert status == 2
    assert running.printed == []
    (message,) = [line for line in running.log if line.startswith("demo:")]
    assert "pip install 'headwater[client]'" in message
    assert bare.leftovers() == []
