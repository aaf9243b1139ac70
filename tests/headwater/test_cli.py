"""The command's shape: verbs that explain themselves."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from federation.runtime.version import VERSION
from headwater.cli import app

runner = CliRunner()
verbs = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # it is a group


def test_command_is_given_nothing_it_lists_its_verbs() -> None:
    """A newcomer types ``headwater`` first."""
    result = runner.invoke(app, [])

    assert all(verb in result.output for verb in verbs)


def test_verb_is_asked_for_help_it_gives_an_example() -> None:
    """One that can be copied."""
    for verb in verbs:
        result = runner.invoke(app, [verb, "--help"])

        assert result.exit_code == 0
        assert f"Example: headwater {verb}" in result.output, verb


@pytest.mark.parametrize("group", ["session", "checkpoint"])
def test_verb_below_a_verb_is_asked_for_help_it_gives_an_example(group: str) -> None:
    """As the verbs above it do."""
    below = sorted(typer.main.get_command(app).commands[group].commands)  # type: ignore[attr-defined]

    assert below
    for verb in below:
        result = runner.invoke(app, [group, verb, "--help"])

        assert f"Example: headwater {group} {verb}" in result.output


def test_version_is_asked_for_it_is_printed() -> None:
    """Alone, for scripts."""
    result = runner.invoke(app, ["version"])

    assert result.output == f"{VERSION}\n"
