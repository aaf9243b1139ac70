"""Many real client sessions in one process, whose trainers only change the model.

``python -m benchmarks.noop_clients SELECTOR FIRST COUNT``: clients FIRST to FIRST + COUNT - 1.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from numpy.typing import NDArray

from benchmarks.payload import changed
from client.session import ClientSession
from client.trainer import Trainer, TrainerThread, TrainingResult, TrainingTask
from federation.runtime.process import stop_on_signals
from federation.runtime.telemetry import configure_logging

THREADS = 4
"""On which the clients train by turns; as many would be at work in processes of their own."""


class NoOp(Trainer):
    """Returns the model with a constant added."""

    def __init__(self, client: int) -> None:
        self._client = client

    def fit(self, weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        """Change every tensor."""
        return TrainingResult(changed(weights, self._client), num_examples=self._client + 1)


async def main(selector: str, first: int, count: int) -> None:
    """Run until told to stop."""
    stop = stop_on_signals()
    threads = [TrainerThread() for _ in range(min(count, THREADS))]
    sessions = [
        ClientSession(
            f"client-{number}", [selector], NoOp(number), thread=threads[number % len(threads)]
        )
        for number in range(first, first + count)
    ]
    tasks = [asyncio.create_task(session.run()) for session in sessions]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    configure_logging("warning", "client")
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
