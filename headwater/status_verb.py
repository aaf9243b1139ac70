"""``headwater status``: what a federation is doing; and ``headwater version``."""

from __future__ import annotations

from typing import Annotated

import typer

from headwater.verbs import (
    DEFAULT_COORDINATOR,
    CoordinatorOption,
    JsonOption,
    errors_said,
    facts_of,
    print_json,
)


def add_status(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        help="Say what a federation is doing.",
        epilog="Example: headwater status --coordinator 127.0.0.1:50050 --watch",
    )(status)


def add_version(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(help="Print the version.", epilog="Example: headwater version")(version)


def status(
    coordinator: CoordinatorOption = DEFAULT_COORDINATOR,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Go on, as a live picture, or as lines off a terminal."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the coordinator's status, once or for as long as it changes."""
    import asyncio

    from federation.runtime.control import get_status
    from headwater.words import status_in_words

    if watch:
        from headwater.views import watch_until_told

        with errors_said("status"):
            asyncio.run(watch_until_told(coordinator, as_json=as_json))
        return
    with errors_said("status"):
        answer = asyncio.run(get_status(coordinator))
    if as_json:
        print_json(facts_of(answer))
    else:
        print("\n".join(status_in_words(answer)))


def version() -> None:
    """Print the version."""
    from federation.runtime.version import VERSION

    print(VERSION)
