"""Defects that other systems have, read in their code: each has a test that tells its story.

Most tests stand beside the part that could have the defect, and their docstrings tell of it after
the word *Elsewhere*; those that belong to no single part are here. ``docs/reliability.md`` has the
whole table, and the tests at the end hold it to the code.
"""

from __future__ import annotations

import ast
import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from coordinator.events import Owner
from coordinator.merging import merge
from coordinator.strategy import FederatedAveraging
from federation.aggregation import WeightedMean
from federation.tensors import ModelSpec
from tests.coordinator.partials import ROUND_ID, base_digest, hand_in
from tests.coordinator.test_service import Stand, a_stand
from tests.raw_selector import RawSelector
from tests.selector.stage import ZEROS
from tests.servers import a_scripted_coordinator, a_selector, a_shared_directory
from tests.waiting import eventually, within

ROOT = Path(__file__).parent.parent.parent
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "reliability.md"

ROLES = ("federation", "coordinator", "selector", "client", "headwater")

UNSAFE = frozenset({"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"})
"""Modules that make code out of bytes."""


# -- Tests that belong to no single part ------------------------------------------------------


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with a_stand(tmp_path) as stand:
        yield stand


async def test_check_ins_race_the_broadcast_each_is_answered_once_and_all_are_configured(
    stand: Stand,
) -> None:
    """Whoever comes as the goal is reached hears that it is, and delays nobody.

    Elsewhere: in a prototype of this design a late check-in that raced the broadcast of the goal
    deadlocked its selector, and the broadcast, which went from one selector to the next, never
    reached the others.
    """
    goal, each = 6, 4
    selectors = [await stand.attached(name, f"{name}-1") for name in ("east", "north", "south")]
    await stand.start(goal_count=goal)

    await asyncio.gather(
        *(
            selector.check_in(f"{selector.selector_id}-{number}")
            for number in range(each)
            for selector in selectors
        )
    )
    answers = await asyncio.gather(*(answers_of(selector, each) for selector in selectors))

    answered = [client_id for _, client_ids in chain(*answers) for client_id in client_ids]
    configured = [c for kind, ids in chain(*answers) if kind == "configure_round" for c in ids]
    assert len(configured) == goal
    assert len(answered) == len(set(answered)) == each * len(selectors)


async def answers_of(selector: RawSelector, count: int) -> list[tuple[str, list[str]]]:
    """Return what a selector is told of its clients, until so many were spoken of."""
    answers: list[tuple[str, list[str]]] = []
    while sum(len(client_ids) for _, client_ids in answers) < count:
        command = await within(selector.call.read())
        kind = command.WhichOneof("command")
        if kind in ("configure_round", "decline_clients"):
            answers.append((kind, list(getattr(command, kind).client_ids)))
    return answers


def test_examples_are_few_each_of_them_weighs() -> None:
    """The weight is the number of examples, whatever it is, from 1 on.

    Elsewhere: in a prototype the weight was the examples by 64, rounded down: a small client did
    not count, and a round of small clients was 0/0, which made every weight NaN.
    """
    zeros, ones = {"w": np.zeros(3, np.float32)}, {"w": np.ones(3, np.float32)}
    mean = WeightedMean(ModelSpec.of(zeros))

    mean.add(zeros, 1, "small")
    mean.add(ones, 3, "also-small")

    assert mean.weight == 4
    assert np.all(mean.result()["w"] == np.float32(0.75))


class Counting(FederatedAveraging):
    """Notes how many sums each call was given."""

    def __init__(self) -> None:
        self.sums: list[int] = []

    def next_block(
        self, sums: Sequence[NDArray[np.float64]], total_weight: int, dtype: DTypeLike
    ) -> NDArray[Any]:
        """Average, and note."""
        self.sums.append(len(sums))
        return super().next_block(sums, total_weight, dtype)


def test_three_selectors_hand_in_the_strategy_runs_once_over_all_sums(tmp_path: Path) -> None:
    """A server's optimizer has one state and takes one step a round, at the root.

    Elsewhere: FEDn runs the server's optimizer once for each combiner, so that three of them take
    three steps a round.
    """
    weights = {"w": np.ones((2, 3), np.float32)}
    directory = a_shared_directory(tmp_path, weights)
    owners = [Owner(name, f"{name}-1") for name in ("east", "north", "south")]
    kept = [
        (owner, hand_in(directory, owner, {f"of-{owner.selector_id}": (weights, 1)}))
        for owner in owners
    ]
    strategy = Counting()

    facts = {"round_id": ROUND_ID, "base_digest": base_digest(directory)}
    merge(directory, kept, 1, facts, strategy, threading.Event())

    assert strategy.sums == [len(owners)]


async def test_selector_attached_a_moment_ago_it_works_before_its_first_heartbeat(
    tmp_path: Path,
) -> None:
    """The welcome is a sign of life: time without an answer counts from there.

    Elsewhere: the detection of dead clients fires before the first heartbeat was due, and removes
    those that have just come.
    """
    a_shared_directory(tmp_path, ZEROS)
    async with AsyncExitStack() as stack:
        coordinator, port = await stack.enter_async_context(a_scripted_coordinator(30.0))
        coordinator.answers_heartbeats = False
        server = await stack.enter_async_context(a_selector(tmp_path, port))
        await coordinator.attachment()

        await eventually(server.uplink.attached.is_set)

        assert server.selector.is_attached()


@pytest.mark.parametrize("role", ROLES)
def test_nothing_that_comes_from_a_peer_becomes_code(role: str) -> None:
    """No module of ours can unpickle or evaluate anything.

    Elsewhere: models and messages travel as pickles, and whoever sends one runs what it likes.
    """
    for path in sorted((ROOT / role).rglob("*.py")):
        tree = ast.parse(path.read_text())
        imported = {name.partition(".")[0] for name in _imports(tree)}
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        called = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
        keywords = {
            keyword.arg
            for call in calls
            for keyword in call.keywords
            if not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        }

        assert not imported & UNSAFE, path
        assert not called & {"eval", "exec"}, path
        assert "allow_pickle" not in keywords, path


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


# -- The table --------------------------------------------------------------------------------


def rows() -> list[str]:
    """Return the tests that the page names, as ``folder/test_file.py::test_name``."""
    table = PAGE.read_text().partition("## Defects of others")[2].partition("\n## ")[0]
    return re.findall(r"`([\w/]+\.py::\w+)`", table)


def docstring_of(test: str) -> str:
    """Return what a test says; raises ``LookupError`` if there is none of that name."""
    file, _, name = test.partition("::")
    for node in ast.walk(ast.parse((TESTS / file).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
    raise LookupError(f"{test} is not there any more")


@pytest.mark.parametrize("test", rows())
def test_page_names_a_test_it_is_there_and_tells_the_story(test: str) -> None:
    """A table of tests that were renamed proves nothing."""
    assert "Elsewhere:" in docstring_of(test)


def test_story_is_told_in_a_test_the_page_has_it() -> None:
    """The table is whole, too."""
    told = {
        f"{path.relative_to(TESTS)}::{node.name}"
        for path in TESTS.rglob("test_*.py")
        if "Elsewhere:" in path.read_text()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and "Elsewhere:" in (ast.get_docstring(node) or "")
    }

    assert told == set(rows())
