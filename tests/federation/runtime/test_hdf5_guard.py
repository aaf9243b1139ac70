"""Hostile HDF5 files: each is refused before anything in it is read."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t, h5z

from federation.errors import StoreError
from federation.runtime.hdf5 import encode_checkpoint, read_spec
from federation.runtime.hdf5_guard import FileLimits, open_checked


def _file(tmp_path: Path, build: Callable[[h5py.File], object]) -> Path:
    path = tmp_path / "outside.h5"
    with h5py.File(path, "w") as file:
        build(file)
    return path


def _refusal(path: Path, limits: FileLimits | None = None) -> StoreError:
    with (
        pytest.raises(StoreError) as caught,
        open_checked(path, limits) if limits else open_checked(path),
    ):
        pass
    assert str(path) in caught.value.detail
    return caught.value


def _external_data(file: h5py.File) -> None:
    file.create_dataset("a", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "a", (4,))
    file.create_virtual_dataset("a", layout)


def _cycle(file: h5py.File) -> None:
    file.create_group("a/b")
    file["a/b/c"] = file["a"]


def _cycle_to_the_root(file: h5py.File) -> None:
    file["a"] = file["/"]


def _one_dataset_twice(file: h5py.File) -> None:
    file["a"] = np.zeros(4, "f4")
    file["b"] = file["a"]


LINKS: list[Callable[[h5py.File], None]] = [
    lambda file: file.__setitem__("a", h5py.ExternalLink("/etc/passwd", "a")),
    lambda file: file.__setitem__("a", h5py.SoftLink("/a")),
    _external_data,
    _virtual,
    _cycle,
    _cycle_to_the_root,
    _one_dataset_twice,
]


@pytest.mark.parametrize("build", LINKS)
def test_a_file_that_points_elsewhere_is_refused(
    tmp_path: Path, build: Callable[[h5py.File], None]
) -> None:
    """Data come from this very file, each under one name; a cycle does not end in a loop."""
    assert _refusal(_file(tmp_path, build)).reason == "hdf5-forbidden-link"


def _sequences(file: h5py.File) -> None:
    values = np.empty(2, object)
    values[:] = [np.ones(1, "f4"), np.ones(2, "f4")]
    file.attrs.create("a", values, dtype=h5py.vlen_dtype(np.dtype("f4")))


def _committed_type(file: h5py.File) -> None:
    file["a"] = np.dtype("f4")


def _enumeration(file: h5py.File) -> None:
    file.create_dataset("a", (2,), h5py.enum_dtype({"x": 0, "y": 1}, "i1"))


def _odd_float(file: h5py.File) -> None:
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    h5d.create(file.id, b"a", kind, h5s.create_simple((4,)))


TYPES: list[Callable[[h5py.File], object]] = [
    lambda file: file.create_dataset("a", (2,), h5py.ref_dtype),
    lambda file: file.create_dataset("a", (2,), h5py.regionref_dtype),
    lambda file: file.create_dataset("a", (2,), h5py.vlen_dtype(np.dtype("f4"))),
    lambda file: file.create_dataset("a", (2,), h5py.string_dtype()),
    lambda file: file.create_dataset("a", (2,), "S5"),
    lambda file: file.create_dataset("a", (2,), np.dtype([("x", "f4")])),
    lambda file: file.create_dataset("a", (2,), "c8"),
    lambda file: file.create_dataset("a", (2,), "V4"),
    lambda file: file.create_dataset("a", (2,), np.longdouble),
    lambda file: file.create_dataset("a", (2,), np.dtype(("f4", (3,)))),
    lambda file: file.attrs.__setitem__("a", file.ref),
    _sequences,
    lambda file: file.attrs.create("a", np.zeros(1, [("x", "f4")])),
    _committed_type,
    _enumeration,
    _odd_float,
]


@pytest.mark.parametrize("build", TYPES)
def test_what_is_no_plain_number_is_refused(
    tmp_path: Path, build: Callable[[h5py.File], object]
) -> None:
    """No references, no variable lengths but in strings of attributes, no odd types."""
    assert _refusal(_file(tmp_path, build)).reason == "hdf5-forbidden-type"


def _unknown_filter(file: h5py.File) -> None:
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_filter(32768, h5z.FLAG_OPTIONAL, (1, 2))
    h5d.create(file.id, b"a", h5t.IEEE_F32LE, h5s.create_simple((4,)), plist)


def _szip(file: h5py.File) -> None:
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((64,))
    plist.set_filter(h5z.FILTER_SZIP, h5z.FLAG_OPTIONAL, (4, 32))
    h5d.create(file.id, b"a", h5t.IEEE_F32LE, h5s.create_simple((64,)), plist)


FILTERS: list[Callable[[h5py.File], object]] = [
    _unknown_filter,
    _szip,
    lambda file: file.create_dataset("a", data=np.zeros(4), compression="gzip"),
    lambda file: file.create_dataset("a", data=np.zeros(4), compression="lzf"),
    lambda file: file.create_dataset("a", data=np.zeros(4), scaleoffset=3),
]


@pytest.mark.parametrize("build", FILTERS)
def test_what_needs_a_filter_that_may_expand_is_refused(
    tmp_path: Path, build: Callable[[h5py.File], object]
) -> None:
    """No plug-ins, no decompression: what is read was in the file."""
    assert _refusal(_file(tmp_path, build)).reason == "hdf5-forbidden-filter"


def _huge_chunks(file: h5py.File) -> None:
    file.create_dataset("a", (4,), "f4", maxshape=(None,), chunks=(2**28,), shuffle=True)


def _many_small(file: h5py.File) -> None:
    for index in range(40):
        file.create_dataset(f"a{index}", (2**14,), "f4")


def _overflow(file: h5py.File) -> None:
    file.create_dataset("a", (2**62, 2**62), "f4", chunks=(1, 1))


SIZES: list[Callable[[h5py.File], object]] = [
    lambda file: file.create_dataset("a", (400_000_000,), "f4", fillvalue=1.5),
    _huge_chunks,
    _many_small,
    _overflow,
]


@pytest.mark.parametrize("build", SIZES)
def test_a_small_file_that_declares_much_is_refused_and_costs_nothing(
    tmp_path: Path, build: Callable[[h5py.File], object]
) -> None:
    """A file costs at most its own size and a little: 31 KB never cost 1.5 GB."""
    path = _file(tmp_path, build)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    refusals = []
    for read in (read_spec, encode_checkpoint):
        with pytest.raises(StoreError) as caught:
            read(path)
        refusals.append(caught.value.reason)

    assert refusals == ["hdf5-too-large"] * 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 50 * 1024


def _deep(file: h5py.File) -> None:
    file.create_group("/".join("abcdef"))


@pytest.mark.parametrize(
    ("build", "limits"),
    [
        (_deep, FileLimits(depth_max=5)),
        (_deep, FileLimits(objects_max=5)),
        (lambda file: file.create_dataset("a", data=np.zeros(9)), FileLimits(declared_bytes_max=9)),
        (lambda file: file.attrs.create("a", np.zeros(9)), FileLimits(attribute_bytes_max=9)),
        (lambda file: file.attrs.update(a=1, b=2), FileLimits(attributes_max=1)),
        (lambda file: file.attrs.__setitem__("a", ["x", "y"]), FileLimits(strings_max=1)),
    ],
)
def test_what_passes_a_limit_is_refused(
    tmp_path: Path, build: Callable[[h5py.File], object], limits: FileLimits
) -> None:
    """There is a named limit on everything."""
    path = _file(tmp_path, build)

    with open_checked(path):
        pass

    assert _refusal(path, limits).reason == "hdf5-too-large"


def _like_keras(file: h5py.File) -> None:
    file.attrs["model_config"] = b"{" + b"x" * 100_000 + b"}"
    file.attrs["keras_version"] = "3.15.0"
    file.attrs["fixed"] = np.bytes_(b"abc")
    file.attrs["layer_names"] = [b"dense", b"dense_1"]
    file.attrs["layer_names0"] = np.array([b"dense", b"dense_1"])
    file.attrs["weight_names"] = []
    file.attrs["nothing"] = h5py.Empty("f4")
    file.attrs["learning_rate"] = np.float32(0.1)
    file["optimizer_weights/adam/iteration"] = np.int64(3)
    file["model_weights/dense/kernel:0"] = np.zeros((3, 2), ">f4")
    file["model_weights/dense/mask"] = np.array([True, False])
    file["model_weights/dense/empty"] = np.zeros((0, 2), "f2")
    file.create_dataset("model_weights/shuffled", data=np.zeros(9), shuffle=True, fletcher32=True)
    file.create_dataset("model_weights/unwritten", (9,), "u1")


def test_what_keras_writes_passes(tmp_path: Path) -> None:
    """Strings of either kind in attributes, optimizer state, scalars, empty and plain tensors."""
    path = _file(tmp_path, _like_keras)

    with open_checked(path) as file:
        assert file["model_weights/dense/kernel:0"].shape == (3, 2)


def test_a_missing_file_and_one_of_another_kind_are_told_apart(tmp_path: Path) -> None:
    """The reason says what to do: place the file, or make it anew."""
    (tmp_path / "text").write_text("not HDF5 at all\n" * 100)
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    whole = _file(tmp_path, lambda file: file.create_dataset("a", data=np.zeros(9000)))
    (tmp_path / "cut").write_bytes(whole.read_bytes()[:5000])

    reasons = {
        name: _refusal(tmp_path / name).reason
        for name in ("missing", "text", "empty", "pipe", "cut", "text/below")
    }

    assert reasons == {
        "missing": "file-missing",
        "text": "not-hdf5",
        "empty": "not-hdf5",
        "pipe": "file-unreadable",
        "cut": "file-unreadable",
        "text/below": "file-missing",
    }
