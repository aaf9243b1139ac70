"""What a demo can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from federation.runtime.settings import EVERYDAY, RoleSettings, Seconds, Shown


class DemoSettings(RoleSettings):
    """A federation on this machine: real processes, real data, free ports."""

    role: ClassVar[str] = "demo"
    summary: ClassVar[str] = "Run a whole federation on this machine, on real handwritten digits."
    example: ClassVar[str] = "headwater demo --rounds 5 --clients 6 --selectors 3"

    rounds: Annotated[int, Field(ge=1, description="Rounds to run."), EVERYDAY] = 10
    clients: Annotated[
        int, Field(ge=1, le=64, description="Training clients; each is a process."), EVERYDAY
    ] = 4
    selectors: Annotated[
        int, Field(ge=1, le=64, description="Selectors; each is a process."), EVERYDAY
    ] = 2
    shared_data: Annotated[
        Path | None,
        Field(
            description="The shared directory; one that is laid out goes on from its checkpoint."
        ),
        Shown(everyday=True, default="a temporary folder, kept at the end"),
    ] = None
    skew: Annotated[
        float,
        Field(
            gt=0,
            le=1e6,
            description="How unevenly the digits are dealt to the clients: 0.1 very, 100 hardly.",
        ),
        EVERYDAY,
    ] = 0.5
    seed: Annotated[int, Field(ge=0, description="Seed of the dealing."), EVERYDAY] = 0
    epochs: Annotated[int, Field(ge=1, description="Passes over each client's data.")] = 5
    batch_size: Annotated[int, Field(ge=1, description="Examples a training step.")] = 32
    learning_rate: Annotated[
        float, Field(gt=0, description="Step size of the clients' optimizer.")
    ] = 0.4

    exit: Annotated[
        bool,
        Field(
            description="End after the last round also on a terminal, where the page would stay "
            "up until Ctrl-C."
        ),
        EVERYDAY,
    ] = False
    drain_s: Annotated[Seconds, Field(description="Seconds that each process has to end in.")] = 2.0
    log_json: Annotated[bool, Field(description="Log JSON lines instead of text for people.")] = (
        False
    )
