"""Each effect that is addressed to a selector has its command."""

from __future__ import annotations

from typing import get_args

import pytest

from coordinator.commands import command_of
from coordinator.effects import (
    Admit,
    Announce,
    CloseReporting,
    Configure,
    Decline,
    DropCheckpoint,
    Effect,
    EndRound,
    PublishCheckpoint,
    Release,
    SettlePartial,
    WriteCheckpoint,
)
from coordinator.round import Round
from federation.phases import Phase
from federation.plan import Hyperparameters, RetryWindow, RoundPlan
from federation.v1 import coordination_pb2 as pb
from federation.v1 import plan_pb2
from tests.coordinator.rounds import BASE, NORTH

NOW_S = 1000.0
PLAN = RoundPlan(
    goal_count=2,
    grace_s=7.0,
    weighting="equal",
    weight_max=99,
    update_norm_max=2.5,
    retry_delay_min_s=1.5,
    retry_delay_max_s=4.5,
    hyperparameters=Hyperparameters(epochs=3, batch_size=16, learning_rate=0.25),
)
ROUND = Round(41, "this-round", PLAN, BASE, Phase.REPORTING, NOW_S + 60.0)
WINDOW = plan_pb2.RetryWindow(delay_min_s=1.5, delay_max_s=4.5)

OWN = (Announce, DropCheckpoint, PublishCheckpoint, WriteCheckpoint)
"""Effects that the coordinator carries out itself."""

COMMANDS: dict[Effect, pb.CoordinatorCommand] = {
    Admit(NORTH, ("ann", "ben")): pb.CoordinatorCommand(
        admit_clients=pb.AdmitClients(client_ids=["ann", "ben"])
    ),
    Decline(NORTH, ("ann",), "goal-reached", RetryWindow(1.5, 4.5)): pb.CoordinatorCommand(
        decline_clients=pb.DeclineClients(
            client_ids=["ann"], reason="goal-reached", retry_window=WINDOW
        )
    ),
    Release(NORTH, ("ann",)): pb.CoordinatorCommand(
        release_clients=pb.ReleaseClients(client_ids=["ann"])
    ),
    Configure(NORTH, ("ann",), NOW_S + 42.0): pb.CoordinatorCommand(
        configure_round=pb.ConfigureRound(
            round_id="this-round",
            round_number=41,
            session_id="this-session",
            client_ids=["ann"],
            hyperparameters=plan_pb2.Hyperparameters(epochs=3, batch_size=16, learning_rate=0.25),
            weighting=plan_pb2.WEIGHTING_EQUAL,
            screening_limits=plan_pb2.ScreeningLimits(weight_max=99, update_norm_max=2.5),
            base_digest=BASE,
            deadline_s=42.0,
            grace_s=7.0,
            retry_window=WINDOW,
        )
    ),
    CloseReporting(NORTH): pb.CoordinatorCommand(
        close_reporting=pb.CloseReporting(round_id="this-round", grace_s=7.0)
    ),
    SettlePartial(NORTH, "that-round", kept=False, reason="stale"): pb.CoordinatorCommand(
        settle_partial=pb.SettlePartial(round_id="that-round", kept=False, reason="stale")
    ),
    EndRound(NORTH, committed=False, reason="too-few-reports"): pb.CoordinatorCommand(
        end_round=pb.EndRound(
            round_id="this-round", committed=False, reason="too-few-reports", retry_window=WINDOW
        )
    ),
}


def command(effect: Effect, round_: Round | None = ROUND) -> pb.CoordinatorCommand:
    """Convert it now."""
    return command_of(effect, round_, "this-session", now_s=NOW_S)


@pytest.mark.parametrize("effect", COMMANDS, ids=lambda effect: type(effect).__name__)
def test_effect_is_said_in_full(effect: Effect) -> None:
    """Deadlines go out as the seconds that remain."""
    assert command(effect) == COMMANDS[effect]


def test_every_effect_is_a_command_or_the_coordinators_own() -> None:
    """None is forgotten."""
    assert {type(effect) for effect in COMMANDS} | set(OWN) == set(get_args(Effect))


@pytest.mark.parametrize("effect", [e for e in COMMANDS if isinstance(e, Decline | Release)])
def test_clients_can_be_sent_away_between_rounds(effect: Effect) -> None:
    """There is no round then."""
    assert command(effect, None) == COMMANDS[effect]


def test_deadline_that_has_passed_is_no_time_at_all() -> None:
    """Never a negative one."""
    late = command(Configure(NORTH, ("ann",), NOW_S - 1.0))

    assert late.configure_round.deadline_s == 0.0


def test_effect_of_the_coordinator_itself_is_no_command() -> None:
    """To send one would be a bug."""
    with pytest.raises(AssertionError):
        command(DropCheckpoint())
