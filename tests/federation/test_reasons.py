"""Tests of ``federation.reasons``: the table is what the code says, word by word."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from federation.reasons import OTHER, REASONS, SECTIONS, Reason, bounded
from federation.runtime.rpc import STATUS_OF_REASON

ROOT = Path(__file__).parents[2]
PACKAGES = ("federation", "coordinator", "selector", "client", "webserver", "headwater")
TABLE = ROOT / "federation" / "reasons.py"
LISTS = {"STATUS_OF_REASON"}
"""To be listed here is no use of a word."""

WORD = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
OF_HTTP = {"content-length", "content-type", "sec-fetch-mode", "sec-fetch-site"} | {
    *("headwater-page", "no-cache", "no-referrer", "no-store", "same-origin")
}
NO_REASONS = frozenset({"go-on", "headwater-reason", "held-out", "start-again", "utf-8"}) | OF_HTTP
"""Texts of the form of a reason that are none."""

TAKERS = frozenset(
    {
        *("Decline", "Stopped", "aborted", "break_sum", "complete", "decline", "declined"),
        *("discard", "failed", "stand", "void", "withdraw", "_Dismissed"),
        *("_fail", "_farewell", "_refusal"),
    }
)
"""What takes a reason word by its place."""

STATUS_WORDS = {code.name.lower().replace("_", "-") for code in grpc.StatusCode}
"""What stands for a reason where a call failed without one of ours."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield our modules, by name, parsed."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path != TABLE and not path.match("*_pb2*"):
                tree = ast.parse(path.read_text())
                tree.body = [node for node in tree.body if not is_list(node)]
                yield str(path.relative_to(ROOT)), tree


def is_list(node: ast.stmt) -> bool:
    """Say whether a statement only lists words."""
    target = getattr(node, "target", None)
    return isinstance(target, ast.Name) and target.id in LISTS


def texts_in(node: ast.AST | None) -> Iterator[str]:
    """Yield the texts that an expression may have as its value."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=otherwise):
            yield from [*texts_in(body), *texts_in(otherwise)]
        case ast.BoolOp(values=parts) | ast.Tuple(elts=parts):
            for part in parts:
                yield from texts_in(part)


def is_called_reason(target: ast.expr) -> bool:
    """Say whether what is assigned to is a reason, or has one in it."""
    match target:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name == "reason"
        case ast.Tuple(elts=parts):
            return any(is_called_reason(part) for part in parts)
    return False


def stands_as_a_reason(node: ast.AST) -> Iterator[str]:
    """Yield the texts that this node uses as reasons."""
    match node:
        case ast.keyword(arg="reason", value=value):
            yield from texts_in(value)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=arguments):
            for argument in arguments if name in TAKERS else []:
                yield from texts_in(argument)
        case ast.Assign(targets=[target], value=value) if is_called_reason(target):
            yield from texts_in(value)
        case ast.AnnAssign(target=target, value=value) if is_called_reason(target):
            yield from texts_in(value)
        case ast.Tuple(elts=[ast.Constant(value=False), value]):
            yield from texts_in(value)


def words_in_use() -> dict[str, set[str]]:
    """Return the reason words of the code, and the modules that use each.

    A text with a hyphen is taken for a reason wherever it stands, unless it is known to be none;
    one without only where it is used as one.
    """
    found: dict[str, set[str]] = {}
    for name, tree in modules():
        for node in ast.walk(tree):
            words = {text for text in stands_as_a_reason(node) if WORD.fullmatch(text)}
            match node:
                case ast.Constant(value=str(text)) if "-" in text and WORD.fullmatch(text):
                    words.add(text)
            for word in words - NO_REASONS:
                found.setdefault(word, set()).add(name)
    return found


IN_USE = words_in_use()


def test_reason_is_used_in_the_code_it_is_in_the_table() -> None:
    """Who meets a word finds what to do; a text that is no reason is listed above."""
    missing = {word: sorted(names) for word, names in IN_USE.items() if word not in REASONS}

    assert missing == {}, "add them to federation/reasons.py, then python -m headwater.errors_docs"


def test_reason_is_in_the_table_the_code_uses_it() -> None:
    """What nobody can meet is not documented."""
    assert REASONS.keys() - IN_USE.keys() - STATUS_WORDS == set()


def test_reason_has_a_status_of_its_own_it_is_in_the_table() -> None:
    """The status of a word that nobody raises is dead."""
    assert STATUS_OF_REASON.keys() <= REASONS.keys()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise PeerError('no', reason='stale')", {"stale"}),
        ("class E(PeerError):\n    reason = 'late'", {"late"}),
        ("reason = 'full' if many else 'draining'", {"full", "draining"}),
        ("member.reason, member.detail = 'late', 'It came too late.'", {"late"}),
        ("return False, 'stale'", {"stale"}),
        ("return (True, '') if same else (False, 'repeated')", {"repeated"}),
        ("draft.decline(owner, client_id, 'full')", {"full"}),
        ("desk.close(cohort, reason=end.reason or 'over', window=w)", {"over"}),
        ("print('full')", set()),
    ],
)
def test_word_without_a_hyphen_is_found_where_it_is_a_reason(code: str, words: set[str]) -> None:
    """The guard sees each way in which the code gives a reason."""
    nodes = list(ast.walk(ast.parse(code)))

    found = {text for node in nodes for text in stands_as_a_reason(node) if WORD.fullmatch(text)}
    assert found == words


def test_word_is_in_the_table_once() -> None:
    """Else one of its two meanings is lost."""
    assert len(REASONS) == sum(len(section) for section in SECTIONS.values())


@pytest.mark.parametrize("reason", REASONS.values(), ids=lambda reason: reason.word)
def test_reason_is_described_in_whole_sentences(reason: Reason) -> None:
    """A word of lower case and hyphens, and sentences that fit into a table."""
    assert WORD.fullmatch(reason.word)
    assert reason.met_by
    for sentence in (reason.means, reason.to_do):
        assert re.fullmatch(r"[A-Z`].*\.", sentence)


def test_word_is_not_in_the_table_a_counter_calls_it_other() -> None:
    """A peer's own words are no labels."""
    assert (bounded("not-finite"), bounded("whatever-a-peer-says")) == ("not-finite", OTHER)
