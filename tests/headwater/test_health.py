"""The check that containers run."""

from __future__ import annotations

import asyncio
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from headwater.health import NotReadyError, ask_grpc, ask_http, main, with_port
from tests.servers import HOST, a_coordinator, a_selector, a_shared_directory
from tests.waiting import eventually


async def test_server_serves_it_is_ready_and_without_its_coordinator_it_is_not(
    tmp_path: Path,
) -> None:
    """A selector that no coordinator knows is up, and still nothing to send clients to."""
    a_shared_directory(tmp_path, {"w": np.zeros(3, np.float32)})
    async with a_coordinator(tmp_path) as coordinator:
        await asyncio.to_thread(ask_grpc, f"{HOST}:{coordinator.port}")
        async with a_selector(tmp_path, coordinator.port) as north:
            await eventually(north.uplink.attached.is_set)
            await asyncio.to_thread(ask_grpc, f"{HOST}:{north.port}")
    async with a_selector(tmp_path, 1) as lonely:
        with pytest.raises(NotReadyError, match="does not serve"):
            await asyncio.to_thread(ask_grpc, f"{HOST}:{lonely.port}")


def test_nobody_listens_status_is_1_and_a_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """That line is what `docker inspect` shows."""
    assert main([f"{HOST}:1"]) == 1
    assert main([f"http://{HOST}:1/healthz"]) == 1

    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": no answer")[0] for line in said] == [
        "127.0.0.1:1 is not ready",
        "http://127.0.0.1:1/healthz is not ready",
    ]


@contextmanager
def a_web_server(status: int) -> Iterator[str]:
    """Serve this status; yields HOST:PORT."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer((HOST, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{HOST}:{server.server_address[1]}"
        server.shutdown()


def test_web_server_answers_its_status_decides() -> None:
    """200 is ready, all else is not."""
    with a_web_server(200) as address:
        ask_http(f"http://{address}/healthz")
    with a_web_server(503) as address, pytest.raises(NotReadyError, match="status 503"):
        ask_http(f"http://{address}/healthz")


@pytest.mark.parametrize(
    ("target", "port", "asked"),
    [
        ("127.0.0.1:50050", None, "127.0.0.1:50050"),
        ("127.0.0.1:50050", "", "127.0.0.1:50050"),
        ("127.0.0.1:50050", "7", "127.0.0.1:7"),
        ("http://127.0.0.1:8050/healthz", "80", "http://127.0.0.1:80/healthz"),
    ],
)
def test_container_has_another_port_that_one_is_asked(
    target: str, port: str | None, asked: str
) -> None:
    """The image's check goes along with HEADWATER_PORT."""
    assert with_port(target, port) == asked


def test_check_is_imported_nothing_heavy_comes_along() -> None:
    """It runs every few seconds beside a server that has work to do."""
    script = (
        "import sys, headwater.health, grpc\n"
        "heavy = {'numpy', 'h5py', 'pydantic', 'typer', 'google.protobuf', 'tensorflow'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )

    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert (result.returncode, result.stderr) == (0, "")
