"""A status says everything that fits, and always fits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.committer import Committer
from coordinator.driver import KEPT_MAX, Driver
from coordinator.events import Owner
from coordinator.ledger import Ledger
from coordinator.links import Link
from coordinator.memory import Memory
from coordinator.record import RoundOutcome
from coordinator.roster import Claim, Counts, Standing
from coordinator.round import Round
from coordinator.status import Myself, status_of
from federation.phases import Outcome, Phase
from federation.plan import RoundPlan
from federation.runtime.clock import Clock
from tests.servers import a_shared_directory

NORTH, SOUTH = Owner("north", "n1"), Owner("south", "s1")
PLAN = RoundPlan(goal_count=2)
MYSELF = Myself("/data", "1.0", "c0ffee", "0123456789abcdef")
MESSAGE_BYTES_MAX = 3 << 20
"""gRPC refuses messages above 4 MiB."""


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    """One that does not run."""
    directory = a_shared_directory(tmp_path, {"w": np.zeros(3, np.float32)})
    committer = Committer(directory, history_keep=1)
    memory = Memory(directory.coordinator)
    return Driver(committer, memory, Clock(), held_max=100, retry_window=PLAN.retry_window)


def a_round(driver: Driver, **changes: Any) -> Round:
    """A round in Reporting with a client in each standing."""
    claims = {
        "ann": Claim(NORTH, Standing.PENDING),
        "ben": Claim(NORTH, Standing.FOLDED, num_examples=3, metrics={"loss": 0.5}),
        "cleo": Claim(SOUTH, Standing.REJECTED, reason="not-finite"),
    }
    counts = Counts(admitted=3, configured=3, pending=1, folded=1, rejected=1)
    deadline_s = driver.clock.now_s() + 60.0
    round_ = Round(
        7, "this-round", PLAN, "ba5e", Phase.REPORTING, deadline_s, claims=claims, counts=counts
    )
    return dataclasses.replace(round_, **changes)


def a_record(number: int, clients: int) -> RoundOutcome:
    """A completed round with so many clients, each with much to tell."""
    metrics = {f"{name:064}": 1.0 for name in range(32)}
    return RoundOutcome(
        round_number=number,
        round_id=f"round-{number}",
        outcome=Outcome.COMMITTED,
        reason="",
        counts=Counts(admitted=clients, reported=clients),
        phase_seconds={"selection": 1.0},
        metrics={"loss": 0.5},
        checkpoint_digest="ab" * 32,
        clients={
            f"client-{n}": Claim(NORTH, Standing.REPORTED, metrics=metrics) for n in range(clients)
        },
        plan=PLAN,
    )


def test_running_round_is_shown_with_its_clients(driver: Driver) -> None:
    """Where each stands and why."""
    driver.ledger = Ledger(round=a_round(driver))

    shown = status_of(driver, MYSELF).round

    assert [(c.client_id, c.selector_id, c.standing, c.reason) for c in shown.clients] == [
        ("ann", "north", "pending", ""),
        ("ben", "north", "folded", ""),
        ("cleo", "south", "rejected", "not-finite"),
    ]
    assert dict(shown.clients[1].metrics) == {"loss": 0.5}
    assert (shown.counts.goal_count, shown.counts.admit_limit, shown.counts.min_reports) == (
        2,
        2,
        1,
    )
    assert 0 < shown.deadline_s <= 60.0


def test_completed_round_has_no_deadline(driver: Driver) -> None:
    """Nothing is waited for."""
    driver.ledger = Ledger(
        round=a_round(driver, phase=Phase.COMPLETED, outcome=Outcome.ABANDONED, reason="why")
    )

    shown = status_of(driver, MYSELF).round

    assert (shown.deadline_s, shown.reason) == (0.0, "why")


def test_selectors_are_shown_with_the_clients_on_their_streams(driver: Driver) -> None:
    """Those that are away but served the round, too."""
    driver.links.attach(Link(NORTH, "north.example:50051"))
    driver.ledger = Ledger(round=a_round(driver, waiting={"dan": NORTH}))

    shown = status_of(driver, MYSELF).selectors

    assert [(s.selector_id, s.attached, s.address, s.held) for s in shown] == [
        ("north", True, "north.example:50051", 2),
        ("south", False, "", 0),
    ]


def test_status_says_what_coordinator_and_selectors_say_of_themselves(driver: Driver) -> None:
    """By it a check-up compares releases and directories; who is away says nothing."""
    driver.links.attach(Link(NORTH, "north.example:50051", "0.9", "f00d"))
    driver.ledger = Ledger(round=a_round(driver))

    status = status_of(driver, MYSELF)

    assert (status.version, status.directory_mark) == ("1.0", "c0ffee")
    assert status.federation_id == "0123456789abcdef"
    assert [(s.selector_id, s.version, s.directory_mark) for s in status.selectors] == [
        ("north", "0.9", "f00d"),
        ("south", "", ""),
    ]


def test_clients_that_wait_are_counted(driver: Driver) -> None:
    """In the lobby between rounds, in the round while one runs."""
    driver.lobby.waiting = {"ann": NORTH, "ben": NORTH}
    between = status_of(driver, MYSELF).waiting_clients
    driver.ledger = Ledger(round=a_round(driver, waiting={"dan": NORTH}))
    during = status_of(driver, MYSELF).waiting_clients

    assert (between, during) == (2, 1)


def test_status_of_many_clients_stays_far_from_the_limit_on_a_message(driver: Driver) -> None:
    """Counts are complete, and the newest rounds' clients come first."""
    for number in range(1, KEPT_MAX + 1):
        driver.rounds.append(a_record(number, clients=40))

    status = status_of(driver, MYSELF)

    listed = [len(record.clients) for record in status.recent_rounds]
    assert status.ByteSize() < MESSAGE_BYTES_MAX
    assert [record.round_number for record in status.recent_rounds] == list(range(1, KEPT_MAX + 1))
    assert all(record.counts.reported == 40 for record in status.recent_rounds)
    assert listed[-1] == 40
    assert listed == sorted(listed)
    assert listed[0] == 0
