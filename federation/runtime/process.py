"""What every role's process does: say where it listens, and end when it is told to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys


def say_listening(
    role: str, name: str, host: str, port: int, *, metrics_port: int | None = None
) -> None:
    """Print the one line of standard output that tells where this server listens, as JSON."""
    line = {"event": "listening", "role": role, "name": name, "host": host, "port": port}
    if metrics_port is not None:
        line["metrics_port"] = metrics_port
    print(json.dumps(line), file=sys.stdout, flush=True)


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and Ctrl-C set; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told_to_stop(signal_number: int) -> None:
        if stop.is_set():
            os._exit(128 + signal_number)
        stop.set()

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, told_to_stop, signal_number)
    return stop
