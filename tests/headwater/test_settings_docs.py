"""Tests of ``headwater.settings_docs``."""

from __future__ import annotations

import shlex

import pytest
import typer
from typer.testing import CliRunner

from federation.runtime.settings import (
    ROLES,
    SECRET_NAMES,
    SETTING_NAMES,
    RoleSettings,
    file_variable,
    flag_name,
    is_secret,
)
from federation.runtime.settings_command import add_settings_command
from headwater.settings_docs import SETTINGS_CLASSES, settings_document

ALL = pytest.mark.parametrize("settings_class", SETTINGS_CLASSES)


def test_models_of_all_roles_their_names_are_the_known_ones() -> None:
    """A variable of another role is told from a misspelt one by this list."""
    names = {name for model in SETTINGS_CLASSES for name in model.model_fields}

    assert names == SETTING_NAMES
    assert tuple(model.role for model in SETTINGS_CLASSES) == ROLES


def test_secrets_of_all_roles_their_names_are_the_known_ones() -> None:
    """The variable of another role's secret file is told from a misspelt one by this list."""
    fields = [item for model in SETTINGS_CLASSES for item in model.model_fields.items()]

    assert {name for name, field in fields if is_secret(field)} == SECRET_NAMES


def test_setting_is_a_secret_the_page_names_the_variable_of_its_file() -> None:
    """Who runs containers finds how to hand over a secret that nobody can list."""
    page = settings_document()

    assert all(f"`{file_variable(name)}`" in page for name in SECRET_NAMES)


@ALL
def test_setting_is_declared_the_page_describes_it(settings_class: type[RoleSettings]) -> None:
    """Each has a sentence, and the page has each."""
    page = settings_document()

    for name, field in settings_class.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert field.description in page
        assert f"`{flag_name(name, field)}`" in page


@ALL
def test_duration_is_declared_its_unit_ends_the_name(settings_class: type[RoleSettings]) -> None:
    """What is told in seconds is called seconds."""
    for name, field in settings_class.model_fields.items():
        assert (field.description or "").startswith("Seconds") == name.endswith("_s"), name


@ALL
def test_example_of_a_role_is_copied_it_works(settings_class: type[RoleSettings]) -> None:
    """What the help shows can be typed."""
    app = typer.Typer()
    add_settings_command(app, settings_class, lambda _: 1)
    program, role, *arguments = shlex.split(settings_class.example)

    result = CliRunner().invoke(app, [*arguments, "--show-settings"])

    assert (program, role, result.exit_code) == ("headwater", settings_class.role, 0)
