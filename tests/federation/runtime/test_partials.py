"""Partials carry a selector's sums to the coordinator, exactly and checked."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from federation.aggregation import BLOCK_ENTRIES, WeightedMean
from federation.errors import StoreError
from federation.runtime.partials import PartialFile, PartialHeader, open_partial, write_partial
from federation.tensors import ModelSpec


def _weights(seed: int = 1) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {
        "a/kernel": rng.standard_normal((3, BLOCK_ENTRIES // 2)).astype("f4"),
        "a/bias": rng.standard_normal(7).astype("f2"),
        "a/scale": rng.standard_normal(()),
        "a/none": np.zeros((0, 2), "f4"),
        "steps": np.array([seed, 2]),
        "mask": np.array([[True], [False]]),
    }


def _mean(count: int = 3) -> WeightedMean:
    mean = WeightedMean(ModelSpec.of(_weights()))
    for index in range(count):
        mean.add(_weights(index), index + 1, f"client-{index}")
    return mean


def _header(mean: WeightedMean) -> PartialHeader:
    return PartialHeader(
        round_number=41,
        round_id="5f0c",
        selector_id="north",
        incarnation="a1b2",
        base_digest="0f" * 32,
        client_ids=tuple(f"client-{index}" for index in range(mean.count)),
        weight=mean.weight,
        count=mean.count,
        pick_weight=mean.pick.weight if mean.pick else 0,
        pick_client_id=mean.pick.client_id if mean.pick else "",
    )


def _written(tmp_path: Path, mean: WeightedMean | None = None) -> tuple[Path, str]:
    mean = mean or _mean()
    path = tmp_path / "north" / "fl_agg_checkpoint"
    return path, write_partial(path, _header(mean), mean)


def _read(partial: PartialFile) -> dict[str, NDArray[Any]]:
    tensors: dict[str, NDArray[Any]] = {}
    for tensor in partial.spec.tensors:
        if tensor.is_float:
            blocks = list(partial.blocks(tensor.name))
            assert all(block.size <= BLOCK_ENTRIES for block in blocks)
            tensors[tensor.name] = np.concatenate([np.empty(0), *blocks]).reshape(tensor.shape)
        else:
            tensors[tensor.name] = partial.picked(tensor.name)
    return tensors


def _assert_same(read: dict[str, NDArray[Any]], mean: WeightedMean) -> None:
    for name, values in {**mean.sums, **mean.picked}.items():
        assert read[name].dtype == values.dtype
        assert read[name].tobytes() == values.tobytes()
        assert read[name].shape == values.shape


def test_a_partial_gives_back_exactly_what_was_summed(tmp_path: Path) -> None:
    """Sums bit for bit, in blocks; header, spec and digest as they were written."""
    mean = _mean()

    path, digest = _written(tmp_path, mean)

    with open_partial(path) as partial:
        _assert_same(_read(partial), mean)
        assert partial.header == _header(mean)
        assert partial.spec == mean.spec
        assert partial.digest() == digest
    assert (path.parent / "fl_agg_checkpoint_weight").read_text() == "6"
    assert sorted(os.listdir(path.parent)) == ["fl_agg_checkpoint", "fl_agg_checkpoint_weight"]


def test_an_empty_partial_is_a_partial(tmp_path: Path) -> None:
    """A selector without folds sends one; its sums are -0.0, which changes no sum."""
    mean = _mean(0)

    path, digest = _written(tmp_path, mean)

    with open_partial(path) as partial:
        _assert_same(_read(partial), mean)
        assert (partial.header.weight, partial.header.client_ids) == (0, ())
        assert partial.digest() == digest
    assert (path.parent / "fl_agg_checkpoint_weight").read_text() == "0"


def test_a_smaller_weight_replaces_a_larger_one_without_a_rest(tmp_path: Path) -> None:
    """The weights "12" and then "5" read "5", not "52".

    Elsewhere: a prototype opened the file without truncating it, and "12" followed by "5" was
    read as 52.
    """
    twelve, five = WeightedMean(ModelSpec.of(_weights())), WeightedMean(ModelSpec.of(_weights()))
    twelve.add(_weights(), 12, "client-0")
    five.add(_weights(), 5, "client-0")

    path, _ = _written(tmp_path, twelve)
    _written(tmp_path, five)

    assert (path.parent / "fl_agg_checkpoint_weight").read_bytes() == b"5"
    with open_partial(path) as partial:
        assert partial.header.weight == 5


def test_ten_thousand_clients_fit_a_partial(tmp_path: Path) -> None:
    """The list of client ids passes the 64 KiB of older HDF5."""
    mean = WeightedMean(ModelSpec.of({"a": np.ones(1, "f4")}))
    clients = tuple(f"{index:0128}" for index in range(10_000))
    mean.add({"a": np.ones(1, "f4")}, 2**53, clients[0])
    mean.weight, mean.count = 2**53 * 10_000, 10_000
    header = dataclasses.replace(_header(mean), client_ids=clients)
    path = tmp_path / "fl_agg_checkpoint"

    write_partial(path, header, mean)

    with open_partial(path) as partial:
        assert partial.header == header
    assert (tmp_path / "fl_agg_checkpoint_weight").read_text() == str(2**53 * 10_000)


def test_other_numbers_in_the_file_give_another_digest(tmp_path: Path) -> None:
    """What is merged is hashed as it is read: a stale or torn file is found."""
    path, digest = _written(tmp_path)
    with h5py.File(path, "r+") as file:
        file["sums/a/bias"][3] += 1

    with open_partial(path) as partial:
        _read(partial)

        assert partial.digest() != digest


def test_a_digest_before_every_tensor_was_read_is_a_bug(tmp_path: Path) -> None:
    """A hash over less than everything would vouch for nothing."""
    path, _ = _written(tmp_path)

    with open_partial(path) as partial:
        list(partial.blocks("a/kernel"))
        with pytest.raises(AssertionError):
            partial.digest()


def test_a_partial_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    """A foreign process may do anything to the file, but not end ours."""
    path, _ = _written(tmp_path)

    with open_partial(path) as partial:
        blocks = partial.blocks("a/kernel")
        next(blocks)
        os.truncate(path, 5000)
        with pytest.raises(StoreError) as caught:
            list(blocks)

    assert caught.value.reason == "malformed-partial"


def test_a_header_that_disagrees_with_the_sum_is_a_bug(tmp_path: Path) -> None:
    """Checked before anything is written."""
    mean = _mean()

    for wrong in ({"weight": 7}, {"count": 2}, {"pick_client_id": "client-0"}, {"round_number": 0}):
        with pytest.raises(AssertionError):
            write_partial(
                tmp_path / "fl_agg_checkpoint", dataclasses.replace(_header(mean), **wrong), mean
            )

    assert os.listdir(tmp_path) == []


def _sum_in_float32(file: h5py.File) -> None:
    del file["sums/a/bias"]
    file["sums/a/bias"] = np.zeros(7, "f4")
    file["sums/a/bias"].attrs["dtype"] = np.bytes_("float32")


def _chunked_sum(file: h5py.File) -> None:
    del file["sums/a/bias"]
    file["sums"].create_dataset("a/bias", data=np.zeros(7), chunks=(2,))
    file["sums/a/bias"].attrs["dtype"] = np.bytes_("float32")


BREAKAGES: list[Callable[[h5py.File], object]] = [
    lambda file: file.attrs.__delitem__("round_id"),
    lambda file: file.__delitem__("sums"),
    lambda file: file.__delitem__("picked"),
    lambda file: file["sums/a/bias"].attrs.__delitem__("dtype"),
    lambda file: file["sums/a/bias"].attrs.__setitem__("dtype", np.bytes_("int64")),
    lambda file: file["sums/a/bias"].attrs.__setitem__("dtype", "float32"),
    lambda file: file["sums/a/bias"].attrs.__setitem__("dtype", np.array([b"float32"] * 2)),
    lambda file: file["picked"].create_dataset("more", data=np.zeros(2)),
    lambda file: file["picked"].create_dataset("a", data=np.zeros(2, "i4")),
    lambda file: file["picked"].create_dataset("a/bias", data=np.zeros(2, "i4")),
    _sum_in_float32,
    _chunked_sum,
]


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_file_that_is_no_partial_of_ours_is_refused(
    tmp_path: Path, breakage: Callable[[h5py.File], object]
) -> None:
    """Whatever lies there, it is refused with a reason before any of it is averaged."""
    path, _ = _written(tmp_path)
    with h5py.File(path, "r+") as file:
        breakage(file)

    with pytest.raises(StoreError) as caught, open_partial(path):
        pass

    assert caught.value.reason == "malformed-partial"


def test_a_checkpoint_in_the_place_of_a_partial_and_no_file_at_all_are_refused(
    tmp_path: Path,
) -> None:
    """Reasons tell a missing file, which may still come, from a wrong one."""
    with h5py.File(tmp_path / "checkpoint", "w") as file:
        file["a/kernel"] = np.zeros(3)
    (tmp_path / "text").write_text("12")

    reasons = []
    for name in ("checkpoint", "text", "missing"):
        with pytest.raises(StoreError) as caught, open_partial(tmp_path / name):
            pass
        reasons.append(caught.value.reason)

    assert reasons == ["malformed-partial", "not-hdf5", "file-missing"]


def test_random_damage_is_refused_or_changes_the_digest(tmp_path: Path) -> None:
    """No damaged partial is averaged as if it were whole."""
    path, digest = _written(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)

    harmless = 0
    for _ in range(40):
        damaged = bytearray(whole)
        # Half of it in the structure, which is small beside the data.
        for place in (*rng.integers(0, len(damaged), 2), *rng.integers(0, 4000, 2)):
            damaged[place] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        try:
            with open_partial(path) as partial:
                _read(partial)
                harmless += partial.digest() == digest
        except StoreError:
            continue

    assert harmless == 0


def test_a_selector_whose_shared_directory_is_gone_makes_none(tmp_path: Path) -> None:
    """An unmounted disk is an error, not a new directory below its mount point."""
    mean = _mean()

    with pytest.raises(StoreError) as caught:
        write_partial(tmp_path / "gone" / "north" / "fl_agg_checkpoint", _header(mean), mean)

    assert caught.value.reason == "file-missing"
    assert os.listdir(tmp_path) == []


def test_the_weight_is_written_after_the_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds the weight finds the sums that it belongs to."""
    replaced: list[str] = []
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        replaced.append(target.name)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    _written(tmp_path)

    assert replaced == ["fl_agg_checkpoint", "fl_agg_checkpoint_weight"]
