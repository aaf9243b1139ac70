"""What a demo prints for programs; tests/system/test_demo.py runs whole ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from federation.errors import FederationError
from headwater.children import ChildFailed
from headwater.demo import Demo
from headwater.demo_settings import DemoSettings


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
