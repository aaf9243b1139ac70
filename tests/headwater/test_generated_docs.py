"""Tests of ``headwater.generated_docs``."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.generated_docs import table_row, write_or_check


def run(*arguments: str, page: Path = Path("unused")) -> int:
    """Be the command of a page."""
    return write_or_check(list(arguments), page, "what the code says\n", "a.module")


def test_page_is_what_the_code_says_check_passes(tmp_path: Path) -> None:
    """What was just written is up to date, where it belongs or where it was asked for."""
    page, other = tmp_path / "page.md", tmp_path / "other.md"

    assert (run(page=page), run("--check", page=page)) == (0, 0)
    assert (run(str(other)), run("--check", str(other))) == (0, 0)
    assert page.read_text() == other.read_text() == "what the code says\n"


def test_page_is_stale_or_absent_check_fails_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page is never edited by hand, and checking changes nothing."""
    page = tmp_path / "page.md"

    assert run("--check", page=page) == 1
    page.write_text("what the code said\n")
    assert run("--check", page=page) == 1
    assert capsys.readouterr().err == f"{page} is out of date: run python -m a.module\n" * 2
    assert page.read_text() == "what the code said\n"


def test_cell_has_a_bar_in_it_the_row_is_whole() -> None:
    """A bar ends a cell in Markdown."""
    assert table_row(["`a|b`", "c"]) == "| `a\\|b` | c |"
