"""Tests of ``headwater.progress``."""

from __future__ import annotations

import io

from rich.console import Console

from headwater.progress import bar_on_terminal


def test_it_is_not_known_how_much_there_is_no_number_is_shown() -> None:
    """0 of nobody knows how much says nothing."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100, color_system=None)
    with bar_on_terminal(console) as bar:
        bar.begin("Reading model.h5 [mine]", None)

    assert "Reading model.h5 [mine]" in output.getvalue()
    assert "bytes" not in output.getvalue()


def shown(*, terminal: bool) -> str:
    """Do two pieces of work, and return what a person sees."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=100, color_system=None)
    with bar_on_terminal(console) as bar:
        bar.begin("Reading model.h5 [mine]", None)
        bar.begin("Copying model.h5", 2_000_000)
        bar.advance(1_000_000)
    return output.getvalue()


def test_work_is_long_a_terminal_shows_how_far_it_is() -> None:
    """In bytes, where they are known."""
    text = shown(terminal=True)

    assert "Copying model.h5" in text
    assert "1.0/2.0 MB" in text


def test_output_is_no_terminal_nothing_is_shown() -> None:
    """A log has no use of a bar."""
    assert shown(terminal=False) == ""
