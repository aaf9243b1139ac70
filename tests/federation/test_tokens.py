"""A token proves one claim, to whoever has the key, and cannot be made without it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.tokens import Claimed, mint, read

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)


@given(words, words)
def test_token_says_round_and_client(round_id: str, client_id: str) -> None:
    """The same one each time."""
    token = mint(KEY, round_id, client_id)

    assert read(KEY, token) == Claimed(round_id, client_id)
    assert token == mint(KEY, round_id, client_id)


def test_token_of_another_key_proves_nothing() -> None:
    """As after the key was lost with the shared directory."""
    assert read(OTHER_KEY, mint(KEY, "round", "ann")) is None


@given(st.integers(0, 200), st.integers(1, 255))
def test_token_is_changed_it_proves_nothing(at: int, change: int) -> None:
    """Any character of it, unless it means the same bits."""
    token = bytearray(mint(KEY, "round", "ann").encode())
    at %= len(token)
    token[at] ^= change
    changed = token.decode("latin-1")

    assert read(KEY, changed) in (None, Claimed("round", "ann"))
    if at < len("cm91bmQKYW5u"):
        assert read(KEY, changed) is None


@pytest.mark.parametrize("token", ["", ".", "a.b", "0" * 32, "é.é", "cm91bmQ.cm91bmQ", "=.="])
def test_text_that_is_no_token_proves_nothing(token: str) -> None:
    """And raises nothing."""
    assert read(KEY, token) is None
