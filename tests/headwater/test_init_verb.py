"""``headwater init`` as it is typed."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from headwater.cli import application


def init(root: Path, *flags: str) -> Result:
    """Type the verb."""
    return CliRunner().invoke(application("init"), ["init", "--shared-data", str(root), *flags])


def test_directory_is_laid_out_already_it_is_left_with_if_missing_and_refused_without(
    tmp_path: Path,
) -> None:
    """A container that starts again lays out nothing anew; a person who types it is asked."""
    first = init(tmp_path, "--if-missing")
    checkpoint = tmp_path / "initFiles" / "fl_checkpoint"
    before = checkpoint.stat().st_ino
    again, plain = init(tmp_path, "--if-missing"), init(tmp_path)

    assert (first.exit_code, again.exit_code, plain.exit_code) == (0, 0, 2)
    assert "laid out already" in again.output
    assert checkpoint.stat().st_ino == before
