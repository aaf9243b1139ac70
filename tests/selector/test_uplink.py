"""The selector's stream to its coordinator: kept, lost, and found again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import pytest

from federation.errors import PeerError
from federation.runtime.version import VERSION
from federation.v1 import coordination_pb2 as pb
from federation.v1 import participation_pb2 as participation
from selector import uplink as module
from selector.cohort import Transfer
from selector.selector import Selector
from selector.uplink import BACKOFF_MAX_S, BACKOFF_MIN_S, Superseded, Uplink
from tests.selector.stage import ZEROS, a_stage, ones
from tests.servers import (
    HOST,
    Attachment,
    ScriptedCoordinator,
    a_scripted_coordinator,
    a_shared_directory,
    an_order,
)
from tests.waiting import eventually, refused, within

GOODBYE = pb.SelectorEvent(detach=pb.Detach())
TRANSFER = Transfer(1, 100, b"\x01" * 32)


@dataclass
class Line:
    """A selector without clients' connections, its uplink, and what it drew as pauses."""

    selector: Selector
    uplink: Uplink
    running: asyncio.Task[None]
    pauses: list[tuple[float, float]] = field(default_factory=list)


def a_selector_without_uplink(shared_data: Path) -> Selector:
    """Make one that knows where clients reach it."""
    selector = Selector(
        "north",
        a_shared_directory(shared_data, ZEROS),
        reports_in_flight_max=4,
        report_stall_s=30.0,
        held_max=10_000,
        keep_updates=False,
    )
    selector.address = "north.example:50051"
    return selector


@asynccontextmanager
async def a_line(shared_data: Path, port: int) -> AsyncIterator[Line]:
    """Run an uplink that does not wait between its tries."""
    pauses: list[tuple[float, float]] = []

    def draw(at_least_s: float, at_most_s: float) -> float:
        pauses.append((at_least_s, at_most_s))
        return 0.0

    selector = a_selector_without_uplink(shared_data)
    uplink = Uplink(selector, f"{HOST}:{port}", 10.0, 5.0, draw=draw)
    running = asyncio.create_task(uplink.run())
    try:
        yield Line(selector, uplink, running, pauses)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        selector.shut_down()


@asynccontextmanager
async def an_attached_line(
    shared_data: Path, return_s: float = 30.0
) -> AsyncIterator[tuple[Line, ScriptedCoordinator, int, Attachment]]:
    """Run an uplink with a coordinator that does as it is told."""
    async with (
        a_scripted_coordinator(return_s) as (coordinator, port),
        a_line(shared_data, port) as line,
    ):
        attachment = await coordinator.attachment()
        await eventually(line.uplink.attached.is_set)
        yield line, coordinator, port, attachment


# -- Hello ------------------------------------------------------------------------------------


async def test_hello_says_who_and_where_the_selector_is(tmp_path: Path) -> None:
    """And nothing of a round, where none is served."""
    async with an_attached_line(tmp_path) as (line, _, _, attachment):
        hello = attachment.hello

        assert (hello.selector_id, hello.address) == ("north", "north.example:50051")
        assert hello.incarnation == line.selector.incarnation
        assert (hello.version, hello.directory_mark) == (VERSION, "")
        assert not hello.HasField("cohort")
        assert list(hello.held) == []


async def test_hello_says_what_the_selector_sees_in_its_directory_each_time(
    tmp_path: Path,
) -> None:
    """A coordinator that starts again writes another mark; one that cannot be seen is empty."""
    marks = iter(["c0ffee", "f00d"])
    async with a_scripted_coordinator() as (coordinator, port):
        selector = a_selector_without_uplink(tmp_path)
        uplink = Uplink(
            *(selector, f"{HOST}:{port}", 10.0, 5.0),
            see_mark=lambda: next(marks),
            draw=lambda *_: 0.0,
        )
        running = asyncio.create_task(uplink.run())
        first = await coordinator.attachment()
        first.ended.set()
        second = await coordinator.attachment()

        assert [a.hello.directory_mark for a in (first, second)] == ["c0ffee", "f00d"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        selector.shut_down()


async def test_directory_hangs_the_hello_is_said_without_its_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that answers nobody must not keep a selector from its coordinator."""
    monkeypatch.setattr(module, "MARK_TIMEOUT_S", 0.01)
    released = threading.Event()
    async with a_scripted_coordinator() as (coordinator, port):
        selector = a_selector_without_uplink(tmp_path)

        def hang() -> str:
            released.wait()
            return "late"

        uplink = Uplink(selector, f"{HOST}:{port}", 10.0, 5.0, see_mark=hang)
        running = asyncio.create_task(uplink.run())
        attachment = await coordinator.attachment()

        assert attachment.hello.directory_mark == ""
        released.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        selector.shut_down()


async def test_clients_that_came_while_there_was_no_coordinator_are_in_the_hello(
    tmp_path: Path,
) -> None:
    """Nothing is lost with a broken stream."""
    coordinator = ScriptedCoordinator()
    port = await coordinator.start()
    await coordinator.stop()
    async with a_line(tmp_path, port) as line:
        line.selector.check_in("ann", "an-earlier-session")
        await eventually(lambda: len(line.pauses) >= 3)

        await coordinator.start(port)
        attachment = await coordinator.attachment()

        assert [(client.client_id, client.session_id) for client in attachment.hello.held] == [
            ("ann", "an-earlier-session")
        ]
        await coordinator.stop()


async def test_hello_says_all_that_is_known_of_the_round(tmp_path: Path) -> None:
    """Facts, so that only the gaps are asked again."""
    async with an_attached_line(tmp_path) as (line, coordinator, _, attachment):
        names = ("claimed", "configured", "away", "accepted", "rejected", "late", "gone")
        selector = line.selector
        for name in names[:2]:
            selector.check_in(name, "")
        digest = selector.shelf.current_checkpoint()[1].sha256.hex()
        await attachment.send(configure_round=an_order(*names, base_digest=digest))
        await attachment.after("clients_left")
        cohort = selector.cohort
        assert cohort is not None
        members = cohort.members
        for name in names[3:]:
            cohort.claim(name, "")
        cohort.mark_configured("configured")
        for name in ("accepted", "rejected"):
            cohort.begin_fold(members[name], TRANSFER, 3, {"loss": 0.5})
        cohort.fold(members["accepted"], ones())
        cohort.accept(members["accepted"])
        cohort.reject(members["rejected"], PeerError("", reason="not-finite"))
        cohort.discard(members["late"], "late", "")
        cohort.withdraw(members["gone"], "trainer-failed")

        attachment.ended.set()
        following = await coordinator.attachment()

        state = following.hello.cohort
        assert (state.round_id, state.round_number) == ("round-1", 1)
        assert list(state.configured) == ["configured"]
        assert list(state.away) == ["away"]
        assert [(r.client_id, r.num_examples) for r in state.folded] == [("accepted", 3)]
        assert [(r.client_id, r.reason) for r in state.rejected] == [("rejected", "not-finite")]
        assert [(r.client_id, r.reason) for r in state.discarded] == [("late", "late")]
        assert [(r.client_id, r.reason) for r in state.withdrawn] == [("gone", "trainer-failed")]
        assert list(following.hello.held) == []
        returned = await following.next("clients_returned")
        assert list(returned.client_ids) == ["claimed"]


async def test_hello_repeats_the_partial(tmp_path: Path) -> None:
    """The coordinator may have gone before it kept it.

    Elsewhere: a middle tier of NVFlare resets its sum before the parent has acknowledged it,
    and a time-out of 5 s loses the whole subtree.
    """
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        await ann.report(ones())
        partial = await stage.close()

        stage.attachment.ended.set()
        following = await stage.coordinator.attachment()

        assert following.hello.cohort.partial == partial


# -- Lost and found ---------------------------------------------------------------------------


async def test_coordinator_is_absent_it_is_dialled_with_growing_pauses(tmp_path: Path) -> None:
    """Pauses double up to the largest, drawn from half of it up."""
    coordinator = ScriptedCoordinator()
    port = await coordinator.start()
    await coordinator.stop()
    async with a_line(tmp_path, port) as line:
        await eventually(lambda: len(line.pauses) >= 8)

        longest = [at_most_s for _, at_most_s in line.pauses]
        assert longest[:3] == [BACKOFF_MIN_S, 2 * BACKOFF_MIN_S, 4 * BACKOFF_MIN_S]
        assert max(longest) == BACKOFF_MAX_S
        assert all(at_least_s == at_most_s / 2 for at_least_s, at_most_s in line.pauses)
        assert not line.uplink.attached.is_set()


async def test_coordinator_restarts_the_selector_attaches_again_and_keeps_its_clients(
    tmp_path: Path,
) -> None:
    """A selector outlives its coordinator, and says what it holds."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.held("ann")
        await stage.coordinator.stop()
        await eventually(lambda: not stage.server.uplink.attached.is_set())
        [ben] = await stage.held("ben")

        await stage.coordinator.start(stage.port)
        stage.attachment = await stage.coordinator.attachment()
        await stage.order("ann", "ben")

        assert [c.client_id for c in stage.attachment.hello.held] == ["ann", "ben"]
        assert (await ann.configured()).round_id == (await ben.configured()).round_id == "round-1"


async def test_coordinator_restarts_during_a_round_the_round_goes_on(tmp_path: Path) -> None:
    """Claims, the sum and the receipts are the selector's."""
    async with a_stage(tmp_path) as stage:
        [ann, ben] = await stage.configured("ann", "ben")
        await ann.report(ones(2.0))
        await stage.coordinator.stop()
        await eventually(lambda: not stage.server.uplink.attached.is_set())

        await stage.coordinator.start(stage.port)
        stage.attachment = await stage.coordinator.attachment()
        receipt = await ben.report(ones(4.0))
        partial = await stage.close()

        assert [r.client_id for r in stage.attachment.hello.cohort.folded] == ["ann"]
        assert list(stage.attachment.hello.cohort.configured) == ["ben"]
        assert receipt.outcome == participation.REPORT_OUTCOME_ACCEPTED
        assert sorted(partial.client_ids) == ["ann", "ben"]


async def test_stream_is_refused_the_selector_dials_again(tmp_path: Path) -> None:
    """Also if the coordinator does not begin with welcome."""
    async with a_scripted_coordinator() as (coordinator, port):
        coordinator.first_command = pb.CoordinatorCommand(admit_clients=pb.AdmitClients())
        async with a_line(tmp_path, port) as line:
            await eventually(lambda: len(line.pauses) >= 2)

            coordinator.first_command = None
            await eventually(line.uplink.attached.is_set)


async def test_coordinator_of_another_version_is_not_attached_to(tmp_path: Path) -> None:
    """A mismatch is a clear refusal, and the selector goes on asking for an upgraded one."""
    async with a_scripted_coordinator() as (coordinator, port):
        coordinator.first_command = pb.CoordinatorCommand(welcome=pb.Welcome(return_s=1.0))
        async with a_line(tmp_path, port) as line:
            await eventually(lambda: len(line.pauses) >= 2)

            assert not line.uplink.attached.is_set()
            assert not line.uplink.is_heard()
            assert not line.running.done()


async def test_selector_that_is_too_far_behind_says_hello_again(tmp_path: Path) -> None:
    """Events are bounded; the hello says what was dropped."""
    async with an_attached_line(tmp_path) as (line, coordinator, _, attachment):
        attachment.ended.set()
        with patch.object(module, "EVENTS_MAX", 3):
            await coordinator.attachment()
            await eventually(line.uplink.attached.is_set)
            for number in range(10):
                line.selector.check_in(f"client-{number}", "")

            following = await coordinator.attachment()

        assert len(following.hello.held) == 10


# -- Superseded -------------------------------------------------------------------------------


async def test_superseded_selector_ends(tmp_path: Path) -> None:
    """Of two processes with one id the newer wins; the older must not dial again."""
    async with an_attached_line(tmp_path) as (line, _, _, attachment):
        await attachment.send(superseded=pb.Superseded())

        with pytest.raises(Superseded):
            await within(line.running)


async def test_selector_that_was_superseded_while_it_was_away_ends(tmp_path: Path) -> None:
    """It hears so instead of a welcome."""
    async with a_scripted_coordinator() as (coordinator, port):
        coordinator.first_command = pb.CoordinatorCommand(superseded=pb.Superseded())
        async with a_line(tmp_path, port) as line:
            with pytest.raises(Superseded):
                await within(line.running)


# -- Heartbeats -------------------------------------------------------------------------------


async def test_heartbeats_are_not_answered_nothing_is_permitted_and_no_receipt_given(
    tmp_path: Path,
) -> None:
    """Half of ``return_s`` later the coordinator may have given the claims to others."""
    async with a_stage(tmp_path, return_s=1.0) as stage:
        [ann, ben] = await stage.configured("ann", "ben")
        selector = stage.server.selector
        cohort = selector.cohort
        assert cohort is not None
        cohort.discard(cohort.members["ann"], "late", "")

        stage.coordinator.answers_heartbeats = False
        await eventually(lambda: not selector.is_attached())
        with refused("not-attached"):
            await ben.begin(100)
        with refused("not-attached"):
            await ann.begin(100)

        stage.coordinator.answers_heartbeats = True
        await eventually(selector.is_attached)
        assert (await ann.begin(100)).receipt.reason == "late"


async def test_heartbeats_are_not_answered_for_long_the_selector_dials_again(
    tmp_path: Path,
) -> None:
    """A stream that is open and dead is worse than none."""
    async with an_attached_line(tmp_path, return_s=0.3) as (_, coordinator, _, _):
        coordinator.answers_heartbeats = False

        await coordinator.attachment()


async def test_selector_that_was_never_attached_permits_nothing(tmp_path: Path) -> None:
    """Nobody could keep its claims."""
    async with a_line(tmp_path, 1) as line:
        assert not line.uplink.is_heard()


# -- Goodbye ----------------------------------------------------------------------------------


async def test_goodbye_is_sent_before_the_selector_ends(tmp_path: Path) -> None:
    """The coordinator need not wait for it to return."""
    async with an_attached_line(tmp_path) as (line, _, _, attachment):
        await within(line.uplink.say_last(GOODBYE))

        await attachment.after("detach")


async def test_goodbye_without_a_coordinator_is_left_unsaid(tmp_path: Path) -> None:
    """Ending needs nobody else."""
    async with a_line(tmp_path, 1) as line:
        await within(line.uplink.say_last(GOODBYE))


# -- Batches ----------------------------------------------------------------------------------


def checked_in(client_id: str) -> pb.SelectorEvent:
    """One client came."""
    client = pb.CheckedInClient(client_id=client_id)
    return pb.SelectorEvent(clients_checked_in=pb.ClientsCheckedIn(clients=[client]))


def folded(round_id: str, client_id: str) -> pb.SelectorEvent:
    """One report was folded."""
    report = pb.FoldedReport(client_id=client_id)
    return pb.SelectorEvent(reports_folded=pb.ReportsFolded(round_id=round_id, reports=[report]))


def batches(*told: pb.SelectorEvent) -> list[pb.SelectorEvent]:
    """What goes over the wire if all of these wait."""
    events: asyncio.Queue[pb.SelectorEvent] = asyncio.Queue()
    for event in told:
        events.put_nowait(event)
    sent: list[pb.SelectorEvent] = []
    held_over: pb.SelectorEvent | None = None
    while held_over is not None or not events.empty():
        batch, held_over = module._batched(held_over or events.get_nowait(), events)
        sent.append(batch)
    return sent


def test_events_of_a_kind_that_wait_go_in_one_message() -> None:
    """A thousand check-ins are no thousand messages; their order stays."""
    [batch] = batches(*(checked_in(f"client-{number}") for number in range(1000)))

    names = [client.client_id for client in batch.clients_checked_in.clients]
    assert names == [f"client-{number}" for number in range(1000)]


def test_events_of_different_kinds_or_rounds_keep_their_order() -> None:
    """What happened first is told first."""
    left = pb.SelectorEvent(clients_left=pb.ClientsLeft(client_ids=["ann"]))

    sent = batches(
        checked_in("ann"),
        left,
        checked_in("ann"),
        folded("one", "ben"),
        folded("two", "ben"),
        folded("two", "cleo"),
    )

    assert [event.WhichOneof("event") for event in sent] == [
        "clients_checked_in",
        "clients_left",
        "clients_checked_in",
        "reports_folded",
        "reports_folded",
    ]
    assert [len(event.reports_folded.reports) for event in sent[3:]] == [1, 2]


def test_batch_stays_far_from_the_limit_on_a_message() -> None:
    """gRPC refuses messages above 4 MiB."""
    metrics = {"m" * 60 + f"{number:04}": 1.0 for number in range(32)}
    report = pb.FoldedReport(client_id="a" * 128, metrics=metrics)
    each = [
        pb.SelectorEvent(reports_folded=pb.ReportsFolded(round_id="one", reports=[report]))
        for _ in range(2000)
    ]

    sent = batches(*each)

    assert sum(len(event.reports_folded.reports) for event in sent) == 2000
    assert max(event.ByteSize() for event in sent) < 2 << 20


async def test_end_of_the_session_was_missed_hello_says_who_was_told_that_it_runs(
    tmp_path: Path,
) -> None:
    """Who never took part, too, hears of the end of the session that ran when it came."""
    async with a_line(tmp_path, 1) as line:
        line.selector.sessions.learn(pb.SessionNews(session_id="this-one"))
        line.selector.check_in("newcomer", "")
        line.selector.check_in("comes-back", "one-before")

        hello = line.selector.hello()[0].hello

    assert {client.session_id for client in hello.held} == {"this-one"}
