"""The weighted mean: a tree gives the flat result, within the bound of exact rationals."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from federation import aggregation
from federation.aggregation import BLOCK_ENTRIES, Pick, WeightedMean, mean_block
from federation.errors import UpdateRejected
from federation.screening import ENTRY_LIMIT, Limits, screen
from federation.tensors import ModelSpec, decode, encode
from tests.federation.strategies import Model, bits, same

FEW = settings(deadline=None, max_examples=40)
MANY = settings(deadline=None, max_examples=80)

FLOATS = ("float16", "float32", "float64")
PRECISION = {"float16": (11, -14), "float32": (24, -126), "float64": (53, -1022)}
"""Bits of the significand and the smallest normal exponent."""


@dataclass(frozen=True)
class Report:
    client_id: str
    weight: int
    model: Model


Cohorts = Sequence[Sequence[Report]]
"""The reports that each selector folds, in order."""


def a_mean_of(spec: ModelSpec, reports: Sequence[Report]) -> WeightedMean:
    mean = WeightedMean(spec)
    for report in reports:
        mean.add(report.model, report.weight, report.client_id)
    return mean


def a_tree_of(spec: ModelSpec, cohorts: Cohorts) -> WeightedMean:
    root = WeightedMean(spec)
    for cohort in cohorts:
        root.merge(a_mean_of(spec, cohort))
    return root


def weights() -> st.SearchStrategy[int]:
    return st.one_of(st.integers(1, 3), st.integers(1, 10_000), st.integers(1, 2**53))


def entries(dtype: str, *, positive: bool = False) -> st.SearchStrategy[float]:
    """Every finite number that screening lets through, subnormals and -0.0 too."""
    width = np.dtype(dtype).itemsize * 8
    bound = float(np.finfo(dtype).max) if width < 64 else math.nextafter(ENTRY_LIMIT, 0)
    return st.floats(0.0 if positive else -bound, bound, width=width)  # type: ignore[arg-type]


@st.composite
def federations(draw: st.DrawFn, dtype: str, *, positive: bool = False) -> Cohorts:
    """One to eight reports of a small tensor, split over one to five selectors, some idle."""
    size = draw(st.integers(1, 5))
    arrays = hnp.arrays(dtype, size, elements=entries(dtype, positive=positive))
    cohorts: list[list[Report]] = [[] for _ in range(draw(st.integers(1, 5)))]
    for number in range(draw(st.integers(1, 8))):
        report = Report(f"c{number}", draw(weights()), {"a": draw(arrays)})
        draw(st.sampled_from(cohorts)).append(report)
    return cohorts


def exact_mean(reports: Sequence[Report], index: int) -> tuple[Fraction, Fraction]:
    """The mean of one entry, and that of its amounts, which measures cancellation."""
    total = sum(report.weight for report in reports)
    terms = [report.weight * Fraction(float(report.model["a"][index])) for report in reports]
    return Fraction(sum(terms), total), Fraction(sum(map(abs, terms)), total)


def ulp(value: Fraction, dtype: str) -> Fraction:
    """Distance of the dtype's numbers around ``value``, above it at a power of two."""
    precision, exponent_min = PRECISION[dtype]
    exponent = exponent_min
    while Fraction(2) ** (exponent + 1) <= abs(value):
        exponent += 1
    return Fraction(2) ** (exponent - precision + 1)


class TestAccuracy:
    @MANY
    @given(st.sampled_from(FLOATS).flatmap(federations))
    def test_tree_equals_flat_within_the_bound(self, cohorts: Cohorts) -> None:
        """1/2 ulp + (K + S + 2) * 2**-52 * sum(n|w|)/sum(n), whatever the split and order."""
        reports = list(itertools.chain(*cohorts))
        spec = ModelSpec.of(reports[0].model)
        dtype = spec.tensors[0].dtype

        tree = a_tree_of(spec, cohorts).result()["a"]
        flat = a_mean_of(spec, reports).result()["a"]

        assert tree.dtype == flat.dtype == np.dtype(dtype)
        for index in range(tree.size):
            exact, amount = exact_mean(reports, index)
            for got, selectors in ((tree[index], len(cohorts)), (flat[index], 1)):
                slack = (len(reports) + selectors + 2) * Fraction(1, 2**52) * amount
                error = abs(Fraction(float(got)) - exact)
                assert error <= ulp(abs(exact) + slack, dtype) / 2 + slack

    @FEW
    @given(federations("float32", positive=True))
    def test_without_cancellation_the_error_is_within_one_ulp(self, cohorts: Cohorts) -> None:
        """Entries of one sign give the mean to the last bit or the one next to it."""
        reports = list(itertools.chain(*cohorts))
        spec = ModelSpec.of(reports[0].model)

        tree = a_tree_of(spec, cohorts).result()["a"]

        for index in range(tree.size):
            exact, _ = exact_mean(reports, index)
            assert abs(Fraction(float(tree[index])) - exact) <= ulp(exact, "float32")

    def test_many_small_beside_one_large_selector_keep_their_weight(self) -> None:
        """10 examples at 0 and 9,990 at 1 are 0.999, not the 0.5 of averaged averages."""
        zero = Report("small", 10, {"a": np.zeros(3, "float32")})
        one = Report("large", 9_990, {"a": np.ones(3, "float32")})
        spec = ModelSpec.of(zero.model)

        for cohorts in ([[zero], [one]], [[one, zero]], [[], [one], [], [zero]]):
            result = a_tree_of(spec, cohorts).result()["a"]
            assert bits(result) == bits(np.full(3, np.float32(0.999)))

    def test_twenty_thousand_reports_stay_within_the_bound(self) -> None:
        """Rounding does not pile up: float32 sums would be off by hundreds of ulps here."""
        value = np.array([0.1, -0.3, 1e-30], "float32")
        mean = WeightedMean(ModelSpec.of({"a": value}))

        for number in range(20_000):
            mean.add({"a": value}, 1 + number % 7, "c")

        assert bits(mean.result()["a"]) == bits(value)


class TestBitForBit:
    @FEW
    @given(st.sampled_from(["float16", "float32"]), st.data())
    def test_identical_updates_give_the_identical_tensor(
        self, dtype: str, draw: st.DataObject
    ) -> None:
        """If all clients return one tensor that is the result, -0.0 and subnormals too."""
        array = draw.draw(hnp.arrays(dtype, st.integers(1, 6), elements=entries(dtype)))
        spec = ModelSpec.of({"a": array})
        cohorts = draw.draw(
            st.lists(
                st.lists(
                    st.builds(Report, st.just("c"), weights(), st.just({"a": array})), max_size=5
                ),
                min_size=1,
                max_size=5,
            ).filter(any)
        )

        result = a_tree_of(spec, cohorts).result()

        assert same(result, {"a": array})

    @FEW
    @given(st.sampled_from(["float16", "float32"]), weights(), st.data())
    def test_one_clients_result_is_that_clients_weights(
        self, dtype: str, weight: int, draw: st.DataObject
    ) -> None:
        """Whatever it weighs, alone or beside idle selectors."""
        array = draw.draw(hnp.arrays(dtype, st.integers(0, 6), elements=entries(dtype)))
        spec = ModelSpec.of({"a": array})

        result = a_tree_of(spec, [[], [Report("c", weight, {"a": array})], []]).result()

        assert same(result, {"a": array})

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_extreme_entries_come_back(self, dtype: str) -> None:
        """Signed zeros, the largest and the smallest numbers survive any number of clients."""
        facts = np.finfo(dtype)
        array = np.array(
            [0.0, -0.0, facts.max, facts.min, facts.tiny, facts.smallest_subnormal,
             -facts.smallest_subnormal], dtype,
        )  # fmt: skip
        reports = [Report(f"c{n}", 2**53 - n, {"a": array}) for n in range(9)]
        spec = ModelSpec.of({"a": array})

        assert same(a_tree_of(spec, [reports[:2], [], reports[2:]]).result(), {"a": array})

    @FEW
    @given(st.sampled_from(FLOATS).flatmap(federations))
    def test_equal_trees_give_equal_bits(self, cohorts: Cohorts) -> None:
        """The same split in the same order is the same result, block by block or at once."""
        spec = ModelSpec.of(next(itertools.chain(*cohorts)).model)
        partials = [a_mean_of(spec, cohort) for cohort in cohorts]
        total = sum(partial.weight for partial in partials)

        first = a_tree_of(spec, cohorts).result()["a"]
        again = a_tree_of(spec, cohorts).result()["a"]
        streamed = mean_block([partial.sums["a"] for partial in partials], total, first.dtype)

        assert bits(first) == bits(again) == bits(streamed)

    @FEW
    @given(federations("float32"), st.integers(1, 4))
    def test_size_of_blocks_does_not_show(self, cohorts: Cohorts, block_entries: int) -> None:
        """Blocks are for speed alone."""
        spec = ModelSpec.of(next(itertools.chain(*cohorts)).model)
        whole = a_tree_of(spec, cohorts).result()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aggregation, "BLOCK_ENTRIES", block_entries)
            in_blocks = a_tree_of(spec, cohorts).result()

        assert same(in_blocks, whole)

    @pytest.mark.parametrize("shape", [(), (0, 3), (BLOCK_ENTRIES + 1,), (3, BLOCK_ENTRIES)])
    def test_any_shape_is_kept(self, shape: tuple[int, ...]) -> None:
        """A single number, no numbers, and tensors of more than a block."""
        array = np.arange(math.prod(shape), dtype="float32").reshape(shape)
        spec = ModelSpec.of({"a": array})

        result = a_mean_of(spec, [Report("c", 3, {"a": array}), Report("d", 4, {"a": array})])

        assert same(result.result(), {"a": array})


class TestPick:
    @FEW
    @given(
        st.lists(
            st.tuples(st.integers(1, 3), st.sampled_from("abc"), st.integers(-(2**63), 2**63 - 1)),
            min_size=1,
            max_size=7,
            unique_by=lambda report: report[1:2],
        ),
        st.randoms(use_true_random=False),
    )
    def test_heaviest_report_gives_the_integers(
        self, drawn: list[tuple[int, str, int]], random: Any
    ) -> None:
        """Greatest weight, then smallest client id, in any order and grouping."""
        reports = [
            Report(client_id, weight, {"n": np.array(value), "b": np.array([value % 2 == 0])})
            for weight, client_id, value in drawn
        ]
        spec = ModelSpec.of(reports[0].model)
        winner = min(reports, key=lambda report: (-report.weight, report.client_id))
        random.shuffle(reports)
        cut = random.randint(0, len(reports))

        left = a_mean_of(spec, reports[:cut])
        right = a_mean_of(spec, reports[cut:])
        left.merge(right)

        assert same(left.result(), winner.model)
        assert left.pick == Pick(winner.weight, winner.client_id)

    def test_same_integers_from_all_stay(self) -> None:
        """Counters and masks that all share come out as they went in, beyond 2**53 too."""
        model: Model = {
            "n": np.array([2**62 + 1, -(2**63)], "int64"),
            "u": np.array(2**64 - 1, "uint64"),
            "b": np.array([True, False]),
        }
        spec = ModelSpec.of(model)
        cohorts = [[Report("a", 1, model)], [Report("b", 9, model), Report("c", 5, model)]]

        assert same(a_tree_of(spec, cohorts).result(), model)

    def test_floats_beside_integers_are_averaged(self) -> None:
        """The rule for integers touches no float."""
        spec = ModelSpec.of({"n": np.array(0), "w": np.array(0.0)})

        mean = WeightedMean(spec)
        mean.add({"n": np.array(4), "w": np.array(1.0)}, 1, "a")
        mean.add({"n": np.array(8), "w": np.array(4.0)}, 2, "b")

        assert same(mean.result(), {"n": np.array(8), "w": np.array(3.0)})


class TestSum:
    def test_nothing_added_has_no_mean(self) -> None:
        """No weight is an error that says so, never NaN."""
        mean = a_tree_of(ModelSpec.of({"a": np.zeros(2)}), [[], []])

        with pytest.raises(ValueError, match="no updates"):
            mean.result()

    @FEW
    @given(federations("float32"))
    def test_idle_selector_changes_no_bit(self, cohorts: Cohorts) -> None:
        """An empty partial is neutral, also for -0.0."""
        spec = ModelSpec.of(next(itertools.chain(*cohorts)).model)
        mean = a_tree_of(spec, cohorts)
        before = (bits(mean.sums["a"]), mean.weight, mean.count, mean.pick)

        mean.merge(WeightedMean(spec))

        assert (bits(mean.sums["a"]), mean.weight, mean.count, mean.pick) == before

    def test_weights_and_reports_are_counted(self) -> None:
        """Counts are integers without limit and add up over a tree."""
        spec = ModelSpec.of({"a": np.zeros(1, "float32")})
        report = Report("c", 2**53, {"a": np.ones(1, "float32")})

        mean = a_tree_of(spec, [[report] * 3, [], [report] * 2])

        assert (mean.weight, mean.count) == (5 * 2**53, 5)

    def test_update_is_copied(self) -> None:
        """The buffer of a folded update is free for the next one."""
        blob = encode({"a": np.array([1.0, 2.0], "float32"), "n": np.array([3])})
        update = decode(blob)
        mean = WeightedMean(ModelSpec.of(update))
        mean.add(update, 1, "c")

        blob[-24:] = bytes(24)

        assert same(mean.result(), {"n": np.array([3]), "a": np.array([1.0, 2.0], "float32")})

    def test_result_is_a_copy(self) -> None:
        """Who gets the mean may change it; the sum goes on untouched."""
        model: Model = {"a": np.array([1.5]), "n": np.array([3])}
        mean = a_mean_of(ModelSpec.of(model), [Report("c", 1, model)])

        taken = mean.result()
        taken["a"][:] = 0
        taken["n"][:] = 0

        assert same(mean.result(), model)

    @pytest.mark.parametrize(
        "update",
        [
            {},
            {"a": np.ones((3, 1), "f4"), "z": np.ones(3, "f4")},
            {"a": np.ones(3, "f4"), "z": np.ones(1, "f4")},
            {"a": np.ones(3, "f4"), "z": np.ones(3, "f8")},
            {"a": np.ones(3, "f4"), "z": np.ones(3, "f4"), "x": np.ones(3, "f4")},
        ],
    )
    def test_unscreened_update_is_a_bug_and_changes_nothing(self, update: Model) -> None:
        """Adding is all or nothing, even when the caller forgot to screen.

        Elsewhere: the sum of NVFlare's middle tier checks neither shape nor finiteness, and
        one that fails half-way leaves a half-changed sum.
        """
        model: Model = {"a": np.ones(3, "float32"), "z": np.ones(3, "float32")}
        mean = a_mean_of(ModelSpec.of(model), [Report("c", 1, model)])

        with pytest.raises(AssertionError):
            mean.add(update, 1, "d")

        assert same(mean.result(), model)
        assert (mean.weight, mean.count) == (1, 1)

    def test_other_model_is_never_merged(self) -> None:
        """Sums of different models do not meet."""
        mean = WeightedMean(ModelSpec.of({"a": np.zeros(3)}))

        with pytest.raises(AssertionError):
            mean.merge(WeightedMean(ModelSpec.of({"a": np.zeros((3, 1))})))

    @FEW
    @given(
        st.lists(
            st.tuples(
                hnp.arrays("float32", 4, elements=st.floats(-9, 9, width=32)),
                st.sampled_from([None, math.nan, math.inf, -math.inf]),
                st.integers(0, 3),
            ),
            max_size=6,
        )
    )
    def test_nan_and_infinity_never_reach_the_sum(
        self, drawn: list[tuple[NDArray[Any], float | None, int]]
    ) -> None:
        """Check, then mutate: a screened-out update leaves no trace in the sum."""
        spec = ModelSpec.of({"a": np.zeros(4, "float32")})
        limits = Limits(weight_max=10, update_norm_max=None)
        mean = WeightedMean(spec)
        good = WeightedMean(spec)
        for array, poison, index in drawn:
            if poison is None:
                good.add({"a": array}, 2, "c")
            else:
                array[index] = poison
            try:
                screen({"a": array}, 2, spec, limits, None)
            except UpdateRejected:
                continue
            mean.add({"a": array}, 2, "c")

        assert bits(mean.sums["a"]) == bits(good.sums["a"])
        assert np.isfinite(mean.sums["a"]).all()
        assert mean.count == good.count


class TestMemory:
    def test_memory_does_not_grow_with_the_clients(self) -> None:
        """8 bytes a float parameter from the start; adding takes a block at most."""
        model: Model = {"a": np.ones(1_000_000, "float32"), "n": np.ones(10, "int64")}
        mean = WeightedMean(ModelSpec.of(model))
        mean.add(model, 1, "c")

        tracemalloc.start()
        try:
            for number in range(20):
                mean.add(model, 2, f"c{number}")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert sum(sums.nbytes for sums in mean.sums.values()) == 8_000_000
        assert peak < 100_000
