"""Tests of ``selector.settings``."""

from __future__ import annotations

import socket

import pytest

from federation.errors import SettingsError
from federation.runtime.settings import load_settings
from selector.settings import SelectorSettings


def test_id_is_not_given_it_is_the_hosts_name_in_lower_case(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A selector on a host of its own needs no name."""
    monkeypatch.setattr(socket, "gethostname", lambda: "North-1")

    assert load_settings(SelectorSettings, {}).settings.selector_id == "north-1"


def test_hosts_name_cannot_be_an_id_error_says_it_was_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host called coordinator must not write over the coordinator's folder."""
    monkeypatch.setattr(socket, "gethostname", lambda: "coordinator")

    with pytest.raises(SettingsError) as caught:
        load_settings(SelectorSettings, {})

    assert (caught.value.setting, caught.value.source) == ("selector_id", "the default")


@pytest.mark.parametrize("selector_id", ["North", "../x", "history", ""])
def test_id_is_given_and_malformed_it_is_refused(selector_id: str) -> None:
    """An id names a folder, so its rule is strict."""
    with pytest.raises(SettingsError) as caught:
        load_settings(SelectorSettings, {"selector_id": selector_id})

    assert (caught.value.setting, caught.value.value, caught.value.source) == (
        "selector_id",
        selector_id,
        "flag --selector-id",
    )
    assert caught.value.reason == "malformed-selector-id"


@pytest.mark.parametrize("name", ["coordinator", "advertise"])
def test_address_is_malformed_it_is_refused(name: str) -> None:
    """Where to dial and where to be dialled are HOST:PORT."""
    with pytest.raises(SettingsError, match="HOST:PORT"):
        load_settings(SelectorSettings, {name: "nowhere"})
