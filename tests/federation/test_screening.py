"""What an update must be to be folded, and the word for each way to fail."""

from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from federation import screening
from federation.errors import UpdateRejected
from federation.screening import ENTRY_LIMIT, Limits, screen
from federation.tensors import ModelSpec, decode, encode
from tests.federation.strategies import Model, bits

FEW = settings(deadline=None, max_examples=40)
LIMITS = Limits(weight_max=100, update_norm_max=None)


def a_model(**changes: Any) -> Model:
    """A small model; a change to None takes a tensor away."""
    model: dict[str, Any] = {
        "kernel": np.array([[1, 2, 3], [4, 5, 6]], "float32"),
        "bias": np.array([0.5, -0.5], "float16"),
        "scale": np.array(2.0, "float64"),
        "steps": np.array(7, "int64"),
        "mask": np.array([True, False], "bool"),
    }
    model.update(changes)
    return {name: array for name, array in model.items() if array is not None}


SPEC = ModelSpec.of(a_model())


def rejection_of(
    model: Model, weight: int = 1, limits: Limits = LIMITS, base: Model | None = None
) -> UpdateRejected:
    with pytest.raises(UpdateRejected) as caught:
        screen(model, weight, SPEC, limits, base)
    return caught.value


class TestRules:
    def test_good_update_without_base_has_no_norm(self) -> None:
        """Without global weights there is nothing to measure from."""
        assert screen(a_model(), 100, SPEC, LIMITS, None) is None

    @pytest.mark.parametrize(
        ("changes", "weight", "reason", "facts"),
        [
            ({}, 0, "weight-not-positive", ["0 examples"]),
            ({}, -3, "weight-not-positive", ["-3 examples"]),
            ({}, 101, "weight-too-large", ["101", "limit of 100"]),
            ({"bias": None}, 1, "missing-tensor", ["'bias'"]),
            ({"extra": np.zeros(1)}, 1, "extra-tensor", ["'extra'"]),
            ({"kernel": np.zeros((3, 2), "f4")}, 1, "wrong-shape", ["(3, 2)", "(2, 3)"]),
            ({"kernel": np.zeros(6, "f4")}, 1, "wrong-shape", ["'kernel'", "(6,)"]),
            ({"steps": np.zeros(1, "i8")}, 1, "wrong-shape", ["'steps'", "(1,)", "()"]),
            ({"kernel": np.zeros((2, 3), "f8")}, 1, "wrong-dtype", ["float64", "float32"]),
            ({"steps": np.array(7, "i4")}, 1, "wrong-dtype", ["'steps'", "int32", "int64"]),
            ({"mask": np.zeros(2, "u1")}, 1, "wrong-dtype", ["'mask'", "uint8", "bool"]),
            ({"scale": np.array(np.nan)}, 1, "not-finite", ["'scale'", "nan", "entry 0"]),
            ({"bias": np.array([0, np.inf], "f2")}, 1, "not-finite", ["'bias'", "inf", "entry 1"]),
            ({"scale": np.array(-np.inf)}, 1, "not-finite", ["'scale'", "-inf"]),
            ({"scale": np.array(ENTRY_LIMIT)}, 1, "too-large", ["'scale'", "2.58225e+120"]),
            ({"scale": np.array(-1e308)}, 1, "too-large", ["'scale'", "-1e+308", "entry 0"]),
        ],
    )
    def test_broken_rule_is_the_reason(
        self, changes: dict[str, Any], weight: int, reason: str, facts: list[str]
    ) -> None:
        """Each rule has its word, and the sentence names the tensor and the facts."""
        rejected = rejection_of(a_model(**changes), weight)

        assert rejected.reason == reason
        assert all(fact in rejected.detail for fact in facts), rejected.detail

    def test_first_broken_rule_decides(self) -> None:
        """Order: weight, names (missing first), shapes, dtypes, entries, norm."""
        far = Limits(weight_max=100, update_norm_max=1e-9)
        model = a_model(
            bias=None,
            extra=np.zeros(1),
            steps=np.zeros(3, "int64"),
            mask=np.zeros(2, "int8"),
            kernel=np.full((2, 3), np.nan, "float32"),
            scale=np.array(1e200),
        )
        found = [rejection_of(model, 101, far, a_model()).reason]
        found.append(rejection_of(model, 1, far, a_model()).reason)
        for repair in (
            {"bias": a_model()["bias"]},
            {"extra": None},
            {"steps": a_model()["steps"]},
            {"mask": a_model()["mask"]},
            {"scale": np.array(3.0)},
            {"kernel": a_model()["kernel"]},
        ):
            model = a_model(**{**model, **repair})
            found.append(rejection_of(model, 1, far, a_model()).reason)

        assert found == [
            "weight-too-large", "missing-tensor", "extra-tensor", "wrong-shape", "wrong-dtype",
            "too-large", "not-finite", "norm-too-large",
        ]  # fmt: skip

    def test_decoded_update_is_judged_where_it_lies(self) -> None:
        """Read-only views of the received bytes are enough: judging changes nothing."""
        blob = encode(a_model())
        before = bytes(blob)

        norm = screen(decode(blob), 1, SPEC, LIMITS, a_model())

        assert norm == 0.0
        assert blob == before

    def test_name_from_a_peer_is_escaped(self) -> None:
        """A client chooses the names it sends, and they end in logs."""
        rejected = rejection_of(a_model(**{"\u202eevil": np.zeros(1)}))

        assert rejected.detail.isascii()


class TestEntries:
    @FEW
    @given(
        st.sampled_from(["float16", "float32", "float64"]),
        st.integers(1, 12),
        st.sampled_from([math.nan, -math.nan, math.inf, -math.inf]),
        st.data(),
    )
    def test_one_bad_entry_anywhere_is_found(
        self, dtype: str, size: int, bad: float, draw: st.DataObject
    ) -> None:
        """NaN and infinity are found in every dtype and block, with and without a base."""
        array = np.ones(size, dtype)
        index = draw.draw(st.integers(0, size - 1))
        array[index] = bad
        base = draw.draw(st.sampled_from([None, {"a": np.ones(size, dtype)}]))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(screening, "BLOCK_ENTRIES", 5)
            with pytest.raises(UpdateRejected) as caught:
                screen({"a": array}, 1, ModelSpec.of({"a": array}), LIMITS, base)

        assert caught.value.reason == "not-finite"
        assert f"entry {index}," in caught.value.detail

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_extreme_finite_entries_pass(self, dtype: str) -> None:
        """The largest numbers, subnormals and both zeros are numbers like others."""
        limits = np.finfo(dtype)
        largest = limits.max if dtype != "float64" else np.nextafter(ENTRY_LIMIT, 0)
        array = np.array([largest, -largest, limits.smallest_subnormal, 0.0, -0.0], dtype)
        base = {"a": -array}

        norm = screen({"a": array}, 1, ModelSpec.of(base), LIMITS, base)

        assert norm == pytest.approx(2 * float(largest) * math.sqrt(2))

    def test_payload_of_nan_does_not_matter(self) -> None:
        """Every bit pattern of NaN is found, signalling ones too."""
        patterns = np.array([0x7F800001, 0xFF800001, 0x7FC00000, 0xFFFFFFFF], "uint32")
        for entry in patterns.view("float32"):
            assert rejection_of(a_model(kernel=np.full((2, 3), entry))).reason == "not-finite"

    def test_integers_have_no_limit(self) -> None:
        """Integers are picked, not summed, so any value will do."""
        model = a_model(steps=np.array(np.iinfo("int64").min), mask=np.array([True, True]))

        assert screen(model, 1, SPEC, LIMITS, a_model()) == 0.0

    def test_empty_tensor_passes(self) -> None:
        """No entries, nothing to refuse."""
        model = {"a": np.zeros((0, 3), "float32")}

        assert screen(model, 1, ModelSpec.of(model), LIMITS, model) == 0.0


def small(dtype: str) -> st.SearchStrategy[NDArray[Any]]:
    return hnp.arrays(
        dtype,
        st.just(13),
        elements=st.floats(-1e4, 1e4, width={"float16": 16, "float32": 32, "float64": 64}[dtype]),  # type: ignore[arg-type]
    )


class TestNorm:
    @FEW
    @given(st.sampled_from(["float16", "float32", "float64"]), st.data())
    def test_norm_is_that_of_all_moves_together(self, dtype: str, draw: st.DataObject) -> None:
        """L2 over all float tensors of (trained - global), in float64, block by block."""
        model = {"a": draw.draw(small(dtype)), "b": np.array(3.0), "n": np.array(1)}
        base = {"a": draw.draw(small(dtype)), "b": np.array(1.0), "n": np.array(9)}

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(screening, "BLOCK_ENTRIES", 5)
            norm = screen(model, 1, ModelSpec.of(base), LIMITS, base)

        squares = sum(
            (Fraction(float(new)) - Fraction(float(old))) ** 2
            for name in ("a", "b")
            for new, old in zip(model[name].flat, base[name].flat, strict=True)
        )
        assert norm == pytest.approx(math.sqrt(squares), rel=1e-14)

    def test_norm_at_the_limit_passes_and_above_is_rejected(self) -> None:
        """The limit itself is allowed; the sentence says both numbers."""
        moved = a_model(scale=np.array(2.0 + 5.0))

        assert screen(moved, 1, SPEC, Limits(100, 5.0), a_model()) == 5.0
        rejected = rejection_of(moved, 1, Limits(100, 4.999), a_model())
        assert rejected.reason == "norm-too-large"
        assert "is 5," in rejected.detail
        assert "4.999" in rejected.detail

    def test_norm_limit_without_base_is_a_bug(self) -> None:
        """Whoever sets a limit hands in what it is measured from."""
        with pytest.raises(AssertionError):
            screen(a_model(), 1, SPEC, Limits(100, 1.0), None)


def test_screening_takes_no_memory_of_the_models_size() -> None:
    """Blocks of cache size, whatever the model's size."""
    model = {"a": np.ones(2_000_000, "float32")}
    base = {"a": np.zeros(2_000_000, "float32")}
    spec = ModelSpec.of(model)

    tracemalloc.start()
    try:
        screen(model, 1, spec, LIMITS, base)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1_000_000
    assert bits(model["a"]) == bits(np.ones(2_000_000, "float32"))
