"""From a round's effects to the commands that selectors get."""

from __future__ import annotations

from collections.abc import Iterable

from coordinator.effects import (
    Admit,
    CloseReporting,
    Configure,
    Decline,
    Effect,
    EndRound,
    Release,
    SettlePartial,
)
from coordinator.pacing import retry_window
from coordinator.round import Round
from federation.runtime import wire
from federation.v1 import coordination_pb2 as pb


def command_of(
    effect: Effect, round_: Round | None, session_id: str, *, now_s: float
) -> pb.CoordinatorCommand:
    """Convert an effect that is addressed to a selector.

    Args:
        effect: What the round wants done.
        round_: The round that wants it; None between rounds, where only Decline and Release occur.
        session_id: Of the running session.
        now_s: Deadlines go out as the seconds that remain from here.
    """
    match effect:
        case Admit(_, client_ids):
            return pb.CoordinatorCommand(admit_clients=pb.AdmitClients(client_ids=client_ids))
        case Decline(_, client_ids, reason, window):
            declined = pb.DeclineClients(
                client_ids=client_ids,
                reason=reason,
                retry_window=wire.retry_window_to_wire(window),
            )
            return pb.CoordinatorCommand(decline_clients=declined)
        case Release(_, client_ids):
            return pb.CoordinatorCommand(release_clients=pb.ReleaseClients(client_ids=client_ids))
        case SettlePartial(_, round_id, kept, reason):
            settled = pb.SettlePartial(round_id=round_id, kept=kept, reason=reason)
            return pb.CoordinatorCommand(settle_partial=settled)
    assert round_ is not None
    match effect:
        case Configure():
            order = _configure(effect, round_, session_id, now_s)
            return pb.CoordinatorCommand(configure_round=order)
        case CloseReporting():
            close = pb.CloseReporting(round_id=round_.round_id, grace_s=round_.plan.grace_s)
            return pb.CoordinatorCommand(close_reporting=close)
        case EndRound(_, committed, reason):
            end = pb.EndRound(
                round_id=round_.round_id,
                committed=committed,
                reason=reason,
                retry_window=wire.retry_window_to_wire(retry_window(round_.plan, round_.crowd)),
            )
            return pb.CoordinatorCommand(end_round=end)
    raise AssertionError(f"{effect} is not for a selector")


def _configure(
    effect: Configure, round_: Round, session_id: str, now_s: float
) -> pb.ConfigureRound:
    plan = round_.plan
    return pb.ConfigureRound(
        round_id=round_.round_id,
        round_number=round_.number,
        session_id=session_id,
        client_ids=effect.client_ids,
        hyperparameters=wire.hyperparameters_to_wire(plan.hyperparameters),
        weighting=wire.weighting_to_wire(plan.weighting),
        screening_limits=wire.limits_to_wire(plan.weight_max, plan.update_norm_max),
        base_digest=round_.base_digest,
        deadline_s=max(0.0, effect.deadline_s - now_s),
        grace_s=plan.grace_s,
        retry_window=wire.retry_window_to_wire(retry_window(plan, round_.crowd)),
        expected_s=round_.expected_s(now_s),
    )


def selector_list(addresses: Iterable[str]) -> pb.CoordinatorCommand:
    """Tell a selector where clients reach the attached ones."""
    return pb.CoordinatorCommand(selector_list=pb.SelectorList(addresses=addresses))


def session_news(session_id: str, final_digest: str) -> pb.CoordinatorCommand:
    """Tell a selector which session runs, or ran last.

    Args:
        session_id: Empty if none is known.
        final_digest: Hex SHA-256 of the checkpoint that it ended with; empty while it runs.
    """
    news = pb.SessionNews(session_id=session_id, over=bool(final_digest), final_digest=final_digest)
    return pb.CoordinatorCommand(session_news=news)
