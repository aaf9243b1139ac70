"""The mark is what a coordinator wrote, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from federation.runtime.directory_mark import read_mark


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\xff",
        b"[]",
        b"7",
        b'{"host": "a", "pid": 1}',
        b'{"mark": 7}',
        b'{"mark": "short"}',
        b'{"mark": "' + b"a" * 10_000 + b'"}',
    ],
)
def test_lock_has_no_mark_there_is_none(tmp_path: Path, content: bytes | None) -> None:
    """Of an earlier release, cut short, or not ours: no coordinator's mark is not an error."""
    if content is not None:
        (tmp_path / "coordinator").mkdir()
        (tmp_path / "coordinator" / "lock").write_bytes(content)

    assert read_mark(tmp_path) == ""
