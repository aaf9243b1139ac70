"""``headwater session`` as it is typed, with a coordinator that was told what to answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from coordinator.settings import PLAN_SETTINGS
from federation.errors import PeerError
from federation.runtime import control
from federation.v1 import control_pb2 as pb
from headwater.cli import application

runner = CliRunner()

RECORD = pb.RoundRecord(
    round_number=3,
    outcome=pb.OUTCOME_COMMITTED,
    counts=pb.Counts(goal_count=2, admit_limit=3, admitted=3, reported=2, lost=1),
    phase_seconds={"selection": 0.25, "configuration": 1.0, "reporting": 2.5},
    metrics={"loss": 0.5},
    checkpoint_digest="c0ffee",
    clients=[
        pb.ClientStatus(
            client_id="ann",
            shape="-v[]+^",
            selector_id="north",
            standing="reported",
            num_examples=7,
            metrics={"loss": 0.25, "\x1b[2J": 1.0},
        ),
        pb.ClientStatus(
            client_id="ben",
            selector_id="south",
            standing="lost",
            reason="client-lost",
            shape="-v[!",
        ),
    ],
)
ABANDONED = pb.RoundRecord(
    round_number=4, outcome=pb.OUTCOME_ABANDONED, reason="too-few-clients", counts=pb.Counts()
)


class Answers:
    """Stands in for the coordinator; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.session = pb.SessionStatus(session_id="s", rounds=5, running=True)
        self.status = pb.Status(session=self.session, recent_rounds=[RECORD, ABANDONED])
        self.refusal: PeerError | None = None

    async def start(self, target: str, rounds: int, plan: dict[str, Any]) -> pb.SessionStatus:
        return self._session("start", target, rounds, plan)

    async def stop(self, target: str, *, after_round: bool) -> pb.SessionStatus:
        return self._session("stop", target, after_round)

    def _session(self, *asked: Any) -> pb.SessionStatus:
        self.asked.append(asked)
        if self.refusal is not None:
            raise self.refusal
        return self.session

    async def get_status(self, target: str) -> pb.Status:
        return self.status

    async def get_rounds(
        self, target: str, from_round: int = 0, limit: int = 0
    ) -> list[pb.RoundRecord]:
        found = [r for r in self.status.recent_rounds if r.round_number >= from_round]
        return found[: limit or None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What the coordinator answers."""
    answers = Answers()
    monkeypatch.setattr(control, "start_session", answers.start)
    monkeypatch.setattr(control, "stop_session", answers.stop)
    monkeypatch.setattr(control, "get_status", answers.get_status)
    monkeypatch.setattr(control, "get_rounds", answers.get_rounds)
    return answers


def session(*words: str) -> Result:
    """Type ``headwater session …``."""
    return runner.invoke(application(), ["session", *words], env={"COLUMNS": "120"})


# -- start and stop ---------------------------------------------------------------------------


def test_session_is_started_only_what_was_typed_is_asked_for(answers: Answers) -> None:
    """The rest is the coordinator's own."""
    result = session(
        "start", "--rounds", "5", "--goal-count", "4", "--learning-rate", "0.05",
        "--selection-pipelined", "--weighting", "equal", "--coordinator", "far:1",
    )  # fmt: skip

    assert result.exit_code == 0
    assert result.stdout == "Session running: 0 of 5 rounds\n"
    plan = {
        "goal_count": 4,
        "learning_rate": 0.05,
        "selection_pipelined": True,
        "weighting": "equal",
    }
    assert answers.asked == [("start", "far:1", 5, plan)]


def test_every_setting_of_the_plan_has_its_flag() -> None:
    """With the coordinator's words for it."""
    result = session("start", "--help")

    assert all(f"--{name.replace('_', '-')} " in result.stdout for name in PLAN_SETTINGS)
    assert "Step size of the clients' optimizer." in result.stdout


def test_rounds_are_not_given_nothing_is_started(answers: Answers) -> None:
    """A session without an end is none."""
    result = session("start")

    assert result.exit_code == 2
    assert "--rounds" in result.stderr
    assert answers.asked == []


@pytest.mark.parametrize(
    ("reason", "status"), [("impossible-plan", 2), ("session-running", 1), ("unavailable", 1)]
)
def test_coordinator_refuses_its_words_are_said_and_the_status_tells_a_wrong_setting(
    answers: Answers, reason: str, status: int
) -> None:
    """Scripts tell what will never work from what may work later."""
    answers.refusal = PeerError("it is like this", reason=reason)

    result = session("start", "--rounds", "1")

    assert result.exit_code == status
    assert result.stderr == f"session start: it is like this ({reason})\n"


@pytest.mark.parametrize(
    ("words", "after_round"), [(("stop",), False), (("stop", "--after-round"), True)]
)
def test_session_is_stopped_its_status_is_said(
    answers: Answers, words: tuple[str, ...], after_round: bool
) -> None:
    """At once, unless its round may complete."""
    answers.session.stopping = True

    result = session(*words)

    assert result.stdout == "Session running: 0 of 5 rounds, stops after this one\n"
    assert answers.asked == [("stop", "127.0.0.1:50050", after_round)]


def test_start_and_stop_are_asked_for_json_it_is_the_session(answers: Answers) -> None:
    """Named as on the wire, with what is zero."""
    facts = [
        json.loads(session(*words, "--json").stdout)
        for words in (("start", "--rounds=5"), ("stop",))
    ]

    expected = {
        "session_id": "s",
        "rounds": 5,
        "rounds_completed": 0,
        "running": True,
        "stopping": False,
    }
    assert facts == [expected, expected]


# -- show -------------------------------------------------------------------------------------


def test_session_is_shown_each_round_has_a_row(answers: Answers) -> None:
    """Outcome, reports, metrics and seconds."""
    result = session("show")

    assert result.stdout.startswith("Session running: 0 of 5 rounds\n")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines_with_cells(result)]
    assert rows == [
        ["3", "committed", "2 of 3", "loss 0.5", "3.8"],
        ["4", "abandoned, too-few-clients", "0 of 0", "", "0.0"],
    ]


def test_nothing_has_run_showing_says_so(answers: Answers) -> None:
    """Without an empty table."""
    answers.status = pb.Status()

    assert session("show").stdout == "No session yet\n"
    assert json.loads(session("show", "--json").stdout) == {"session": None, "rounds": []}


def test_round_is_shown_its_stages_and_each_client_with_its_fate_come(answers: Answers) -> None:
    """What a client named its metrics acts on no terminal."""
    result = session("show", "--round", "3")

    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "Round 3, Completed: committed with 2 reports, 1 lost",
        "  stages   selection 0.2 s, configuration 1.0 s, reporting 2.5 s",
        "  metrics  loss 0.5",
        "  digest   c0ffee",
    ]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines_with_cells(result)]
    assert rows == [
        ["ann", "north", "reported", "-v[]+^", "7", "\\x1b[2J 1, loss 0.25"],
        ["ben", "south", "lost, client-lost", "-v[!", "", ""],
    ]
    assert lines[-1] == "and 1 client more, for whom the answer had no room"


def test_round_that_runs_is_shown_as_far_as_it_is(answers: Answers) -> None:
    """It has no record yet."""
    running = pb.RoundStatus(
        round_number=5,
        phase=pb.PHASE_REPORTING,
        counts=pb.Counts(admitted=1, configured=1, pending=1),
        clients=[pb.ClientStatus(client_id="ann", selector_id="north", standing="pending")],
    )
    answers.status.round.CopyFrom(running)

    result = session("show", "--round", "5")

    assert "Round 5, Reporting: 0 of 1 reported, 1 selector\n" in result.stdout
    assert "pending" in result.stdout


def test_round_is_not_remembered_showing_says_which_are(answers: Answers) -> None:
    """Status 2: another number would be right."""
    result = session("show", "--round", "9")

    assert result.exit_code == 2
    assert result.stderr == (
        "session show: round = 9 is wrong: the newest completed round is 4 (round-unknown)\n"
    )


def test_rounds_are_asked_for_json_it_is_the_contract_s(answers: Answers) -> None:
    """One round or all of them."""
    one = json.loads(session("show", "--round", "3", "--json").stdout)
    every = json.loads(session("show", "--json").stdout)

    assert one["clients"][1]["reason"] == "client-lost"
    assert one["phase_seconds"]["reporting"] == 2.5
    assert [record["round_number"] for record in every["rounds"]] == [3, 4]
    assert every["session"]["running"] is True


def lines_with_cells(result: Result) -> list[str]:
    """Return the lines of a table's rows."""
    return [line for line in result.stdout.splitlines() if line.startswith("│")]
