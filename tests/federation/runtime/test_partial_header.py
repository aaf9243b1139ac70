"""A partial's header comes back as it was, or is refused."""

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest

from federation.errors import StoreError
from federation.runtime.partial_header import PartialHeader, read_header, write_header

HEADER = PartialHeader(
    round_number=41,
    round_id="5f0c",
    selector_id="north",
    incarnation="a1b2",
    base_digest="0f" * 32,
    client_ids=("client-2", "client-0", "client-1"),
    weight=6,
    count=3,
    pick_weight=3,
    pick_client_id="client-2",
)
EMPTY = dataclasses.replace(
    HEADER, client_ids=(), weight=0, count=0, pick_weight=0, pick_client_id=""
)
LARGE = dataclasses.replace(HEADER, weight=2**53 * 10_000, pick_weight=2**53)


@pytest.mark.parametrize("header", [HEADER, EMPTY, LARGE])
def test_a_header_comes_back_as_it_was(tmp_path: Path, header: PartialHeader) -> None:
    """Also without clients, in the order of the clients, and with a weight beyond 64 bits."""
    path = tmp_path / "partial"

    with h5py.File(path, "w") as file:
        write_header(file, header)
        read = read_header(file, path)

    assert read == header
    assert header.flaw() is None
    assert {type(field) for field in dataclasses.astuple(read)} == {int, str, tuple}


WRONG_HEADERS: list[dict[str, object]] = [
    {"round_number": 0},
    {"round_number": 4.5},
    {"round_number": np.array([1, 2])},
    {"round_id": np.bytes_("")},
    {"round_id": np.bytes_("x" * 129)},
    {"round_id": "variable"},
    {"round_id": 7},
    {"incarnation": np.bytes_(b"\xff")},
    {"selector_id": np.bytes_("../history")},
    {"selector_id": np.bytes_("coordinator")},
    {"base_digest": np.bytes_("0F" * 32)},
    {"client_ids": np.array([b"client-0", b"client-1", b"client-1"])},
    {"client_ids": np.array([b"client-0", b"client-1", b"a/b"])},
    {"client_ids": np.array([b"client-0", b"client-1"])},
    {"client_ids": np.bytes_("client-0")},
    {"client_ids": np.array([1, 2, 3])},
    {"client_ids": ["client-0", "client-1", "client-2"]},
    {"weight": 2},
    {"weight": -1},
    {"weight": np.bytes_("1e3")},
    {"count": 4},
    {"pick_client_id": np.bytes_("client-9")},
    {"pick_weight": 0},
    {"pick_weight": 7},
]


@pytest.mark.parametrize("wrong", WRONG_HEADERS)
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    """The attributes decide what a partial is, so they are checked for sense."""
    path = tmp_path / "partial"

    with h5py.File(path, "w") as file:
        write_header(file, HEADER)
        file.attrs.update(wrong)
        with pytest.raises(StoreError) as caught:
            read_header(file, path)

    assert caught.value.reason == "malformed-partial"
    assert str(path) in caught.value.detail


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(PartialHeader)])
def test_a_header_without_one_of_its_facts_is_refused(tmp_path: Path, name: str) -> None:
    """Nothing is assumed; the error names what is missing."""
    path = tmp_path / "partial"

    with h5py.File(path, "w") as file:
        write_header(file, HEADER)
        del file.attrs[name]
        with pytest.raises(StoreError, match=name) as caught:
            read_header(file, path)

    assert caught.value.reason == "malformed-partial"


@pytest.mark.parametrize("pick", [("", 3), ("client-2", 0), ("client-2", 1)])
def test_an_empty_sum_that_claims_a_pick_is_refused(pick: tuple[str, int]) -> None:
    """Without reports there are no integers to have taken."""
    header = dataclasses.replace(EMPTY, pick_client_id=pick[0], pick_weight=pick[1])

    assert header.flaw() == "the pick is not one of the clients"
