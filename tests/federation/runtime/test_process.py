"""A role's process: it says where it listens, and ends when it is told to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from federation.runtime.process import say_listening, stop_on_signals

ROOT = Path(__file__).parents[3]
WAIT_S = 60.0

PROGRAM = """
import asyncio
from federation.runtime.process import say_listening, stop_on_signals

async def main():
    stop = stop_on_signals()
    say_listening("selector", "north", "127.0.0.1", 50051)
    await stop.wait()
    print("told", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_listening_line_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """What ``demo`` and scripts read."""
    say_listening("selector", "north", "127.0.0.1", 50051)

    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "event": "listening",
        "role": "selector",
        "name": "north",
        "host": "127.0.0.1",
        "port": 50051,
    }


def test_metrics_are_exposed_the_listening_line_names_their_port(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who asked for any free one finds it there."""
    say_listening("selector", "north", "127.0.0.1", 50051, metrics_port=9051)

    assert json.loads(capsys.readouterr().out)["metrics_port"] == 9051


async def test_nobody_told_it_to_stop() -> None:
    """The event is not set by itself."""
    assert not stop_on_signals().is_set()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_asks_and_the_second_ends_at_once(signal_number: signal.Signals) -> None:
    """A process that drains too long can be ended by whoever waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline())["port"] == 50051
            process.send_signal(signal_number)
            told = process.stdout.readline()
            process.send_signal(signal_number)
            status = process.wait(WAIT_S)
        finally:
            process.kill()

    assert told == "told\n"
    assert status == 128 + signal_number
