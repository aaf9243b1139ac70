"""The client's process: where its state is, and what it does if that cannot be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.app import _open_state
from client.settings import ClientSettings
from client.state import ClientState, DiskState
from federation.errors import SettingsError
from federation.runtime.settings import load_settings


def settings_of(**flags: str) -> ClientSettings:
    """Those of a client that was started with these flags."""
    return load_settings(ClientSettings, {"data": "digits"} | flags).settings


def test_state_that_was_given_cannot_be_kept_it_is_refused() -> None:
    """Before anything is trained; the error says which flag."""
    settings = settings_of(client_id="ann", state="/dev/null/state")

    with pytest.raises(SettingsError, match="--state") as refused:
        _open_state(settings)

    assert (refused.value.setting, refused.value.reason) == ("state", "state-unusable")


def test_usual_state_cannot_be_kept_the_client_goes_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody asked for it."""
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")

    state = _open_state(settings_of(client_id="ann"))

    assert type(state) is ClientState


def test_client_has_no_name_it_keeps_no_state() -> None:
    """Nobody could come back to it."""
    state = _open_state(settings_of())

    assert type(state) is ClientState


def test_client_has_a_state_and_no_name_its_name_is_in_the_state(tmp_path: Path) -> None:
    """To be the same client next time."""
    names = set()
    for _ in range(2):
        state = _open_state(settings_of(state=str(tmp_path)))
        names.add(state.client_id)
        assert isinstance(state, DiskState)
        state.close()

    assert len(names) == 1
