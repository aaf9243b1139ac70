"""The wire form of tensors: canonical, interoperable, and safe against any bytes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from federation.errors import PeerError
from federation.tensors import (
    HEADER_BYTES_MAX,
    MalformedTensors,
    ModelSpec,
    TensorSpec,
    allocate,
    checked_name,
    decode,
    encode,
    header_of,
)
from tests.federation.strategies import DTYPES, Model, models, names, same

FEW = settings(deadline=None, max_examples=30)
MANY = settings(deadline=None, max_examples=100)


def a_blob(header: object, data: bytes = b"") -> bytes:
    """A wire form with any header: bytes as they are, anything else as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def an_entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> object:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


class TestCanonicalForm:
    @FEW
    @given(models())
    def test_encoded_model_decodes_to_the_same_bits(self, model: Model) -> None:
        """What was encoded comes back to the bit, in the wire's order."""
        decoded = decode(encode(model))

        assert same(decoded, model)
        assert list(decoded) == [tensor.name for tensor in ModelSpec.of(model).tensors]

    @FEW
    @given(models(), st.randoms(use_true_random=False))
    def test_other_insertion_order_gives_the_same_bytes(self, model: Model, random: Any) -> None:
        """Equal tensors give equal bytes, and so one digest."""
        items = list(model.items())
        random.shuffle(items)

        assert encode(dict(items)) == encode(model)

    def test_layout_is_the_documented_one(self) -> None:
        """Length, JSON padded to 8 bytes, then data by descending item size, then by name."""
        model: Model = {
            "b": np.array([1, 2], "int16"),
            "a": np.array(3, "int16"),
            "é": np.array([1.5]),
        }

        blob = encode(model)

        text = (
            '{"é":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},'
            '"a":{"dtype":"I16","shape":[],"data_offsets":[8,10]},'
            '"b":{"dtype":"I16","shape":[2],"data_offsets":[10,14]}}'
        ).encode()
        padded = text + b" " * (-len(text) % 8)
        assert blob[:8] == len(padded).to_bytes(8, "little")
        assert blob[8 : 8 + len(padded)] == padded
        assert blob[8 + len(padded) :] == bytes.fromhex("000000000000f83f 0300 0100 0200")

    @pytest.mark.parametrize(
        "array",
        [
            np.arange(6, dtype=">f4").reshape(2, 3),
            np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
            np.arange(12, dtype="f4").reshape(2, 6)[:, ::2] / 2,
        ],
        ids=["big-endian", "fortran-order", "strided"],
    )
    def test_foreign_memory_layout_is_written_canonically(self, array: NDArray[Any]) -> None:
        """However an array lies in memory, its wire form is little-endian and in C order."""
        plain = np.array([[0, 1, 2], [3, 4, 5]], "<f4")

        assert encode({"a": array}) == encode({"a": plain})

    @FEW
    @given(models())
    def test_all_tensors_are_aligned(self, model: Model) -> None:
        """Every tensor begins at a multiple of its item size."""
        for view in decode(encode(model)).values():
            assert view.flags.aligned

    @pytest.mark.parametrize("dtype", ["complex64", "object", "U3", "datetime64[s]", "S3"])
    def test_dtype_off_the_list_is_refused(self, dtype: str) -> None:
        """Only floats, integers and bool have a wire form."""
        with pytest.raises(MalformedTensors, match="can be sent"):
            encode({"a": np.zeros(2, dtype)})


class TestAllocate:
    @FEW
    @given(models())
    def test_filled_views_make_the_wire_form(self, model: Model) -> None:
        """The buffer is the wire form as soon as its views are filled."""
        spec = ModelSpec.of(model)
        buffer, views = allocate(spec)
        for name, array in model.items():
            views[name][...] = array

        assert buffer == encode(model)
        assert len(buffer) == spec.encoded_bytes == len(header_of(spec)) + spec.nbytes


class TestInteroperability:
    @FEW
    @given(models())
    def test_safetensors_loads_what_was_encoded(self, model: Model) -> None:
        """The wire form is a valid safetensors file."""
        assert same(safetensors.numpy.load(bytes(encode(model))), model)

    @FEW
    @given(models())
    def test_what_safetensors_saved_decodes(self, model: Model) -> None:
        """A client may write its report with any safetensors library."""
        assert same(decode(safetensors.numpy.save(model)), model)

    @FEW
    @given(models("float32"))
    def test_one_dtype_gives_the_bytes_that_safetensors_gives(self, model: Model) -> None:
        """With one dtype both sort by name, so even the digests agree."""
        assert bytes(encode(model)) == safetensors.numpy.save(model)

    @FEW
    @given(models(), st.randoms(use_true_random=False))
    def test_any_order_of_data_and_header_decodes(self, model: Model, random: Any) -> None:
        """Neither the data nor the header must be in canonical order, only without holes."""
        entries = []
        data = b""
        for name in random.sample(list(model), len(model)):
            array = model[name]
            code = json.loads(encode({"a": array})[8:].split(b"}}")[0] + b"}}")["a"]["dtype"]
            entries.append(
                (name, an_entry(code, array.shape, (len(data), len(data) + array.nbytes)))
            )
            data += array.tobytes()
        random.shuffle(entries)

        assert same(decode(a_blob(dict(entries), data)), model)


class TestViews:
    def test_views_share_the_buffer(self) -> None:
        """Decoding copies nothing."""
        blob = encode({"a": np.arange(4.0)})

        assert np.shares_memory(decode(blob)["a"], np.frombuffer(blob, np.uint8))

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_views_cannot_be_written(self, kind: Any) -> None:
        """Who judges an update cannot change it, whatever holds the bytes."""
        view = decode(kind(encode({"a": np.arange(4.0)})))["a"]

        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1


class TestModelSpec:
    @FEW
    @given(models(), st.randoms(use_true_random=False))
    def test_specs_of_the_same_tensors_are_equal(self, model: Model, random: Any) -> None:
        """A spec does not depend on the order it was given in, and counts what arrays count."""
        spec = ModelSpec.of(model)
        shuffled = ModelSpec(tuple(random.sample(spec.tensors, len(spec.tensors))))

        assert shuffled == spec
        assert hash(shuffled) == hash(spec)
        assert spec.nbytes == sum(array.nbytes for array in model.values())
        assert spec.parameters == sum(array.size for array in model.values())
        assert {name: tensor.shape for name, tensor in spec.by_name.items()} == {
            name: array.shape for name, array in model.items()
        }

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_only_floats_are_averaged(self, dtype: str) -> None:
        """float16, float32 and float64 are floats, integers and bool are not."""
        assert TensorSpec("a", dtype, ()).is_float == (np.dtype(dtype).kind == "f")

    def test_name_said_twice_is_refused(self) -> None:
        """Tensors are matched by name, so a name means one tensor."""
        with pytest.raises(MalformedTensors, match="same name"):
            ModelSpec((TensorSpec("a", "int8", ()), TensorSpec("a", "float32", ())))

    def test_tensor_below_a_tensor_is_refused(self) -> None:
        """In HDF5 a dataset is no group: a name cannot be both tensor and folder."""
        with pytest.raises(MalformedTensors, match="'a/b' is a tensor"):
            ModelSpec((TensorSpec("a/b/c/d", "int8", ()), TensorSpec("a/b", "int8", ())))


class TestNames:
    @FEW
    @given(names())
    def test_good_name_is_returned(self, name: str) -> None:
        """Any UTF-8 without control characters may name a tensor."""
        assert checked_name(name) == name

    @pytest.mark.parametrize("name", ["a", "a/b", "conv 1/kernel:0", "...", "a/.b", "x" * 1024])
    def test_unusual_name_is_returned(self, name: str) -> None:
        """Spaces, colons, dots and 1,024 bytes are fine."""
        assert checked_name(name) == name

    @pytest.mark.parametrize(
        "name",
        [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b", "a\nb",
            "\x7f", "\x9b31m", "__metadata__", "x" * 1025, "é" * 513, "\ud800", None, 3, b"a",
        ],
    )  # fmt: skip
    def test_bad_name_is_refused(self, name: object) -> None:
        """Paths that climb, control characters, and what is too long name no tensor."""
        with pytest.raises(PeerError, match="names no tensor") as caught:
            checked_name(name)

        assert caught.value.reason == "malformed-tensors"


FOUR = bytes(4)

MALFORMED = {
    "empty": b"",
    "too-short": bytes(7),
    "header-length-0": bytes(8),
    "header-beyond-buffer": (3).to_bytes(8, "little") + b"{}",
    "header-length-huge": b"\xff" * 8 + b"{}",
    "header-above-limit": a_blob(b"{}" + b" " * HEADER_BYTES_MAX),
    "not-json": a_blob(b"{nope}"),
    "not-utf8": a_blob(b'{"\xff":0}'),
    "utf16": a_blob("{}".encode("utf-16")),
    "byte-order-mark": a_blob(b"\xef\xbb\xbf{}"),
    "deep-nesting": a_blob(b"[" * 100_000),
    "deep-nesting-of-objects": a_blob(b'{"a":' * 100_000),
    "huge-integer": a_blob(b'{"a":' + b"9" * 5_000 + b"}"),
    "array-instead-of-object": a_blob([]),
    "number-instead-of-object": a_blob(b"NaN"),
    "name-twice": a_blob(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        bytes(8),
    ),
    "key-twice": a_blob(
        b'{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', FOUR
    ),
    "bad-name": a_blob({"../a": an_entry()}, FOUR),
    "surrogate-name": a_blob(rb'{"\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', FOUR),
    "control-character-in-name": a_blob(b'{"\xc3\xa9\xe2\x80\xae\\n":0}'),
    "long-name": a_blob({"x" * 100_000: an_entry()}, FOUR),
    "long-entry": a_blob({"a": ["\u202e"] * 10_000}),
    "metadata": a_blob({"__metadata__": {"format": "pt"}}),
    "entry-no-object": a_blob({"a": 3}),
    "key-missing": a_blob({"a": {"dtype": "F32", "shape": [1]}}, FOUR),
    "key-too-many": a_blob({"a": {**an_entry(), "extra": 1}}, FOUR),  # type: ignore[dict-item]
    "dtype-unknown": a_blob({"a": an_entry("BF16", [2])}, FOUR),
    "dtype-of-numpy": a_blob({"a": an_entry("float32")}, FOUR),
    "dtype-object": a_blob({"a": an_entry("O")}, FOUR),
    "dtype-no-text": a_blob({"a": an_entry(["F32"])}, FOUR),
    "shape-no-list": a_blob({"a": an_entry(shape=1)}, FOUR),
    "shape-negative": a_blob({"a": an_entry(shape=[-1, -1])}, FOUR),
    "shape-bool": a_blob({"a": an_entry(shape=[True])}, FOUR),
    "shape-float": a_blob({"a": an_entry(shape=[1.0])}, FOUR),
    "shape-text": a_blob({"a": an_entry(shape="1")}, FOUR),
    "shape-null": a_blob({"a": an_entry(shape=[None])}, FOUR),
    "shape-beyond-int64": a_blob({"a": an_entry(shape=[2**64], offsets=[0, 2**66])}, FOUR),
    "shape-of-33-extents": a_blob({"a": an_entry(shape=[1] * 33)}, FOUR),
    "shape-empty-but-huge": a_blob({"a": an_entry(shape=[0, 2**62, 2], offsets=[0, 0])}),
    "shape-huge": a_blob({"a": an_entry(shape=[2**40], offsets=[0, 2**42])}, FOUR),
    "offsets-negative": a_blob({"a": an_entry(offsets=[-4, 0])}, FOUR),
    "offsets-reversed": a_blob({"a": an_entry(offsets=[4, 0])}, FOUR),
    "offsets-float": a_blob({"a": an_entry(offsets=[0.0, 4.0])}, FOUR),
    "offsets-three": a_blob({"a": an_entry(offsets=[0, 4, 4])}, FOUR),
    "offsets-of-another-size": a_blob({"a": an_entry(offsets=[0, 3])}, FOUR),
    "offsets-shorter-than-shape": a_blob({"a": an_entry(offsets=[0, 0])}),
    "offsets-longer-than-shape": a_blob({"a": an_entry(offsets=[0, 8])}, bytes(8)),
    "offsets-beyond-data": a_blob({"a": an_entry(offsets=[4, 8])}, FOUR),
    "data-missing": a_blob({"a": an_entry()}, bytes(3)),
    "data-trailing": a_blob({"a": an_entry()}, bytes(5)),
    "data-without-tensors": a_blob({}, FOUR),
    "hole-at-start": a_blob({"a": an_entry(offsets=[4, 8])}, bytes(8)),
    "hole-between": a_blob(
        {"a": an_entry(offsets=[0, 4]), "b": an_entry(offsets=[8, 12])}, bytes(12)
    ),
    "overlap": a_blob({"a": an_entry(offsets=[0, 4]), "b": an_entry(offsets=[2, 6])}, bytes(6)),
    "same-bytes-twice": a_blob({"a": an_entry(), "b": an_entry()}, FOUR),
    "empty-tensor-within-another": a_blob(
        {"a": an_entry(shape=[2], offsets=[0, 8]), "b": an_entry(shape=[0], offsets=[4, 4])},
        bytes(8),
    ),
    "bool-of-2": a_blob({"a": an_entry("BOOL", [2], [0, 2])}, b"\x01\x02"),
}


class TestMalformed:
    @pytest.mark.parametrize("blob", MALFORMED.values(), ids=MALFORMED.keys())
    def test_anything_off_is_refused(self, blob: bytes) -> None:
        """The text is short and plain ASCII whatever the peer wrote, so it may be logged."""
        with pytest.raises(MalformedTensors) as caught:
            decode(blob)

        assert caught.value.reason == "malformed-tensors"
        assert caught.value.detail.isascii()
        assert caught.value.detail.isprintable()
        assert len(caught.value.detail) < 500

    def test_close_header_limit_refuses_a_longer_header_unread(self) -> None:
        """Who knows the model need not parse megabytes of a stranger's JSON."""
        blob = encode({"a": np.zeros(1)})
        length = len(blob) - 8 - 8

        decode(blob, header_bytes_max=length)
        with pytest.raises(MalformedTensors, match="above the limit"):
            decode(blob, header_bytes_max=length - 1)

    @MANY
    @given(st.binary(max_size=64), st.integers(0, 70))
    @example(b"", 0)
    def test_arbitrary_bytes_raise_nothing_else(self, data: bytes, length: int) -> None:
        """No bytes from a peer raise anything but MalformedTensors."""
        self.decodes_or_is_malformed(length.to_bytes(8, "little") + data)
        self.decodes_or_is_malformed(data)

    @MANY
    @given(
        st.dictionaries(
            st.sampled_from(["a", "b", "a/b", "..", "__metadata__"]),
            st.one_of(
                st.fixed_dictionaries(
                    {
                        "dtype": st.sampled_from(["F32", "BOOL", "U8", "F64", "I64", "XX", 0]),
                        "shape": st.lists(
                            st.sampled_from([0, 1, 2, 2**31, 2**62, -1, 1.0, "1"]), max_size=3
                        ),
                        "data_offsets": st.lists(
                            st.sampled_from([0, 1, 4, 8, 12, 2**62, 2**64, -1, None]), max_size=3
                        ),
                    }
                ),
                st.sampled_from([None, 3, "x", [], [[1]], {}, {"dtype": {}}]),
            ),
            max_size=3,
        ),
        st.binary(max_size=16),
    )
    def test_arbitrary_headers_raise_nothing_else(self, header: object, data: bytes) -> None:
        """Nor does any JSON that looks nearly like a header."""
        self.decodes_or_is_malformed(a_blob(header, data))

    @MANY
    @given(
        models(),
        st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["flip", "drop", "insert", "cut"]),
                           st.integers(0, 255)), min_size=1, max_size=4),
    )  # fmt: skip
    def test_mutated_wire_forms_raise_nothing_else(
        self, model: Model, mutations: list[tuple[float, str, int]]
    ) -> None:
        """Nor does a good wire form after bytes were flipped, dropped, inserted or cut off."""
        blob = encode(model)
        for place, mutation, value in mutations:
            at = int(place * (len(blob) - 1))
            if mutation == "flip" and blob:
                blob[at] ^= value
            elif mutation == "drop":
                del blob[at : at + 1]
            elif mutation == "insert":
                blob.insert(at, value)
            else:
                del blob[at:]

        self.decodes_or_is_malformed(bytes(blob))

    @staticmethod
    def decodes_or_is_malformed(blob: bytes) -> None:
        try:
            views = decode(blob)
        except MalformedTensors:
            return
        header_bytes = int.from_bytes(blob[:8], "little")
        assert sum(view.nbytes for view in views.values()) == len(blob) - 8 - header_bytes
