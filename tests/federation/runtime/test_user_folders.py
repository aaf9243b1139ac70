"""Tests of ``federation.runtime.user_folders``."""

from __future__ import annotations

from pathlib import Path

import pytest

from federation.runtime.user_folders import user_cache, user_state


def test_desktop_names_its_folders_ours_are_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind in its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    assert user_state() == tmp_path / "state" / "headwater"
    assert user_cache() == tmp_path / "cache" / "headwater"


@pytest.mark.parametrize("named", ["", "relative/folder"])
def test_desktop_names_none_or_no_whole_path_the_usual_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """A relative path would be another folder in each place."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", named)

    assert user_state() == tmp_path / ".local" / "state" / "headwater"
