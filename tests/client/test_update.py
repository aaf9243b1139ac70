"""From a trainer's result to the frames of a report."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.trainer import Trainer, TrainingResult, TrainingTask
from client.update import Update, fit, frames
from federation.chunking import CHUNK_BYTES_MIN, LARGE_CHUNK_BYTES
from federation.plan import Hyperparameters
from federation.runtime.frames import encode_report_frame
from federation.tensors import decode, encode
from federation.v1 import participation_pb2 as pb
from tests.raw_client import sha256

MEBIBYTE = 1 << 20
TASK = TrainingTask(1, "this-round", Hyperparameters(), 60.0, None, threading.Event(), "ann")


class PlusOne(Trainer):
    """Adds one."""

    def fit(self, weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        new = {name: array + np.float32(1) for name, array in weights.items()}
        said: dict[str, Any] = {"num_examples": np.int64(7), "metrics": {"loss": np.float32(0.5)}}
        return TrainingResult(new, **said)


def an_update(entries: int = 3) -> Update:
    """What came out of adding one to zeros."""
    return fit(PlusOne(), encode({"w": np.zeros(entries, np.float32)}), TASK)


async def all_frames(
    update: Update, offset: int = 0, chunks: int = 0, largest: int = LARGE_CHUNK_BYTES
) -> list[pb.ReportFrame]:
    """Gather a report's frames, as the selector's generated code reads them."""
    held = pb.Permission(resume_offset=offset, resume_chunks=chunks)
    sent = frames(update, "a-token", held, largest)
    encoded = [encode_report_frame(frame) async for frame in sent]
    return [pb.ReportFrame.FromString(frame) for frame in encoded]


def test_result_is_put_into_its_wire_form_with_what_it_says() -> None:
    """Numbers of numpy are as good as Python's."""
    update = an_update()

    assert decode(update.buffer)["w"].tolist() == [1.0] * 3
    assert update.sha256 == sha256(update.buffer)
    assert (update.start.num_examples, dict(update.start.metrics)) == (7, {"loss": 0.5})
    assert 0 <= update.start.training_s < 60
    assert update.round_id == "this-round"


async def test_report_is_a_start_its_data_and_an_end() -> None:
    """Offsets without a gap; the end counts, measures and hashes all of it."""
    update = an_update(3 << 18)

    start, *data, end = await all_frames(update)

    assert (start.start.session_token, start.start.offset) == ("a-token", 0)
    assert start.start.size_bytes == len(update.buffer)
    assert b"".join(frame.data.data for frame in data) == update.buffer
    assert [frame.data.offset for frame in data] == [n * MEBIBYTE for n in range(len(data))]
    assert (end.end.chunks, end.end.size_bytes) == (len(data), len(update.buffer))
    assert end.end.sha256 == update.sha256


@pytest.mark.parametrize("held", [0, 1, 2, 3])
async def test_report_that_resumes_counts_the_frames_of_all_streams(held: int) -> None:
    """The selector did not forget those that it holds."""
    update = an_update(3 << 18)
    whole = await all_frames(update)

    start, *data, end = await all_frames(update, held * MEBIBYTE, held)

    assert start.start.offset == held * MEBIBYTE
    assert data == whole[1 + held : -1]
    assert end == whole[-1]


async def test_link_carries_small_chunks_only_the_end_counts_those_of_all_sizes() -> None:
    """What came through as one large chunk before was one."""
    update = an_update(3 << 18)
    rest = len(update.buffer) - MEBIBYTE

    _, *data, end = await all_frames(update, MEBIBYTE, 1, largest=CHUNK_BYTES_MIN)

    assert {len(frame.data.data) for frame in data[:-1]} == {CHUNK_BYTES_MIN}
    assert len(data) == -(-rest // CHUNK_BYTES_MIN)
    assert b"".join(frame.data.data for frame in data) == update.buffer[MEBIBYTE:]
    assert end.end.chunks == 1 + len(data)


async def test_report_of_which_everything_is_held_sends_its_end() -> None:
    """Cut between the last byte and the end frame."""
    update = an_update()

    kinds = [frame.WhichOneof("frame") for frame in await all_frames(update, len(update.buffer))]

    assert kinds == ["start", "end"]


def test_update_can_be_sent_twice() -> None:
    """A token of one seat is not in the frames of another."""
    update = an_update()

    assert update.start.session_token == ""
