"""``headwater demo`` on a terminal: a live picture, and a page that stays."""

from __future__ import annotations

import importlib.util
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.system.processes import HEADWATER, WITHIN_S, usual_signals

pytestmark = [
    pytest.mark.prove,
    pytest.mark.skipif(
        importlib.util.find_spec("keras") is None, reason="TensorFlow is not installed"
    ),
]

READ_BYTES = 1 << 16

CTRL_C = b"\x03"

IN_TERMINAL = "import os, sys; os.login_tty(0); os.execvp(sys.argv[1], sys.argv[1:])"
"""Makes standard input the terminal of a command, so that Ctrl-C reaches it."""

ROUND = ("--rounds", "1", "--clients", "1", "--selectors", "1")


class Terminal:
    """A terminal with one command in it.

    Attributes:
        shown: All that it wrote, with the codes that move the cursor.
    """

    def __init__(self, command: list[str], size: tuple[int, int] = (40, 120)) -> None:
        self.shown = ""
        self._ours, theirs = os.openpty()
        rows, columns = size
        environment = os.environ | {"TERM": "xterm-256color", "LINES": str(rows)}
        environment["COLUMNS"] = str(columns)
        with usual_signals():
            self._process = subprocess.Popen(
                [sys.executable, "-c", IN_TERMINAL, *command], stdin=theirs, env=environment
            )
        os.close(theirs)

    def see(self, pattern: str) -> re.Match[str]:
        """Return the first match of a pattern once it is there."""
        self._until(lambda: re.search(pattern, self.shown), pattern)
        found = re.search(pattern, self.shown)
        assert found is not None
        return found

    def ends(self) -> int:
        """Wait for the command's end; return its status."""
        self._until(lambda: self._process.poll() is not None, "the end")
        return self._process.wait()

    def press(self, key: bytes) -> None:
        """Type a key."""
        os.write(self._ours, key)

    def close(self) -> None:
        """Take the terminal away, as a closed window does."""
        os.close(self._ours)
        try:
            self._process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            raise

    def _until(self, look: Callable[[], object], what: str) -> None:
        until_s = time.monotonic() + WITHIN_S
        while not look():
            assert time.monotonic() < until_s, f"not seen: {what}; but {self.shown[-2000:]}"
            ready, _, _ = select.select([self._ours], [], [], 0.2)
            if ready:
                try:
                    self.shown += os.read(self._ours, READ_BYTES).decode(errors="replace")
                except OSError:  # nobody has it open any more
                    time.sleep(0.05)


@contextmanager
def a_terminal(*command: str) -> Iterator[Terminal]:
    """Run a command in a terminal."""
    terminal = Terminal(list(command))
    try:
        yield terminal
    finally:
        terminal.close()


def wait_until_it_says(url: str, words: str) -> None:
    """Wait until the page's status begins with these words."""
    until_s = time.monotonic() + WITHIN_S
    with httpx.stream("GET", f"{url}api/v1/stream", timeout=WITHIN_S) as stream:
        for line in stream.iter_lines():  # a sign of life comes each 15 s
            if f'"words": "{words}' in line:
                return
            assert time.monotonic() < until_s, f"not said: {words}; but {line}"


def test_rounds_are_done_the_page_stays_and_starts_more_until_ctrl_c(tmp_path: Path) -> None:
    """Who watches has the time to look; nothing is left behind at the end."""
    shared_data = str(tmp_path / "shared")
    with a_terminal(*HEADWATER, "demo", *ROUND, "--shared-data", shared_data) as terminal:
        url = terminal.see(r"Watch it on (http://127\.0\.0\.1:\d+/)")[1]
        terminal.see("Ctrl-C ends the demo")
        wait_until_it_says(url, "Session over: 1 of 1")
        started = httpx.post(f"{url}api/v1/session", json={"rounds": 1})
        terminal.see(r"Round 2\b.*committed with 1 report")
        terminal.press(CTRL_C)
        status = terminal.ends()

    assert started.status_code == 201
    assert status == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_demo_is_told_to_exit_it_ends_with_its_last_round(tmp_path: Path) -> None:
    """For whoever runs it from a script that has a terminal."""
    shared_data = str(tmp_path / "shared")
    with a_terminal(*HEADWATER, "demo", *ROUND, "--exit", "--shared-data", shared_data) as terminal:
        status = terminal.ends()

    assert status == 0
    assert "Done. The trained weights are in" in terminal.shown
    assert "stays up" not in terminal.shown
