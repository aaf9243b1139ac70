"""A role's command, derived from its settings: one flag a setting, and ``--show-settings``."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.table import Table
from rich.text import Text

from federation.errors import FederationError, SettingsError
from federation.runtime.settings import (
    CONFIG_VARIABLE,
    Effective,
    RoleSettings,
    S,
    flag_name,
    load_settings,
    shown,
    traced,
)
from federation.runtime.telemetry import configure_logging

MORE = "More settings"

Run = Callable[[S], int | None]
"""What a role does with its settings; returns its exit status, None meaning 0."""


def run_role(settings_class: type[S], run: Run[S]) -> NoReturn:
    """Be the role's ``python -m <role>``: read the settings, run, exit.

    Exit status 2 and one message on standard error for a wrong setting, 1 for another
    ``FederationError``, else what ``run`` returned.
    """
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # in 80 columns the boxes cut long flags short
    )
    add_settings_command(app, settings_class, run)
    app(prog_name=f"python -m {settings_class.role}")
    raise AssertionError("a Typer application exits")


def add_settings_command(
    app: typer.Typer, settings_class: type[S], run: Run[S], run_as_json: Run[S] | None = None
) -> None:
    """Add the role's verb to an application, with the same behaviour as ``run_role``.

    Args:
        app: The application.
        settings_class: The role's model.
        run: What it does.
        run_as_json: What it does with ``--json``, if that means more than how to show settings.
    """
    app.command(
        settings_class.role,
        help=settings_class.summary,
        epilog=f"Example: {settings_class.example}",
    )(settings_command(settings_class, run, run_as_json))


def settings_command(
    settings_class: type[S], run: Run[S], run_as_json: Run[S] | None = None
) -> Callable[..., None]:
    """Make the function behind a role's command; its signature is what Typer reads."""

    def command(config: Path | None, show_settings: bool, as_json: bool, **options: object) -> None:
        flags = {name: value for name, value in options.items() if value is not None}
        try:
            effective = load_settings(settings_class, flags, config)
            if show_settings:
                _show(effective, as_json=as_json)
                return
            settings = effective.settings
            configure_logging(
                settings.log_level,
                settings_class.role,
                settings.log_json,
                stream=sys.stdout if settings.log_to == "stdout" else sys.stderr,
            )
            try:
                status = (run_as_json if as_json and run_as_json else run)(settings)
            except SettingsError as wrong:
                raise traced(wrong, effective.sources) from wrong
        except FederationError as error:
            print(f"{settings_class.role}: {error}", file=sys.stderr)
            raise typer.Exit(2 if isinstance(error, SettingsError) else 1) from None
        raise typer.Exit(status or 0)

    parameters = [
        _parameter(name, field) for name, field in fields_in_order(settings_class).items()
    ]
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # Typer reads it
        [*parameters, *_OWN_PARAMETERS, _json_parameter(lines=run_as_json is not None)]
    )
    return command


def fields_in_order(settings_class: type[RoleSettings]) -> dict[str, FieldInfo]:
    """Return a role's fields as people see them: everyday ones, its others, what all roles have."""

    def rank(item: tuple[str, FieldInfo]) -> tuple[bool, bool]:
        name, field = item
        return not shown(field).everyday, name in RoleSettings.model_fields

    return dict(sorted(settings_class.model_fields.items(), key=rank))


def default_text(field: FieldInfo) -> str:
    """Return a field's default as people read it; empty where there is none."""
    if shown(field).default:
        return shown(field).default
    if field.default is None or field.default is PydanticUndefined:
        return ""
    return value_text(field.default)


def value_text(value: object) -> str:
    """Return a setting's value as people read it; empty for one that is not given."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """Make a field's option: as typed, not converted, so that its errors are ours."""
    kind, words = _kind(field)
    flag = flag_name(name, field)
    default = default_text(field)
    option = typer.Option(
        f"{flag}/--no-{flag.removeprefix('--')}" if kind is bool else flag,
        help=f"{field.description} Default: {default}." if default else field.description,
        metavar=None if kind is bool else words,
        rich_help_panel=None if shown(field).everyday else MORE,
        show_default=False,
    )
    return _keyword(name, kind | None, option, None)


def _kind(field: FieldInfo) -> tuple[Any, str]:
    """Return what Typer hands over for a field, and the word that stands for it in the help."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    kind: Any = kinds[0] if type(None) in get_args(field.annotation) else field.annotation
    if kind is bool:
        return bool, ""
    if get_origin(kind) is tuple:
        return list[str], "TEXT"
    if get_origin(kind) is Literal:
        return str, "|".join(get_args(kind))
    return str, {int: "INTEGER", float: "NUMBER", Path: "PATH"}.get(kind, "TEXT")


def _keyword(name: str, kind: Any, option: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


_OWN_PARAMETERS = (
    _keyword(
        "config",
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help=f"TOML file with one table a role. Default: what {CONFIG_VARIABLE} names.",
            show_default=False,
        ),
        None,
    ),
    _keyword(
        "show_settings",
        bool,
        typer.Option("--show-settings", help="Print the settings, each with its source, and exit."),
        False,
    ),
)


def _json_parameter(*, lines: bool) -> inspect.Parameter:
    words = "Print JSON lines, and nothing else on standard output." if lines else ""
    option = typer.Option("--json", help=f"{words} With --show-settings: print JSON.".strip())
    return _keyword("as_json", bool, option, False)


def _show(effective: Effective[S], *, as_json: bool) -> None:
    settings, sources = effective.settings, effective.sources
    names = fields_in_order(type(settings))
    if as_json:
        values = settings.model_dump(mode="json")
        facts = {name: {"value": values[name], "source": sources[name]} for name in names}
        print(json.dumps({"role": settings.role, "settings": facts}, indent=2))
        return
    table = Table(title=f"Settings of the {settings.role}", title_justify="left")
    for heading in ("setting", "value", "source"):
        table.add_column(heading, overflow="fold")
    for name in names:
        value = value_text(getattr(settings, name))
        table.add_row(*map(Text, (name, value, sources[name])))  # Text: brackets are not mark-up
    Console().print(table)
