"""A client that is killed and started again, with selectors that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from client.kept import Tally
from client.session import SessionResult
from client.state import DiskState
from federation.v1 import participation_pb2 as pb
from tests.client.scripted_selector import (
    WINDOW,
    Refuse,
    ScriptedSelector,
    a_receipt,
    a_scripted_selector,
)
from tests.client.test_session import ZEROS, Doing, Life, a_client
from tests.waiting import eventually, within


@asynccontextmanager
async def a_process(
    folder: Path, *selectors: ScriptedSelector, trainer: Doing, rounds: int | None = 1
) -> AsyncIterator[Life]:
    """Run ann with a state; leaving the block kills her: no goodbye."""
    state = await asyncio.to_thread(DiskState, folder, "ann")
    try:
        async with a_client(*selectors, trainer=trainer, rounds=rounds, state=state) as life:
            yield life
    finally:
        await asyncio.to_thread(state.close)


class Silent(ScriptedSelector):
    """Takes a report, and is asked for its receipt in vain until ``answers`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()

    async def Report(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ReportFrame], context: Any
    ) -> pb.ReportReceipt:
        receipt = await super().Report(request_iterator, context)
        await self.answers.wait()
        return receipt


@asynccontextmanager
async def a_silent_selector() -> AsyncIterator[Silent]:
    """Run one."""
    selector = Silent()
    await selector.start()
    try:
        yield selector
    finally:
        await selector.stop()


async def killed_after_its_report(
    folder: Path, selector: ScriptedSelector, rounds: int | None = 1
) -> None:
    """Run ann until her report has arrived and before its receipt does."""
    async with a_process(folder, selector, trainer=Doing(), rounds=rounds):
        await selector.configured(ZEROS)
        await within(selector.reports.get())
        await eventually((folder / "update").exists)


async def test_client_was_killed_after_its_training_it_reports_without_another(
    tmp_path: Path,
) -> None:
    """The update is on disk, and the claim is not spent."""
    first, second = Doing(), Doing()

    def refuse(_: Any) -> pb.BeginReportResponse:
        raise Refuse(grpc.StatusCode.UNAVAILABLE)

    async with a_scripted_selector() as selector:
        selector.begin = refuse
        async with a_process(tmp_path, selector, trainer=first):
            await selector.configured(ZEROS)
            await eventually((tmp_path / "update").exists)
        async with a_process(tmp_path, selector, trainer=second) as life:
            visit = await selector.visit()
            selector.begin = None
            await selector.configure(visit, selector.offer(ZEROS), 1)
            report = await within(selector.reports.get())

            assert await life.ended() == SessionResult(1, "this-session")
            assert report.weights["w"].tolist() == [1.0] * 3
            assert (report.start.num_examples, dict(report.start.metrics)) == (7, {"loss": 0.25})
            assert (len(first.tasks), len(second.tasks)) == (1, 0)
    assert not (tmp_path / "update").exists()


async def test_client_was_killed_and_its_round_is_over_it_trains_for_the_next(
    tmp_path: Path,
) -> None:
    """What was trained for one round is of no use in another."""
    trainer = Doing()
    async with a_silent_selector() as selector:
        await killed_after_its_report(tmp_path, selector)
        selector.answers.set()
        async with a_process(tmp_path, selector, trainer=trainer) as life:
            await selector.configured(ZEROS, round_number=2)

            assert (await life.ended()).accepted == 1
            assert [task.round_number for task in trainer.tasks] == [2]


async def test_damaged_update_is_trained_again(tmp_path: Path) -> None:
    """Nothing that was not trained is reported."""
    trainer = Doing()
    async with a_silent_selector() as selector:
        await killed_after_its_report(tmp_path, selector)
        selector.answers.set()
        content = (tmp_path / "update").read_bytes()
        (tmp_path / "update").write_bytes(content[:-1] + b"\x01")
        async with a_process(tmp_path, selector, trainer=trainer) as life:
            await selector.configured(ZEROS, round_number=1)

            assert (await life.ended()).accepted == 1
            assert len(trainer.tasks) == 1


async def test_receipt_was_lost_with_the_process_it_is_asked_for(tmp_path: Path) -> None:
    """The round may be over by then, and there is nothing to check in for."""
    asked: list[pb.BeginReportRequest] = []

    def receipt(request: pb.BeginReportRequest) -> pb.BeginReportResponse:
        asked.append(request)
        return pb.BeginReportResponse(receipt=a_receipt())

    trainer = Doing()
    async with a_silent_selector() as selector:
        await killed_after_its_report(tmp_path, selector)
        selector.begin = receipt
        async with a_process(tmp_path, selector, trainer=trainer) as life:
            assert (await life.ended()).accepted == 1
            assert [request.session_token for request in asked] == [f"token-{selector.port}"]
            assert (selector.visits.empty(), trainer.tasks) == (True, [])


@pytest.mark.parametrize("reason", ["round-over", "reporting-closed"])
async def test_report_came_too_late_the_client_takes_part_in_the_next_round(
    tmp_path: Path, reason: str
) -> None:
    """Its selector says so."""
    aborted = pb.Aborted(reason=reason, retry_window=WINDOW)
    async with a_silent_selector() as selector:
        await killed_after_its_report(tmp_path, selector)
        selector.begin = lambda _: pb.BeginReportResponse(aborted=aborted)
        async with a_process(tmp_path, selector, trainer=Doing()) as life:
            await selector.visit()

            assert life.session.accepted == 0
    assert not (tmp_path / "update").exists()


async def test_selector_of_the_report_is_gone_the_update_goes_to_another(tmp_path: Path) -> None:
    """Who was asked for the receipt is not there; the claim may have moved."""
    trainer = Doing()
    async with a_silent_selector() as first, a_scripted_selector() as second:
        await killed_after_its_report(tmp_path, first)
        await first.stop()
        async with a_process(tmp_path, first, second, trainer=trainer) as life:
            await second.configured(ZEROS)
            await within(second.reports.get())

            assert (await life.ended()).accepted == 1
            assert trainer.tasks == []


async def test_selector_that_is_not_known_any_more_is_not_asked(tmp_path: Path) -> None:
    """The operator names those that may be dialled."""
    asked: list[pb.BeginReportRequest] = []
    async with a_silent_selector() as first, a_scripted_selector() as second:
        await killed_after_its_report(tmp_path, first)
        first.begin = lambda request: asked.append(request) or pb.BeginReportResponse()  # type: ignore[func-returns-value]
        async with a_process(tmp_path, second, trainer=Doing()):
            await second.visit()

            assert asked == []


# -- The count --------------------------------------------------------------------------------


def a_count(folder: Path, accepted: int, session_id: str) -> None:
    """Leave a count, as a process that was killed does."""
    state = DiskState(folder, "ann")
    state.count(Tally(accepted, "an-earlier-round", session_id))
    state.close()


async def test_count_goes_on_in_the_same_session(tmp_path: Path) -> None:
    """``--rounds 5`` with three accepted: two more."""
    a_count(tmp_path, 3, "this-session")
    trainer = Doing()
    async with (
        a_scripted_selector() as selector,
        a_process(tmp_path, selector, trainer=trainer, rounds=5) as life,
    ):
        for number in (4, 5):
            await selector.configured(ZEROS, round_number=number)
            await within(selector.reports.get())

        assert (await life.ended()).accepted == 5
        assert len(trainer.tasks) == 2


async def test_count_begins_anew_in_another_session(tmp_path: Path) -> None:
    """The order is for each session."""
    a_count(tmp_path, 3, "another-session")
    async with (
        a_scripted_selector() as selector,
        a_process(tmp_path, selector, trainer=Doing(), rounds=1) as life,
    ):
        await selector.configured(ZEROS)
        await within(selector.reports.get())

        assert (await life.ended()).accepted == 1


@pytest.mark.parametrize("says", ["held", "configured"])
async def test_count_is_reached_already_the_client_ends_when_it_knows_the_session(
    tmp_path: Path, says: str
) -> None:
    """It was killed between its last receipt and its end."""
    a_count(tmp_path, 1, "this-session")
    trainer = Doing()
    async with (
        a_scripted_selector() as selector,
        a_process(tmp_path, selector, trainer=trainer) as life,
    ):
        visit = await selector.visit("this-session" if says == "held" else "")
        if says == "configured":
            await selector.configure(visit, selector.offer(ZEROS), 2)
            await within(selector.withdrawals.get())

        assert (await life.ended()).accepted == 1
        assert trainer.tasks == []


async def test_client_that_did_its_rounds_is_asked_for_more_by_its_next_process(
    tmp_path: Path,
) -> None:
    """It ended by itself: to start it again is another order."""
    async with a_scripted_selector() as selector:
        for number in (1, 2):
            trainer = Doing()
            async with a_process(tmp_path, selector, trainer=trainer) as life:
                await selector.configured(ZEROS, round_number=number)

                assert (await life.ended()).accepted == 1
                assert [task.round_number for task in trainer.tasks] == [number]


async def test_report_that_two_processes_had_accepted_counts_once(tmp_path: Path) -> None:
    """Asked again, the selector gives the first receipt; the count knows the round."""
    async with a_silent_selector() as selector:
        await killed_after_its_report(tmp_path, selector, rounds=None)
        update = (tmp_path / "update").read_bytes()
        selector.answers.set()
        for _ in range(2):  # killed once more, before its update was deleted
            (tmp_path / "update").write_bytes(update)
            async with a_process(tmp_path, selector, trainer=Doing(), rounds=None) as life:
                await selector.configured(ZEROS)
                await within(selector.reports.get())
                await selector.visit("this-session")

                assert life.session.accepted == 1


async def test_stream_ended_with_the_receipt_and_that_was_lost_it_is_asked_for(
    tmp_path: Path,
) -> None:
    """The process lives; the connection broke at the wrong moment."""
    async with (
        a_silent_selector() as selector,
        a_process(tmp_path, selector, trainer=Doing(), rounds=1) as life,
    ):
        visit = await selector.configured(ZEROS)
        await within(selector.reports.get())
        selector.begin = lambda _: pb.BeginReportResponse(receipt=a_receipt())
        visit.ended.set()
        again = await selector.visit()
        await again.decline("goal-reached")

        assert (await life.ended()).accepted == 1
