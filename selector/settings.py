"""What a selector can be told."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from federation.identifiers import checked_selector_id
from federation.runtime.settings import (
    EVERYDAY,
    HostPort,
    Port,
    PositiveSeconds,
    RoleSettings,
    Shown,
)


def _id_of_this_host() -> str:
    return socket.gethostname().lower()


class SelectorSettings(RoleSettings):
    """A selector's own limits; what a round asks of it comes from the coordinator."""

    role: ClassVar[str] = "selector"
    summary: ClassVar[str] = "Hold clients, hand out the model, and sum up their reports."
    example: ClassVar[str] = "headwater selector --selector-id north --coordinator 10.0.0.5:50050"

    shared_data: Annotated[
        Path,
        Field(description="The shared directory, the same as the coordinator's."),
        EVERYDAY,
    ] = Path("shared_data")
    host: Annotated[
        str,
        Field(description="Address to listen on; 0.0.0.0 for every interface.", min_length=1),
        EVERYDAY,
    ] = "127.0.0.1"
    port: Annotated[
        Port,
        Field(description="Port to listen on; 0 picks a free one, printed at the start."),
        EVERYDAY,
    ] = 50051
    coordinator: Annotated[
        HostPort, Field(description="HOST:PORT of the coordinator."), EVERYDAY
    ] = "127.0.0.1:50050"
    selector_id: Annotated[
        str,
        AfterValidator(checked_selector_id),
        Field(
            description="Name of this selector and of its folder in the shared directory; of two "
            "with one name the newer wins.",
            default_factory=_id_of_this_host,
        ),
        Shown(everyday=True, default="the host's name in lower case"),
    ]
    advertise: Annotated[
        HostPort | None,
        Field(description="HOST:PORT at which clients reach this selector."),
        Shown(default="host:port, with this machine's name for a host that means every interface"),
    ] = None

    metrics_port: Annotated[
        Port | None,
        Field(
            description="Port for Prometheus' metrics (docs/metrics.md), on the same host; 0 picks "
            "a free one, without it there are none."
        ),
    ] = None

    held_max: Annotated[
        int, Field(ge=1, description="Clients that may be held at once; further ones are declined.")
    ] = 20_000
    reports_in_flight_max: Annotated[
        int,
        Field(
            ge=1,
            description="Reports that are received at once, each in a buffer of the model's "
            "size; further ones wait.",
        ),
    ] = 4
    report_stall_s: Annotated[
        PositiveSeconds,
        Field(
            description="Seconds without a byte of a report that was permitted; at their end its "
            "place is given to the next."
        ),
    ] = 30.0
    keep_updates: Annotated[
        bool,
        Field(description="Keep each accepted update in roundFiles/, for an audit."),
    ] = False
    spool: Annotated[
        bool,
        Field(
            description="Keep each accepted update in the folder spool of the selector's own until "
            "its sum is kept: started again after a crash, the selector goes on with its round."
        ),
    ] = False
    spool_bytes_max: Annotated[
        int,
        Field(
            ge=1,
            description="Bytes of the spool, which needs the reports of a round times the model's "
            "size; further reports are to go to another selector.",
        ),
    ] = 64 * 2**30
