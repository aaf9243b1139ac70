"""Tests of ``federation.identifiers``."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import PeerError, SettingsError
from federation.identifiers import (
    checked_client_id,
    checked_selector_id,
    is_client_id,
    is_selector_id,
)

GOOD_SELECTOR_IDS = ["a", "0", "north", "eu-west.1_b", "a" * 63, "a..b", "initfiles2", "my-history"]
BAD_SELECTOR_IDS = [
    "",
    ".",
    "..",
    ".hidden",
    "-dash",
    "_under",
    "North",
    "north ",
    "north\n",
    "a/b",
    "../history",
    "a\\b",
    "a\0b",
    "nörd",
    "٣",  # a digit, but not one of 0-9
    "a" * 64,
    "initFiles",
    "initfiles",  # the same folder where file names have no case
    "coordinator",
    "history",
]
GOOD_CLIENT_IDS = ["a", "Z", "9", "ann", "Phone-7", "ann@example.org", "site:3_b.c", "x" * 128]
BAD_CLIENT_IDS = [
    "",
    " ann",
    "ann\n",
    "@ann",
    "-ann",
    ".ann",
    "a b",
    "a/b",
    "a\\b",
    "a\0b",
    "a\x1b[2J",
    "änn",
    "x" * 129,
]


@pytest.mark.parametrize("text", GOOD_SELECTOR_IDS)
def test_selector_id_is_well_formed_it_is_returned(text: str) -> None:
    """A checked id is the id."""
    assert is_selector_id(text)
    assert checked_selector_id(text) == text


@pytest.mark.parametrize("text", BAD_SELECTOR_IDS, ids=repr)
def test_selector_id_could_not_name_a_folder_it_is_refused_as_a_setting(text: str) -> None:
    """It names a folder of the shared directory, and is the operator's to put right."""
    assert not is_selector_id(text)
    with pytest.raises(SettingsError) as refusal:
        checked_selector_id(text)

    assert refusal.value.setting == "selector_id"
    assert refusal.value.reason == "malformed-selector-id"


@given(st.text(max_size=70))
def test_selector_id_is_accepted_it_stays_in_the_shared_directory(text: str) -> None:
    """No accepted id leads out of the directory or into a reserved folder."""
    if is_selector_id(text):
        folder = PurePosixPath("/shared") / text
        assert folder.parent == PurePosixPath("/shared")
        assert folder.name == text
        assert text.lower() not in {"initfiles", "coordinator", "history", ".", ".."}


@pytest.mark.parametrize("text", GOOD_CLIENT_IDS)
def test_client_id_is_well_formed_it_is_returned(text: str) -> None:
    """A checked id is the id."""
    assert is_client_id(text)
    assert checked_client_id(text) == text


@pytest.mark.parametrize("text", BAD_CLIENT_IDS, ids=repr)
def test_client_id_is_malformed_it_is_refused_without_being_repeated(text: str) -> None:
    """It comes from a peer: the refusal says the rule, not the peer's text."""
    assert not is_client_id(text)
    with pytest.raises(PeerError) as refusal:
        checked_client_id(text)

    assert refusal.value.reason == "malformed-client-id"
    assert len(text) < 2 or text not in str(refusal.value)


@given(st.text(max_size=140))
def test_client_id_is_accepted_it_can_be_shown_anywhere(text: str) -> None:
    """No accepted id breaks a log line, a page or a file name."""
    if is_client_id(text):
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set(" /\\<>&\"'\0")
