"""The ``headwater`` command: one verb for each thing that a person does."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from google.protobuf.json_format import MessageToDict

from client.settings import ClientSettings
from coordinator.settings import CoordinatorSettings
from federation.errors import FederationError, SettingsError
from federation.runtime.settings_command import add_settings_command
from federation.runtime.version import VERSION
from headwater.demo_settings import DemoSettings
from selector.settings import SelectorSettings

app = typer.Typer(
    name="headwater",
    help="Hierarchical federated learning: many small streams, one river.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

CoordinatorOption = Annotated[
    str,
    typer.Option(
        "--coordinator",
        metavar="HOST:PORT",
        envvar="HEADWATER_COORDINATOR",
        help="HOST:PORT of the coordinator.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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
    help="Lay out a shared directory: the model and the weights that training starts from.",
    epilog="Example: headwater init --shared-data ./shared_data --model mine.h5",
)
def init(
    shared_data: Annotated[
        Path,
        typer.Option(
            "--shared-data",
            metavar="DIR",
            envvar="HEADWATER_SHARED_DATA",
            help="Made if it is missing.",
        ),
    ] = Path("shared_data"),
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

    with _errors_said("init"):
        initialise(shared_data, model=model, arrays=arrays, builtin=BUILTIN, force=force)
    what = model or arrays or "the built-in digits model"
    print(f"{shared_data} is ready: training starts from {what}")


add_settings_command(app, CoordinatorSettings, _run_coordinator)
add_settings_command(app, SelectorSettings, _run_selector)
add_settings_command(app, ClientSettings, _run_client)


@app.command(
    help="Say what a federation is doing.",
    epilog="Example: headwater status --coordinator 127.0.0.1:50050 --json",
)
def status(coordinator: CoordinatorOption = "127.0.0.1:50050", as_json: JsonOption = False) -> None:
    """Print the coordinator's status."""
    from headwater.control import get_status
    from headwater.words import status_in_words

    with _errors_said("status"):
        answer = asyncio.run(get_status(coordinator))
    if as_json:
        facts = MessageToDict(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        print(json.dumps(facts, indent=2))
    else:
        print("\n".join(status_in_words(answer)))


@app.command(help="Print the version.", epilog="Example: headwater version")
def version() -> None:
    """Print the version."""
    print(VERSION)


@contextmanager
def _errors_said(verb: str) -> Iterator[None]:
    """End the command with one clear message: status 2 for a wrong setting, else 1."""
    try:
        yield
    except FederationError as error:
        print(f"{verb}: {error}", file=sys.stderr)
        raise typer.Exit(2 if isinstance(error, SettingsError) else 1) from None


def main() -> NoReturn:
    """Be the ``headwater`` command."""
    app()
    raise AssertionError("a Typer application exits")
