"""The demo's processes: found by their listening line, stopped whatever they do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater import children as children_module
from headwater.children import Child, ChildFailed, Children

SCRIPT = """
import json, os, signal, sys

def end(*_):
    print("ending", file=sys.stderr, flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else end)
if "failing" in sys.argv:
    sys.exit("no such luck")
print(os.environ.get("HEADWATER_PORT", "clean"), file=sys.stderr, flush=True)
print(json.dumps({"event": "listening", "port": 4711}), flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
async def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Children]:
    """Make children that can run a module named ``waiting``."""
    (tmp_path / "waiting.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with Children(tmp_path / "logs") as made:
        yield made


async def started(children: Children, *arguments: str) -> Child:
    """Start a child and wait until it listens."""
    child = await children.start("one", "waiting", arguments)
    await children.listening_port(child)
    return child


async def test_child_listens_its_port_is_known(children: Children) -> None:
    """The one line of standard output tells it."""
    child = await children.start("one", "waiting", [])

    assert await children.listening_port(child) == 4711


async def test_child_ends_before_it_listens_the_error_shows_its_log(children: Children) -> None:
    """Who started a demo does not look for log files first."""
    child = await children.start("one", "waiting", ["failing"])

    with pytest.raises(ChildFailed, match=r"one did not start; its log:\n  no such luck"):
        await children.listening_port(child)


async def test_children_are_stopped_each_may_end_by_itself(children: Children) -> None:
    """SIGTERM first: a role drains."""
    child = await started(children)

    await children.stop()

    assert child.process.returncode == 0
    assert child.log_tail().endswith("ending")


async def test_child_does_not_care_about_sigterm_it_is_killed(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing outlives the demo."""
    monkeypatch.setattr(children_module, "STOP_TIMEOUT_S", 0.1)
    child = await started(children, "stubborn")

    await children.stop()

    assert child.process.returncode == -9


async def test_settings_in_the_environment_reach_no_child(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that was meant for one role would be every role's."""
    monkeypatch.setenv("HEADWATER_PORT", "50050")

    child = await started(children)

    assert child.log_tail() == "  clean"


async def test_child_is_started_again_its_log_goes_on(children: Children) -> None:
    """Why the first one ended must not be overwritten by the second one's start."""
    first = await started(children)
    first.process.terminate()
    await first.process.wait()

    second = await started(children)

    assert second.log_tail() == "  clean\n  ending\n  clean"
