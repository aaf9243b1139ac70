"""``headwater checkpoint``: list, show and export what a shared directory holds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.verbs import JsonOption, SharedDataOption, errors_said, print_json

if TYPE_CHECKING:
    from headwater.checkpoints import Checkpoint

app = typer.Typer(
    help="List, show and export checkpoints.",
    epilog="Example: headwater checkpoint list",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def add_checkpoint(root: typer.Typer) -> None:
    """Add the verbs."""
    root.add_typer(app, name="checkpoint")


RoundOption = Annotated[
    int | None,
    typer.Option("--round", metavar="N", help="Of this round; the current one without it."),
]


@app.command(
    "list",
    help="List the checkpoints, oldest first.",
    epilog="Example: headwater checkpoint list --shared-data ./shared_data",
)
def list_(shared_data: SharedDataOption = Path("shared_data"), as_json: JsonOption = False) -> None:
    """Print a row for each checkpoint."""
    from headwater.checkpoints import list_checkpoints
    from headwater.words import metrics_in_words

    with errors_said("checkpoint list"):
        checkpoints = list_checkpoints(shared_data)
    if as_json:
        print_json([checkpoint.facts() for checkpoint in checkpoints])
        return
    table = Table(title=f"Checkpoints in {shared_data}", title_justify="left")
    for heading in ("round", "reports", "weight", "metrics", "completed", "size", "digest"):
        table.add_column(heading)
    for checkpoint in checkpoints:
        manifest = checkpoint.manifest
        table.add_row(
            f"{checkpoint.round_number or 'none'}{' (current)' if checkpoint.current else ''}",
            str(manifest.get("count", "")),
            str(manifest.get("weight", "")),
            Text(metrics_in_words(manifest.get("metrics", {}))),
            _time_in_words(manifest),
            f"{checkpoint.size_bytes:,} B",
            checkpoint.digest[:12],
        )
    Console().print(table)


@app.command(
    help="Describe a checkpoint: its round and its tensors.",
    epilog="Example: headwater checkpoint show --round 3 --json",
)
def show(
    shared_data: SharedDataOption = Path("shared_data"),
    round_number: RoundOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what is known of one checkpoint."""
    from headwater.checkpoints import find_checkpoint, spec_of
    from headwater.words import metrics_in_words

    with errors_said("checkpoint show"):
        checkpoint = find_checkpoint(shared_data, round_number)
        spec = spec_of(checkpoint)
    tensors = [
        {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
        for tensor in spec.tensors
    ]
    if as_json:
        print_json(checkpoint.facts() | {"tensors": tensors})
        return
    manifest = checkpoint.manifest
    print(f"{_origin_in_words(checkpoint)}{', current' if checkpoint.current else ''}")
    print(f"  file     {checkpoint.path}")
    print(f"  digest   {checkpoint.digest}")
    if manifest:
        print(f"  reports  {manifest.get('count')}, of weight {manifest.get('weight')}")
        print(f"  metrics  {metrics_in_words(manifest.get('metrics', {}))}")
    table = Table(title=f"{len(tensors)} tensors, {spec.parameters:,} values", title_justify="left")
    for heading in ("name", "dtype", "shape"):
        table.add_column(heading, overflow="fold")
    for tensor in spec.tensors:
        shape = " x ".join(map(str, tensor.shape)) or "one number"
        table.add_row(Text(tensor.name), tensor.dtype, shape)
    Console().print(table)


@app.command(
    help="Write a checkpoint for another program: h5 (Keras weights), keras (whole model) or npz.",
    epilog="Example: headwater checkpoint export --format keras --output trained.keras",
)
def export(
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="The file to write.")],
    shared_data: SharedDataOption = Path("shared_data"),
    round_number: RoundOption = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", metavar="h5|keras|npz", help="Default: by the file's name."),
    ] = None,
) -> None:
    """Export one checkpoint."""
    from headwater import checkpoints
    from headwater.progress import bar_on_terminal

    with errors_said("checkpoint export"):
        checkpoint = checkpoints.find_checkpoint(shared_data, round_number)
        wanted: Any = file_format or output.suffix.removeprefix(".")
        with bar_on_terminal() as bar:
            checkpoints.export(shared_data, checkpoint, wanted, output, bar)
    print(f"{output}: {_origin_in_words(checkpoint)}")


def _origin_in_words(checkpoint: Checkpoint) -> str:
    number = checkpoint.round_number
    return f"Checkpoint of round {number}" if number else "Weights that no round made"


def _time_in_words(manifest: dict[str, Any]) -> str:
    reporting_s = manifest.get("entered_s", {}).get("reporting")
    if reporting_s is None:
        return ""
    return datetime.fromtimestamp(reporting_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
