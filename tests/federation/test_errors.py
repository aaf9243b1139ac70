"""Tests of ``federation.errors``."""

from __future__ import annotations

import inspect
import re

import pytest

from federation import errors
from federation.errors import (
    FederationError,
    PeerError,
    SettingsError,
    StoreError,
    TransferError,
    UpdateRejected,
)

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, FederationError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_error_has_a_stable_reason_word_of_its_own(kind: type[FederationError]) -> None:
    """Logs, counters and the wire name errors by lower-case words with hyphens."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.reason)
    assert [other for other in KINDS if other.reason == kind.reason] == [kind]


def test_every_error_says_whose_fault_it_was() -> None:
    """One tree: the operator's, the other side's or the disk's; a bug is an assertion."""
    faults = (SettingsError, PeerError, StoreError)

    assert all(issubclass(kind, faults) for kind in KINDS if kind is not FederationError)
    assert issubclass(TransferError, PeerError)
    assert issubclass(UpdateRejected, PeerError)


def test_error_is_shown_its_text_is_derived_from_its_facts() -> None:
    """A person reads what happened; a counter reads the word behind it."""
    error = StoreError("the disk is full", reason="disk-full")

    assert (error.detail, error.reason) == ("the disk is full", "disk-full")
    assert str(error) == "the disk is full (disk-full)"


def test_error_is_given_no_reason_its_kind_has_one() -> None:
    """A reason of its own is for what a counter should tell apart; the kind's is not changed."""
    special = PeerError("too many bytes", reason="too-large")
    plain = PeerError("what is this")

    assert (special.reason, plain.reason, PeerError.reason) == (
        "too-large",
        "peer-error",
        "peer-error",
    )


def test_setting_is_wrong_the_text_names_it_where_it_came_from_and_what_would_be_right() -> None:
    """The operator can act on the sentence alone."""
    error = SettingsError("port", 99999, "it must be 0 to 65535", source="flag --port")

    assert str(error) == (
        "port = 99999 from flag --port is wrong: it must be 0 to 65535 (wrong-setting)"
    )
    assert (error.setting, error.value, error.expected) == ("port", 99999, "it must be 0 to 65535")
    assert error.reason == "wrong-setting"


def test_setting_is_wrong_and_its_source_unknown_the_text_does_not_guess() -> None:
    """No source is better than a wrong one; a text value is quoted."""
    error = SettingsError("weighting", "half", "it must be 'examples' or 'equal'")

    assert str(error) == (
        "weighting = 'half' is wrong: it must be 'examples' or 'equal' (wrong-setting)"
    )
    assert error.source == ""
