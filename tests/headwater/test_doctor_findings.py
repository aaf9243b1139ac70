"""What a check-up's facts mean."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headwater.doctor_findings import (
    CoordinatorSeen,
    Finding,
    Level,
    SelectorSeen,
    SpaceSeen,
    in_words,
    judge_clock,
    judge_coordinator,
    judge_own_mount,
    judge_selectors,
    judge_space,
)

COORDINATOR = CoordinatorSeen(
    "10.0.0.5:50050", version="1.0", shared_data="/srv/hw", mark="c0ffee", doubt_s=0.1
)
NORTH = SelectorSeen("north", "10.0.0.7:50051", attached=True, version="1.0", mark="c0ffee")
SPACE = SpaceSeen(
    free_bytes=10_000, checkpoint_bytes=100, parameters=10, rounds_kept=0, selectors=2
)


def failed(findings: list[Finding]) -> list[str]:
    """Return what failed."""
    return [finding.words for finding in findings if finding.level is Level.FAILED]


def test_everything_is_as_it_should_be_every_line_is_ok() -> None:
    """And nothing is to be mended."""
    findings = [
        *judge_coordinator(COORDINATOR, "1.0"),
        *judge_selectors([NORTH], COORDINATOR, "1.0"),
        judge_own_mount("/data", "c0ffee", COORDINATOR),
        judge_space("/data", SPACE, history_keep=20),
    ]

    assert {finding.level for finding in findings} == {Level.OK}
    assert not any(finding.remedy for finding in findings)


def test_something_is_wrong_every_line_that_says_so_says_how_to_mend_it() -> None:
    """A check-up that leaves one alone with the finding is half a check-up."""
    sick = replace(COORDINATOR, version="0.9", storage_failure="disk-full", ahead_s=60.0)
    findings = [
        *judge_coordinator(replace(COORDINATOR, trouble="no answer"), "1.0"),
        *judge_coordinator(sick, "1.0"),
        *judge_selectors([], COORDINATOR, "1.0"),
        *judge_selectors([replace(NORTH, attached=False, trouble="no answer")], sick, "1.0"),
        *judge_selectors([replace(NORTH, version="", mark="f00d")], sick, "1.0"),
        judge_own_mount("/data", "", COORDINATOR),
        judge_own_mount("/data", "", replace(COORDINATOR, mark="")),
        judge_space("/data", replace(SPACE, free_bytes=1), history_keep=20),
        judge_space("/data", replace(SPACE, free_bytes=1_000), history_keep=20),
    ]

    assert all(finding.remedy for finding in findings if finding.level is not Level.OK)
    assert all(not finding.remedy for finding in findings if finding.level is Level.OK)


def test_coordinator_does_not_answer_nothing_else_is_said_of_it() -> None:
    """What is not known is not judged."""
    findings = list(judge_coordinator(replace(COORDINATOR, trouble="no answer"), "1.0"))

    assert [finding.level for finding in findings] == [Level.FAILED]


def test_coordinator_does_not_answer_selectors_are_not_called_missing() -> None:
    """There may be some; nobody was there to say it."""
    gone = replace(COORDINATOR, trouble="no answer", mark="")

    assert list(judge_selectors([], gone, "1.0")) == []


@pytest.mark.parametrize(
    ("ahead_s", "doubt_s", "level"),
    [
        (1.9, 0.0, Level.OK),
        (-2.1, 0.0, Level.WARNING),
        (2.1, 0.0, Level.WARNING),
        (2.1, 0.5, Level.OK),
    ],
)
def test_clocks_are_apart_it_is_said_beyond_what_the_answer_s_time_explains(
    ahead_s: float, doubt_s: float, level: Level
) -> None:
    """A slow answer is no skew."""
    finding = judge_clock(replace(COORDINATOR, ahead_s=ahead_s, doubt_s=doubt_s))

    assert finding.level is level


@pytest.mark.parametrize(
    ("ahead_s", "words"), [(60.0, "ahead of this"), (-60.0, "behind this machine's")]
)
def test_clock_is_wrong_its_direction_is_said(ahead_s: float, words: str) -> None:
    """So that one knows which one to set."""
    assert words in judge_clock(replace(COORDINATOR, ahead_s=ahead_s)).words


def test_selector_is_of_another_release_it_is_a_warning() -> None:
    """Releases of one protocol work together, and a roll-out passes through it."""
    findings = list(judge_selectors([replace(NORTH, version="0.9")], COORDINATOR, "1.0"))

    assert [f.words for f in findings if f.level is Level.WARNING] == [
        "version 0.9, this command is 1.0"
    ]


@pytest.mark.parametrize("mark", ["", "f00d"])
def test_selector_sees_another_directory_it_failed(mark: str) -> None:
    """Its sums would never be found."""
    findings = list(judge_selectors([replace(NORTH, mark=mark)], COORDINATOR, "1.0"))

    assert any("another directory" in words for words in failed(findings))


def test_selector_is_away_its_old_directory_is_not_judged() -> None:
    """It says what it sees when it attaches."""
    away = SelectorSeen("north", "", attached=False)

    findings = list(judge_selectors([away, replace(NORTH, name="south")], COORDINATOR, "1.0"))

    assert [f.level for f in findings if f.subject == "selector north"] == [Level.WARNING]


def test_selector_was_named_and_is_not_the_coordinator_s_only_its_answer_counts() -> None:
    """It may serve another coordinator; its health says whether it has one."""
    named = SelectorSeen("10.0.0.9:50051", "10.0.0.9:50051", attached=None)

    findings = list(judge_selectors([NORTH, named], COORDINATOR, "1.0"))

    assert [f.words for f in findings if f.subject.endswith("9:50051")] == [
        "serves at 10.0.0.9:50051"
    ]


@pytest.mark.parametrize(
    ("free_bytes", "level"),
    [(519, Level.FAILED), (520, Level.WARNING), (2_519, Level.WARNING), (2_520, Level.OK)],
)
def test_room_is_short_it_failed_for_one_round_and_warns_for_the_history(
    free_bytes: int, level: Level
) -> None:
    """Two sums of two selectors (16 bytes a value), two checkpoints; then those that are kept."""
    seen = replace(SPACE, free_bytes=free_bytes)

    assert judge_space("/data", seen, history_keep=20).level is level


def test_history_is_full_it_needs_no_more_room() -> None:
    """Each new checkpoint replaces an old one."""
    seen = replace(SPACE, free_bytes=520, rounds_kept=20)

    assert judge_space("/data", seen, history_keep=20).level is Level.OK


def test_check_up_in_words_has_a_line_a_finding_the_remedy_below_and_the_sum() -> None:
    """People read it from the top."""
    lines = in_words(
        [
            Finding("clock", Level.OK, "is right"),
            Finding("selector north", Level.FAILED, "is away", "start it"),
        ]
    )

    assert lines == [
        "ok       clock           is right",
        "failed   selector north  is away",
        "                         to mend it: start it",
        "1 ok, 0 warning, 1 failed",
    ]
