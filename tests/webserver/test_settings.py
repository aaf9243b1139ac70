"""Tests of ``webserver.settings``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from federation.errors import SettingsError
from federation.runtime.settings import load_settings
from federation.runtime.settings_command import add_settings_command
from webserver.settings import WebserverSettings

SECRET = "a secret of some length"


def loaded(**flags: Any) -> WebserverSettings:
    """Return the settings that these flags make."""
    return load_settings(WebserverSettings, flags).settings


def test_nothing_is_told_the_page_is_on_this_machine_at_8050() -> None:
    """What a first look needs."""
    settings = loaded()

    assert (settings.host, settings.port) == ("127.0.0.1", 8050)
    assert settings.database.name == "webserver.db"
    assert (settings.coordinator, settings.shared_data) == (None, None)
    assert (settings.webserver_secret, settings.control_token) == (None, None)


def test_user_has_a_folder_for_state_the_database_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the desktop's rules have it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    assert loaded().database == tmp_path / "headwater" / "webserver.db"


@pytest.mark.parametrize("name", ["webserver_secret", "control_token"])
@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["table", "json"])
def test_settings_are_shown_secrets_are_not(
    name: str, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks over the shoulder, or reads a log, learns that there is one."""
    monkeypatch.setenv(f"HEADWATER_{name.upper()}", SECRET)
    app = typer.Typer()
    add_settings_command(app, WebserverSettings, lambda _: 0)

    shown = CliRunner().invoke(app, ["--show-settings", *flags], env={"COLUMNS": "200"})

    assert shown.exit_code == 0
    assert SECRET not in shown.output
    assert "**********" in shown.output


@pytest.mark.parametrize("name", ["webserver_secret", "control_token"])
def test_secret_is_too_short_the_error_does_not_show_it(name: str) -> None:
    """It may be a good one with its end cut off."""
    with pytest.raises(SettingsError, match=f"{name} .*from 16|{name} .*of 16") as caught:
        loaded(**{name: "hush-hush"})

    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "-1"),
        ("coordinator", "nowhere"),
        ("allowed_hosts", ["http://hw.example"]),
        ("allowed_hosts", ["hw.example:8050"]),
        ("history_rounds_max", "99"),
    ],
)
def test_value_is_wrong_the_setting_is_named(name: str, value: object) -> None:
    """With what would be right."""
    with pytest.raises(SettingsError, match=name):
        loaded(**{name: value})


def test_host_is_allowed_it_is_compared_in_lower_case() -> None:
    """As names of hosts are."""
    assert loaded(allowed_hosts=["HW.Example"]).allowed_hosts == ("hw.example",)
