"""A trained update: from the trainer's result to the frames of a report."""

from __future__ import annotations

import hashlib
import operator
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from client.trainer import Trainer, TrainingTask, train
from federation.chunking import chunk_bytes_for, chunks
from federation.runtime.frames import Piece
from federation.tensors import Buffer, decode, encode
from federation.v1 import participation_pb2 as pb


@dataclass(frozen=True, eq=False)
class Update:
    """A trained update, ready to be sent.

    Attributes:
        round_id: The round that it was trained for.
        buffer: Its wire form.
        sha256: Of the wire form.
        start: The first frame of its report, without token and offset.
    """

    round_id: str
    buffer: bytearray
    sha256: bytes
    start: pb.ReportStart


def fit(trainer: Trainer, base: Buffer, task: TrainingTask) -> Update:
    """Train, and put the result into its wire form; all of it is the trainer's own thread's work.

    Raises:
        Exception: Whatever the trainer raises, or what is wrong with its result.
    """
    began_s = time.monotonic()
    result = train(trainer, decode(base), task)
    training_s = time.monotonic() - began_s
    buffer = encode(result.weights)
    start = pb.ReportStart(
        size_bytes=len(buffer),
        num_examples=operator.index(result.num_examples),
        metrics={name: float(value) for name, value in result.metrics.items()},
        client_id=task.client_id,
        training_s=training_s,
    )
    return Update(task.round_id, buffer, hashlib.sha256(buffer).digest(), start)


async def frames(
    update: Update, token: str, permission: pb.Permission, chunk_bytes_max: int
) -> AsyncIterator[pb.ReportFrame | Piece]:
    """Yield a report's frames; all data frames have the same size but the last.

    Args:
        update: What is reported.
        token: Proof of the claim.
        permission: Says what the selector holds already.
        chunk_bytes_max: Size of the largest chunk that comes through.
    """
    offset = permission.resume_offset
    start = pb.ReportStart(session_token=token, offset=offset)
    start.MergeFrom(update.start)
    yield pb.ReportFrame(start=start)
    size = len(update.buffer)
    chunk_bytes = min(chunk_bytes_for(size), chunk_bytes_max)
    count = permission.resume_chunks
    for at, view in chunks(update.buffer, offset=offset, chunk_bytes=chunk_bytes):
        yield Piece(at, view)
        count += 1
    yield pb.ReportFrame(end=pb.ReportEnd(chunks=count, size_bytes=size, sha256=update.sha256))
