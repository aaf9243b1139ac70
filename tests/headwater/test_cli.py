"""The command's shape: verbs that explain themselves."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import headwater
from federation.runtime.version import VERSION
from headwater.cli import VERBS, application

runner = CliRunner()


def commands_of(app: typer.Typer) -> dict[str, Any]:
    """Return the commands of an application, by name."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return commands


def loaded_by(*words: str) -> set[str]:
    """Return the modules that the command loads to run with these words."""
    script = (
        "import sys\n"
        f"sys.argv[1:] = {list(words)}\n"
        "from headwater.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print('|', *sys.modules)"
    )
    command = [sys.executable, "-c", script]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(printed.rpartition("|")[2].split())


def test_command_is_given_nothing_it_lists_its_verbs() -> None:
    """A newcomer types ``headwater`` first."""
    result = runner.invoke(application(), [])

    assert all(verb in result.output for verb in VERBS)


def test_verb_is_asked_for_help_it_gives_an_example() -> None:
    """One that can be copied."""
    for verb in VERBS:
        result = runner.invoke(application(verb), [verb, "--help"])

        assert result.exit_code == 0
        assert f"Example: headwater {verb}" in result.output, verb


@pytest.mark.parametrize("group", ["session", "checkpoint"])
def test_verb_below_a_verb_is_asked_for_help_it_gives_an_example(group: str) -> None:
    """As the verbs above it do."""
    below = sorted(commands_of(application())[group].commands)

    assert below
    for verb in below:
        result = runner.invoke(application(group), [group, verb, "--help"])

        assert f"Example: headwater {group} {verb}" in result.output


def test_version_is_asked_for_it_is_printed() -> None:
    """Alone, for scripts."""
    result = runner.invoke(application("version"), ["version"])

    assert result.output == f"{VERSION}\n"


@pytest.mark.parametrize("first_word", ["status", "--help", "", "stauts"])
def test_first_word_is_a_verb_only_that_one_is_made(first_word: str) -> None:
    """Whatever else is typed gets all of them, to list or to suggest one."""
    made = commands_of(application(first_word)).keys()

    assert made == ({"status"} if first_word == "status" else VERBS.keys())


@pytest.mark.parametrize("verb", ["status", "init", "checkpoint", "version"])
def test_verb_is_asked_for_help_it_loads_neither_numpy_nor_grpc(verb: str) -> None:
    """A command that only says something says it at once."""
    loaded = loaded_by(verb, "--help")

    assert "headwater.verbs" in loaded
    assert not loaded & {"numpy", "grpc", "google.protobuf", "pydantic_settings", "tensorflow"}


def test_package_is_imported_its_names_are_loaded_when_they_are_used() -> None:
    """``import headwater`` costs nothing; every public name is there all the same."""
    script = (
        "import sys, headwater\n"
        "early = {'numpy', 'grpc'} & set(sys.modules)\n"
        "missing = [name for name in headwater.__all__ if name not in dir(headwater)]\n"
        "found = [getattr(headwater, name).__name__ for name in headwater.__all__]\n"
        "print(early, missing, found == headwater.__all__, 'tensorflow' in sys.modules)"
    )

    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert printed.stdout.decode() == "set() [] True False\n"


def test_package_has_no_such_name_it_is_an_ordinary_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'Coordinator'"):
        headwater.Coordinator  # noqa: B018 - what is tested
