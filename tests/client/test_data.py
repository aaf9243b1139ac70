"""A client's data: the vendored digits, files, and how they are dealt to shards."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import client
from client.data import digits, load_data, shard_indices
from client.make_digits import make_digits
from federation.errors import SettingsError

FOLDER = Path(client.__file__).parent
# https://archive.ics.uci.edu/dataset/80: "Class: No of examples in testing set".
IMAGES_OF_EACH_DIGIT = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def _saved(path: Path, **arrays: NDArray[Any]) -> str:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def test_vendored_digits_are_the_file_that_its_notice_describes() -> None:
    """Data, source and licence stay together: DIGITS.md names the file's sha256."""
    notice = (FOLDER / "DIGITS.md").read_text()

    sha256 = hashlib.sha256((FOLDER / "digits.npz").read_bytes()).hexdigest()

    assert sha256 in re.findall(r"\b[0-9a-f]{64}\b", notice)
    assert "10.24432/C50P49" in notice
    assert "CC BY 4.0" in notice


def test_vendored_digits_are_the_test_part_of_the_data_set() -> None:
    """Nothing was lost or changed on the way from UCI."""
    with np.load(FOLDER / "digits.npz", allow_pickle=False) as arrays:
        x, y = arrays["x"], arrays["y"]

    assert (x.shape, x.dtype, x.min(), x.max()) == ((1797, 8, 8), np.uint8, 0, 16)
    assert (y.shape, y.dtype) == ((1797,), np.uint8)
    assert np.bincount(y).tolist() == IMAGES_OF_EACH_DIGIT


def test_make_digits_keeps_values_and_order(tmp_path: Path) -> None:
    """64 pixels row by row and a label a line become images and labels."""
    rows = np.arange(130).reshape(2, 65) % 17
    lines = "\n".join(",".join(map(str, row)) for row in rows)
    (tmp_path / "digits.csv.gz").write_bytes(gzip.compress(lines.encode()))

    make_digits(tmp_path / "digits.csv.gz", tmp_path / "digits.npz")

    with np.load(tmp_path / "digits.npz") as arrays:
        assert arrays["x"].dtype == arrays["y"].dtype == np.uint8
        assert np.array_equal(arrays["x"].reshape(2, 64), rows[:, :64])
        assert np.array_equal(arrays["y"], rows[:, 64])


def test_digits_are_split_into_training_and_held_out_images() -> None:
    """A fifth of each class is held out; together the parts are all images."""
    x, y = digits("train")
    held_x, held_y = digits("held-out")

    assert (str(x.dtype), x.shape[1:], str(y.dtype)) == ("float32", (8, 8), "int64")
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert (len(y), len(held_y)) == (1442, 355)
    assert (np.bincount(y) + np.bincount(held_y)).tolist() == IMAGES_OF_EACH_DIGIT
    assert np.bincount(held_y).tolist() == [count // 5 for count in IMAGES_OF_EACH_DIGIT]
    assert np.array_equal(digits("held-out")[0], held_x)


def test_without_a_shard_a_client_has_all_training_data() -> None:
    """The held-out images are nobody's training data."""
    x, y = load_data("digits", None, None)

    assert np.array_equal(x, digits("train")[0])
    assert np.array_equal(y, digits("train")[1])


def test_file_is_read_as_it_is(tmp_path: Path) -> None:
    """Scaling and types are the user's affair."""
    path = _saved(tmp_path / "mine.npz", x=np.eye(3, dtype=np.int16), y=np.array([0.5, 1, 2]))

    x, y = load_data(path, None, None)

    assert np.array_equal(x, np.eye(3))
    assert (str(x.dtype), str(y.dtype), y.tolist()) == ("int16", "float64", [0.5, 1.0, 2.0])


def test_shards_of_a_file_hold_matching_inputs_and_labels(tmp_path: Path) -> None:
    """Each example keeps its label, and lands in one shard only."""
    numbers = np.arange(10)
    path = _saved(tmp_path / "mine.npz", x=numbers * 10, y=numbers)

    shards = [load_data(path, f"{k}/3", None, seed=5) for k in (1, 2, 3)]

    assert sorted(len(y) for _, y in shards) == [3, 3, 4]
    assert all(np.array_equal(x, y * 10) for x, y in shards)
    assert sorted(np.concatenate([y for _, y in shards]).tolist()) == numbers.tolist()


@given(
    examples=st.integers(1, 200),
    classes=st.integers(1, 12),
    data=st.data(),
    skew=st.one_of(st.none(), st.floats(1e-6, 1e6)),
    seed=st.integers(0, 2**70),
)
@settings(max_examples=100, deadline=None)
def test_shards_are_disjoint_complete_and_none_is_empty(
    examples: int, classes: int, data: st.DataObject, skew: float | None, seed: int
) -> None:
    """Whatever the skew, each example is dealt once and every client has something to train on."""
    count = data.draw(st.integers(1, examples))
    y = np.random.default_rng(seed).integers(0, classes, examples)

    shards = shard_indices(y, count, skew, seed)

    assert len(shards) == count
    assert min(len(shard) for shard in shards) >= 1
    assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(examples))
    if skew is None:
        assert max(len(shard) for shard in shards) - min(len(shard) for shard in shards) <= 1


def test_split_does_not_change_between_versions() -> None:
    """Clients draw the split apart from each other, so every machine must draw the same one."""
    y = np.arange(12) % 3

    even, skewed = shard_indices(y, 3, None, seed=0), shard_indices(y, 3, 0.5, seed=0)

    assert [shard.tolist() for shard in even] == [[0, 1, 6, 7], [3, 5, 8, 10], [2, 4, 9, 11]]
    assert [shard.tolist() for shard in skewed] == [[2, 4, 5, 7, 8, 11], [6, 9], [0, 1, 3, 10]]


def test_small_skew_parts_the_classes_and_a_large_one_deals_them_evenly() -> None:
    """The parameter of the Dirichlet distribution: small means unlike shards."""
    y = np.repeat(np.arange(10), 100)

    def largest_share(skew: float) -> float:
        """The mean over the classes of the part that their greatest holder has."""
        shards = shard_indices(y, 4, skew, seed=3)
        counts = np.array([np.bincount(y[shard], minlength=10) for shard in shards])
        return float((counts.max(axis=0) / 100).mean())

    assert largest_share(0.05) > 0.85
    assert 0.4 < largest_share(1.0) < 0.8
    assert largest_share(1000.0) < 0.3


def test_labels_in_a_column_are_dealt_like_labels_in_a_row() -> None:
    """y of the shape [examples, 1] is as common as [examples]."""
    y = np.arange(30) % 3

    row, column = shard_indices(y, 4, 0.5, 7), shard_indices(y[:, None], 4, 0.5, 7)

    assert all(np.array_equal(a, b) for a, b in zip(row, column, strict=True))


@pytest.mark.parametrize(
    ("shard", "skew", "setting", "said"),
    [
        ("0/4", None, "shard", "K/N"),
        ("5/4", None, "shard", "K/N"),
        ("1", None, "shard", "K/N"),
        ("1/1443", None, "shard", "1442"),
        ("1/4", 0.0, "skew", "above 0"),
        ("1/4", float("nan"), "skew", "above 0"),
        (None, 0.5, "skew", "--shard"),
    ],
)
def test_split_that_cannot_be_is_refused(
    shard: str | None, skew: float | None, setting: str, said: str
) -> None:
    """The error names the setting and what would be right."""
    with pytest.raises(SettingsError, match=said) as refused:
        load_data("digits", shard, skew)

    assert refused.value.setting == setting


def test_skew_of_labels_that_are_no_classes_is_refused(tmp_path: Path) -> None:
    """There is no class to deal by."""
    path = _saved(tmp_path / "mine.npz", x=np.zeros((4, 2)), y=np.linspace(0, 1, 4))

    with pytest.raises(SettingsError, match="whole number") as refused:
        load_data(path, "1/2", 0.5)

    assert refused.value.setting == "skew"


def test_file_that_is_missing_is_named() -> None:
    """With what would be right."""
    with pytest.raises(SettingsError, match=r"nowhere\.npz.*no such file.*'digits', or an") as e:
        load_data("nowhere.npz", None, None)

    assert (e.value.setting, e.value.reason) == ("data", "unusable-data")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros(3)}, "y is not a file in the archive"),
        ({"x": np.zeros(3), "y": np.zeros(4)}, r"\(3,\) and y has \(4,\)"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "at least one"),
        ({"x": np.float32(1), "y": np.float32(1)}, r"x has the shape \(\)"),
        ({"x": np.zeros(2), "y": np.array(["a", "b"])}, "y holds <U1"),
        ({"x": np.zeros(1), "y": np.array([print], dtype=object)}, "cannot be read"),
    ],
    ids=["no-y", "lengths", "empty", "scalar", "text", "pickle"],
)
def test_file_that_is_no_data_set_is_refused(
    tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    """The error says what was found; nothing is unpickled."""
    path = _saved(tmp_path / "mine.npz", **arrays)

    with pytest.raises(SettingsError, match=said) as refused:
        load_data(path, None, None)

    assert refused.value.setting == "data"


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", b"PK\x03\x04 cut off", b"\x93NUMPY"])
def test_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever it is."""
    (tmp_path / "mine.npz").write_bytes(content)

    with pytest.raises(SettingsError, match="cannot be read"):
        load_data(str(tmp_path / "mine.npz"), None, None)


def test_bare_array_is_refused(tmp_path: Path) -> None:
    """An .npy is not an .npz."""
    np.save(tmp_path / "mine.npy", np.zeros(3))

    with pytest.raises(SettingsError, match="a single array"):
        load_data(str(tmp_path / "mine.npy"), None, None)


def test_folder_is_refused(tmp_path: Path) -> None:
    """It exists, but it is no file."""
    with pytest.raises(SettingsError, match="cannot be read"):
        load_data(str(tmp_path), None, None)
