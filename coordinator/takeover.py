"""What the process before this one left: its memory, and what webservers are still to be told."""

from __future__ import annotations

import secrets
from pathlib import Path

from coordinator.announcer import Announcer
from coordinator.memory import Memory
from coordinator.outbox import Outbox
from coordinator.outbox_file import remove_outbox
from coordinator.webhook import Push
from federation.runtime.disk import store_errors, write_atomically

OUTBOX = "outbox.sqlite"
"""In the coordinator's own folder."""


def federation_id_in(folder: Path) -> str:
    """Return the name that the federation on this shared directory has for life.

    Raises:
        StoreError: The disk refused.
    """
    path = folder / "federation_id"
    with store_errors(path, "read"):
        if not path.exists():
            drawn = f"{secrets.token_hex(8)}\n"
            write_atomically(path, lambda new: new.write_text(drawn))
        return path.read_text().strip()


def take_up(
    folder: Path, last_round_number: int, push: Push, *, epoch: int, federation_id: str
) -> tuple[Memory, Announcer | None]:
    """Return what the process before this one remembered, and who tells webservers of it.

    Blocks; once, before the driver begins.

    Args:
        folder: The coordinator's own folder in the shared directory.
        last_round_number: Highest number of a round that the shared directory knows of.
        push: Which webservers are told.
        epoch: Rises with each start of the coordinator.
        federation_id: Whose updates they are.

    Raises:
        StoreError: The disk refused.
    """
    path = folder / OUTBOX
    if not push.urls:
        remove_outbox(path)
        return Memory(folder, last_round_number), None
    outbox = Outbox(path)
    memory = Memory(folder, last_round_number, outbox.told)
    announcer = Announcer(push, outbox, memory, federation_id, epoch)
    announcer.begin()
    return memory, announcer
