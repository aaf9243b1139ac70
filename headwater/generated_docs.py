"""Pages that are generated: written, or compared with what the code says."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path


def write_or_check(arguments: list[str], page: Path, document: str, module: str) -> int:
    """Be a page's command; return its exit status.

    Args:
        arguments: Of the command line: the path to write to, ``page`` without it, and with
            ``--check`` only to compare.
        page: Where the page belongs.
        document: What the code says.
        module: Whose command it is, for the message.
    """
    path = Path(next((word for word in arguments if word != "--check"), page))
    if "--check" not in arguments:
        path.write_text(document, encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == document:
        return 0
    print(f"{path} is out of date: run python -m {module}", file=sys.stderr)
    return 1


def table_row(cells: Iterable[str]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
