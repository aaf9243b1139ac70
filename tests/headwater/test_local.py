"""A federation in one process: what it promises about its numbers, and to its users."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import headwater as hw
from headwater.local import ClientsEnded

WAIT_S = 60.0

Weights = dict[str, NDArray[Any]]


class Returning(hw.Trainer):
    """Returns the same weights each round."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], num_examples: int = 1) -> None:
        self.weights = weights
        self.num_examples = num_examples

    def fit(self, weights: Weights, task: hw.TrainingTask) -> hw.TrainingResult:
        return hw.TrainingResult(self.weights, self.num_examples, {"loss": 0.5})


class Raising(hw.Trainer):
    """Fails in every round."""

    def fit(self, weights: Weights, task: hw.TrainingTask) -> hw.TrainingResult:
        raise RuntimeError("no data today")


class LeastSquares(hw.Trainer):
    """One full-batch gradient step on the mean squared error of a linear model."""

    def __init__(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
        self.x, self.y = x, y

    def fit(self, weights: Weights, task: hw.TrainingTask) -> hw.TrainingResult:
        step = np.float32(task.hyperparameters.learning_rate)
        new = {"w": weights["w"] - step * gradient(weights["w"], self.x, self.y)}
        return hw.TrainingResult(new, num_examples=len(self.x))


def gradient(
    w: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Of the mean squared error."""
    return (x.T @ (x @ w - y) * np.float32(2 / len(x))).astype(np.float32)


def federate(
    initial: Mapping[str, NDArray[Any]] | Path,
    trainers: Sequence[hw.Trainer],
    *,
    rounds: int = 1,
    selectors: int = 1,
    shared_data: Path | None = None,
    **plan: Any,
) -> tuple[list[hw.RoundOutcome], Weights]:
    """Run a federation to its end; return its outcomes and its checkpoint."""

    async def main() -> tuple[list[hw.RoundOutcome], Weights]:
        async with (
            asyncio.timeout(WAIT_S),
            hw.LocalFederation(
                initial=initial,
                plan=hw.RoundPlan(**{"goal_count": len(trainers), **plan}),
                selectors=selectors,
                shared_data=shared_data,
            ) as federation,
        ):
            outcomes = await federation.run(trainers, rounds)
            return outcomes, federation.checkpoint()

    return asyncio.run(main())


def exact_mean(updates: Sequence[tuple[NDArray[Any], int]], at: int) -> Fraction:
    """The weighted mean of one entry, without rounding."""
    total = sum(weight for _, weight in updates)
    return sum((Fraction(float(values[at])) * n for values, n in updates), Fraction(0)) / total


finite = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    selectors=st.integers(1, 5),
    updates=st.lists(
        st.tuples(st.lists(finite, min_size=7, max_size=7), st.integers(1, 100_000)),
        min_size=1,
        max_size=6,
    ),
)
def test_tree_of_any_shape_commits_the_flat_mean(
    selectors: int, updates: list[tuple[list[float], int]]
) -> None:
    """Whatever the split over selectors, the checkpoint is the exact mean, rounded once.

    The error is at most half an ulp and (K + S + 2) * 2**-52 of the mean magnitude, for K clients
    and S selectors, some of them empty.
    """
    arrays = [(np.array(values, np.float32), n) for values, n in updates]

    _, committed = federate(
        {"w": np.zeros(7, np.float32)},
        [Returning({"w": values}, n) for values, n in arrays],
        selectors=selectors,
        min_reports=len(arrays),
    )

    total = sum(n for _, n in arrays)
    for at in range(7):
        exact = exact_mean(arrays, at)
        magnitude = sum(abs(Fraction(float(values[at]))) * n for values, n in arrays) / total
        slack = (len(arrays) + selectors + 2) * Fraction(2) ** -52 * magnitude
        half_ulp = Fraction(float(np.spacing(np.float32(abs(float(exact)))))) / 2
        assert abs(Fraction(float(committed["w"][at])) - exact) <= half_ulp + slack


def test_ten_examples_at_zero_and_many_at_one_on_two_selectors_weigh_as_examples() -> None:
    """The weight is the number of examples, through the whole tree: never one a selector.

    Elsewhere: FEDn averages its combiners with equal weights; this very case gives 0.5 there
    instead of 0.999.
    """
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)

    _, committed = federate(
        {"w": zero}, [Returning({"w": zero}, 10), Returning({"w": one}, 9_990)], selectors=2
    )

    assert committed["w"].tolist() == [np.float32(0.999)] * 3


def test_equal_weighting_counts_every_report_once() -> None:
    """``weighting = "equal"`` ignores example counts."""
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)

    _, committed = federate(
        {"w": zero},
        [Returning({"w": zero}, 10), Returning({"w": one}, 9_990)],
        selectors=2,
        weighting="equal",
    )

    assert committed["w"].tolist() == [0.5]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_identical_updates_commit_that_tensor_bit_for_bit(dtype: type) -> None:
    """If every client returns the same tensor, the result is that tensor.

    Elsewhere: Flower applies n/N in float32; averaging identical models changes 35 % of the
    entries by an ulp.
    """
    random = np.random.default_rng(7)
    values: NDArray[Any] = np.append(random.standard_normal(999), -0.0).astype(dtype)

    _, committed = federate(
        {"w": np.zeros(1000, dtype)},
        [Returning({"w": values}, n) for n in (3, 17, 1_000_003, 5)],
        selectors=3,
    )

    assert committed["w"].tobytes() == values.tobytes()


def test_one_client_commits_its_own_weights_bit_for_bit() -> None:
    """The mean of one report is the report."""
    values = np.random.default_rng(1).standard_normal(1000).astype(np.float32)

    _, committed = federate({"w": np.zeros(1000, np.float32)}, [Returning({"w": values}, 12345)])

    assert committed["w"].tobytes() == values.tobytes()


def test_integer_and_bool_tensors_keep_dtype_and_value() -> None:
    """They are not averaged; the same value from all is that value.

    Elsewhere: Flame truncates integer tensors for each client.
    """
    update = {
        "steps": np.array([2**53 + 1, -7], np.int64),
        "mask": np.array([[True], [False]]),
        "w": np.ones(2, np.float64),
    }

    _, committed = federate(
        {name: np.zeros_like(array) for name, array in update.items()},
        [Returning(update, 2), Returning(update, 5)],
        selectors=2,
    )

    assert {name: array.dtype for name, array in committed.items()} == {
        name: array.dtype for name, array in update.items()
    }
    assert all(np.array_equal(committed[name], update[name]) for name in update)


def test_one_local_step_of_all_clients_is_centralised_gradient_descent() -> None:
    """FedSGD is one step on the pooled data, here over 20 rounds to 1e-5.

    Source: McMahan et al. 2017, arXiv:1602.05629, section 2.
    """
    random = np.random.default_rng(3)
    x = random.standard_normal((90, 5)).astype(np.float32)
    y = (x @ random.standard_normal((5, 1)) + 0.1).astype(np.float32)
    shares = [(0, 10), (10, 40), (40, 90)]
    expected = np.zeros((5, 1), np.float32)
    for _ in range(20):
        expected = expected - np.float32(0.1) * gradient(expected, x, y)

    _, committed = federate(
        {"w": np.zeros((5, 1), np.float32)},
        [LeastSquares(x[a:b], y[a:b]) for a, b in shares],
        rounds=20,
        selectors=2,
        hyperparameters=hw.Hyperparameters(learning_rate=0.1),
    )

    assert np.abs(committed["w"] - expected).max() <= 1e-5


def test_run_returns_one_outcome_a_round_with_metrics_and_times() -> None:
    """An outcome says what became of the round and of each client."""
    weights = {"w": np.zeros(2, np.float32)}

    outcomes, _ = federate(weights, [Returning(weights, 1), Returning(weights, 3)], rounds=3)

    assert [outcome.round_number for outcome in outcomes] == [1, 2, 3]
    assert all(outcome.committed and outcome.reason == "" for outcome in outcomes)
    assert all(outcome.counts.reported == outcome.counts.admitted == 2 for outcome in outcomes)
    assert outcomes[0].metrics == {"loss": 0.5}
    assert set(outcomes[0].phase_seconds) == {"selection", "configuration", "reporting"}
    assert {claim.standing.value for claim in outcomes[0].clients.values()} == {"reported"}


def test_shared_directory_that_is_laid_out_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """A second federation on the directory starts where the first one ended, with new numbers."""
    one = {"w": np.ones(2, np.float32)}
    federate(
        {"w": np.zeros(2, np.float32)}, [Returning(one)], rounds=2, shared_data=tmp_path / "data"
    )

    class PlusOne(hw.Trainer):
        def fit(self, weights: Weights, task: hw.TrainingTask) -> hw.TrainingResult:
            return hw.TrainingResult({"w": weights["w"] + np.float32(1)}, 1)

    outcomes, committed = federate(
        {"w": np.zeros(2, np.float32)}, [PlusOne()], shared_data=tmp_path / "data"
    )

    assert committed["w"].tolist() == [2.0, 2.0]
    assert [outcome.round_number for outcome in outcomes] == [3]


def test_trainer_that_raises_costs_only_itself() -> None:
    """A failed trainer withdraws; the round commits with the others."""
    one = {"w": np.ones(2, np.float32)}

    outcomes, committed = federate(
        {"w": np.zeros(2, np.float32)}, [Returning(one), Returning(one), Raising()], min_reports=2
    )

    assert outcomes[0].committed
    assert outcomes[0].counts.withdrawn == 1
    assert outcomes[0].clients["client-3"].reason == "trainer-failed"
    shapes = [outcomes[0].clients[f"client-{n}"].shape for n in (1, 2, 3)]
    assert shapes == ["-v[]+^", "-v[]+^", "-v[!"]
    assert committed["w"].tolist() == [1.0, 1.0]


def test_trainer_that_cannot_work_with_the_model_says_so_though_that_ends_the_round() -> None:
    """What the operator has to change is raised, not hidden behind an abandoned round."""

    class Choosy(hw.Trainer):
        def fit(self, weights: Weights, task: hw.TrainingTask) -> hw.TrainingResult:
            raise hw.SettingsError("data", "mine.npz", "the model has 2 inputs")

    with pytest.raises(hw.SettingsError, match="the model has 2 inputs"):
        federate({"w": np.zeros(1, np.float32)}, [Choosy()])


def test_fewer_trainers_than_min_reports_is_a_setting_that_is_wrong() -> None:
    """A round that cannot commit is refused before it starts."""
    with pytest.raises(hw.SettingsError, match="min_reports = 3"):
        federate({"w": np.zeros(1, np.float32)}, [Raising()], goal_count=3, min_reports=3)


def test_run_raises_when_all_clients_ended_before_the_rounds_are_done() -> None:
    """Nobody is left to train: that is an error, not a wait."""
    with pytest.raises(ClientsEnded, match="of 50 rounds"):
        federate({"w": np.zeros(1, np.float32)}, [Raising()], rounds=50, goal_count=1)


def test_checkpoint_of_a_keras_model_loads_into_keras_exactly(tmp_path: Path) -> None:
    """``fl_checkpoint`` copied to a name that ends in .h5 is a weights file of Keras."""
    keras = pytest.importorskip("keras")
    from federation.runtime import keras_weights
    from headwater.local import BUILTIN

    model = keras_weights.load_model(BUILTIN)
    random = np.random.default_rng(5)
    update = {
        name: random.standard_normal(array.shape).astype(array.dtype)
        for name, array in keras_weights.get_weights(model).items()
    }

    _, committed = federate(BUILTIN, [Returning(update, 4)], shared_data=tmp_path / "data")

    shutil.copy(tmp_path / "data" / "initFiles" / "fl_checkpoint", tmp_path / "trained.h5")
    model.load_weights(tmp_path / "trained.h5")
    loaded = keras_weights.get_weights(model)
    assert keras.__version__
    assert loaded.keys() == committed.keys() == update.keys()
    assert all(loaded[name].tobytes() == update[name].tobytes() for name in update)
