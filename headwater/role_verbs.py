"""The verbs that run something for as long as it is wanted: the roles, and the demo of them all."""

from __future__ import annotations

import typer

from client.settings import ClientSettings
from coordinator.settings import CoordinatorSettings
from federation.runtime.settings_command import add_settings_command
from headwater.demo_settings import DemoSettings
from selector.settings import SelectorSettings
from webserver.settings import WebserverSettings


def add_demo(app: typer.Typer) -> None:
    """Add ``headwater demo``."""

    def run(settings: DemoSettings) -> int:
        from headwater.demo import run

        return run(settings)

    def run_as_json(settings: DemoSettings) -> int:
        from headwater.demo import run

        return run(settings, as_json=True)

    add_settings_command(app, DemoSettings, run, run_as_json)


def add_coordinator(app: typer.Typer) -> None:
    """Add ``headwater coordinator``."""

    def run(settings: CoordinatorSettings) -> int:
        from coordinator.app import run

        return run(settings)

    add_settings_command(app, CoordinatorSettings, run)


def add_selector(app: typer.Typer) -> None:
    """Add ``headwater selector``."""

    def run(settings: SelectorSettings) -> int:
        from selector.app import run

        return run(settings)

    add_settings_command(app, SelectorSettings, run)


def add_client(app: typer.Typer) -> None:
    """Add ``headwater client``."""

    def run(settings: ClientSettings) -> int:
        from client.app import run

        return run(settings)

    add_settings_command(app, ClientSettings, run)


def add_webserver(app: typer.Typer) -> None:
    """Add ``headwater webserver``."""

    def run(settings: WebserverSettings) -> int:
        from webserver.app import run

        return run(settings)

    add_settings_command(app, WebserverSettings, run)
