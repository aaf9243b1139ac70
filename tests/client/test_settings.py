"""Tests of ``client.settings``."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.settings import ClientSettings, parsed_shard
from federation.errors import SettingsError
from federation.identifiers import is_client_id
from federation.runtime.settings import load_settings


def test_id_is_not_given_each_client_gets_its_own() -> None:
    """Two clients of one host count twice."""
    first = load_settings(ClientSettings, {"data": "digits"}).settings.client_id
    second = load_settings(ClientSettings, {"data": "digits"}).settings.client_id

    assert first != second
    assert first.startswith("client-")
    assert is_client_id(first)


@pytest.mark.parametrize("flags", [{}, {"data": "digits", "trainer": "mine:Trainer"}])
def test_data_and_trainer_are_both_or_neither_given_error_names_both(
    flags: dict[str, object],
) -> None:
    """Exactly one thing says what to train."""
    with pytest.raises(SettingsError) as caught:
        load_settings(ClientSettings, flags)

    assert "--data" in str(caught.value)
    assert "--trainer" in str(caught.value)


@pytest.mark.parametrize("trainer", ["mine:Trainer", "my.package:make_trainer"])
def test_trainer_is_module_and_factory_it_is_kept(trainer: str) -> None:
    """A dotted module is one, too."""
    assert load_settings(ClientSettings, {"trainer": trainer}).settings.trainer == trainer


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trainer", "mine"),
        ("trainer", "mine.py:Trainer()"),
        ("client_id", "../me"),
        ("shard", "0/4"),
        ("skew", "0"),
        ("skew", "nan"),
        ("seed", "-1"),
        ("rounds", "0"),
    ],
)
def test_value_is_malformed_it_is_refused(name: str, value: str) -> None:
    """The client ends before it meets a selector."""
    with pytest.raises(SettingsError) as caught:
        load_settings(ClientSettings, {"data": "digits", name: value})

    assert caught.value.setting == name


def test_no_selector_is_given_it_is_refused() -> None:
    """A client without a selector has nowhere to check in."""
    with pytest.raises(SettingsError):
        load_settings(ClientSettings, {"data": "digits", "selectors": []})


def test_shard_is_well_formed_it_is_parsed() -> None:
    """K counts from 1."""
    assert parsed_shard("4/4") == (4, 4)


@pytest.mark.parametrize("text", ["", "1", "1/", "/4", "0/4", "5/4", "-1/4", "1/4/2", "1.0/4"])
def test_shard_is_malformed_it_is_refused(text: str) -> None:
    """The rule is told, with an example."""
    with pytest.raises(ValueError, match="K/N"):
        parsed_shard(text)


@pytest.mark.parametrize("name", ["result.npz", "result.h5"])
def test_result_is_all_that_is_wanted_neither_data_nor_trainer_is_needed(name: str) -> None:
    """Who only fetches it takes no part."""
    settings = load_settings(ClientSettings, {"fetch_final": name}).settings

    assert settings.fetch_final == Path(name)


def test_name_of_the_result_says_no_format_error_names_both() -> None:
    """It is said before anything is trained."""
    with pytest.raises(SettingsError) as caught:
        load_settings(ClientSettings, {"fetch_final": "result.keras"})

    assert caught.value.setting == "fetch_final"
    assert ".npz or .h5" in str(caught.value)


@pytest.mark.parametrize(
    ("named", "folder"),
    [("/var/caches", "/var/caches/headwater"), ("relative", "/home/ann/.cache/headwater")],
)
def test_cache_is_where_the_users_desktop_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, named: str, folder: str
) -> None:
    """By the XDG specification a relative folder is not valid."""
    monkeypatch.setenv("XDG_CACHE_HOME", named)
    monkeypatch.setenv("HOME", "/home/ann")

    settings = load_settings(ClientSettings, {"data": "digits"}).settings

    assert settings.cache == Path(folder)


def test_cache_is_given_it_is_taken() -> None:
    """A folder on a larger disk, for one."""
    flags = {"data": "digits", "cache": "/scratch", "cache_bytes_max": "0"}

    settings = load_settings(ClientSettings, flags).settings

    assert (settings.cache, settings.cache_bytes_max) == (Path("/scratch"), 0)


@pytest.mark.parametrize(
    ("flags", "folder"),
    [
        ({}, None),
        ({"client_id": "ann"}, "/var/states/headwater/ann"),
        ({"client_id": "ann", "state": "/mine"}, "/mine"),
        ({"state": "/mine"}, "/mine"),
    ],
)
def test_state_is_kept_of_who_has_a_name_or_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, object], folder: str | None
) -> None:
    """One folder a client, where the user's desktop keeps states."""
    monkeypatch.setenv("XDG_STATE_HOME", "/var/states")

    settings = load_settings(ClientSettings, {"data": "digits"} | flags).settings

    assert settings.state_folder == (Path(folder) if folder is not None else None)
