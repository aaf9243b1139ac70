"""Between our types and the contract's messages: both ways, every value, and nothing absurd."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import PeerError, SettingsError
from federation.phases import Outcome, Phase
from federation.plan import Hyperparameters, RetryWindow, Weighting
from federation.runtime import wire
from federation.screening import Limits
from federation.v1 import control_pb2, plan_pb2

seconds = st.floats(0, 1e9)
UNKNOWN: Any = 99


# -- Round trips ------------------------------------------------------------------------------


@given(seconds, seconds)
def test_retry_window_survives_the_wire(one: float, other: float) -> None:
    """To the bit."""
    window = RetryWindow(min(one, other), max(one, other))

    assert wire.retry_window_from_wire(wire.retry_window_to_wire(window)) == window


@given(
    st.builds(
        Hyperparameters,
        epochs=st.integers(1, 2**32 - 1),
        batch_size=st.integers(1, 2**32 - 1),
        learning_rate=st.floats(0, 1e9, exclude_min=True),
    )
)
def test_hyperparameters_survive_the_wire(values: Hyperparameters) -> None:
    """To the bit."""
    assert wire.hyperparameters_from_wire(wire.hyperparameters_to_wire(values)) == values


@given(st.integers(1, 2**53), st.none() | st.floats(0, 1e300, exclude_min=True))
def test_limits_survive_the_wire(weight_max: int, update_norm_max: float | None) -> None:
    """No limit is another thing than a limit of 0."""
    message = wire.limits_to_wire(weight_max, update_norm_max)

    assert wire.limits_from_wire(message) == Limits(weight_max, update_norm_max)


@pytest.mark.parametrize("weighting", get_args(Weighting))
def test_weighting_survives_the_wire(weighting: Weighting) -> None:
    """Each has its number."""
    assert wire.weighting_from_wire(wire.weighting_to_wire(weighting)) == weighting


@pytest.mark.parametrize("phase", Phase)
def test_phase_survives_the_wire(phase: Phase) -> None:
    """Each has its number."""
    assert wire.phase_from_wire(wire.phase_to_wire(phase)) is phase


@pytest.mark.parametrize("outcome", [*Outcome, None])
def test_outcome_survives_the_wire(outcome: Outcome | None) -> None:
    """No outcome yet is one of them."""
    assert wire.outcome_from_wire(wire.outcome_to_wire(outcome)) is outcome


def test_session_survives_the_wire() -> None:
    """What is given arrives; what is not is left to the coordinator's own settings."""
    plan = {"goal_count": 7, "weighting": "equal", "selection_pipelined": False, "epochs": 2}

    assert wire.session_from_wire(wire.session_to_wire(3, plan)) == (3, plan)


@pytest.mark.parametrize(
    ("name", "value"), [("goal_count", -1), ("weight_max", 2**64), ("weighting", "loud")]
)
def test_session_that_the_contract_has_no_room_for_is_a_wrong_setting(
    name: str, value: object
) -> None:
    """It is named with what was given."""
    with pytest.raises(SettingsError) as refused:
        wire.session_to_wire(1, {name: value})

    assert (refused.value.setting, refused.value.value) == (name, value)


# -- Tables -----------------------------------------------------------------------------------


def test_every_number_of_the_contract_has_a_value_of_ours() -> None:
    """And every value its own number; 0 says that nothing was said."""
    weightings = {wire.weighting_to_wire(weighting) for weighting in get_args(Weighting)}
    phases = {wire.phase_to_wire(phase) for phase in Phase}
    outcomes = {wire.outcome_to_wire(outcome) for outcome in [*Outcome, None]}

    assert weightings == set(plan_pb2.Weighting.values()) - {0}
    assert phases == set(control_pb2.Phase.values()) - {0}
    assert outcomes == set(control_pb2.Outcome.values())


# -- What no sane peer sends ------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, -1e-9])
def test_span_of_time_that_nobody_can_wait_for_is_refused(value: float) -> None:
    """A client that slept for it would be gone, or come back at once."""
    with pytest.raises(PeerError) as refused:
        wire.seconds_from_wire(value)

    assert refused.value.reason == "malformed-seconds"
    with pytest.raises(PeerError):
        wire.retry_window_from_wire(plan_pb2.RetryWindow(delay_min_s=value))


def test_window_that_ends_before_it_begins_is_a_moment() -> None:
    """Its beginning is kept to."""
    message = plan_pb2.RetryWindow(delay_min_s=3.0, delay_max_s=1.0)

    assert wire.retry_window_from_wire(message) == RetryWindow(3.0, 3.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": -0.1},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
    ],
)
def test_hyperparameters_that_cannot_be_are_the_peers_fault(changes: dict[str, Any]) -> None:
    """Not a setting of this side's operator."""
    values: dict[str, Any] = {"epochs": 1, "batch_size": 1, "learning_rate": 0.1}

    with pytest.raises(PeerError) as refused:
        wire.hyperparameters_from_wire(plan_pb2.Hyperparameters(**(values | changes)))

    assert refused.value.reason == "malformed-hyperparameters"


@pytest.mark.parametrize("norm", [0.0, -1.0, math.nan])
def test_norm_limit_that_limits_nothing_is_refused(norm: float) -> None:
    """Every comparison with NaN is false, so that everything would pass."""
    with pytest.raises(PeerError):
        wire.limits_from_wire(plan_pb2.ScreeningLimits(weight_max=1, update_norm_max=norm))


@pytest.mark.parametrize(
    "convert",
    [wire.weighting_from_wire, wire.phase_from_wire, wire.outcome_from_wire],
)
def test_number_of_a_newer_contract_is_a_mismatch(convert: Any) -> None:
    """A clear refusal."""
    with pytest.raises(PeerError) as refused:
        convert(UNKNOWN)

    assert refused.value.reason == "protocol-mismatch"


@pytest.mark.parametrize("convert", [wire.weighting_from_wire, wire.phase_from_wire])
def test_nothing_said_is_no_value(convert: Any) -> None:
    """0 is what an older peer, that knows no such field, sends."""
    with pytest.raises(PeerError):
        convert(0)


@pytest.mark.parametrize("version", [0, 2, 99])
def test_other_version_is_refused(version: int) -> None:
    """With what to do about it."""
    with pytest.raises(PeerError, match="same release") as refused:
        wire.require_protocol(version)

    assert refused.value.reason == "protocol-mismatch"


def test_own_version_is_spoken() -> None:
    """Of course."""
    wire.require_protocol(wire.PROTOCOL_VERSION)
