"""The result of a session: waited for without a place in any round, fetched, and written to a file.

What a client may rely on: it gets the checkpoint with which its session ended, through whichever
of its selectors, also if these were restarted, or the coordinator was and goes on with the session.
A selector that cannot say (it has not heard of the session, and another one ran since) is left for
the next; when all have said so the client ends. So it does after ``UNANSWERED_MAX_S`` without an
answer of any selector that hears its coordinator. While the session runs it waits for as long as
that takes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
from numpy.typing import NDArray

from client.artifacts import Artifacts
from client.place import give_up_if_final, source_at, why_failed
from client.selectors import Selectors
from federation.chunking import ChunkLimit
from federation.errors import PeerError, SettingsError, TransferError
from federation.runtime.disk import temporary_path, write_atomically
from federation.runtime.exports import write_h5, write_npz
from federation.runtime.telemetry import get_logger
from federation.tensors import decode
from federation.v1 import participation_pb2 as pb

log = get_logger()

WAIT_S = 20.0
"""A selector is asked to answer after so long at most, whether the session is over or not."""

ANSWER_TIMEOUT_S = 60.0
"""An answer that has not come by then, so long after ``WAIT_S``, has failed: a selector may have a
large checkpoint or model to read first."""

UNANSWERED_MAX_S = 300.0
"""Without an answer for so long the client gives up."""


@dataclass(frozen=True, eq=False)
class Result:
    """The checkpoint that a session ended with.

    Attributes:
        round_number: The round that made it; 0 if none did.
        digest: Hex SHA-256 of its wire form.
        weights: Its tensors by name, read-only.
        model: The Keras model that they belong to; None where there is none, or it wasn't asked.
    """

    round_number: int
    digest: str
    weights: dict[str, NDArray[Any]]
    model: Path | None


class ResultSeeker:
    """Gets the result of a session from the first selector that has it.

    Args:
        selectors: Asked in turn.
        artifacts: Fetches.
        draw: Draws a pause in seconds between two bounds.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        selectors: Selectors,
        artifacts: Artifacts,
        *,
        draw: Callable[[float, float], float] = random.uniform,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._selectors = selectors
        self._artifacts = artifacts
        self._draw = draw
        self._clock = clock
        self._limit = ChunkLimit()

    async def seek(self, session_id: str, *, with_model: bool) -> Result:
        """Wait for the end of a session and fetch what it ended with.

        Args:
            session_id: Which; empty: the one that runs, or, where none does, what is there.
            with_model: Fetch the Keras model, too.

        Raises:
            PeerError: No selector has it, or none answers.
            StoreError: The model cannot be kept on this disk.
        """
        answered_s = self._clock()
        refused_by: set[str] = set()
        log.info("waiting for the end of the session", session_id=session_id)
        while True:
            target = self._selectors.target
            try:
                answer = await self._ask(session_id)
                answered_s = self._clock()
                self._selectors.answered()
                if answer.session_running:
                    session_id = answer.session_id
                    continue
                return await self._fetch(answer, with_model=with_model)
            except (grpc.aio.AioRpcError, TransferError, TimeoutError) as error:
                try:
                    give_up_if_final(error)
                except PeerError:
                    refused_by.add(target)
                    if refused_by >= self._selectors.known:
                        raise
                    self._selectors.next()
                log.warning("result not fetched", selector=target, why=why_failed(error))
            if self._clock() - answered_s > UNANSWERED_MAX_S:
                raise PeerError(
                    f"no selector had the result for {UNANSWERED_MAX_S:.0f} s; "
                    "the last failure is in the log",
                    reason="result-not-there",
                )
            pause_s = self._selectors.failed()
            await asyncio.sleep(self._draw(pause_s / 2, pause_s))

    async def _ask(self, session_id: str) -> pb.GetCheckpointResponse:
        request = pb.GetCheckpointRequest(final=True, session_id=session_id, wait_s=WAIT_S)
        answer: pb.GetCheckpointResponse = await self._selectors.stub.GetCheckpoint(
            request, timeout=WAIT_S + ANSWER_TIMEOUT_S
        )
        return answer

    async def _fetch(self, answer: pb.GetCheckpointResponse, *, with_model: bool) -> Result:
        source = source_at(self._selectors.stub, self._limit)
        model = None
        if with_model and answer.HasField("model"):
            model = await self._artifacts.model(answer.model, source)
        buffer = await self._artifacts.checkpoint(answer.artifact, source)
        return Result(answer.round_number, answer.artifact.sha256.hex(), decode(buffer), model)


def check_output(path: Path) -> None:
    """Make sure that a file can be written there later.

    Raises:
        SettingsError: It cannot.
    """
    probe = temporary_path(path.absolute().parent)
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        expected = f"its folder must be there and take files ({error.strerror})"
        raise SettingsError("fetch_final", str(path), expected) from error
    if path.is_dir():
        raise SettingsError("fetch_final", str(path), "it is a folder, not a file")


def write_result(path: Path, result: Result) -> None:
    """Write the result as the name's end says, whole or not at all; raises ``StoreError``."""
    if path.suffix == ".npz":
        write_atomically(path, lambda temporary: write_npz(temporary, result.weights))
        return

    def write(temporary: Path) -> None:
        write_h5(temporary, result.weights, result.round_number, result.model)

    write_atomically(path, write)
