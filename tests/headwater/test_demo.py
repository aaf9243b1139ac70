"""What a demo prints for programs, and when it ends; tests/system/test_demo.py runs whole ones."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from federation.errors import FederationError
from federation.v1 import control_pb2 as pb
from headwater.children import ChildFailed
from headwater.demo import Demo
from headwater.demo_settings import DemoSettings
from tests.waiting import eventually


class Ending(Demo):
    """A demo whose run ends at once: as it should, or with this error."""

    failure: FederationError | None = None

    async def _run(self) -> None:
        if self.failure is not None:
            raise self.failure
        self._say("All run")


@pytest.fixture(name="demo")
def _demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ending:
    """A demo that prints JSON lines, where TensorFlow need not be."""
    monkeypatch.setattr("headwater.demo.require_keras", lambda: None)
    return Ending(DemoSettings(shared_data=tmp_path), as_json=True)


async def test_demo_prints_json_each_line_is_an_object_and_the_last_is_its_end(
    demo: Ending, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program reads standard output line by line, and finds the weights in the last."""
    status = await demo.run()

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert status == 0
    assert lines == [
        {"event": "note", "text": "All run"},
        {
            "event": "end",
            "reason": "",
            "checkpoint": str(tmp_path / "initFiles" / "fl_checkpoint"),
            "model": str(tmp_path / "initFiles" / "model.h5"),
        },
    ]


async def test_demo_fails_its_last_line_has_the_reason(
    demo: Ending, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is told as any other, on standard error."""
    demo.failure = ChildFailed("the coordinator ended")

    with pytest.raises(ChildFailed):
        await demo.run()

    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line).items() >= {"event": "end", "reason": "process-failed"}.items()


class Watched(Demo):
    """A demo of which only the watching runs; its rounds are over at once."""

    def __init__(self, folder: Path, page: str, **settings: bool) -> None:
        super().__init__(DemoSettings(shared_data=folder, **settings), as_json=True)  # type: ignore[arg-type]
        self._page = page

    async def _run(self) -> None:
        await self._watch("nowhere:1")


async def _over(_target: str) -> AsyncGenerator[pb.Status, None]:
    """Tell that the session is over, twice, and then nothing more."""
    for _ in range(2):
        yield pb.Status(session=pb.SessionStatus(rounds=1, rounds_completed=1))
    await asyncio.Event().wait()


@pytest.fixture(name="terminal")
def _terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A demo before a person."""
    monkeypatch.setattr("headwater.demo.require_keras", lambda: None)
    monkeypatch.setattr("headwater.demo.watch_status", _over)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    return monkeypatch


async def test_rounds_are_done_on_a_terminal_the_page_stays_until_ctrl_c(
    terminal: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person can look on and start more rounds; to end it then is no interruption."""
    terminal.setattr(sys.stdout, "isatty", lambda: True)
    demo = Watched(tmp_path, "http://127.0.0.1:8050/")
    stop = asyncio.Event()
    terminal.setattr(demo, "_stop_on_signals", lambda: stop)
    running = asyncio.create_task(demo.run())
    await eventually(lambda: demo._rounds_done)
    await asyncio.sleep(0)

    stayed = not running.done()
    stop.set()

    assert await running == 0
    assert stayed
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = [line["text"] for line in lines if line["event"] == "note"]
    assert sum("http://127.0.0.1:8050/ stays up" in text for text in said) == 1
    assert lines[-1]["reason"] == ""


@pytest.mark.parametrize(
    ("on_terminal", "page", "exit_"),
    [(False, "http://x/", False), (True, "", False), (True, "http://x/", True)],
    ids=["off a terminal", "without a page", "with --exit"],
)
async def test_rounds_are_done_and_nobody_would_look_on_the_demo_ends(
    terminal: pytest.MonkeyPatch, tmp_path: Path, on_terminal: bool, page: str, exit_: bool
) -> None:
    """A script is not kept waiting."""
    terminal.setattr(sys.stdout, "isatty", lambda: on_terminal)

    assert await Watched(tmp_path, page, exit=exit_).run() == 0
