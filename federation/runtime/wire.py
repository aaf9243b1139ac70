"""Between our types and the wire contract's messages, both ways."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from federation.errors import PeerError, SettingsError
from federation.phases import Outcome, Phase
from federation.plan import Hyperparameters, RetryWindow, Weighting
from federation.screening import Limits
from federation.v1 import control_pb2, plan_pb2

PROTOCOL_VERSION = plan_pb2.PROTOCOL_VERSION_1

_WEIGHTINGS: dict[Weighting, plan_pb2.Weighting.ValueType] = {
    "examples": plan_pb2.WEIGHTING_EXAMPLES,
    "equal": plan_pb2.WEIGHTING_EQUAL,
}
_PHASES = {
    Phase.SELECTION: control_pb2.PHASE_SELECTION,
    Phase.CONFIGURATION: control_pb2.PHASE_CONFIGURATION,
    Phase.REPORTING: control_pb2.PHASE_REPORTING,
    Phase.COMPLETED: control_pb2.PHASE_COMPLETED,
}
_OUTCOMES = {
    None: control_pb2.OUTCOME_UNSPECIFIED,
    Outcome.COMMITTED: control_pb2.OUTCOME_COMMITTED,
    Outcome.ABANDONED: control_pb2.OUTCOME_ABANDONED,
}
_PHASE_OF = {number: phase for phase, number in _PHASES.items()}
_OUTCOME_OF = {number: outcome for outcome, number in _OUTCOMES.items()}


def require_protocol(version: int) -> None:
    """Refuse a peer that speaks another version of the contract."""
    if version != PROTOCOL_VERSION:
        raise PeerError(
            f"protocol version {version} is not spoken here, version {PROTOCOL_VERSION} is; "
            "install the same release on both sides",
            reason="protocol-mismatch",
        )


def retry_window_to_wire(window: RetryWindow) -> plan_pb2.RetryWindow:
    return plan_pb2.RetryWindow(delay_min_s=window.delay_min_s, delay_max_s=window.delay_max_s)


def retry_window_from_wire(message: plan_pb2.RetryWindow) -> RetryWindow:
    delay_min_s = seconds_from_wire(message.delay_min_s)
    return RetryWindow(delay_min_s, max(delay_min_s, seconds_from_wire(message.delay_max_s)))


def seconds_from_wire(seconds: float) -> float:
    """Return a span of time that can be waited for, else raise ``PeerError``."""
    if not 0 <= seconds < math.inf:  # false for NaN too
        raise PeerError(f"{seconds} is no number of seconds", reason="malformed-seconds")
    return seconds


def hyperparameters_to_wire(values: Hyperparameters) -> plan_pb2.Hyperparameters:
    return plan_pb2.Hyperparameters(
        epochs=values.epochs, batch_size=values.batch_size, learning_rate=values.learning_rate
    )


def hyperparameters_from_wire(message: plan_pb2.Hyperparameters) -> Hyperparameters:
    try:
        return Hyperparameters(message.epochs, message.batch_size, message.learning_rate)
    except SettingsError as error:  # not this side's setting
        raise PeerError(error.detail, reason="malformed-hyperparameters") from error


def weighting_to_wire(weighting: Weighting) -> plan_pb2.Weighting.ValueType:
    return _WEIGHTINGS[weighting]


def weighting_from_wire(number: plan_pb2.Weighting.ValueType) -> Weighting:
    for weighting, known in _WEIGHTINGS.items():
        if known == number:
            return weighting
    raise PeerError(f"weighting {number} is not known here", reason="protocol-mismatch")


def limits_to_wire(weight_max: int, update_norm_max: float | None) -> plan_pb2.ScreeningLimits:
    return plan_pb2.ScreeningLimits(weight_max=weight_max, update_norm_max=update_norm_max)


def limits_from_wire(message: plan_pb2.ScreeningLimits) -> Limits:
    norm = message.update_norm_max if message.HasField("update_norm_max") else None
    if norm is not None and not norm > 0:  # NaN would be no limit at all
        raise PeerError(f"{norm} is no limit on a norm", reason="malformed-limits")
    return Limits(weight_max=message.weight_max, update_norm_max=norm)


def session_to_wire(rounds: int, plan: Mapping[str, Any]) -> control_pb2.StartSessionRequest:
    """Ask for a session.

    Args:
        rounds: How many rounds.
        plan: What is to be other than the coordinator's settings, by their names.

    Raises:
        SettingsError: A value that the contract has no room for. The coordinator, which knows the
            whole plan, judges the others.
    """
    message = control_pb2.StartSessionRequest()
    for name, value in {"rounds": rounds, **plan}.items():
        if name == "weighting" and value not in _WEIGHTINGS:
            raise SettingsError(name, value, f"it must be one of {', '.join(_WEIGHTINGS)}")
        try:
            setattr(message, name, weighting_to_wire(value) if name == "weighting" else value)
        except ValueError as error:
            expected = "it must not be negative, nor so large"
            raise SettingsError(name, value, expected) from error
    return message


def session_from_wire(message: control_pb2.StartSessionRequest) -> tuple[int, dict[str, Any]]:
    """Return how many rounds are asked for, and what of the plan was given, by setting."""
    plan: dict[str, Any] = {
        field.name: value for field, value in message.ListFields() if field.name != "rounds"
    }
    if "weighting" in plan:
        plan["weighting"] = weighting_from_wire(plan["weighting"])
    return message.rounds, plan


def phase_to_wire(phase: Phase) -> control_pb2.Phase.ValueType:
    return _PHASES[phase]


def phase_from_wire(number: control_pb2.Phase.ValueType) -> Phase:
    if number not in _PHASE_OF:
        raise PeerError(f"phase {number} is not known here", reason="protocol-mismatch")
    return _PHASE_OF[number]


def outcome_to_wire(outcome: Outcome | None) -> control_pb2.Outcome.ValueType:
    return _OUTCOMES[outcome]


def outcome_from_wire(number: control_pb2.Outcome.ValueType) -> Outcome | None:
    if number not in _OUTCOME_OF:
        raise PeerError(f"outcome {number} is not known here", reason="protocol-mismatch")
    return _OUTCOME_OF[number]
