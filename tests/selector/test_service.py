"""A selector over real gRPC: check-ins, artifacts and the way out of a round."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import headwater
from federation.chunking import CHUNK_BYTES_MIN
from federation.plan import RetryWindow
from federation.runtime import wire
from federation.runtime.hdf5 import blocks_of, read_spec
from federation.runtime.rpc import create_channel
from federation.runtime.store import SharedDirectory
from federation.tensors import decode, encode
from federation.v1 import coordination_pb2 as pb
from federation.v1 import participation_pb2 as participation
from tests.raw_client import Weights, sha256
from tests.selector.stage import ZEROS, a_stage, ones
from tests.servers import HOST
from tests.waiting import eventually, refused, within

BUILTIN_MODEL = Path(headwater.__file__).with_name("digits.h5")

WINDOW = wire.retry_window_to_wire(RetryWindow(3.0, 4.0))


# -- Check-ins --------------------------------------------------------------------------------


async def test_client_checks_in_it_is_held_and_the_coordinator_asked(tmp_path: Path) -> None:
    """The coordinator alone decides; the selector holds."""
    async with a_stage(tmp_path) as stage:
        ann = await stage.client("ann")

        event = await ann.check_in(session_id="an-earlier-session")

        told = await stage.attachment.next("clients_checked_in")
        assert event.held.selector_id == "north"
        assert [(c.client_id, c.session_id) for c in told.clients] == [
            ("ann", "an-earlier-session")
        ]


async def test_client_is_configured_with_all_that_it_needs(tmp_path: Path) -> None:
    """Round, hyperparameters, token, artifacts and the seconds that remain."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.held("ann")

        await stage.order("ann", round_number=7, deadline_s=50.0)
        configured = await ann.configured()

        told = await stage.attachment.after("clients_configured")
        assert (configured.round_number, configured.round_id) == (7, "round-7")
        assert configured.session_id == "this-session"
        assert configured.hyperparameters.learning_rate == 0.5
        assert len(configured.session_token) >= 32
        assert 0 < configured.deadline_s <= 50.0
        assert [a.kind for a in configured.artifacts] == [participation.ARTIFACT_KIND_CHECKPOINT]
        assert (told.round_id, list(told.client_ids)) == ("round-7", ["ann"])


async def test_client_is_declined_with_reason_and_window_and_the_stream_ends(
    tmp_path: Path,
) -> None:
    """Beyond the limit the client is told when to come back, and dropped."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.held("ann")
        decline = pb.DeclineClients(client_ids=["ann"], reason="goal-reached", retry_window=WINDOW)

        await stage.attachment.send(decline_clients=decline)
        event = await ann.next_event()

        assert event is not None
        assert event.declined.reason == "goal-reached"
        assert event.declined.retry_window == WINDOW
        assert await ann.next_event() is None


async def test_client_that_is_claimed_elsewhere_hears_so(tmp_path: Path) -> None:
    """Of a client's streams the newest wins, on whichever selector."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.held("ann")

        await stage.attachment.send(release_clients=pb.ReleaseClients(client_ids=["ann"]))
        event = await ann.next_event()

        assert event is not None
        assert event.aborted.reason == "superseded"
        assert await ann.next_event() is None


async def test_second_stream_of_a_client_supersedes_the_first(tmp_path: Path) -> None:
    """Two processes with one id must not chase each other: the older gets a window."""
    async with a_stage(tmp_path) as stage:
        [older] = await stage.held("ann")

        [newer] = await stage.held("ann")
        event = await older.next_event()

        assert event is not None
        assert event.aborted.reason == "superseded"
        assert event.aborted.retry_window.delay_min_s >= 1
        assert await older.next_event() is None
        await stage.order("ann")
        assert (await newer.configured()).round_id == "round-1"


async def test_second_stream_of_a_configured_client_gets_its_token(tmp_path: Path) -> None:
    """A repeated check-in with an unspent claim gets the same token; the claim is not new."""
    async with a_stage(tmp_path) as stage:
        [older] = await stage.configured("ann")

        [newer] = await stage.held("ann")
        await newer.configured()

        assert newer.token == older.token
        await stage.attachment.after("clients_configured")
        await stage.attachment.next("clients_configured")


async def test_client_that_leaves_is_told_of(tmp_path: Path) -> None:
    """Its place is given back."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.held("ann")
        await stage.attachment.next("clients_checked_in")

        ann.cut()

        left = await stage.attachment.next("clients_left")
        assert list(left.client_ids) == ["ann"]


async def test_client_that_left_before_its_order_came_is_told_of(tmp_path: Path) -> None:
    """An order that cannot be carried out has an answer, too."""
    async with a_stage(tmp_path) as stage:
        [ben] = await stage.held("ben")

        await stage.order("ann", "ben")

        left = await stage.attachment.after("clients_left")
        assert list(left.client_ids) == ["ann"]
        assert (await ben.configured()).round_id == "round-1"


async def test_client_that_is_cut_while_training_returns_it_keeps_token_and_claim(
    tmp_path: Path,
) -> None:
    """Away is not a fate."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        token = ann.token
        ann.cut()
        left = await stage.attachment.after("clients_left")
        await stage.stands("ann", "away")

        await ann.check_in()
        await ann.configured()
        returned = await stage.attachment.after("clients_returned")
        receipt = await ann.report(ones())

        assert list(left.client_ids) == list(returned.client_ids) == ["ann"]
        assert ann.token == token
        assert receipt.outcome == participation.REPORT_OUTCOME_ACCEPTED


async def test_client_that_returns_after_close_is_a_newcomer(tmp_path: Path) -> None:
    """Its claim is of no use any more, and the coordinator decides about it anew."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        ann.cut()
        await stage.stands("ann", "away")
        await stage.close()

        await ann.check_in()

        told = await stage.attachment.next("clients_checked_in")
        assert [client.client_id for client in told.clients] == ["ann"]


async def test_selector_is_full_newcomers_are_declined_and_claimed_clients_are_not(
    tmp_path: Path,
) -> None:
    """``held_max`` bounds memory; it takes no claim away."""
    async with a_stage(tmp_path, held_max=1) as stage:
        [ann] = await stage.configured("ann")
        ann.cut()
        await stage.stands("ann", "away")
        await stage.held("ben")
        cleo = await stage.client("cleo")

        newcomer = await cleo.check_in()
        claimed = await ann.check_in()

        assert newcomer.declined.reason == "full"
        assert await cleo.next_event() is None
        assert claimed.held.selector_id == "north"


@pytest.mark.parametrize(
    ("changes", "reason", "status"),
    [
        ({"protocol_version": 0}, "protocol-mismatch", grpc.StatusCode.FAILED_PRECONDITION),
        ({"protocol_version": 99}, "protocol-mismatch", grpc.StatusCode.FAILED_PRECONDITION),
        ({"client_id": ""}, "malformed-client-id", grpc.StatusCode.INVALID_ARGUMENT),
        ({"client_id": "../up"}, "malformed-client-id", grpc.StatusCode.INVALID_ARGUMENT),
        ({"client_id": "a" * 129}, "malformed-client-id", grpc.StatusCode.INVALID_ARGUMENT),
        ({"session_id": "s" * 65}, "malformed-session-id", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_check_in_that_breaks_the_contract_is_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str, status: grpc.StatusCode
) -> None:
    """A mismatch is a clear refusal, and nobody is held for it."""
    async with a_stage(tmp_path) as stage:
        ann = await stage.client("ann")

        with refused(reason, status):
            await ann.check_in(**changes)

        assert len(stage.server.selector.streams) == 0


# -- Artifacts --------------------------------------------------------------------------------


async def test_checkpoint_is_fetched_whole_and_from_an_offset(tmp_path: Path) -> None:
    """Its digest is that of its bytes; a cut fetch goes on where it ended."""
    weights = {"w": np.arange(3 << 18, dtype=np.float32)}  # 3 MiB: more than a chunk
    async with a_stage(tmp_path, weights=weights) as stage:
        [ann] = await stage.held("ann")
        await stage.order("ann")
        configured = await ann.configured()
        [artifact] = configured.artifacts

        whole = await ann.fetch(artifact.sha256)
        rest = await ann.fetch(artifact.sha256, offset=1_500_000)
        nothing = await ann.fetch(artifact.sha256, offset=artifact.size_bytes)
        small = await ann.fetch(artifact.sha256, chunk_bytes=CHUNK_BYTES_MIN)
        smaller = await ann.fetch(artifact.sha256, offset=9, chunk_bytes=2 * CHUNK_BYTES_MIN)

        assert (small, smaller) == (whole, whole[9:])
        assert (sha256(whole), len(whole)) == (artifact.sha256, artifact.size_bytes)
        assert decode(whole)["w"].tobytes() == weights["w"].tobytes()
        assert rest == whole[1_500_000:]
        assert nothing == b""


async def test_model_is_fetched_as_it_lies_on_disk(tmp_path: Path) -> None:
    """Clients that use Keras get ``model.h5`` byte for byte."""
    model = await asyncio.to_thread(BUILTIN_MODEL.read_bytes)
    async with a_stage(tmp_path) as stage:
        stage.directory.model.write_bytes(model)
        [ann] = await stage.held("ann")
        await stage.order("ann")
        configured = await ann.configured()
        by_kind = {artifact.kind: artifact for artifact in configured.artifacts}
        artifact = by_kind[participation.ARTIFACT_KIND_MODEL]

        fetched = await ann.fetch(artifact.sha256)
        rest = await ann.fetch(artifact.sha256, offset=1000)
        small = await ann.fetch(artifact.sha256, chunk_bytes=CHUNK_BYTES_MIN)

        assert fetched == small == model
        assert rest == model[1000:]
        assert artifact.size_bytes == len(model)


@pytest.mark.parametrize("digest", [b"", b"\x00" * 32, b"short"])
async def test_unknown_artifact_is_not_found(tmp_path: Path, digest: bytes) -> None:
    """What a client asks for by digest is looked up, never joined to a path."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")

        with refused("unknown-artifact", grpc.StatusCode.NOT_FOUND):
            await ann.fetch(digest)


async def test_offset_beyond_the_artifact_is_refused(tmp_path: Path) -> None:
    """There are no bytes from there on."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.held("ann")
        await stage.order("ann")
        [artifact] = (await ann.configured()).artifacts

        with refused("wrong-offset", grpc.StatusCode.INVALID_ARGUMENT):
            await ann.fetch(artifact.sha256, offset=artifact.size_bytes + 1)


async def test_current_checkpoint_is_described_and_fetched_without_a_claim(
    tmp_path: Path,
) -> None:
    """Anyone who is allowed here reads the global weights; 0 is the round before the first."""
    async with a_stage(tmp_path) as stage:
        ann = await stage.client("ann")

        response = await within(ann.stub.GetCheckpoint(participation.GetCheckpointRequest()))
        fetched = await ann.fetch(response.artifact.sha256)

        assert response.round_number == 0
        assert fetched == encode(ZEROS)


async def test_current_checkpoint_that_is_asked_for_again_is_not_read_again(
    tmp_path: Path,
) -> None:
    """Many who ask cost one buffer of the model's size."""
    async with a_stage(tmp_path) as stage:
        selector = stage.server.selector

        (_, first), (_, second) = await asyncio.gather(
            selector.current_checkpoint(), selector.current_checkpoint()
        )

        assert first is second


async def test_checkpoint_that_was_committed_meanwhile_is_the_current_one(
    tmp_path: Path,
) -> None:
    """Together with the number of the round that made it."""
    async with a_stage(tmp_path) as stage:
        ann = await stage.client("ann")
        await within(ann.stub.GetCheckpoint(participation.GetCheckpointRequest()))

        _commit(stage.directory, 4)
        response = await within(ann.stub.GetCheckpoint(participation.GetCheckpointRequest()))

        assert response.round_number == 4
        assert decode(await ann.fetch(response.artifact.sha256))["w"].tolist() == [[1.0] * 3] * 2


def _commit(directory: SharedDirectory, round_number: int, weights: Weights | None = None) -> None:
    """Make these weights, or ones, the checkpoint of a round."""
    spec = read_spec(directory.checkpoint)
    blocks = blocks_of(weights or ones())
    staged = directory.stage_checkpoint(round_number, spec, blocks, {})
    directory.publish(staged, round_number)
    directory.make_current(round_number)


# -- The result of a session --------------------------------------------------------------------


def _final(session_id: str = "", wait_s: float = 20.0) -> participation.GetCheckpointRequest:
    return participation.GetCheckpointRequest(final=True, session_id=session_id, wait_s=wait_s)


def _runs(session_id: str = "this-session") -> pb.SessionNews:
    return pb.SessionNews(session_id=session_id)


def _over(digest: str, session_id: str = "this-session") -> pb.SessionNews:
    return pb.SessionNews(session_id=session_id, over=True, final_digest=digest)


async def test_session_runs_its_result_waits_for_the_end(tmp_path: Path) -> None:
    """And is the checkpoint that it ended with, without a place in any round."""
    async with a_stage(tmp_path) as stage:
        ann = await stage.client("ann")
        await stage.attachment.send(session_news=_runs())
        asking = asyncio.ensure_future(ann.stub.GetCheckpoint(_final("this-session")))
        short = await within(ann.stub.GetCheckpoint(_final("this-session", wait_s=0.0)))

        _commit(stage.directory, 4)
        await stage.attachment.send(session_news=_over(stage.base_digest))
        response = await within(asking)

        assert (short.session_running, short.HasField("artifact")) == (True, False)
        assert not response.session_running
        assert (response.session_id, response.round_number) == ("this-session", 4)
        assert response.artifact.sha256.hex() == stage.base_digest
        assert decode(await ann.fetch(response.artifact.sha256))["w"].tolist() == [[1.0] * 3] * 2


async def test_next_session_has_committed_meanwhile_the_result_comes_from_history(
    tmp_path: Path,
) -> None:
    """Who asks late gets the same as who asked in time."""
    async with a_stage(tmp_path) as stage:
        ann = await stage.client("ann")
        _commit(stage.directory, 4)
        await stage.attachment.send(session_news=_over(stage.base_digest))
        await stage.attachment.send(session_news=_runs("next-session"))
        for number in (5, 6):
            _commit(stage.directory, number, ones(float(number)))
            await within(ann.stub.GetCheckpoint(participation.GetCheckpointRequest()))

        response = await within(ann.stub.GetCheckpoint(_final("this-session")))

        assert response.round_number == 4
        assert decode(await ann.fetch(response.artifact.sha256))["w"].tolist() == [[1.0] * 3] * 2


async def test_result_is_nowhere_any_more_the_client_is_told_to_ask_again(tmp_path: Path) -> None:
    """The shared directory may show it in a moment; the client has a limit of its own."""
    async with a_stage(tmp_path) as stage:
        ann = await stage.client("ann")
        await stage.attachment.send(session_news=_over("00" * 32))

        with refused("checkpoint-differs", grpc.StatusCode.UNAVAILABLE):
            await within(ann.stub.GetCheckpoint(_final("this-session")))


async def test_coordinator_is_not_heard_the_result_is_not_guessed(tmp_path: Path) -> None:
    """A selector that was restarted waits until it has heard whether the session runs."""
    async with a_stage(tmp_path) as stage:
        ann = await stage.client("ann")

        with refused("not-attached", grpc.StatusCode.UNAVAILABLE):
            await within(ann.stub.GetCheckpoint(_final("this-session", wait_s=0.0)))


async def test_stream_to_the_coordinator_breaks_what_runs_is_not_known(tmp_path: Path) -> None:
    """Until the coordinator has said it anew."""
    async with a_stage(tmp_path) as stage:
        sessions = stage.server.selector.sessions
        await stage.attachment.send(session_news=_runs())
        await eventually(lambda: sessions.running_id == "this-session")

        stage.attachment.ended.set()

        await eventually(lambda: sessions.running_id == "")


async def test_another_session_ran_since_the_result_is_refused(tmp_path: Path) -> None:
    """For good: what is current may be the other one's."""
    async with a_stage(tmp_path) as stage:
        ann = await stage.client("ann")
        await stage.attachment.send(session_news=_runs("another"))

        with refused("session-unknown", grpc.StatusCode.INVALID_ARGUMENT):
            await within(ann.stub.GetCheckpoint(_final("this-session")))


async def test_id_is_too_long_to_be_a_sessions_it_is_refused(tmp_path: Path) -> None:
    """As in a check-in."""
    async with a_stage(tmp_path) as stage:
        ann = await stage.client("ann")

        with refused("malformed-session-id", grpc.StatusCode.INVALID_ARGUMENT):
            await within(ann.stub.GetCheckpoint(_final("x" * 100)))


async def test_client_that_waits_goes_away_nothing_is_left_of_it(tmp_path: Path) -> None:
    """Waiting takes no place and leaves none."""
    async with a_stage(tmp_path) as stage:
        ann = await stage.client("ann")
        await stage.attachment.send(session_news=_runs())
        asking = ann.stub.GetCheckpoint(_final("this-session"))
        await within(ann.stub.GetCheckpoint(_final("this-session", wait_s=0.0)))

        asking.cancel()
        await stage.attachment.send(session_news=_over(stage.base_digest))
        response = await within(ann.stub.GetCheckpoint(_final("this-session")))

        assert response.artifact.sha256.hex() == stage.base_digest


async def test_federation_has_a_model_it_is_described_beside_the_checkpoint(
    tmp_path: Path,
) -> None:
    """It gives a client's .h5 file its layout."""
    async with a_stage(tmp_path) as stage:
        shutil.copyfile(BUILTIN_MODEL, stage.directory.model)
        ann = await stage.client("ann")

        response = await within(ann.stub.GetCheckpoint(participation.GetCheckpointRequest()))

        assert response.model.kind == participation.ARTIFACT_KIND_MODEL
        assert response.model.sha256 == sha256(BUILTIN_MODEL.read_bytes())
        assert await ann.fetch(response.model.sha256) == BUILTIN_MODEL.read_bytes()


async def test_client_is_held_it_hears_which_session_runs(tmp_path: Path) -> None:
    """So that it can ask for the end of it, also if no round takes it."""
    async with a_stage(tmp_path) as stage:
        await stage.attachment.send(session_news=_runs())
        await eventually(lambda: stage.server.selector.sessions.running_id == "this-session")
        ann = await stage.client("ann")

        event = await ann.check_in()

        assert event.held.session_id == "this-session"


async def test_client_is_told_of_a_session_the_coordinator_hears_that_with_its_check_in(
    tmp_path: Path,
) -> None:
    """The session may end while that is on its way: the client then hears of the end."""
    async with a_stage(tmp_path) as stage:
        await stage.attachment.send(session_news=_runs())
        ann = await stage.client("ann")
        await eventually(lambda: stage.server.selector.sessions.running_id)
        first = await ann.check_in()

        told = await stage.attachment.after("clients_checked_in")

        assert told.clients[0].session_id == first.held.session_id != ""


# -- Orders that cannot be carried out --------------------------------------------------------


async def test_checkpoint_is_another_than_the_coordinator_means_clients_are_sent_away(
    tmp_path: Path,
) -> None:
    """Who trains from other weights spoils the mean: better not at all."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.held("ann")

        await stage.order("ann", base_digest="00" * 32, deadline_s=0.0)
        event = await ann.next_event()

        released = await stage.attachment.after("claims_released")
        assert event is not None
        assert event.aborted.reason == "selector-failed"
        assert (released.round_id, list(released.client_ids)) == ("round-1", ["ann"])
        assert stage.server.selector.cohort is None


async def test_checkpoint_that_is_seen_late_is_waited_for(tmp_path: Path) -> None:
    """Network file systems show a new file after a while."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.held("ann")
        digest = sha256(encode(ones())).hex()

        await stage.order("ann", base_digest=digest)
        await asyncio.to_thread(_commit, stage.directory, 1)
        configured = await ann.configured()

        assert configured.artifacts[0].sha256.hex() == digest


@pytest.mark.parametrize(
    "changes",
    [
        {"base_digest": "no digest at all", "deadline_s": 0.0},
        {"weighting": 0},
        {"deadline_s": float("nan")},
        {"retry_window": {"delay_min_s": float("inf")}},
        {"screening_limits": {"weight_max": 10, "update_norm_max": float("nan")}},
    ],
)
async def test_order_that_makes_no_sense_ends_neither_the_process_nor_the_stream(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    """Anything bad in the input: never the process."""
    async with a_stage(tmp_path) as stage:
        await stage.order("ann", **changes)

        [ben] = await stage.configured("ben", round_number=2)

        assert ben.token


# -- The end of a round -----------------------------------------------------------------------


async def test_round_ends_clients_that_wait_hear_why_and_when_to_come_back(
    tmp_path: Path,
) -> None:
    """An abandoned round takes nobody with it."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")

        await stage.end(reason="too-few-reports")
        event = await ann.next_event()

        assert event is not None
        assert event.aborted.reason == "too-few-reports"
        assert event.aborted.retry_window.delay_min_s == 1.5
        assert await ann.next_event() is None


async def test_next_round_is_ordered_before_the_last_one_ended_the_last_one_is_over(
    tmp_path: Path,
) -> None:
    """A coordinator that orders a round knows nothing of another one any more."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")

        await stage.configured("ben", round_number=2)
        event = await ann.next_event()

        assert event is not None
        assert event.aborted.reason == "round-over"
        assert event.aborted.retry_window.delay_max_s == 2.5


async def test_client_withdraws_the_coordinator_hears_why(tmp_path: Path) -> None:
    """Its stream ends, and it is told when to come back."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")

        response = await ann.withdraw("trainer-failed")

        told = await stage.attachment.after("client_withdrew")
        assert (told.client_id, told.reason) == ("ann", "trainer-failed")
        assert response.retry_window.delay_min_s == 1.5
        assert await ann.next_event() is None
        assert (await ann.begin(100)).receipt.outcome == participation.REPORT_OUTCOME_DISCARDED


@pytest.mark.parametrize("reason", ["", "\x1b[2J", "With Capitals", "x" * 65, "naïve"])
async def test_reason_that_is_no_word_is_not_told_on(tmp_path: Path, reason: str) -> None:
    """What a client writes goes to status pages and logs."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")

        await ann.withdraw(reason)

        assert (await stage.attachment.after("client_withdrew")).reason == "not-given"


async def test_withdrawal_without_a_claim_is_refused(tmp_path: Path) -> None:
    """A token is the proof."""
    async with a_stage(tmp_path) as stage:
        ann = await stage.client("ann")
        ann.token = "guessed"

        with refused("unknown-token", grpc.StatusCode.UNAUTHENTICATED):
            await ann.withdraw("client-stopped")


async def test_withdrawal_frees_the_place_of_a_report_that_was_begun(tmp_path: Path) -> None:
    """Nobody waits for bytes that will not come."""
    async with a_stage(tmp_path, reports_in_flight_max=1) as stage:
        [ann, ben] = await stage.configured("ann", "ben")
        await ann.begin(len(encode(ones())))

        await ann.withdraw("client-stopped")
        receipt = await ben.report(ones())

        assert receipt.outcome == participation.REPORT_OUTCOME_ACCEPTED


# -- Draining ---------------------------------------------------------------------------------


async def test_drain_sends_newcomers_away_and_lets_the_round_end(tmp_path: Path) -> None:
    """Held clients are told when to come back; claimed ones may report, also after a cut."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        [ben] = await stage.held("ben")

        draining = asyncio.create_task(stage.server.drain(60.0))
        dismissed = await ben.next_event()
        newcomer = await (await stage.client("cleo")).check_in()
        ann.cut()
        await stage.stands("ann", "away")
        await ann.check_in()
        await ann.configured()
        receipt = await ann.report(ones())
        partial = await stage.close()
        await stage.end()
        await within(draining)

        assert dismissed is not None
        assert dismissed.declined.reason == newcomer.declined.reason == "draining"
        assert receipt.outcome == participation.REPORT_OUTCOME_ACCEPTED
        assert list(partial.client_ids) == ["ann"]
        await stage.attachment.after("detach")


async def test_drain_that_takes_too_long_sends_everybody_away(tmp_path: Path) -> None:
    """The round goes on without this selector; its clients may report elsewhere at once."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")

        await within(stage.server.drain(0.0))
        event = await ann.next_event()

        assert event is not None
        assert event.aborted.reason == "draining"
        assert event.aborted.retry_window.delay_min_s == 1.5
        await stage.attachment.after("detach")


async def test_drain_tells_clients_where_else_to_go(tmp_path: Path) -> None:
    """Held ones, newcomers and those of the round: also of a selector that came after them."""
    async with a_stage(tmp_path) as stage:
        [ann] = await stage.configured("ann")
        [ben] = await stage.held("ben")
        await stage.attachment.send(selector_list={"addresses": ["south.example:1"]})
        await eventually(lambda: stage.server.selector._served.fallbacks)

        draining = asyncio.create_task(stage.server.drain(0.0))
        events = [
            await ann.next_event(),
            await ben.next_event(),
            await (await stage.client("cleo")).check_in(),
        ]
        await within(draining)

        told = [
            event.aborted if event.HasField("aborted") else event.declined
            for event in events
            if event is not None
        ]
        assert [word.reason for word in told] == ["draining"] * 3
        assert [list(word.fallbacks) for word in told] == [["south.example:1"]] * 3


async def test_readiness_tells_the_truth(tmp_path: Path) -> None:
    """Ready is a selector that its coordinator knows and that takes clients."""
    response = health_pb2.HealthCheckResponse
    async with (
        a_stage(tmp_path) as stage,
        create_channel(f"{HOST}:{stage.server.port}", 10.0, 5.0) as channel,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="federation.v1.Participation"))
        while (await within(watch.read())).status != response.SERVING:
            pass

        await within(stage.server.drain(0.0))

        assert (await within(watch.read())).status == response.NOT_SERVING


# -- Other selectors --------------------------------------------------------------------------


async def test_client_is_held_it_hears_of_the_other_selectors(tmp_path: Path) -> None:
    """Where it goes when this one is gone; not to itself."""
    async with a_stage(tmp_path) as stage:
        own = stage.server.selector.address
        addresses = [own, "south.example:50051", "west.example:50051"]
        await stage.attachment.send(selector_list={"addresses": addresses})
        await eventually(lambda: len(stage.server.selector._served.fallbacks) == 2)

        ann = await stage.client("ann")
        first = await ann.check_in()

        assert sorted(first.held.fallbacks) == addresses[1:]
