"""A client's life over real gRPC, with selectors that do as they are told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from client.artifacts import Artifacts
from client.cache import ModelCache
from client.selectors import BACKOFF_MAX_S, BACKOFF_MIN_S, TRIES_AT_ONE_SELECTOR
from client.session import TRAINER_FAILURES_MAX, ClientSession, SessionResult
from client.state import ClientState
from client.trainer import Trainer, TrainingResult, TrainingStopped, TrainingTask
from federation.errors import PeerError, SettingsError
from federation.v1 import participation_pb2 as pb
from federation.v1 import plan_pb2
from tests.client.scripted_selector import (
    WINDOW,
    Refuse,
    ScriptedSelector,
    a_receipt,
    a_scripted_selector,
)
from tests.raw_client import sha256
from tests.waiting import eventually, within

ZEROS = {"w": np.zeros(3, np.float32)}
LARGE = {"w": np.zeros(3 << 18, np.float32)}
"""3 MiB: more than one chunk."""

Fit = Callable[[dict[str, NDArray[Any]], TrainingTask], TrainingResult]


class Doing(Trainer):
    """Does what a test says; by default it adds one."""

    def __init__(self, fit: Fit | None = None) -> None:
        self.tasks: list[TrainingTask] = []
        self._fit = fit

    def fit(self, weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        self.tasks.append(task)
        if self._fit is not None:
            return self._fit(weights, task)
        new = {name: array + array.dtype.type(1) for name, array in weights.items()}
        return TrainingResult(new, 7, {"loss": 0.25})


def raising(error: Exception) -> Fit:
    """A trainer that fails."""

    def fit(weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        raise error

    return fit


@dataclass
class Life:
    """A client that runs, and what it drew as pauses: it waits for none of them."""

    session: ClientSession
    running: asyncio.Task[SessionResult]
    pauses: list[tuple[float, float]] = field(default_factory=list)

    async def ended(self) -> SessionResult:
        """Wait for its end."""
        return await within(self.running)


@asynccontextmanager
async def a_client(
    *selectors: ScriptedSelector,
    trainer: Trainer | None = None,
    rounds: int | None = None,
    one_session: bool = False,
    artifacts: Artifacts | None = None,
    state: ClientState | None = None,
) -> AsyncIterator[Life]:
    """Run a client that knows these selectors."""
    pauses: list[tuple[float, float]] = []

    def draw(at_least_s: float, at_most_s: float) -> float:
        pauses.append((at_least_s, at_most_s))
        return 0.0

    session = ClientSession(
        "ann",
        [s.address for s in selectors],
        trainer or Doing(),
        rounds=rounds,
        one_session=one_session,
        artifacts=artifacts,
        state=state,
        draw=draw,
    )
    life = Life(session, asyncio.create_task(session.run()), pauses)
    try:
        yield life
    finally:
        life.running.cancel()
        await asyncio.gather(life.running, return_exceptions=True)
        await session.close()


# -- A round ----------------------------------------------------------------------------------


async def test_client_checks_in_trains_reports_and_ends_after_its_rounds() -> None:
    """``--rounds 1``: one accepted report."""
    trainer = Doing()
    async with (
        a_scripted_selector() as selector,
        a_client(selector, trainer=trainer, rounds=1) as life,
    ):
        visit = await selector.configured(ZEROS)
        report = await within(selector.reports.get())

        assert await life.ended() == SessionResult(1, "this-session")
        assert (visit.request.client_id, visit.request.session_id) == ("ann", "")
        assert report.weights["w"].tolist() == [1.0] * 3
        assert report.start.num_examples == 7
        assert dict(report.start.metrics) == {"loss": 0.25}
        assert (report.end.chunks, report.end.size_bytes) == (1, len(report.data))
        assert report.end.sha256 == sha256(report.data)
        assert report.start.session_token == f"token-{selector.port}"


async def test_trainer_is_told_what_the_operator_asks_for() -> None:
    """Hyperparameters, round and deadline; no model where it needs none."""
    trainer = Doing()
    async with a_scripted_selector() as selector, a_client(selector, trainer=trainer, rounds=1):
        await selector.configured(ZEROS, round_number=9, deadline_s=50.0)
        await within(selector.reports.get())

        [task] = trainer.tasks
        assert (task.round_number, task.round_id, task.client_id) == (9, "round-9", "ann")
        assert task.hyperparameters.learning_rate == 0.5
        assert 0 < task.deadline_s <= 50.0
        assert task.model_path is None


async def test_client_comes_back_within_the_window_of_its_receipt() -> None:
    """A moment between the two delays, drawn evenly; it shows the session that it was in."""
    async with a_scripted_selector() as selector, a_client(selector) as life:
        await selector.configured(ZEROS)
        await within(selector.reports.get())
        following = await selector.visit()

        assert life.pauses == [(WINDOW.delay_min_s, WINDOW.delay_max_s)]
        assert following.request.session_id == "this-session"


@pytest.mark.parametrize("send_away", ["decline", "abort"])
async def test_client_that_is_sent_away_comes_back_within_the_window(send_away: str) -> None:
    """Neither earlier nor in step with the others.

    Elsewhere: the client of a prototype ended when it was rejected, and was missing ever after.
    """
    async with a_scripted_selector() as selector, a_client(selector) as life:
        visit = await selector.visit()
        await getattr(visit, send_away)()
        await selector.visit()

        assert life.pauses == [(WINDOW.delay_min_s, WINDOW.delay_max_s)]


async def test_report_that_is_not_accepted_does_not_count() -> None:
    """The client goes on until its rounds are accepted."""
    async with a_scripted_selector() as selector, a_client(selector, rounds=1) as life:
        selector.receipt = a_receipt(pb.REPORT_OUTCOME_REJECTED, "not-finite")
        await selector.configured(ZEROS)
        await within(selector.reports.get())
        following = await selector.visit()
        before = life.session.accepted
        selector.receipt = a_receipt()
        await selector.configure(following, selector.offer(ZEROS), 2)

        assert before == 0
        assert (await life.ended()).accepted == 1


async def test_receipt_may_come_instead_of_a_permission() -> None:
    """The report was judged before: no bytes are needed."""
    async with a_scripted_selector() as selector, a_client(selector, rounds=1) as life:
        selector.begin = lambda _: pb.BeginReportResponse(receipt=a_receipt())
        await selector.configured(ZEROS)

        assert (await life.ended()).accepted == 1
        assert selector.reports.empty()


async def test_report_is_not_wanted_any_more_the_client_sends_no_bytes() -> None:
    """And comes back within the window."""
    aborted = pb.Aborted(reason="reporting-closed", retry_window=WINDOW)
    async with a_scripted_selector() as selector, a_client(selector) as life:
        selector.begin = lambda _: pb.BeginReportResponse(aborted=aborted)
        await selector.configured(ZEROS)
        await selector.visit()

        assert life.pauses == [(WINDOW.delay_min_s, WINDOW.delay_max_s)]
        assert (life.session.accepted, selector.reports.empty()) == (0, True)


async def test_checkpoint_that_is_here_already_is_not_fetched_again() -> None:
    """Skipped when the client has the digest."""
    async with a_scripted_selector() as selector, a_client(selector, rounds=2) as life:
        for number in (1, 2):
            await selector.configured(ZEROS, round_number=number)
            await within(selector.reports.get())
        await life.ended()

        assert len(selector.fetched) == 1


async def test_next_round_may_be_configured_on_the_same_stream() -> None:
    """The one before is over then, and its training stops."""
    blocked = threading.Event()

    def fit(weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        if task.round_number == 1:
            blocked.set()
            task.stop.wait(60.0)
            task.raise_if_stopped()
        return TrainingResult(weights, 1)

    async with (
        a_scripted_selector() as selector,
        a_client(selector, trainer=Doing(fit), rounds=1) as life,
    ):
        visit = await selector.configured(ZEROS)
        await eventually(blocked.is_set)
        await selector.configure(visit, selector.offer(ZEROS), 2)
        await within(selector.reports.get())

        assert (await life.ended()).accepted == 1


# -- Sessions ---------------------------------------------------------------------------------


async def test_session_over_ends_a_client_with_rounds() -> None:
    """It says how many of its reports were accepted."""
    async with a_scripted_selector() as selector, a_client(selector, rounds=5) as life:
        await selector.configured(ZEROS)
        await within(selector.reports.get())
        visit = await selector.visit()
        await visit.decline("session-over")

        assert await life.ended() == SessionResult(1, "this-session")


async def test_session_over_is_a_pause_for_a_client_without_rounds() -> None:
    """It waits for the next session, and shows the old one no more."""
    async with a_scripted_selector() as selector, a_client(selector):
        await selector.configured(ZEROS)
        await within(selector.reports.get())
        visit = await selector.visit()
        await visit.decline("session-over")
        following = await selector.visit()

        assert visit.request.session_id == "this-session"
        assert following.request.session_id == ""


async def test_client_of_one_session_ends_with_it_without_rounds() -> None:
    """It wants that session's result, and must not take part in the next."""
    async with a_scripted_selector() as selector, a_client(selector, one_session=True) as life:
        await selector.configured(ZEROS)
        await within(selector.reports.get())
        visit = await selector.visit()
        await visit.decline("session-over")

        assert await life.ended() == SessionResult(1, "this-session")


async def test_client_of_one_session_that_no_round_takes_ends_with_it_too() -> None:
    """It shows the session that ran when it was held, and so hears that it is over."""
    async with a_scripted_selector() as selector, a_client(selector, one_session=True) as life:
        visit = await selector.visit("the-one")
        await visit.decline("goal-reached")
        visit = await selector.visit("another")
        await visit.decline("session-over")

        assert visit.request.session_id == "the-one"
        assert await life.ended() == SessionResult(0, "the-one")


async def test_client_that_was_in_no_round_shows_no_session() -> None:
    """One that goes on waits for whichever session takes it."""
    async with a_scripted_selector() as selector, a_client(selector):
        visit = await selector.visit("the-one")
        await visit.decline("goal-reached")
        visit = await selector.visit("the-one")

        assert visit.request.session_id == ""


async def test_disk_refuses_the_model_the_client_withdraws(tmp_path: Path) -> None:
    """A full disk is no reason for the round to wait, and another round may find room."""
    artifacts = Artifacts(ModelCache(tmp_path / "missing", 1))
    trainer = Doing()
    trainer.needs_model = True
    async with (
        a_scripted_selector() as selector,
        a_client(selector, trainer=trainer, artifacts=artifacts),
    ):
        model = selector.offer_bytes(b"model", pb.ARTIFACT_KIND_MODEL)
        visit = await selector.visit()
        await selector.configure(visit, model, selector.offer(ZEROS), 1)
        withdrawal = await within(selector.withdrawals.get())

        assert withdrawal.reason == "file-missing"
        assert not trainer.tasks


# -- The trainer ------------------------------------------------------------------------------


async def test_trainer_that_raises_withdraws() -> None:
    """The round need not wait for it."""
    failing = Doing(raising(RuntimeError("no data")))
    async with a_scripted_selector() as selector, a_client(selector, trainer=failing) as life:
        await selector.configured(ZEROS)
        withdrawal = await within(selector.withdrawals.get())
        await selector.visit()

        assert withdrawal.reason == "trainer-failed"
        assert withdrawal.session_token == f"token-{selector.port}"
        assert life.pauses == [(WINDOW.delay_min_s, WINDOW.delay_max_s)]


async def test_trainer_that_fails_three_times_in_a_row_ends_the_client() -> None:
    """Another round would fail, too."""
    failing = Doing(raising(RuntimeError("no data")))
    async with a_scripted_selector() as selector, a_client(selector, trainer=failing) as life:
        for number in range(TRAINER_FAILURES_MAX):
            await selector.configured(ZEROS, round_number=number + 1)
            await within(selector.withdrawals.get())

        assert await life.ended() == SessionResult(0, "this-session", trainer_failed=True)


async def test_report_between_failures_starts_the_count_anew() -> None:
    """Only failures in a row count."""

    def fit(weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        if task.round_number == TRAINER_FAILURES_MAX:
            return TrainingResult(weights, 1)
        raise RuntimeError("no data")

    async with a_scripted_selector() as selector, a_client(selector, trainer=Doing(fit)) as life:
        for number in range(1, 2 * TRAINER_FAILURES_MAX):
            await selector.configured(ZEROS, round_number=number)
            if number == TRAINER_FAILURES_MAX:
                await within(selector.reports.get())
            else:
                await within(selector.withdrawals.get())
        await selector.visit()

        assert not life.running.done()


BAD_RESULTS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "weights that cannot be sent": lambda: TrainingResult({"w": np.array(["text"])}, 1),
    "a name that cannot be": lambda: TrainingResult({"../up": np.zeros(1)}, 1),
    "an example count beyond the wire's": lambda: TrainingResult(ZEROS, 2**70),
    "a metric that is no number": lambda: TrainingResult(ZEROS, 1, {"loss": "low"}),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("kind", BAD_RESULTS)
async def test_result_that_cannot_be_sent_is_the_trainers_failure(kind: str) -> None:
    """It withdraws instead of hanging in a broken stream."""
    bad = Doing(lambda *_: BAD_RESULTS[kind]())
    async with a_scripted_selector() as selector, a_client(selector, trainer=bad):
        await selector.configured(ZEROS)

        assert (await within(selector.withdrawals.get())).reason == "trainer-failed"


async def test_trainer_that_stops_by_itself_withdraws() -> None:
    """Nobody told it to; the client lives on."""
    stopping = Doing(raising(TrainingStopped()))
    async with a_scripted_selector() as selector, a_client(selector, trainer=stopping) as life:
        await selector.configured(ZEROS)
        await within(selector.withdrawals.get())
        await selector.visit()

        assert not life.running.done()


async def test_setting_that_the_trainer_cannot_work_with_ends_the_client() -> None:
    """It bows out first, and says what is wrong."""
    wrong = Doing(raising(SettingsError("data", "x.npz", "it has another shape")))
    async with a_scripted_selector() as selector, a_client(selector, trainer=wrong) as life:
        await selector.configured(ZEROS)

        with pytest.raises(SettingsError, match="another shape"):
            await life.ended()
        assert (await within(selector.withdrawals.get())).reason == "trainer-failed"


async def test_training_is_told_to_stop_when_the_round_goes_on_without_it() -> None:
    """``task.stop`` is set; what it returns then is not used."""
    blocked = threading.Event()

    def fit(weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        blocked.set()
        task.stop.wait(60.0)
        return TrainingResult(weights, 1)

    trainer = Doing(fit)
    async with a_scripted_selector() as selector, a_client(selector, trainer=trainer) as life:
        visit = await selector.configured(ZEROS)
        await eventually(blocked.is_set)
        await visit.abort("reporting-closed")
        await selector.visit()

        assert trainer.tasks[0].stop.is_set()
        assert life.pauses == [(WINDOW.delay_min_s, WINDOW.delay_max_s)]
        assert selector.reports.empty()


@pytest.mark.parametrize(
    "hyperparameters",
    [
        plan_pb2.Hyperparameters(epochs=0, batch_size=8, learning_rate=0.5),
        plan_pb2.Hyperparameters(epochs=1, batch_size=8, learning_rate=float("nan")),
    ],
)
async def test_order_that_makes_no_sense_is_given_up(
    hyperparameters: plan_pb2.Hyperparameters,
) -> None:
    """It is the other side's fault, and not a reason to end."""
    async with a_scripted_selector() as selector, a_client(selector) as life:
        await selector.configured(ZEROS, hyperparameters=hyperparameters)
        withdrawal = await within(selector.withdrawals.get())
        await selector.visit()

        assert withdrawal.reason == "malformed-hyperparameters"
        assert not life.running.done()


async def test_artifact_that_is_absurdly_large_is_not_fetched() -> None:
    """No memory is made for it."""
    async with a_scripted_selector() as selector, a_client(selector):
        visit = await selector.visit()
        artifact = selector.offer(ZEROS)
        artifact.size_bytes = 1 << 60
        await selector.configure(visit, artifact, 1)

        assert (await within(selector.withdrawals.get())).reason == "artifact-refused"
        assert selector.fetched == []


# -- Selectors that fail ----------------------------------------------------------------------


async def test_selector_that_is_not_there_is_left_for_the_next_one() -> None:
    """After a few tries with growing pauses, each drawn from half of it up."""
    async with a_scripted_selector() as absent, a_scripted_selector() as selector:
        await absent.stop()
        async with a_client(absent, selector) as life:
            await selector.visit()

            assert len(life.pauses) == TRIES_AT_ONE_SELECTOR
            longest = [at_most_s for _, at_most_s in life.pauses]
            assert longest == [BACKOFF_MIN_S, 2 * BACKOFF_MIN_S, 4 * BACKOFF_MIN_S]
            assert all(low == high / 2 for low, high in life.pauses)


async def test_only_selector_is_absent_it_is_tried_until_it_is_there() -> None:
    """Pauses are bounded."""
    async with a_scripted_selector() as selector:
        port = selector.port
        await selector.stop()
        async with a_client(selector) as life:
            await eventually(lambda: len(life.pauses) >= 9)
            await selector.start(port)
            await selector.visit()

            assert max(at_most_s for _, at_most_s in life.pauses) == BACKOFF_MAX_S


async def test_selector_is_lost_while_it_holds_the_client_the_next_one_is_asked() -> None:
    """Selectors are tried in turn."""
    async with (
        a_scripted_selector() as first,
        a_scripted_selector() as second,
        a_client(first, second),
    ):
        await first.visit()

        await first.stop()

        await second.visit()


@pytest.mark.parametrize("reason", ["full", "draining", "claimed-elsewhere"])
async def test_selector_that_has_no_room_is_left_for_the_next_one(reason: str) -> None:
    """After the window that it gave."""
    async with (
        a_scripted_selector() as first,
        a_scripted_selector() as second,
        a_client(first, second) as life,
    ):
        visit = await first.visit()
        await visit.decline(reason)

        await second.visit()

        assert life.pauses == [(WINDOW.delay_min_s, WINDOW.delay_max_s)]


async def test_selector_drains_the_client_goes_where_it_is_sent() -> None:
    """Also to one of which it heard only then."""
    async with (
        a_scripted_selector() as first,
        a_scripted_selector() as second,
        a_client(first),
    ):
        visit = await first.visit()
        await visit.decline("draining", second.address)

        await second.visit()


async def test_selector_drains_in_mid_round_the_update_is_reported_where_the_client_is_sent() -> (
    None
):
    """What was trained is reported elsewhere, with the token that it has, and not trained again."""
    trainer = Doing()
    asked = asyncio.Event()

    def refuse(request: pb.BeginReportRequest) -> pb.BeginReportResponse:
        asked.set()
        raise Refuse(grpc.StatusCode.UNAVAILABLE)

    async with (
        a_scripted_selector() as first,
        a_scripted_selector() as second,
        a_client(first, trainer=trainer, rounds=1) as life,
    ):
        first.begin = refuse
        visit = await first.configured(ZEROS)
        await within(asked.wait())
        await visit.abort("draining", second.address)
        await second.configured(ZEROS)
        report = await within(second.reports.get())

        assert (await life.ended()).accepted == 1
        assert report.weights["w"].tolist() == [1.0] * 3
        assert len(trainer.tasks) == 1


async def test_client_that_is_not_needed_stays_with_its_selector() -> None:
    """The goal is the federation's, not the selector's."""
    async with (
        a_scripted_selector() as first,
        a_scripted_selector() as second,
        a_client(first, second),
    ):
        visit = await first.visit()
        await visit.decline("goal-reached")

        await first.visit()


async def test_stream_that_ends_without_a_word_is_tried_again_with_growing_pauses() -> None:
    """A selector that does so is not asked as fast as it answers."""
    async with a_scripted_selector() as selector, a_client(selector) as life:
        for _ in range(4):
            visit = await within(selector.visits.get())
            visit.ended.set()

        await eventually(lambda: len(life.pauses) >= 4)
        longest = [at_most_s for _, at_most_s in life.pauses[:4]]
        assert longest == [BACKOFF_MIN_S * 2**n for n in range(4)]


async def test_refusal_that_another_try_does_not_change_ends_the_client() -> None:
    """A wrong version or id: said clearly, once."""

    class Refusing(ScriptedSelector):
        async def CheckIn(  # type: ignore[override]  # noqa: N802
            self, request: pb.CheckInRequest, context: Any
        ) -> None:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                "protocol version 1 is not spoken here",
                trailing_metadata=(("headwater-reason", "protocol-mismatch"),),
            )

    selector = Refusing()
    await selector.start()
    async with a_client(selector) as life:
        with pytest.raises(PeerError, match="not spoken here") as refused:
            await life.ended()

    assert refused.value.reason == "protocol-mismatch"
    await selector.stop()


# -- Cuts during a round ----------------------------------------------------------------------


async def test_stream_is_cut_while_training_the_client_comes_back_and_reports() -> None:
    """It trains on meanwhile; its claim is still there."""
    trained = threading.Event()
    go_on = threading.Event()

    def fit(weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        trained.set()
        go_on.wait(60.0)
        return TrainingResult(weights, 1)

    trainer = Doing(fit)
    async with (
        a_scripted_selector() as selector,
        a_client(selector, trainer=trainer, rounds=1) as life,
    ):
        visit = await selector.configured(ZEROS)
        await eventually(trained.is_set)
        visit.ended.set()
        again = await selector.visit()
        go_on.set()
        await selector.configure(again, selector.offer(ZEROS), 1)

        assert (await life.ended()).accepted == 1
        assert len(trainer.tasks) == 1


async def test_link_carries_no_whole_chunk_smaller_ones_are_fetched() -> None:
    """Who sits behind a slow line takes part; as the rest went fast, it may report as usual."""
    async with a_scripted_selector() as selector, a_client(selector, rounds=1) as life:
        selector.cuts = 2
        await selector.configured(LARGE)
        report = await within(selector.reports.get())

        assert (await life.ended()).accepted == 1
        first, second, third = selector.chunk_bytes
        assert first > second > third
        assert report.end.chunks == report.chunks == 4


async def test_report_is_cut_it_resumes_where_the_selector_says() -> None:
    """Nothing is trained or sent twice."""
    trainer = Doing()
    async with (
        a_scripted_selector() as selector,
        a_client(selector, trainer=trainer, rounds=1) as life,
    ):
        selector.cut_after = 1 << 20
        await selector.configured(LARGE)
        report = await within(selector.reports.get())

        assert (await life.ended()).accepted == 1
        assert report.start.offset == 1 << 20
        assert report.weights["w"].tolist() == [1.0] * (3 << 18)
        assert report.end.chunks == report.chunks == 4
        assert len(trainer.tasks) == 1


async def test_selector_is_lost_after_the_training_the_update_goes_to_another() -> None:
    """The trained update is kept with its round."""
    trainer = Doing()
    async with (
        a_scripted_selector() as first,
        a_scripted_selector() as second,
        a_client(first, second, trainer=trainer, rounds=1) as life,
    ):
        asked = asyncio.Event()

        def refuse(_: Any) -> pb.BeginReportResponse:
            asked.set()
            raise Refuse(grpc.StatusCode.UNAVAILABLE)

        first.begin = refuse
        await first.configured(ZEROS)
        await within(asked.wait())
        await first.stop()
        await second.configured(ZEROS)
        report = await within(second.reports.get())

        assert (await life.ended()).accepted == 1
        assert report.start.session_token == f"token-{second.port}"
        assert len(trainer.tasks) == 1


async def test_claim_is_elsewhere_the_client_goes_there_after_the_window() -> None:
    """A cut client that turned to another selector, which may not have it."""
    blocked = threading.Event()
    go_on = threading.Event()

    def fit(weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        blocked.set()
        go_on.wait(60.0)
        return TrainingResult(weights, 1)

    async with (
        a_scripted_selector() as first,
        a_scripted_selector() as second,
        a_client(first, second, trainer=Doing(fit), rounds=1) as life,
    ):
        visit = await first.configured(ZEROS)
        await eventually(blocked.is_set)
        visit.ended.set()
        for _ in range(TRIES_AT_ONE_SELECTOR - 1):
            (await within(first.visits.get())).ended.set()
        elsewhere = await second.visit()
        await elsewhere.decline("claimed-elsewhere")
        again = await first.visit()
        await first.configure(again, first.offer(ZEROS), 1)
        go_on.set()
        await within(first.reports.get())

        assert (await life.ended()).accepted == 1
        assert (WINDOW.delay_min_s, WINDOW.delay_max_s) in life.pauses


@pytest.mark.parametrize("status", ["UNAVAILABLE", "ABORTED", "UNAUTHENTICATED", "DATA_LOSS"])
async def test_permission_is_refused_for_now_it_is_asked_for_again(status: str) -> None:
    """With growing pauses, for as long as the stream is held."""
    refusals = [Refuse(grpc.StatusCode[status]) for _ in range(3)]

    def begin(_: Any) -> pb.BeginReportResponse:
        if refusals:
            raise refusals.pop()
        return pb.BeginReportResponse(permission=pb.Permission())

    async with a_scripted_selector() as selector, a_client(selector, rounds=1) as life:
        selector.begin = begin
        await selector.configured(ZEROS)

        assert (await life.ended()).accepted == 1
        assert life.pauses == [(BACKOFF_MIN_S * 2**n / 2, BACKOFF_MIN_S * 2**n) for n in range(3)]


async def test_report_is_refused_for_good_the_client_withdraws() -> None:
    """Its size is none that can be: another try would get the same answer."""

    def refuse(_: Any) -> pb.BeginReportResponse:
        raise Refuse(grpc.StatusCode.INVALID_ARGUMENT)

    async with a_scripted_selector() as selector, a_client(selector) as life:
        selector.begin = refuse
        await selector.configured(ZEROS)
        withdrawal = await within(selector.withdrawals.get())
        await selector.visit()

        assert withdrawal.reason == "invalid-argument"
        assert not life.running.done()


async def test_report_that_is_accepted_twice_in_a_round_counts_once() -> None:
    """A selector that was lost had accepted it; another one did again."""
    async with a_scripted_selector() as selector, a_client(selector) as life:
        for _ in range(2):
            await selector.configured(ZEROS, round_number=1)
            await within(selector.reports.get())
        await selector.visit()

        assert life.session.accepted == 1


# -- The end ----------------------------------------------------------------------------------


async def test_client_that_ends_during_a_round_bows_out() -> None:
    """So that its round need not wait for it."""
    blocked = threading.Event()

    def fit(weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        blocked.set()
        task.stop.wait(60.0)
        return TrainingResult(weights, 1)

    async with a_scripted_selector() as selector, a_client(selector, trainer=Doing(fit)) as life:
        await selector.configured(ZEROS)
        await eventually(blocked.is_set)

        await within(life.session.bow_out())

        assert (await within(selector.withdrawals.get())).reason == "client-stopped"


async def test_client_that_ends_without_a_round_just_ends() -> None:
    """There is nothing to bow out of."""
    async with a_scripted_selector() as selector, a_client(selector) as life:
        await selector.visit()

        await within(life.session.bow_out())

        assert selector.withdrawals.empty()


async def test_client_that_ends_waits_for_no_selector() -> None:
    """A goodbye that nobody answers is left."""
    blocked = threading.Event()

    def fit(weights: dict[str, NDArray[Any]], task: TrainingTask) -> TrainingResult:
        blocked.set()
        task.stop.wait(60.0)
        return TrainingResult(weights, 1)

    async with a_scripted_selector() as selector, a_client(selector, trainer=Doing(fit)) as life:
        await selector.configured(ZEROS)
        await eventually(blocked.is_set)
        await selector.stop()

        await within(life.session.bow_out())
