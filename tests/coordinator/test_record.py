"""What remains of a round: for operators, for the manifest, for those who started the session."""

from __future__ import annotations

import json

from coordinator.events import CommitFinished, FoldedReport, ReportsFolded, Stopped
from coordinator.record import manifest_of, phase_seconds, record_of
from coordinator.round import Closing, step
from federation.phases import Outcome, Phase
from tests.coordinator.rounds import (
    BASE,
    DIGEST,
    NORTH,
    ONE_EACH,
    ROUND_ID,
    SOUTH,
    START_S,
    a_round_in,
    partial,
    play,
)


def test_committed_round_is_recorded_with_fates_times_and_digest() -> None:
    """All that a person asks afterwards."""
    round_, _ = play(a_round_in(Phase.REPORTING, Closing.PUBLISHING), CommitFinished(ROUND_ID))

    record = record_of(round_)

    assert (record.outcome, record.reason, record.committed) == (Outcome.COMMITTED, "", True)
    assert record.counts.reported == record.counts.admitted == 2
    assert record.checkpoint_digest == DIGEST
    assert set(record.clients) == {"ann", "ben"}
    assert record.plan is round_.plan


def test_abandoned_round_is_recorded_with_its_reason_and_without_a_digest() -> None:
    """Failure is an outcome."""
    round_, _ = play(a_round_in(Phase.CONFIGURATION), Stopped("draining"))

    record = record_of(round_)

    assert (record.outcome, record.reason, record.committed) == (
        Outcome.ABANDONED,
        "draining",
        False,
    )
    assert record.counts.expired == 2


def test_phases_take_from_their_beginning_to_the_next_ones() -> None:
    """The last one has no end; Reporting includes merge and commit."""
    round_ = a_round_in(Phase.SELECTION, clients={NORTH: ("ann",)}, goal_count=2, min_reports=2)

    round_, _ = play(round_, Stopped("draining"), after_s=3.0)

    assert phase_seconds(round_) == {"selection": 3.0}
    assert record_of(round_).seconds == 3.0


def test_phase_that_was_not_reached_has_no_time() -> None:
    """Nothing is made up."""
    assert phase_seconds(a_round_in(Phase.SELECTION)) == {}


def test_manifest_says_whose_reports_are_in_the_checkpoint_and_is_json() -> None:
    """By selector, with the weights, the metrics and the base."""
    round_ = a_round_in(Phase.REPORTING)
    for owner, client_ids in ONE_EACH.items():
        reports = tuple(FoldedReport(c, 10, {"loss": 0.5 * len(c)}) for c in client_ids)
        round_, _ = step(round_, ReportsFolded(owner, ROUND_ID, reports), START_S)
    round_, _ = play(round_, partial(NORTH, "ann"), partial(SOUTH, "ben"))
    assert round_.closing is Closing.WRITING

    manifest = json.loads(json.dumps(manifest_of(round_), allow_nan=False))

    assert (manifest["round_number"], manifest["round_id"]) == (1, ROUND_ID)
    assert manifest["base_digest"] == BASE
    assert {name: s["client_ids"] for name, s in manifest["selectors"].items()} == {
        "north": ["ann"],
        "south": ["ben"],
    }
    assert manifest["count"] == 2
    assert manifest["weight"] == sum(s["weight"] for s in manifest["selectors"].values())
    assert manifest["metrics"] == {"loss": 1.5}
    assert manifest["counts"]["reported"] == 2
    assert manifest["hyperparameters"]["epochs"] == 1
    assert set(manifest["entered_s"]) == {"selection", "configuration", "reporting"}


def test_selector_without_reports_is_in_no_manifest() -> None:
    """Its partial was kept and is empty."""
    round_ = a_round_in(Phase.REPORTING, min_reports=1, goal_count=1, over_selection=2.0)
    reports = (FoldedReport("ann", 10),)
    round_, _ = play(round_, ReportsFolded(NORTH, ROUND_ID, reports))
    round_, _ = play(round_, partial(NORTH, "ann"), partial(SOUTH))

    assert set(manifest_of(round_)["selectors"]) == {"north"}
