"""Reports over real gRPC: permission, bytes, verdict and receipt, and all that can go wrong."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from federation.runtime.partials import open_partial
from federation.tensors import encode
from federation.v1 import participation_pb2 as pb
from federation.v1 import plan_pb2
from selector.cohort import Cohort
from tests.raw_client import (
    RawClient,
    data_frames,
    end_frame,
    report_frames,
    sha256,
    start_frame,
)
from tests.selector.stage import Stage, a_stage, ones
from tests.waiting import eventually, refused, within

ACCEPTED = pb.REPORT_OUTCOME_ACCEPTED
REJECTED = pb.REPORT_OUTCOME_REJECTED
DISCARDED = pb.REPORT_OUTCOME_DISCARDED

UPDATE = encode(ones())
LARGE = {"w": np.zeros(3 << 18, np.float32)}
"""3 MiB: more than one chunk."""


def sum_of(stage: Stage) -> tuple[int, int, list[float]]:
    """Reports, weight and entries of the running sum."""
    cohort = stage.server.selector.cohort
    assert cohort is not None
    return cohort.mean.count, cohort.mean.weight, cohort.mean.sums["w"].ravel().tolist()


@contextmanager
def folds_wait() -> Iterator[threading.Event]:
    """Hold every fold back until the event is set."""
    go_on = threading.Event()
    fold = Cohort.fold

    def waiting(*arguments: Any) -> None:
        go_on.wait(60.0)
        fold(*arguments)

    with patch.object(Cohort, "fold", waiting):
        try:
            yield go_on
        finally:
            go_on.set()


# -- The good way -----------------------------------------------------------------------------


async def test_good_report_is_accepted_and_told_on(tmp_path: Path) -> None:
    """The receipt says what arrived; the coordinator, who reported on how many examples."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")

        receipt = await ann.report(ones(), 3, loss=0.25)

        told = await stage.attachment.after("reports_folded")
        assert (receipt.outcome, receipt.reason) == (ACCEPTED, "")
        assert (receipt.chunks, receipt.size_bytes) == (1, len(UPDATE))
        assert receipt.sha256 == sha256(UPDATE)
        assert receipt.retry_window.delay_max_s == 2.5
        [report] = told.reports
        assert (report.client_id, report.num_examples) == ("ann", 3)
        assert dict(report.metrics) == {"loss": 0.25}
        assert sum_of(stage) == (1, 3, [3.0] * 6)


async def test_check_in_stream_lasts_until_the_receipt(tmp_path: Path) -> None:
    """Whoever is cut before it comes back on a new one."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")

        await ann.report(ones())

        assert await ann.next_event() is None


async def test_sum_is_handed_in_at_close(tmp_path: Path) -> None:
    """The partial in the shared directory is what its reference says: sums, never means."""
    async with a_stage(tmp_path) as stage:
        [ann, ben] = await stage.configured("ann", "ben")
        await ann.report(ones(1.0), 3)
        await ben.report(ones(5.0), 1)

        partial = await stage.close()

        assert (partial.count, partial.weight, partial.failure) == (2, 4, "")
        assert sorted(partial.client_ids) == ["ann", "ben"]
        with open_partial(stage.directory.partial("north")) as file:
            [block] = file.blocks("w")
            assert block.tolist() == [8.0] * 6
            assert file.digest() == partial.sha256
            assert file.header.incarnation == stage.server.selector.incarnation
        assert stage.directory.partial_weight("north").read_text() == "4"


async def test_equal_weighting_hands_in_the_number_of_reports_as_the_weight(
    tmp_path: Path,
) -> None:
    """``weighting = "equal"`` counts a report once, whatever it claims."""
    async with a_stage(tmp_path) as stage:
        [ann, ben] = await stage.configured("ann", "ben", weighting=plan_pb2.WEIGHTING_EQUAL)
        await ann.report(ones(), 30)
        await ben.report(ones(), 1)

        partial = await stage.close()

        assert (partial.count, partial.weight) == (2, 2)


async def test_nobody_reported_an_empty_partial_is_handed_in(tmp_path: Path) -> None:
    """A selector without folds answers Close, too; there is no file."""
    async with a_stage(tmp_path) as stage:
        await stage.configured("ann")

        partial = await stage.close()

        assert (partial.count, partial.weight, partial.sha256) == (0, 0, "")
        assert not stage.directory.partial("north").exists()


async def test_close_that_is_repeated_gets_the_same_answer(tmp_path: Path) -> None:
    """A coordinator that came back asks again."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        await ann.report(ones())

        assert await stage.close() == await stage.close()


async def test_close_of_a_round_that_is_not_served_gets_an_empty_answer(tmp_path: Path) -> None:
    """Whoever asks is not left to wait."""
    async with a_stage(tmp_path) as stage:
        partial = await stage.close(round_number=9)

        assert (partial.round_id, partial.count) == ("round-9", 0)


async def test_update_of_many_chunks_is_put_together(tmp_path: Path) -> None:
    """Chunks are counted, bytes hashed as they come."""
    weights = {"w": np.arange(3 << 18, dtype=np.float32)}
    async with a_stage(tmp_path, weights=LARGE) as stage:
        [ann] = await stage.configured("ann")

        receipt = await ann.report(weights)

        assert (receipt.outcome, receipt.chunks) == (ACCEPTED, 4)
        cohort = stage.server.selector.cohort
        assert cohort is not None
        assert cohort.mean.sums["w"].tolist() == weights["w"].tolist()


async def test_metrics_that_cannot_be_told_on_are_left_out(tmp_path: Path) -> None:
    """They neither fail the report nor grow a message beyond gRPC's limit."""
    metrics = {"loss": 0.5, "nan": math.nan, "infinite": math.inf, "n" * 65: 1.0}
    async with a_stage(tmp_path) as stage:
        [ann, ben] = await stage.configured("ann", "ben")

        await ann.report(ones(), 1, **metrics)
        few = await stage.attachment.after("reports_folded")
        await ben.report(ones(), 1, **{f"m{number:03}": 1.0 for number in range(100)})
        many = await stage.attachment.after("reports_folded")

        assert dict(few.reports[0].metrics) == {"loss": 0.5}
        assert len(many.reports[0].metrics) == 32


async def test_accepted_updates_are_kept_for_an_audit_where_the_operator_asks(
    tmp_path: Path,
) -> None:
    """``keep_updates``: each client's accepted update, as it came; nobody else's."""
    async with a_stage(tmp_path, keep_updates=True) as stage:
        [ann, ben] = await stage.configured("ann", "ben")

        await ann.report(ones())
        await ben.report(ones(), 0)

        [kept] = stage.directory.round_files("north").iterdir()
        assert kept.name == "round-000001-ann.safetensors"
        assert kept.read_bytes() == UPDATE


# -- Screening --------------------------------------------------------------------------------


def with_entry(value: float) -> dict[str, NDArray[Any]]:
    """An update with one entry that is off."""
    weights = ones()
    weights["w"][1, 2] = value
    return weights


BAD_UPDATES: dict[str, tuple[dict[str, NDArray[Any]], int, str]] = {
    "weight 0": (ones(), 0, "weight-not-positive"),
    "negative weight": (ones(), -(2**62), "weight-not-positive"),
    "weight above the limit": (ones(), 1001, "weight-too-large"),
    "NaN": (with_entry(math.nan), 1, "not-finite"),
    "infinity": (with_entry(math.inf), 1, "not-finite"),
    "minus infinity": (with_entry(-math.inf), 1, "not-finite"),
    "wrong shape": ({"w": np.ones((3, 2), np.float32)}, 1, "wrong-shape"),
    "fewer axes": ({"w": np.ones(6, np.float32)}, 1, "wrong-shape"),
    "missing tensor": ({}, 1, "missing-tensor"),
    "other name": ({"v": np.ones((2, 3), np.float32)}, 1, "missing-tensor"),
    "extra tensor": (ones() | {"extra": np.ones(1, np.float32)}, 1, "extra-tensor"),
    "wrong dtype": ({"w": np.ones((2, 3), np.float64)}, 1, "wrong-dtype"),
    "integers": ({"w": np.ones((2, 3), np.int32)}, 1, "wrong-dtype"),
}


@pytest.mark.parametrize("kind", BAD_UPDATES)
async def test_update_that_breaks_a_rule_is_rejected_with_its_reason(
    tmp_path: Path, kind: str
) -> None:
    """The reason word goes to client and coordinator, and the sum stays as it was."""
    weights, num_examples, reason = BAD_UPDATES[kind]
    async with a_stage(tmp_path) as stage:
        [ann, ben] = await stage.configured("ann", "ben")
        await ben.report(ones())

        receipt = await ann.report(weights, num_examples)

        told = await stage.attachment.after("report_rejected")
        assert (receipt.outcome, receipt.reason) == (REJECTED, reason)
        assert receipt.detail
        assert (told.client_id, told.reason) == ("ann", reason)
        assert sum_of(stage) == (1, 1, [1.0] * 6)


async def test_update_that_moved_too_far_is_rejected(tmp_path: Path) -> None:
    """The norm limit is measured from the global weights."""
    limits = plan_pb2.ScreeningLimits(weight_max=10, update_norm_max=3.0)
    async with a_stage(tmp_path) as stage:
        [ann, ben] = await stage.configured("ann", "ben", screening_limits=limits)

        near = await ann.report(ones(1.0))
        far = await ben.report(ones(2.0))

        assert near.outcome == ACCEPTED
        assert (far.outcome, far.reason) == (REJECTED, "norm-too-large")


@pytest.mark.parametrize(
    "data",
    [b"\x00", b"no tensors at all", b"\xff" * 200, bytes(UPDATE[:-4]), bytes(UPDATE) + b"\x00"],
)
async def test_bytes_that_are_no_tensors_are_rejected(tmp_path: Path, data: bytes) -> None:
    """They arrived whole, so the client meant them: a verdict."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        await ann.begin(len(data))

        receipt = await ann.send(report_frames(ann.token, data))

        assert (receipt.outcome, receipt.reason) == (REJECTED, "malformed-tensors")


# -- Verification -----------------------------------------------------------------------------

HALF = len(UPDATE) // 2
FIRST, SECOND = data_frames(UPDATE, chunk_bytes=HALF)[:2]
DATA = data_frames(UPDATE)[0]
START = pb.ReportFrame()
END = end_frame(UPDATE)


def wrong_end(**changes: Any) -> pb.ReportFrame:
    """An end frame that is off."""
    frame = end_frame(UPDATE)
    for name, value in changes.items():
        setattr(frame.end, name, value)
    return frame


FLAWED_STREAMS: dict[str, tuple[list[pb.ReportFrame], str]] = {
    "cut short": ([START, FIRST], "truncated"),
    "nothing but a start": ([START], "truncated"),
    "end before all bytes": ([START, FIRST, END], "truncated"),
    "wrong digest": ([START, DATA, wrong_end(sha256=b"\x00" * 32)], "wrong-digest"),
    "no digest": ([START, DATA, wrong_end(sha256=b"")], "wrong-digest"),
    "wrong count": ([START, DATA, wrong_end(chunks=2)], "wrong-chunk-count"),
    "wrong size at the end": ([START, DATA, wrong_end(size_bytes=3)], "truncated"),
    "out of order": ([START, SECOND, FIRST, END], "chunk-out-of-order"),
    "a chunk twice": ([START, FIRST, FIRST, END], "chunk-out-of-order"),
    "more than declared": (
        [START, DATA, pb.ReportFrame(data=pb.Chunk(offset=len(UPDATE), data=b"x")), END],
        "more-bytes-than-declared",
    ),
    "empty chunk": ([START, pb.ReportFrame(data=pb.Chunk(offset=0)), DATA, END], "empty-chunk"),
    "a second start": ([START, START, DATA, END], "no-data"),
    "an empty frame": ([START, pb.ReportFrame(), DATA, END], "no-data"),
    "no start": ([DATA, END], "no-start"),
    "no frame at all": ([], "truncated"),
}


@pytest.mark.parametrize("kind", FLAWED_STREAMS)
async def test_bytes_that_fail_verification_leave_the_claim_unspent(
    tmp_path: Path, kind: str
) -> None:
    """The stream is refused with its reason, nothing is folded, and a good one is accepted.

    Elsewhere: a prototype numbered updates when their upload began, so that one that failed
    left a hole on which the averaging broke.
    """
    frames, reason = FLAWED_STREAMS[kind]
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        await ann.begin(len(UPDATE))
        start = start_frame(ann.token, len(UPDATE))

        with refused(reason, grpc.StatusCode.DATA_LOSS):
            await ann.send(start if frame is START else frame for frame in frames)
        before = sum_of(stage)
        resumed = await ann.begin(len(UPDATE))
        offset = resumed.permission.resume_offset
        rest = data_frames(UPDATE, offset=offset)
        receipt = await ann.send(
            [
                start_frame(ann.token, len(UPDATE), offset=offset),
                *rest,
                end_frame(UPDATE, chunks=len(rest) + (offset > 0)),
            ]
        )

        assert before == (0, 0, [0.0] * 6)
        assert receipt.outcome == ACCEPTED
        assert sum_of(stage) == (1, 1, [1.0] * 6)


@pytest.mark.parametrize("size", [0, len(UPDATE) + (1 << 20) + 1, 2**63, 2**64 - 1])
async def test_size_that_cannot_be_is_refused_before_the_bytes(tmp_path: Path, size: int) -> None:
    """No buffer is made for it."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")

        with refused("update-too-large", grpc.StatusCode.INVALID_ARGUMENT):
            await ann.begin(size)

        assert (await ann.report(ones())).outcome == ACCEPTED


async def test_start_that_does_not_fit_the_permission_is_refused(tmp_path: Path) -> None:
    """Size and offset are what was agreed on; the permission stays."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        await ann.begin(len(UPDATE))

        for wrong in (start_frame(ann.token, 5), start_frame(ann.token, len(UPDATE), offset=5)):
            with refused("wrong-offset", grpc.StatusCode.DATA_LOSS):
                await ann.send([wrong, DATA, END])

        assert (await ann.send(report_frames(ann.token, UPDATE))).outcome == ACCEPTED


async def test_report_without_permission_is_refused(tmp_path: Path) -> None:
    """The permission is what bounds the memory."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")

        with refused("no-permission", grpc.StatusCode.ABORTED):
            await ann.send(report_frames(ann.token, UPDATE))

        assert sum_of(stage)[0] == 0


@pytest.mark.parametrize("token", ["", "guessed", "0" * 32])
async def test_token_of_nobody_opens_nothing(tmp_path: Path, token: str) -> None:
    """Neither permission nor report."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        ann.token = token

        with refused("unknown-token", grpc.StatusCode.UNAUTHENTICATED):
            await ann.begin(len(UPDATE))
        with refused("unknown-token", grpc.StatusCode.UNAUTHENTICATED):
            await ann.send(report_frames(token, UPDATE))


async def test_token_of_another_process_of_the_selector_opens_nothing(tmp_path: Path) -> None:
    """A new incarnation never folds in a round that an earlier one served."""
    async with a_stage(tmp_path / "one") as one, a_stage(tmp_path / "two") as two:
        [ann] = await one.configured("ann")
        [ben] = await two.configured("ben")
        ben.token = ann.token

        with refused("unknown-token", grpc.StatusCode.UNAUTHENTICATED):
            await ben.begin(len(UPDATE))


async def test_token_of_another_client_opens_nothing(tmp_path: Path) -> None:
    """The claim stays the other's, unspent."""
    async with a_stage(tmp_path) as stage:
        ann, ben = await stage.configured("ann", "ben")
        bens, ben.token = ben.token, ann.token

        with refused("foreign-token", grpc.StatusCode.PERMISSION_DENIED):
            await ben.begin(len(UPDATE))
        ben.token = bens

        assert (await ann.report(ones())).outcome == ACCEPTED
        assert (await ben.report(ones())).outcome == ACCEPTED


# -- Once -------------------------------------------------------------------------------------


async def test_other_report_after_the_first_was_judged_is_discarded_as_repeated(
    tmp_path: Path,
) -> None:
    """The sum has the first one."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        first = await ann.report(ones(), 2)
        other = encode(ones(9.0))

        second = await ann.send(report_frames(ann.token, other, 7))

        assert first.outcome == ACCEPTED
        assert (second.outcome, second.reason) == (DISCARDED, "repeated")
        assert second.sha256 == sha256(other)
        assert sum_of(stage) == (1, 2, [2.0] * 6)


async def test_report_that_is_repeated_gets_the_first_receipt(tmp_path: Path) -> None:
    """Asked for or sent again: it is in the sum once."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        first = await ann.report(ones(), 2)

        asked = await ann.begin(len(UPDATE))
        same = await ann.send(report_frames(ann.token, UPDATE, 2))

        assert asked.receipt == same == first
        assert sum_of(stage) == (1, 2, [2.0] * 6)


async def test_rejected_report_cannot_be_bettered(tmp_path: Path) -> None:
    """A verdict spends the claim."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        first = await ann.report(with_entry(math.nan))

        second = await ann.begin(len(UPDATE))

        assert first.outcome == REJECTED
        assert second.receipt == first


async def test_duplicates_await_the_fold_that_is_under_way(tmp_path: Path) -> None:
    """The claim is marked before the fold; whoever asks meanwhile gets its verdict."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        await ann.begin(len(UPDATE))
        with folds_wait() as go_on:
            first = asyncio.create_task(ann.send(report_frames(ann.token, UPDATE)))
            await stage.stands("ann", "folding")
            asked = asyncio.create_task(ann.begin(len(UPDATE)))
            sent = asyncio.create_task(ann.send(report_frames(ann.token, UPDATE)))
            go_on.set()

            receipts = [await first, (await asked).receipt, await sent]

        assert receipts[0].outcome == ACCEPTED
        assert receipts[0] == receipts[1] == receipts[2]
        assert sum_of(stage)[0] == 1


async def test_client_that_is_cut_during_the_fold_gets_its_receipt_when_it_is_back(
    tmp_path: Path,
) -> None:
    """Who goes away changes nothing about the verdict; the retry gets the first receipt."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        token = ann.token
        await ann.begin(len(UPDATE))
        with folds_wait() as go_on:
            sending = asyncio.create_task(ann.send(report_frames(ann.token, UPDATE)))
            await stage.stands("ann", "folding")
            sending.cancel()
            ann.cut()
            await stage.attachment.after("clients_left")
            await ann.check_in()
            await ann.configured()
            go_on.set()

            answer = await ann.begin(len(UPDATE))

        assert ann.token == token
        assert answer.receipt.outcome == ACCEPTED
        assert sum_of(stage)[0] == 1
        assert await ann.next_event() is None


async def test_client_with_its_receipt_is_a_newcomer(tmp_path: Path) -> None:
    """It checks in for the next round."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        await ann.report(ones())

        await ann.check_in()

        told = await stage.attachment.after("clients_checked_in")
        told = await stage.attachment.after("clients_checked_in")
        assert [client.client_id for client in told.clients] == ["ann"]


async def test_receipt_that_is_asked_for_late_leaves_a_newer_stream_alone(tmp_path: Path) -> None:
    """Only the stream that the claim was configured on ends with its receipt."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        await ann.report(ones())
        await ann.check_in()

        answer = await ann.begin(len(UPDATE))
        await stage.close()
        await stage.end()
        await stage.order("ann", round_number=2)

        assert answer.receipt.outcome == ACCEPTED
        assert (await ann.configured()).round_number == 2


async def test_receipts_are_kept_until_the_next_round_is_over(tmp_path: Path) -> None:
    """A client that was away gets its first receipt; later, nobody remembers."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        first = await ann.report(ones())
        await stage.close()
        await stage.end()

        between = await ann.begin(len(UPDATE))
        await stage.configured("ben", round_number=2)
        during = await ann.begin(len(UPDATE))
        await stage.end(round_number=2)

        assert between.receipt == during.receipt == first
        with refused("claim-not-here"):
            await ann.begin(len(UPDATE))


async def test_report_after_the_round_is_not_wanted(tmp_path: Path) -> None:
    """A late client wastes no bytes."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        await stage.close()

        closed = await ann.begin(len(UPDATE))
        await stage.end()
        over = await ann.begin(len(UPDATE))

        assert closed.aborted.reason == "reporting-closed"
        assert over.aborted.reason == "round-over"
        assert over.aborted.retry_window.delay_min_s == 1.5


# -- Cut, resumed, stalled --------------------------------------------------------------------


async def half_a_report(stage: Stage, ann: RawClient, data: bytearray) -> Any:
    """Send a start and the first MiB; return the open call once it has arrived."""
    await ann.begin(len(data))
    call = ann.open_report()
    await within(call.write(start_frame(ann.token, len(data))))
    await within(call.write(data_frames(data)[0]))
    _, _, upload = stage.server.selector.desk.find_upload(ann.token)
    assert upload is not None
    await eventually(lambda: upload.assembler.received == 1 << 20)
    return call


async def test_cut_report_resumes_where_it_was_cut(tmp_path: Path) -> None:
    """The permission names the bytes that the selector holds; chunks count over both streams."""
    update = encode({"w": np.arange(3 << 18, dtype=np.float32)})
    async with a_stage(tmp_path, weights=LARGE) as stage:
        [ann] = await stage.configured("ann")
        call = await half_a_report(stage, ann, update)
        call.cancel()

        permission = (await ann.begin(len(update))).permission
        rest = data_frames(update, offset=permission.resume_offset)
        receipt = await ann.send(
            [
                start_frame(ann.token, len(update), offset=permission.resume_offset),
                *rest,
                end_frame(update, chunks=1 + len(rest)),
            ]
        )

        assert (permission.resume_offset, permission.resume_chunks) == (1 << 20, 1)
        assert (receipt.outcome, receipt.chunks) == (ACCEPTED, 4)
        assert receipt.sha256 == sha256(update)


async def test_other_report_after_a_cut_starts_over(tmp_path: Path) -> None:
    """A client that was restarted has trained anew: its first bytes are of no use."""
    update = encode(LARGE)
    longer = encode(LARGE | {"extra": np.zeros(9, np.float32)})
    async with a_stage(tmp_path, weights=LARGE) as stage:
        [ann] = await stage.configured("ann")
        call = await half_a_report(stage, ann, longer)
        call.cancel()

        permission = (await ann.begin(len(update))).permission
        receipt = await ann.send(report_frames(ann.token, update))

        assert permission.resume_offset == 0
        assert receipt.outcome == ACCEPTED


async def test_second_stream_of_a_report_supersedes_the_first(tmp_path: Path) -> None:
    """Two streams must not take turns in one buffer."""
    update = encode(LARGE)
    async with a_stage(tmp_path, weights=LARGE) as stage:
        [ann] = await stage.configured("ann")
        older = await half_a_report(stage, ann, update)
        newer = ann.open_report()
        await within(newer.write(start_frame(ann.token, len(update), offset=1 << 20)))
        _, _, upload = stage.server.selector.desk.find_upload(ann.token)
        assert upload is not None
        await eventually(lambda: upload.stream == 2)

        with refused("superseded", grpc.StatusCode.DATA_LOSS):
            await within(older.write(data_frames(update, offset=1 << 20)[0]))
            await within(older)
        for frame in data_frames(update, offset=1 << 20):
            await within(newer.write(frame))
        await within(newer.write(end_frame(update, chunks=4)))
        await within(newer.done_writing())

        assert (await within(newer)).outcome == ACCEPTED


async def test_permission_that_is_not_used_is_taken_back(tmp_path: Path) -> None:
    """Whoever asks and sends nothing does not block the others; the claim stays."""
    async with a_stage(tmp_path, reports_in_flight_max=1, report_stall_s=0.2) as stage:
        [ann, ben] = await stage.configured("ann", "ben")
        await ann.begin(len(UPDATE))

        later = await ben.report(ones())
        with refused("no-permission", grpc.StatusCode.ABORTED):
            await ann.send(report_frames(ann.token, UPDATE))
        again = await ann.report(ones())

        assert (later.outcome, again.outcome) == (ACCEPTED, ACCEPTED)


async def test_report_that_stalls_is_ended_and_its_place_given_on(tmp_path: Path) -> None:
    """``report_stall_s`` without a byte.

    Elsewhere: a client that dies in the middle of its upload can block a round of Flower for 83
    minutes.
    """
    async with a_stage(
        tmp_path, weights=LARGE, reports_in_flight_max=1, report_stall_s=0.2
    ) as stage:
        [ann, ben] = await stage.configured("ann", "ben")
        call = await half_a_report(stage, ann, encode(LARGE))

        waiting = asyncio.create_task(ben.report(LARGE))
        with refused("stalled", grpc.StatusCode.DATA_LOSS):
            await within(call)

        assert (await waiting).outcome == ACCEPTED


async def test_stream_whose_permission_was_taken_back_ends(tmp_path: Path) -> None:
    """Its buffer is no longer counted, so it must not grow a second one behind the limit."""
    update = encode(LARGE)
    async with a_stage(tmp_path, weights=LARGE) as stage:
        [ann] = await stage.configured("ann")
        call = await half_a_report(stage, ann, update)
        _, _, upload = stage.server.selector.desk.find_upload(ann.token)
        assert upload is not None

        stage.server.selector.desk.free_upload(upload)

        with refused("stalled", grpc.StatusCode.DATA_LOSS):
            await within(call.write(data_frames(update, offset=1 << 20)[0]))
            await within(call)


# -- Many -------------------------------------------------------------------------------------


async def test_more_reports_than_fit_wait_for_their_turn(tmp_path: Path) -> None:
    """Above the in-flight limit: back-pressure, not failure."""
    async with a_stage(tmp_path, reports_in_flight_max=1) as stage:
        [ann, ben] = await stage.configured("ann", "ben")
        await ann.begin(len(UPDATE))
        waiting = asyncio.create_task(ben.begin(len(UPDATE)))
        uploads = stage.server.selector.desk._uploads
        await eventually(lambda: uploads._slots._waiters)
        before = waiting.done()

        receipt = await ann.send(report_frames(ann.token, UPDATE))
        permitted = await waiting

        assert not before
        assert receipt.outcome == ACCEPTED
        assert permitted.WhichOneof("answer") == "permission"


async def test_many_reports_at_once_are_all_accepted_in_bounded_memory(tmp_path: Path) -> None:
    """The number of buffers does not grow with the number of clients."""
    names = [f"client-{number}" for number in range(12)]
    async with a_stage(tmp_path, reports_in_flight_max=2) as stage:
        clients = await stage.configured(*names)
        uploads = stage.server.selector.desk._uploads
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(uploads))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        receipts = await asyncio.gather(*(client.report(ones()) for client in clients))
        watching.cancel()
        partial = await stage.close()

        assert {receipt.outcome for receipt in receipts} == {ACCEPTED}
        assert 1 <= most <= 2
        assert (partial.count, sorted(partial.client_ids)) == (12, sorted(names))


async def test_client_that_stops_waiting_takes_no_place(tmp_path: Path) -> None:
    """A cancelled wait leaves the line."""
    async with a_stage(tmp_path, reports_in_flight_max=1) as stage:
        [ann, ben, cleo] = await stage.configured("ann", "ben", "cleo")
        await ann.begin(len(UPDATE))
        uploads = stage.server.selector.desk._uploads
        giving_up = asyncio.create_task(ben.begin(len(UPDATE)))
        await eventually(lambda: uploads._slots._waiters)
        giving_up.cancel()
        waiting = asyncio.create_task(cleo.report(ones()))

        await ann.send(report_frames(ann.token, UPDATE))

        assert (await waiting).outcome == ACCEPTED


async def test_two_waits_of_one_client_are_one_place(tmp_path: Path) -> None:
    """A client that asks twice does not keep others out."""
    async with a_stage(tmp_path, reports_in_flight_max=1) as stage:
        [ann, ben] = await stage.configured("ann", "ben")
        await ann.begin(len(UPDATE))
        uploads = stage.server.selector.desk._uploads
        asked = [asyncio.create_task(ben.begin(len(UPDATE))) for _ in range(2)]
        await eventually(lambda: len(uploads._slots._waiters or ()) == 2)
        await ann.send(report_frames(ann.token, UPDATE))
        await within(asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED))

        receipt = await ben.send(report_frames(ben.token, UPDATE))
        answers = [(await within(task)).WhichOneof("answer") for task in asked]

        assert receipt.outcome == ACCEPTED
        assert sorted(map(str, answers)) == ["permission", "receipt"]
        await eventually(lambda: len(uploads) == 0)


# -- Close ------------------------------------------------------------------------------------


async def test_close_discards_a_report_without_its_end_frame(tmp_path: Path) -> None:
    """It is fine but late: a fate of its own, with a receipt."""
    update = encode(LARGE)
    async with a_stage(tmp_path, weights=LARGE) as stage:
        [ann, ben] = await stage.configured("ann", "ben")
        await ben.report(LARGE)
        call = await half_a_report(stage, ann, update)

        partial = await stage.close()
        event = await ann.next_event()
        await within(call.write(data_frames(update, offset=1 << 20)[0]))
        receipt = await within(call)
        asked = await ann.begin(len(update))

        assert list(partial.client_ids) == ["ben"]
        assert event is not None
        assert event.aborted.reason == "reporting-closed"
        assert (receipt.outcome, receipt.reason) == (DISCARDED, "late")
        assert receipt.size_bytes == 1 << 20
        assert asked.receipt == receipt


async def test_close_tells_of_discarded_reports_before_the_partial(tmp_path: Path) -> None:
    """So that the fates are known when the sum is kept."""
    async with a_stage(tmp_path, weights=LARGE) as stage:
        [ann] = await stage.configured("ann")
        await half_a_report(stage, ann, encode(LARGE))
        close = {"round_id": "round-1", "grace_s": 10.0}

        await stage.attachment.send(close_reporting=close)
        told = await stage.attachment.after("report_discarded")

        assert (told.client_id, told.reason) == ("ann", "late")
        came = await stage.attachment.next("client_shapes")
        assert dict(came.shapes) == {"ann": "-v[]+"}
        await stage.attachment.next("partial_written")


async def test_close_judges_a_report_whose_end_frame_came(tmp_path: Path) -> None:
    """Surplus that was folded before the seal counts."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        await ann.begin(len(UPDATE))
        with folds_wait() as go_on:
            sending = asyncio.create_task(ann.send(report_frames(ann.token, UPDATE)))
            await stage.stands("ann", "folding")
            closing = asyncio.create_task(stage.close())
            await eventually(lambda: _is_closed(stage))
            go_on.set()
            partial = await closing

        assert list(partial.client_ids) == ["ann"]
        assert (await sending).outcome == ACCEPTED


def _is_closed(stage: Stage) -> bool:
    cohort = stage.server.selector.cohort
    return cohort is not None and cohort.closed


async def test_fold_that_outlasts_grace_is_in_no_partial_and_not_accepted(tmp_path: Path) -> None:
    """At its end the partial is given up; a receipt that came later must not say accepted."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        await ann.begin(len(UPDATE))
        with folds_wait() as go_on:
            sending = asyncio.create_task(ann.send(report_frames(ann.token, UPDATE)))
            await stage.stands("ann", "folding")

            partial = await stage.close(grace_s=0.05)
            go_on.set()
            receipt = await sending

        assert (partial.failure, partial.count) == ("partial-late", 0)
        assert (receipt.outcome, receipt.reason) == (DISCARDED, "late")


async def test_clients_that_wait_for_their_turn_hear_of_close(tmp_path: Path) -> None:
    """Nobody waits for a permission that will not come."""
    async with a_stage(tmp_path, reports_in_flight_max=1) as stage:
        [ann, ben] = await stage.configured("ann", "ben")
        await ann.begin(len(UPDATE))
        waiting = asyncio.create_task(ben.begin(len(UPDATE)))
        await eventually(lambda: stage.server.selector.desk._uploads._slots._waiters)

        await stage.close()

        assert (await waiting).aborted.reason == "reporting-closed"


async def test_places_are_free_again_in_the_next_round(tmp_path: Path) -> None:
    """Reports that were cut off by Close hold no buffer."""
    async with a_stage(tmp_path, reports_in_flight_max=1) as stage:
        [ann] = await stage.configured("ann")
        await ann.begin(len(UPDATE))
        await stage.close()
        await stage.end()
        [ben] = await stage.configured("ben", round_number=2)

        receipt = await ben.report(ones())

        assert receipt.outcome == ACCEPTED


# -- What fails here --------------------------------------------------------------------------


async def test_fold_that_raises_voids_the_partial_and_the_selector_goes_on(tmp_path: Path) -> None:
    """The coordinator hears at once, so that clients can report elsewhere."""
    async with a_stage(tmp_path) as stage:
        [ann, ben, cleo] = await stage.configured("ann", "ben", "cleo")
        await ann.report(ones())

        with patch.object(Cohort, "fold", _out_of_memory):
            receipt = await ben.report(ones())
        partial = await stage.attachment.after("partial_written")
        event = await cleo.next_event()
        again = await stage.close()
        await stage.end(reason="too-few-reports")
        [dan] = await stage.configured("dan", round_number=2)

        assert (receipt.outcome, receipt.reason) == (REJECTED, "fold-failed")
        assert "memory" not in receipt.detail
        assert (partial.failure, partial.count) == ("fold-failed", 0)
        assert partial == again
        assert event is not None
        assert event.aborted.reason == "selector-failed"
        assert (await dan.report(ones())).outcome == ACCEPTED


def _out_of_memory(*_: Any) -> None:
    raise MemoryError("out of memory")


async def test_partial_that_cannot_be_written_is_said_with_its_reason(tmp_path: Path) -> None:
    """The disk's refusal is an outcome, not a silence."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        await ann.report(ones())
        folder = stage.directory.partial("north").parent
        folder.rmdir()
        folder.write_text("not a folder")

        partial = await stage.close()

        assert partial.count == 0
        assert partial.failure in ("io-error", "file-missing")


async def test_update_that_cannot_be_kept_is_accepted_all_the_same(tmp_path: Path) -> None:
    """An audit must not cost a round."""
    async with a_stage(tmp_path, keep_updates=True) as stage:
        [ann] = await stage.configured("ann")
        stage.directory.round_files("north").write_text("not a folder")

        receipt = await ann.report(ones())

        assert receipt.outcome == ACCEPTED
