"""What a selector tells others of where it is."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from selector.app import Limits, SelectorServer
from tests.servers import a_shared_directory


@pytest.mark.parametrize(
    ("host", "advertise", "told"),
    [
        ("0.0.0.0", None, socket.gethostname()),
        ("::", None, socket.gethostname()),
        ("127.0.0.1", None, "127.0.0.1"),
        ("0.0.0.0", "hw.example.org:7", "hw.example.org"),
    ],
)
async def test_selector_listens_on_every_interface_clients_are_told_a_name(
    host: str, advertise: str | None, told: str, tmp_path: Path
) -> None:
    """Who dials 0.0.0.0 reaches itself."""
    a_shared_directory(tmp_path, {"w": np.zeros(3, np.float32)})
    server = SelectorServer("north", tmp_path, "127.0.0.1:1", Limits())

    await server.start(host, 0, advertise)

    assert server.selector.address.rpartition(":")[0] == told
    await server.stop(0.0)
