"""A client that waits for the end of a session and fetches its result, over real gRPC."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from client.artifacts import Artifacts
from client.result import UNANSWERED_MAX_S, Result, ResultSeeker, check_output, write_result
from client.selectors import Selectors
from federation.errors import PeerError, SettingsError
from federation.runtime.hdf5 import Stamp, read_spec, read_stamp, read_weights
from federation.v1 import participation_pb2 as pb
from headwater.local import BUILTIN
from tests.client.scripted_selector import Describe, Refuse, ScriptedSelector, a_scripted_selector
from tests.raw_client import sha256
from tests.servers import KEEPALIVE_S, KEEPALIVE_TIMEOUT_S
from tests.waiting import within

WEIGHTS = {"w": np.arange(3, dtype=np.float32)}


@asynccontextmanager
async def a_seeker(
    *selectors: ScriptedSelector, clock: Callable[[], float] = lambda: 0.0
) -> AsyncIterator[ResultSeeker]:
    """A client that knows these selectors and waits for no pause."""
    known = Selectors([s.address for s in selectors], KEEPALIVE_S, KEEPALIVE_TIMEOUT_S)
    artifacts = Artifacts()
    try:
        yield ResultSeeker(known, artifacts, draw=lambda *_: 0.0, clock=clock)
    finally:
        await known.close()
        artifacts.close()


def the_end(selector: ScriptedSelector, **fields: Any) -> pb.GetCheckpointResponse:
    """The session is over, and this is what it ended with."""
    return pb.GetCheckpointResponse(round_number=7, artifact=selector.offer(WEIGHTS), **fields)


def refusing(status: grpc.StatusCode) -> Describe:
    """Answer so."""

    def refuse(request: pb.GetCheckpointRequest) -> pb.GetCheckpointResponse:
        raise Refuse(status)

    return refuse


def in_turn(answers: Iterable[Describe]) -> Describe:
    """Answer one after the other."""
    waiting = iter(answers)

    def answer(request: pb.GetCheckpointRequest) -> pb.GetCheckpointResponse:
        return next(waiting)(request)

    return answer


async def test_session_is_over_its_result_is_fetched() -> None:
    """The round that made it, its digest and its tensors."""
    async with a_scripted_selector() as selector, a_seeker(selector) as seeker:
        selector.checkpoint = lambda _: the_end(selector)

        result = await within(seeker.seek("this-session", with_model=False))

        [asked] = selector.asked
        assert (asked.final, asked.session_id) == (True, "this-session")
        assert asked.wait_s > 0
        assert (result.round_number, result.model) == (7, None)
        assert result.digest == selector.offer(WEIGHTS).sha256.hex()
        assert result.weights["w"].tolist() == [0.0, 1.0, 2.0]


async def test_session_runs_the_client_asks_again_for_that_one() -> None:
    """Whichever ran at first: another one that starts meanwhile is not waited for."""
    async with a_scripted_selector() as selector, a_seeker(selector) as seeker:
        runs = pb.GetCheckpointResponse(session_id="the-one", session_running=True)
        answers = iter([runs, runs, the_end(selector)])
        selector.checkpoint = lambda _: next(answers)

        await within(seeker.seek("", with_model=False))

        assert [asked.session_id for asked in selector.asked] == ["", "the-one", "the-one"]


async def test_model_is_fetched_only_where_it_is_wanted() -> None:
    """It gives an .h5 file its layout, and may be large."""
    async with a_scripted_selector() as selector, a_seeker(selector) as seeker:
        model = selector.offer_bytes(b"model", pb.ARTIFACT_KIND_MODEL)
        selector.checkpoint = lambda _: the_end(selector, model=model)

        without = await within(seeker.seek("", with_model=False))
        with_it = await within(seeker.seek("", with_model=True))

        assert without.model is None
        assert with_it.model is not None
        assert with_it.model.read_bytes() == b"model"
        assert [digest for digest, _ in selector.fetched].count(sha256(b"model")) == 1


async def test_selector_is_restarted_the_client_asks_again() -> None:
    """It knows nothing until it has heard its coordinator."""
    async with a_scripted_selector() as selector, a_seeker(selector) as seeker:
        away = refusing(grpc.StatusCode.UNAVAILABLE)
        selector.checkpoint = in_turn([away, away, lambda _: the_end(selector)])

        result = await within(seeker.seek("this-session", with_model=False))

        assert result.round_number == 7
        assert len(selector.asked) == 3


async def test_selector_does_not_know_the_session_the_next_is_asked() -> None:
    """One that was not restarted may remember it."""
    async with (
        a_scripted_selector() as first,
        a_scripted_selector() as second,
        a_seeker(first, second) as seeker,
    ):
        first.checkpoint = refusing(grpc.StatusCode.FAILED_PRECONDITION)
        second.checkpoint = lambda _: the_end(second)

        result = await within(seeker.seek("this-session", with_model=False))

        assert result.round_number == 7


async def test_no_selector_knows_the_session_the_client_ends() -> None:
    """Another answer will not come."""
    async with (
        a_scripted_selector() as first,
        a_scripted_selector() as second,
        a_seeker(first, second) as seeker,
    ):
        refuse = refusing(grpc.StatusCode.FAILED_PRECONDITION)
        first.checkpoint = second.checkpoint = refuse

        with pytest.raises(PeerError):
            await within(seeker.seek("this-session", with_model=False))

        assert (len(first.asked), len(second.asked)) == (1, 1)


async def test_nobody_answers_the_client_ends() -> None:
    """It does not hang for ever; while a session runs, it is answered."""
    seconds = itertools.count(0.0, UNANSWERED_MAX_S / 4)
    async with (
        a_scripted_selector() as selector,
        a_seeker(selector, clock=lambda: next(seconds)) as seeker,
    ):
        runs = pb.GetCheckpointResponse(session_id="the-one", session_running=True)
        away = refusing(grpc.StatusCode.UNAVAILABLE)
        answers = itertools.chain([away, away, lambda _: runs], itertools.repeat(away))
        selector.checkpoint = in_turn(answers)

        with pytest.raises(PeerError) as gave_up:
            await within(seeker.seek("", with_model=False))

        assert gave_up.value.reason == "result-not-there"
        assert len(selector.asked) == 3 + 5


async def test_result_is_gone_when_it_is_fetched_the_client_asks_again() -> None:
    """A later commit took it from the selector's memory in between."""
    async with a_scripted_selector() as selector, a_seeker(selector) as seeker:
        gone = pb.GetCheckpointResponse(
            artifact=pb.Artifact(sha256=sha256(b"gone"), size_bytes=4), round_number=7
        )
        answers = iter([gone, the_end(selector)])
        selector.checkpoint = lambda _: next(answers)

        result = await within(seeker.seek("", with_model=False))

        assert result.weights["w"].tolist() == [0.0, 1.0, 2.0]


# -- The file ---------------------------------------------------------------------------------


def test_npz_is_written_numpy_loads_it(tmp_path: Path) -> None:
    """Names are the tensors'."""
    path = tmp_path / "result.npz"

    write_result(path, Result(7, "d", WEIGHTS, None))

    assert np.load(path)["w"].tolist() == [0.0, 1.0, 2.0]
    assert [p.name for p in tmp_path.iterdir()] == ["result.npz"]


def test_h5_is_written_it_has_the_models_layout_and_says_its_round(tmp_path: Path) -> None:
    """As the federation's own checkpoint has, which Keras loads."""
    path = tmp_path / "result.h5"
    weights = {name: array + 1 for name, array in read_weights(BUILTIN).items()}

    write_result(path, Result(7, "d", weights, BUILTIN))

    stamp = read_stamp(path)
    assert isinstance(stamp, Stamp)
    assert stamp.round_number == 7
    assert read_spec(path) == read_spec(BUILTIN)
    assert all((read_weights(path)[name] == weights[name]).all() for name in weights)


def test_h5_of_weights_without_a_keras_model_is_written(tmp_path: Path) -> None:
    """In plain groups."""
    path = tmp_path / "result.h5"

    write_result(path, Result(7, "d", WEIGHTS, None))

    assert read_weights(path)["w"].tolist() == [0.0, 1.0, 2.0]


def test_file_that_was_there_is_replaced(tmp_path: Path) -> None:
    """Whole or not at all."""
    path = tmp_path / "result.npz"
    path.write_bytes(b"old")

    check_output(path)
    write_result(path, Result(7, "d", WEIGHTS, None))

    assert list(np.load(path)) == ["w"]


@pytest.mark.parametrize("name", ["missing/result.npz", "folder.npz", "file/result.npz"])
def test_file_could_not_be_written_it_is_said_at_the_start(tmp_path: Path, name: str) -> None:
    """Not after an hour of training."""
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError) as refused:
        check_output(tmp_path / name)

    assert refused.value.setting == "fetch_final"


def test_file_can_be_written_nothing_is_left_by_the_look(tmp_path: Path) -> None:
    """Somebody may watch the folder for the result."""
    check_output(tmp_path / "result.npz")

    assert not list(tmp_path.iterdir())
