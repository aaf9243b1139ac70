"""The ``headwater`` command: one verb for each thing that a person does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from client.settings import ClientSettings
from coordinator.settings import CoordinatorSettings
from federation.runtime.settings_command import add_settings_command
from federation.runtime.version import VERSION
from headwater import checkpoint_verbs, session_verbs
from headwater.demo_settings import DemoSettings
from headwater.verbs import (
    DEFAULT_COORDINATOR,
    CoordinatorOption,
    JsonOption,
    SharedDataOption,
    errors_said,
    facts_of,
    print_json,
)
from selector.settings import SelectorSettings

app = typer.Typer(
    name="headwater",
    help="Hierarchical federated learning: many small streams, one river.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _run_demo(settings: DemoSettings) -> int:
    from headwater.demo import run

    return run(settings)


def _run_coordinator(settings: CoordinatorSettings) -> int:
    from coordinator.app import run

    return run(settings)


def _run_selector(settings: SelectorSettings) -> int:
    from selector.app import run

    return run(settings)


def _run_client(settings: ClientSettings) -> int:
    from client.app import run

    return run(settings)


add_settings_command(app, DemoSettings, _run_demo)


@app.command(
    help="Lay out a shared directory, made if it is missing: the model and the weights that "
    "training starts from.",
    epilog="Example: headwater init --shared-data ./shared_data --model mine.h5",
)
def init(
    shared_data: SharedDataOption = Path("shared_data"),
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="FILE.h5", help="A Keras model, saved with model.save."),
    ] = None,
    arrays: Annotated[
        Path | None,
        typer.Option(
            "--arrays", metavar="FILE.npz", help="Named arrays, for models that are not Keras'."
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Start again from these weights; history is kept."),
    ] = False,
) -> None:
    """Initialise a shared directory."""
    from federation.runtime.initialise import initialise
    from headwater.local import BUILTIN

    with errors_said("init"):
        initialise(shared_data, model=model, arrays=arrays, builtin=BUILTIN, force=force)
    what = model or arrays or "the built-in digits model"
    print(f"{shared_data} is ready: training starts from {what}")


add_settings_command(app, CoordinatorSettings, _run_coordinator)
add_settings_command(app, SelectorSettings, _run_selector)
add_settings_command(app, ClientSettings, _run_client)


@app.command(
    help="Say what a federation is doing.",
    epilog="Example: headwater status --coordinator 127.0.0.1:50050 --watch",
)
def status(
    coordinator: CoordinatorOption = DEFAULT_COORDINATOR,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Go on, as a live picture, or as lines off a terminal."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the coordinator's status, once or for as long as it changes."""
    from headwater.control import get_status
    from headwater.views import watch_until_told
    from headwater.words import status_in_words

    if watch:
        with errors_said("status"):
            asyncio.run(watch_until_told(coordinator, as_json=as_json))
        return
    with errors_said("status"):
        answer = asyncio.run(get_status(coordinator))
    if as_json:
        print_json(facts_of(answer))
    else:
        print("\n".join(status_in_words(answer)))


app.add_typer(session_verbs.app, name="session")
app.add_typer(checkpoint_verbs.app, name="checkpoint")


@app.command(help="Print the version.", epilog="Example: headwater version")
def version() -> None:
    """Print the version."""
    print(VERSION)


def main() -> NoReturn:
    """Be the ``headwater`` command."""
    app()
    raise AssertionError("a Typer application exits")
