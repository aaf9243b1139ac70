"""Tests of ``headwater.errors_docs``."""

from __future__ import annotations

from federation.reasons import REASONS, SECTIONS
from headwater.errors_docs import errors_document


def test_reason_is_in_the_table_the_page_has_a_row_of_it() -> None:
    """With who meets it, what it means and what to do."""
    rows = [line for line in errors_document().splitlines() if line.startswith("| `")]

    assert rows == [
        f"| `{r.word}` | {r.met_by} | {r.means} | {r.to_do} |" for r in REASONS.values()
    ]


def test_page_is_read_its_sections_are_headed() -> None:
    """A hundred words want an order."""
    headings = [
        line.removeprefix("## ") for line in errors_document().splitlines() if line[:3] == "## "
    ]

    assert headings == list(SECTIONS)
