"""Statuses as a coordinator tells them, for tests of what people see."""

from __future__ import annotations

from federation.v1 import control_pb2 as pb

CLIENTS = {"ann": "reported", "bob": "pending", "cy": "lost"}


def a_record(round_number: int, *, loss: float, reason: str = "") -> pb.RoundRecord:
    """A completed round: committed, or abandoned with this reason."""
    return pb.RoundRecord(
        round_number=round_number,
        outcome=pb.OUTCOME_ABANDONED if reason else pb.OUTCOME_COMMITTED,
        reason=reason,
        counts=pb.Counts(reported=3),
        phase_seconds={"selection": 0.5, "configuration": 0.25, "reporting": 1.0},
        metrics={"loss": loss},
    )


def a_stage(sequence: int, phase: pb.Phase.ValueType, round_number: int = 1) -> pb.Stage:
    """One announced stage."""
    counts = pb.Counts(goal_count=3, admit_limit=3, admitted=3)
    return pb.Stage(
        sequence=sequence, round_number=round_number, phase=phase, counts=counts, selectors=2
    )


def a_status(*records: pb.RoundRecord) -> pb.Status:
    """A round in Reporting with a client of each kind, after these rounds."""
    clients = [
        pb.ClientStatus(
            client_id=client_id,
            selector_id="north" if client_id != "cy" else "south",
            standing=standing,
            reason="client-lost" if standing == "lost" else "",
        )
        for client_id, standing in CLIENTS.items()
    ]
    return pb.Status(
        round=pb.RoundStatus(
            round_number=len(records) + 1,
            phase=pb.PHASE_REPORTING,
            counts=pb.Counts(goal_count=3, admit_limit=3, admitted=3, folded=1, pending=1, lost=1),
            deadline_s=42.0,
            clients=clients,
        ),
        session=pb.SessionStatus(rounds=9, rounds_completed=len(records), running=True),
        selectors=[
            pb.SelectorStatus(selector_id="north", attached=True, address="127.0.0.1:1"),
            pb.SelectorStatus(selector_id="south", attached=False),
        ],
        recent_rounds=records,
        recent_stages=[a_stage(1, pb.PHASE_SELECTION), a_stage(2, pb.PHASE_REPORTING)],
    )
