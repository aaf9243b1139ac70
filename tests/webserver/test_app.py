"""Tests of ``webserver.app``: a plain install has no web framework."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from federation.errors import SettingsError
from webserver.app import require_extra

WITHOUT_EXTRA = """
import sys

for name in ("fastapi", "jinja2", "sse_starlette", "starlette", "uvicorn"):
    sys.modules[name] = None
sys.argv[0] = "headwater"
from headwater.cli import main
main()
"""


def test_extra_is_installed_nothing_is_said() -> None:
    """As it is where these tests run."""
    require_extra()


def test_extra_is_missing_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the command that does it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(SettingsError, match=r"pip install 'headwater\[webserver\]'") as caught:
        require_extra()

    assert caught.value.reason == "webserver-missing"


def test_extra_is_missing_the_command_ends_with_that_error(tmp_path: Path) -> None:
    """Without a traceback, and before it makes anything: its settings need no framework."""
    database = tmp_path / "w.db"

    ran = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_EXTRA, "webserver", "--database", str(database)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 2, ran.stderr
    assert "pip install 'headwater[webserver]'" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not database.exists()
