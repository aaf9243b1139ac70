"""The documents that webservers get."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from coordinator.effects import Announce
from coordinator.events import FoldedReport, ReportRejected, ReportsFolded
from coordinator.ledger import Session
from coordinator.picture import Picture, SelectorPicture, Stage
from coordinator.roster import Claim, Standing
from coordinator.round import Closing, Round, step
from coordinator.updates import Kind, Update, body_of, stage_update
from federation.phases import Outcome, Phase
from tests.coordinator.rounds import DIGEST, NORTH, ROUND_ID, SOUTH, START_S, a_plan, a_round_in

FEDERATION = "0123456789abcdef"


def told(update: Update) -> dict[str, Any]:
    """Return the document as a receiver reads it."""
    document: dict[str, Any] = json.loads(body_of(update, FEDERATION, "1.2.3"))
    return document


def a_stage(round_: Round, phase: Phase, **announced: Any) -> dict[str, Any]:
    """Tell of this stage of a round."""
    picture = Picture(START_S + 50, sequence=42, round=round_)
    return told(stage_update(Stage(42, Announce(phase, **announced), picture)))


def completed(round_: Round, **changes: Any) -> Round:
    """Bring a round to its end as it stands."""
    entered_s = dict(round_.entered_s) | {Phase.COMPLETED: START_S + 9.5}
    return replace(round_, phase=Phase.COMPLETED, entered_s=entered_s, **changes)


def test_stage_began_its_number_names_it_and_gives_the_order() -> None:
    """Time, subject and source are those of CloudEvents."""
    document = a_stage(a_round_in(Phase.SELECTION), Phase.SELECTION)

    assert {name: document[name] for name in document if name != "data"} == {
        "specversion": "1.0",
        "id": "42",
        "source": f"urn:headwater:{FEDERATION}",
        "type": "headwater.round.stage",
        "subject": "round/1",
        "time": "1970-01-01T00:16:40.000000Z",
        "datacontenttype": "application/json",
        "sequence": "000000000042.000000.000000",
    }
    assert document["data"]["version"] == "1.2.3"


def test_updates_between_stages_are_after_the_stage_and_before_the_next() -> None:
    """Compared as text, over restarts of the coordinator too."""
    picture = Picture(START_S, sequence=9)
    updates = [
        stage_update(Stage(9, Announce(Phase.SELECTION), picture)),
        Update(Kind.PROGRESS, picture, 9, epoch=3, turn=2),
        Update(Kind.SESSION, picture, 9, epoch=3, turn=10),
        Update(Kind.PROGRESS, picture, 9, epoch=11, turn=1),
        stage_update(Stage(10, Announce(Phase.CONFIGURATION), picture)),
    ]

    sequences = [update.sequence for update in updates]

    assert sequences == sorted(sequences)
    assert [update.id for update in updates] == ["9", "9.3.2", "9.3.10", "9.11.1", "10"]


def test_nothing_ran_yet_session_and_round_are_null() -> None:
    """A coordinator that waits for its operator."""
    document = told(Update(Kind.PROGRESS, Picture(START_S), 0, epoch=1, turn=1))

    assert (document["data"]["session"], document["data"]["round"]) == (None, None)
    assert "subject" not in document


def test_session_changed_it_has_no_subject_and_says_how_far_it_is() -> None:
    """It is about no round, though it shows the newest."""
    session = Session("this-session", a_plan(), rounds=5, completed=2)
    picture = Picture(START_S, 1, session, stopping=True, round=a_round_in(Phase.SELECTION))

    document = told(Update(Kind.SESSION, picture, 1, epoch=1, turn=1))

    assert "subject" not in document
    assert document["data"]["session"] == {
        "session_id": "this-session",
        "rounds": 5,
        "rounds_completed": 2,
        "running": True,
        "stopping": True,
    }


def test_stage_has_a_deadline_the_seconds_that_remained_are_told() -> None:
    """Clocks need not agree."""
    document = a_stage(a_round_in(Phase.CONFIGURATION), Phase.CONFIGURATION)

    assert document["data"]["round"]["deadline_s"] == 60.0
    assert document["data"]["round"]["phase_seconds"] == {"selection": 0.0}


def test_round_is_further_already_the_stage_is_told_as_it_began() -> None:
    """Several stages may begin in one step."""
    round_ = completed(a_round_in(Phase.REPORTING), outcome=Outcome.ABANDONED, reason="late")

    document = a_stage(round_, Phase.CONFIGURATION)["data"]["round"]

    assert (document["stage"], document["outcome"], document["reason"]) == (
        "configuration",
        None,
        "",
    )
    assert set(document["entered"]) == {"selection", "configuration"}
    assert set(document["phase_seconds"]) == {"selection"}


def test_round_is_running_counts_are_told_in_all_and_for_each_selector() -> None:
    """Who was rejected also by the reason, which is one of ours."""
    round_ = a_round_in(
        Phase.REPORTING, clients={NORTH: ("ann", "bob"), SOUTH: ("cleo",)}, min_reports=1
    )
    for event in (
        ReportsFolded(NORTH, ROUND_ID, (FoldedReport("ann", 7, {"loss": 0.5}, 1.5),)),
        ReportRejected(NORTH, ROUND_ID, "bob", "not-finite"),
        ReportRejected(SOUTH, ROUND_ID, "cleo", "<whatever a peer says>"),
    ):
        round_, _ = step(round_, event, START_S)

    document = a_stage(round_, Phase.REPORTING)["data"]["round"]

    assert document["counts"]["goal_count"] == 3
    assert document["counts"]["folded"] == 1
    assert document["rejected"] == {"not-finite": 1, "other": 1}
    north = document["selectors"]["north"]
    assert (north["admitted"], north["folded"], north["rejected"]) == (2, 1, 1)
    assert document["selectors"]["south"]["rejected"] == 1
    assert document["clients"][0] == {
        "client_id": "ann",
        "selector_id": "north",
        "standing": "folded",
        "reason": "",
        "num_examples": 7,
        "training_s": 1.5,
        "metrics": {"loss": 0.5},
        "shape": "-v[]+^",
    }
    assert document["clients"][1]["training_s"] is None


def test_held_client_is_told_as_pending() -> None:
    """As in the status that operators see."""
    document = a_stage(a_round_in(Phase.SELECTION), Phase.SELECTION)["data"]["round"]

    assert document["counts"]["pending"] == document["counts"]["admitted"] == 2
    assert "held" not in document["counts"]


def test_round_is_completed_metrics_weight_and_digest_are_told() -> None:
    """Before, they are none: the mean is not known."""
    claims = {
        "ann": Claim(NORTH, Standing.REPORTED, num_examples=3, metrics={"loss": 1.0}),
        "bob": Claim(NORTH, Standing.REPORTED, num_examples=1, metrics={"loss": 2.0}),
        "cleo": Claim(SOUTH, Standing.DISCARDED, num_examples=9, metrics={"loss": 9.0}),
    }
    round_ = a_round_in(Phase.REPORTING, Closing.PUBLISHING)
    round_ = completed(
        replace(round_, claims=claims, checkpoint_digest=DIGEST), outcome=Outcome.COMMITTED
    )

    before = a_stage(round_, Phase.REPORTING)["data"]["round"]
    after = a_stage(round_, Phase.COMPLETED, outcome=Outcome.COMMITTED)["data"]["round"]

    assert (before["metrics"], before["checkpoint_digest"]) == ({}, "")
    assert (after["metrics"], after["checkpoint_digest"]) == ({"loss": 1.25}, DIGEST)
    assert (after["weight"], after["outcome"], after["deadline_s"]) == (4, "committed", None)


@pytest.mark.parametrize(("phase", "shown"), [(Phase.REPORTING, 200), (Phase.COMPLETED, 300)])
def test_round_has_many_clients_all_are_listed_once_it_is_completed(
    phase: Phase, shown: int
) -> None:
    """How many there are is always said."""
    claims = {f"client-{n}": Claim(NORTH, Standing.REPORTED) for n in range(300)}
    round_ = completed(a_round_in(Phase.REPORTING), claims=claims)

    document = a_stage(round_, phase)["data"]["round"]

    assert (len(document["clients"]), document["clients_total"]) == (shown, 300)
    assert document["clients"][0]["client_id"] == "client-0"


def test_round_has_more_clients_than_an_update_has_room_it_lists_some() -> None:
    """An update that no receiver takes tells nothing."""
    claims = {f"client-{n}": Claim(NORTH, Standing.REPORTED) for n in range(300)}
    round_ = completed(a_round_in(Phase.REPORTING), claims=claims)

    with patch("coordinator.updates.BODY_BYTES_MAX", 20_000):
        document = a_stage(round_, Phase.COMPLETED)["data"]["round"]

    assert 0 < len(document["clients"]) < 300
    assert document["clients_total"] == 300


def test_selectors_are_told_as_they_stand() -> None:
    """Also one that is away."""
    selectors = (
        SelectorPicture("north", "north.example:50051", attached=True, held=3),
        SelectorPicture("south", "", attached=False, held=0),
    )
    picture = Picture(START_S, selectors=selectors, waiting_clients=3, storage_failure="disk-full")

    data = told(Update(Kind.PROGRESS, picture, 0, epoch=1, turn=1))["data"]

    assert data["selectors"] == [
        {"selector_id": "north", "address": "north.example:50051", "attached": True, "held": 3},
        {"selector_id": "south", "address": "", "attached": False, "held": 0},
    ]
    assert (data["waiting_clients"], data["storage_failure"]) == (3, "disk-full")
