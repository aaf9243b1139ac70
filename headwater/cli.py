"""The ``headwater`` command: one verb for each thing that a person does."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import NoReturn

import typer

VERBS = {
    "demo": "headwater.role_verbs:add_demo",
    "init": "headwater.init_verb:add_init",
    "coordinator": "headwater.role_verbs:add_coordinator",
    "selector": "headwater.role_verbs:add_selector",
    "client": "headwater.role_verbs:add_client",
    "webserver": "headwater.role_verbs:add_webserver",
    "status": "headwater.status_verb:add_status",
    "session": "headwater.session_verbs:add_session",
    "doctor": "headwater.doctor:add_doctor",
    "checkpoint": "headwater.checkpoint_verbs:add_checkpoint",
    "version": "headwater.status_verb:add_version",
}
"""What adds each verb, in the order in which the help lists them."""


def application(first_word: str = "") -> typer.Typer:
    """Make the command, of one verb if that is the first word, else of all.

    A verb's module is imported only with it: what describes the settings of all roles takes longer
    to load than most verbs take to run.
    """
    app = typer.Typer(
        name="headwater",
        help="Hierarchical federated learning: many small streams, one river.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        callback=_nothing,  # with it, a single verb stays a verb
    )
    for verb in [first_word] if first_word in VERBS else VERBS:
        module, _, name = VERBS[verb].partition(":")
        add: Callable[[typer.Typer], None] = getattr(importlib.import_module(module), name)
        add(app)
    return app


def _nothing() -> None:
    pass


def main() -> NoReturn:
    """Be the ``headwater`` command."""
    application(sys.argv[1] if len(sys.argv) > 1 else "")()
    raise AssertionError("a Typer application exits")
