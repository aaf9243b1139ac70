"""How far a client came, in a word that people can sort and count."""

from __future__ import annotations

import pytest

from federation.shapes import (
    ADMITTED,
    ARRIVED,
    CONFIGURED,
    REJECTED,
    SENDING,
    TRAINED,
    TRAINING,
    interrupted,
    is_shape,
    reached,
)


def test_client_does_all_that_was_asked_its_shape_grows_step_by_step() -> None:
    """As in the paper's table."""
    shape, shapes = "", []
    for mark in (ADMITTED, CONFIGURED, TRAINING, TRAINED, SENDING, ARRIVED):
        shape = reached(shape, mark)
        shapes.append(shape)

    assert shapes == ["-", "-v", "-v[", "-v[]", "-v[]+", "-v[]+^"]


def test_step_was_not_seen_it_is_implied_by_a_later_one() -> None:
    """Who sends a report has trained."""
    assert reached("-v", SENDING) == "-v[]+"
    assert reached("-v[]+", REJECTED) == "-v[]+#"


def test_step_is_taken_again_the_shape_stays() -> None:
    """A client that comes back after a cut has not forgotten what it did."""
    assert reached("-v[]+", CONFIGURED) == "-v[]+"
    assert reached("-v[!", TRAINED) == "-v[]"


@pytest.mark.parametrize(
    ("shape", "ended"),
    [("-", "-!"), ("-v[", "-v[!"), ("-v[!", "-v[!"), ("-v[]+^", "-v[]+^"), ("-v[]+#", "-v[]+#")],
)
def test_client_does_not_go_on_unless_it_is_done_that_is_said(shape: str, ended: str) -> None:
    """Once."""
    assert interrupted(shape) == ended


@pytest.mark.parametrize(
    "text", ["", "v", "--", "-]", "-v]", "-v[]^", "-v[]+^#", "-v[]+^\n", "<b>"]
)
def test_text_from_a_peer_that_is_no_shape_is_told_from_one(text: str) -> None:
    """Nothing else is stored or shown."""
    assert not is_shape(text)


@pytest.mark.parametrize(
    "text", ["-", "-!", "-v", "-v[", "-v[!", "-v[]", "-v[]+", "-v[]+^", "-v[]+#"]
)
def test_shapes_are_shapes(text: str) -> None:
    """All of them."""
    assert is_shape(text)
