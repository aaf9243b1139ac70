"""Tests of ``webserver.updates``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import PeerError
from federation.phases import Outcome, Phase
from tests.webserver.telling import FEDERATION, Teller, a_client, a_round, body, signed
from webserver.updates import Ended, Stage, parsed, signature_fits

SECRET = "a secret of some length"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=10,
)


def a_stage() -> dict[str, Any]:
    """An update that is fine."""
    return Teller().stage(a_round(1, "completed"))


def test_update_is_fine_all_of_it_is_understood() -> None:
    """Whose it is, its order, its time and its data."""
    understood = parsed(body(a_stage()))

    assert understood is not None
    assert (understood.federation_id, understood.kind) == (FEDERATION, "stage")
    assert understood.sequence == "000000000001.000000.000000"
    assert understood.facts["round"] == a_round(1, "completed") | {
        "selectors": understood.facts["round"]["selectors"]
    }
    assert understood.time_s == a_round(1, "completed")["entered"]["completed"]


def test_schema_is_written_down_it_has_the_phases_and_outcomes_of_the_rest() -> None:
    """They are one vocabulary."""
    assert get_args(Stage) == tuple(Phase)
    assert get_args(Ended) == tuple(Outcome)


def test_later_release_says_more_it_is_passed_over() -> None:
    """A webserver need not be of its coordinator's release."""
    document = a_stage() | {"traceparent": "00-1", "subject": "round/1"}
    document["data"]["mood"] = "fine"
    document["data"]["round"]["weather"] = {"rain": [1, 2]}

    understood = parsed(body(document))

    assert understood is not None
    assert "weather" not in understood.facts["round"]


def test_later_release_has_another_type_it_is_no_fault() -> None:
    """Its sender would try for ever otherwise."""
    document = a_stage() | {"type": "headwater.model.evaluated", "data": {"any": "thing"}}

    assert parsed(body(document)) is None


def changed(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    """Return what changes one place of a document."""

    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (changed("specversion", to="0.3"), "specversion"),
        (changed("id", to=""), "id"),
        (changed("type", to="com.example.round"), "type"),
        (changed("source", to="urn:headwater:../../etc"), "source"),
        (changed("source", to=f"urn:headwater:{FEDERATION}\n"), "source"),
        (changed("sequence", to="42"), "sequence"),
        (changed("time", to="2026-11-22T09:30:00"), "time"),
        (changed("time", to=7), "time"),
        (changed("data", to=None), "data"),
        (changed("data", "round", to=None), "data.round"),
        (changed("data", "round", "round_number", to=0), "round_number"),
        (changed("data", "round", "round_number", to=10**30), "round_number"),
        (changed("data", "round", "round_number", to="1"), "round_number"),
        (changed("data", "round", "stage", to="lunch"), "stage"),
        (changed("data", "round", "outcome", to="maybe"), "outcome"),
        (changed("data", "round", "weight", to=2**70), "weight"),
        (changed("data", "round", "counts", "admitted", to=-1), "admitted"),
        (changed("data", "round", "metrics", "loss", to=float("nan")), "loss"),
        (changed("data", "round", "metrics", "loss", to=float("inf")), "loss"),
        (changed("data", "round", "entered", "lunch", to=1.0), "lunch"),
        (changed("data", "round", "clients", 0, "client_id", to="x" * 129), "client_id"),
        (changed("data", "session", "running", to="yes"), "running"),
        (changed("data", "storage_failure", to="x" * 2001), "storage_failure"),
        (changed("data", "round", "clients", 0, "metrics", to={"m" * 129: 1.0}), "metrics"),
    ],
)
def test_update_is_malformed_the_first_wrong_field_is_named(
    change: Callable[[dict[str, Any]], None], named: str
) -> None:
    """Each field is checked before it is believed, and its sender can see what is wrong."""
    document = a_stage()
    change(document)

    with pytest.raises(PeerError, match=named) as caught:
        parsed(body(document))

    assert caught.value.reason == "malformed-update"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000],
)
def test_body_is_no_json_object_it_is_malformed(content: bytes) -> None:
    """However deep or long it is."""
    with pytest.raises(PeerError) as caught:
        parsed(content)

    assert caught.value.reason == "malformed-update"
    assert len(caught.value.detail) < 600


def test_text_is_half_a_character_it_is_malformed() -> None:
    """It could be neither stored nor shown."""
    document = a_stage()
    document["data"]["round"]["clients"] = [a_client("MARK")]

    with pytest.raises(PeerError):
        parsed(body(document).replace(b"MARK", rb"\ud800"))


@given(st.sampled_from(["session", "round", "selectors", "waiting_clients", "version"]), JSON)
def test_any_json_is_sent_it_is_understood_or_refused(name: str, value: Any) -> None:
    """Nothing else comes out of it."""
    document = a_stage()
    document["data"][name] = value

    try:
        understood = parsed(json.dumps(document).encode())
    except PeerError:
        return
    assert understood is not None


@pytest.mark.parametrize(
    ("signature", "fits"),
    [
        (signed(b"body", SECRET), True),
        (signed(b"body", "another secret"), False),
        (signed(b"another body", SECRET), False),
        (signed(b"body", SECRET).removeprefix("sha256="), False),
        ("", False),
        ("sha256=ä", False),
    ],
)
def test_body_is_signed_with_the_secret_the_signature_fits(signature: str, fits: bool) -> None:
    """And no other does."""
    assert signature_fits(SECRET, b"body", signature) is fits
