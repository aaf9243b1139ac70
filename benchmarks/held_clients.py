"""Many clients that are held and do nothing else, over few connections.

``python -m benchmarks.held_clients SELECTOR FIRST COUNT CONNECTIONS``. Prints a line with the
seconds of the epoch when the last one was held, one when the last one was configured, and one when
the last one was sent away.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import grpc.aio

from federation.runtime import wire
from federation.runtime.frames import participation_stub
from federation.runtime.rpc import create_channel
from federation.v1 import participation_pb2 as pb

KEEPALIVE = (10.0, 5.0)
STEPS = ("held", "configured", "aborted")
"""What each client hears, in this order."""


class Steps:
    """Counts who came how far, and says when the last one did."""

    def __init__(self, count: int) -> None:
        self._missing = dict.fromkeys(STEPS, count)

    def reached(self, step: str) -> None:
        """One more client came so far."""
        self._missing[step] -= 1
        if not self._missing[step]:
            print(json.dumps({"step": step, "time_s": time.time()}), flush=True)


async def hold(stub: Any, client_id: str, steps: Steps) -> None:
    """Check in and listen."""
    request = pb.CheckInRequest(protocol_version=wire.PROTOCOL_VERSION, client_id=client_id)
    call = stub.CheckIn(request)
    while (event := await call.read()) is not grpc.aio.EOF:
        steps.reached(event.WhichOneof("event"))


async def main(selector: str, first: int, count: int, connections: int) -> None:
    """Be so many clients until all are sent away."""
    steps = Steps(count)
    channels = [create_channel(selector, *KEEPALIVE) for _ in range(connections)]
    stubs = [participation_stub(channel) for channel in channels]
    async with asyncio.TaskGroup() as group:
        for number in range(first, first + count):
            stub = stubs[number % connections]
            group.create_task(hold(stub, f"client-{number}", steps))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
