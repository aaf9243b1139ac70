"""``headwater init``: lay out a shared directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater.verbs import SharedDataOption, errors_said


def add_init(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        help="Lay out a shared directory, made if it is missing: the model and the weights that "
        "training starts from.",
        epilog="Example: headwater init --shared-data ./shared_data --model mine.h5",
    )(init)


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
    if_missing: Annotated[
        bool,
        typer.Option("--if-missing", help="Leave a directory that is laid out already as it is."),
    ] = False,
) -> None:
    """Initialise a shared directory."""
    from federation.runtime.initialise import initialise
    from federation.runtime.store import SharedDirectory
    from headwater.digits_model import BUILTIN_MODEL
    from headwater.progress import bar_on_terminal

    with errors_said("init"):
        if if_missing and not force and SharedDirectory(shared_data).is_initialised():
            print(f"{shared_data} is laid out already and was left as it is")
            return
    with errors_said("init"), bar_on_terminal() as bar:
        initialise(
            shared_data,
            model=model,
            arrays=arrays,
            builtin=BUILTIN_MODEL,
            force=force,
            progress=bar,
        )
    what = model or arrays or "the built-in digits model"
    print(f"{shared_data} is ready: training starts from {what}")
