"""The three views: each tells every stage once, in its own way."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from federation.v1 import control_pb2 as pb
from headwater.views import JsonView, LiveView, PlainView, view_for
from tests.headwater.statuses import a_record, a_stage, a_status


def test_output_is_no_terminal_lines_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """A picture is for terminals only; JSON is for those who ask."""
    assert isinstance(view_for(as_json=False), PlainView)
    assert isinstance(view_for(as_json=True), JsonView)


def test_plain_view_tells_each_stage_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A snapshot that is seen again adds nothing; a new stage adds its line."""
    view = PlainView()
    status = a_status()
    view.show(status)
    before = capsys.readouterr().out.splitlines()
    view.show(status)
    again = capsys.readouterr().out
    status.recent_stages.append(a_stage(3, pb.PHASE_SELECTION, round_number=2))
    view.show(status)
    after = capsys.readouterr().out.splitlines()

    assert [("Selection" in line, "Reporting" in line) for line in before] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    assert again == ""
    assert "Round 2  Selection" in after[0]


def test_json_view_prints_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Stages and completed rounds are told once each, with numbers as numbers."""
    view = JsonView()
    status = a_status(a_record(1, loss=0.5))
    view.show(status)
    view.show(status)
    view.judged(status.recent_rounds[0], {"accuracy": 0.9, "loss": 0.4})
    view.say("done")

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["stage", "stage", "round", "held-out", "note"]
    assert lines[0]["phase"] == "selection"
    assert lines[2]["round_number"] == 1
    assert lines[2]["metrics"] == {"loss": 0.5}


def test_json_view_tells_a_round_s_result_after_its_last_stage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also if the next round has begun when it is told."""
    status = a_status(a_record(1, loss=0.5))
    status.recent_stages.append(a_stage(3, pb.PHASE_COMPLETED))
    status.recent_stages.append(a_stage(4, pb.PHASE_SELECTION, round_number=2))

    JsonView().show(status)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line.get("phase")) for line in lines] == [
        ("stage", "selection"),
        ("stage", "reporting"),
        ("stage", "completed"),
        ("round", None),
        ("stage", "selection"),
    ]


@pytest.mark.parametrize("view", [PlainView, JsonView])
def test_disk_refuses_the_view_tells_it_once_and_when_it_is_over(
    view: type[PlainView | JsonView], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever watches knows why no round begins."""
    watching, refusing = view(), pb.Status(storage_failure="disk-full")
    for status in (pb.Status(), refusing, refusing, pb.Status()):
        watching.show(status)

    first, second = capsys.readouterr().out.splitlines()
    assert "disk-full" in first
    assert "disk-full" not in second


def test_live_view_ends_with_the_last_picture_and_what_was_said() -> None:
    """What was said stays above the picture; the last state stays on the terminal."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120, color_system=None)
    with LiveView(console) as view:
        view.say("All run [not mark-up]")
        view.show(a_status(a_record(1, loss=0.5)))
        view.judged(a_record(1, loss=0.5), {"accuracy": 0.875, "loss": 0.4})

    text = output.getvalue()
    assert "All run [not mark-up]" in text
    assert "0.875" in text
    assert "committed, 3 reports" in text
