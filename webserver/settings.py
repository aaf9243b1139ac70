"""What a webserver can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from federation.runtime.settings import (
    EVERYDAY,
    HostNames,
    HostPort,
    Port,
    RoleSettings,
    Secret,
    Shown,
)
from federation.runtime.user_folders import user_state


def _default_database() -> Path:
    return user_state() / "webserver.db"


class WebserverSettings(RoleSettings):
    """Who may look is decided by host; who may control, also by the control token."""

    role: ClassVar[str] = "webserver"
    summary: ClassVar[str] = "Show a federation live: a page, its API, and a form for sessions."
    example: ClassVar[str] = "headwater webserver --coordinator 127.0.0.1:50050"

    host: Annotated[
        str,
        Field(description="Address to listen on; 0.0.0.0 for every interface.", min_length=1),
        EVERYDAY,
    ] = "127.0.0.1"
    port: Annotated[
        Port,
        Field(description="Port to listen on; 0 picks a free one, printed at the start."),
        EVERYDAY,
    ] = 8050
    database: Annotated[
        Path,
        Field(
            description="SQLite file of what was heard; made if it is not there.",
            default_factory=_default_database,
        ),
        Shown(
            everyday=True,
            default="headwater/webserver.db in $XDG_STATE_HOME or in ~/.local/state",
        ),
    ]
    coordinator: Annotated[
        HostPort | None,
        Field(
            description="HOST:PORT of the coordinator whose sessions can be started and stopped "
            "from the page; without it the page only shows."
        ),
        EVERYDAY,
    ] = None
    shared_data: Annotated[
        Path | None,
        Field(
            description="The federation's shared directory, read only, for downloads of its "
            "checkpoints; without it there are none."
        ),
        EVERYDAY,
    ] = None
    webserver_secret: Annotated[
        Secret | None,
        Field(
            description="Signs the status updates, the same as the coordinator's; without it "
            "updates need no signature. Better given by the environment or a file than by a flag, "
            "which others on the machine can read."
        ),
    ] = None
    control_token: Annotated[
        Secret | None,
        Field(
            description="Who gives this token may start and stop sessions; without it, whoever is "
            "on this machine if the server listens there only, else nobody."
        ),
    ] = None
    allowed_hosts: Annotated[
        HostNames,
        Field(
            description="Name under which browsers reach this server through a reverse proxy; may "
            "be repeated."
        ),
        Shown(flag="--allowed-host"),
    ] = ()
    history_rounds_max: Annotated[
        int,
        Field(ge=100, description="Rounds of a federation that are remembered; older ones go."),
    ] = 100_000
