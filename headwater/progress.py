"""Long work on a terminal: a bar where the bytes are known, else a pulse; elsewhere nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, Task, TaskID, TextColumn
from rich.text import Text

PULSE_PER_S = 8
"""How often the bar is drawn."""


class _Bytes(DownloadColumn):
    """How many bytes of how many; nothing where that is not known."""

    def render(self, task: Task) -> Text:
        """Draw the column."""
        return Text() if task.total is None else super().render(task)


class Bar:
    """One bar at a time; the next piece of work takes the place of the last."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def begin(self, doing: str, total_bytes: int | None) -> None:
        """Show a new bar, which pulses if it is not known how much there is to do."""
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(doing, total=total_bytes)

    def advance(self, done_bytes: int) -> None:
        """Move the bar on."""
        assert self._task is not None, "advance() before begin()"
        self._bars.advance(self._task, done_bytes)


@contextmanager
def bar_on_terminal(console: Console | None = None) -> Iterator[Bar]:
    """Show what is told on standard error, if that is a terminal; at the end it is gone."""
    console = console or Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), _Bytes())
    with Progress(
        *columns,
        console=console,
        disable=not console.is_terminal,
        refresh_per_second=PULSE_PER_S,
        transient=True,
    ) as bars:
        yield Bar(bars)
