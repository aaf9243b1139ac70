"""What a client fetches: each artifact once, verified, and on from where it was cut."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from client import artifacts as module
from client.artifacts import Artifacts
from client.cache import ModelCache
from federation.errors import PeerError, TransferError
from federation.runtime.frames import Piece
from federation.v1 import participation_pb2 as pb
from tests.raw_client import sha256
from tests.waiting import eventually, within

DATA = bytes(range(256)) * 16
CHUNK_BYTES = 1000


class Library:
    """Serves bytes, as a selector does, with what a test wants to go wrong."""

    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.asked: list[int] = []
        self.cut_after: int | None = None
        self.shift = 0
        self.gate: asyncio.Event | None = None

    async def __call__(self, digest: bytes, offset: int) -> AsyncIterator[Piece]:
        self.asked.append(offset)
        if self.gate is not None:
            await self.gate.wait()
        for number, start in enumerate(range(offset, len(self.data), CHUNK_BYTES)):
            if number == self.cut_after:
                self.cut_after = None
                raise ConnectionError("cut by the test")
            data = self.data[start : start + CHUNK_BYTES]
            yield Piece(start + self.shift, memoryview(data))


def an_artifact(data: bytes = DATA, **changes: Any) -> pb.Artifact:
    """What a configuration says of it."""
    artifact = pb.Artifact(sha256=sha256(data), size_bytes=len(data))
    for name, value in changes.items():
        setattr(artifact, name, value)
    return artifact


@pytest.fixture
def artifacts() -> Iterator[Artifacts]:
    """Those of one client."""
    artifacts = Artifacts()
    yield artifacts
    artifacts.close()


async def test_checkpoint_is_fetched_once(artifacts: Artifacts) -> None:
    """Skipped when the digest is here."""
    library = Library()

    first = await artifacts.checkpoint(an_artifact(), library)
    second = await artifacts.checkpoint(an_artifact(), library)

    assert first == DATA
    assert second is first
    assert library.asked == [0]


async def test_next_checkpoint_replaces_the_one_before(artifacts: Artifacts) -> None:
    """Memory holds one."""
    other = DATA[::-1]
    await artifacts.checkpoint(an_artifact(), Library())

    fetched = await artifacts.checkpoint(an_artifact(other), Library(other))
    library = Library()
    await artifacts.checkpoint(an_artifact(), library)

    assert fetched == other
    assert library.asked == [0]


async def test_empty_artifact_is_fetched(artifacts: Artifacts) -> None:
    """No chunk at all is right for no bytes."""
    assert await artifacts.checkpoint(an_artifact(b""), Library(b"")) == b""


async def test_cut_fetch_goes_on_where_it_ended(artifacts: Artifacts) -> None:
    """What arrived is kept for the next try, at whichever selector."""
    library = Library()
    library.cut_after = 2
    with pytest.raises(ConnectionError):
        await artifacts.checkpoint(an_artifact(), library)

    fetched = await artifacts.checkpoint(an_artifact(), library)

    assert fetched == DATA
    assert library.asked == [0, 2 * CHUNK_BYTES]


async def test_fetch_of_another_artifact_after_a_cut_starts_at_its_beginning(
    artifacts: Artifacts,
) -> None:
    """The bytes of one are of no use for the other."""
    library = Library()
    library.cut_after = 2
    with pytest.raises(ConnectionError):
        await artifacts.checkpoint(an_artifact(), library)
    other = Library(DATA[::-1])

    fetched = await artifacts.checkpoint(an_artifact(other.data), other)

    assert fetched == other.data
    assert other.asked == [0]


async def test_same_digest_of_another_size_starts_over(artifacts: Artifacts) -> None:
    """One of the two was wrong about it."""
    library = Library()
    library.cut_after = 2
    with pytest.raises(ConnectionError):
        await artifacts.checkpoint(an_artifact(size_bytes=len(DATA) + 1), library)

    fetched = await artifacts.checkpoint(an_artifact(), library)

    assert fetched == DATA
    assert library.asked == [0, 0]


@pytest.mark.parametrize(
    ("served", "reason"),
    [
        (DATA[:-1] + b"\x00", "wrong-digest"),
        (DATA[:-1], "truncated"),
        (b"", "truncated"),
        (DATA + b"\x00", "more-bytes-than-declared"),
    ],
)
async def test_other_bytes_than_declared_are_refused(
    artifacts: Artifacts, served: bytes, reason: str
) -> None:
    """And a later try with the right ones succeeds."""
    with pytest.raises(TransferError) as refused:
        await artifacts.checkpoint(an_artifact(), Library(served))

    assert refused.value.reason == reason
    assert await artifacts.checkpoint(an_artifact(), Library()) == DATA


async def test_chunk_out_of_order_is_refused(artifacts: Artifacts) -> None:
    """Its offset says where it belongs."""
    library = Library()
    library.shift = 1

    with pytest.raises(TransferError) as refused:
        await artifacts.checkpoint(an_artifact(), library)

    assert refused.value.reason == "chunk-out-of-order"


@pytest.mark.parametrize(
    "changes",
    [{"size_bytes": module.ARTIFACT_BYTES_MAX + 1}, {"sha256": b"short"}, {"sha256": b""}],
)
async def test_description_that_cannot_be_is_refused_before_the_fetch(
    artifacts: Artifacts, changes: dict[str, Any]
) -> None:
    """No memory is made for it."""
    library = Library()

    with pytest.raises(PeerError) as refused:
        await artifacts.checkpoint(an_artifact(**changes), library)

    assert refused.value.reason == "artifact-refused"
    assert library.asked == []


async def test_model_is_a_file_that_keras_takes_for_one(artifacts: Artifacts) -> None:
    """Keras chooses its parser by the name; the digest names it, nothing of a peer's does."""
    library = Library()

    path = await artifacts.model(an_artifact(), library)
    again = await artifacts.model(an_artifact(), library)

    assert path == again
    assert path.name == f"{sha256(DATA).hex()}.h5"
    assert path.read_bytes() == DATA
    assert library.asked == [0]


async def test_model_that_could_not_be_fetched_leaves_no_file(artifacts: Artifacts) -> None:
    """A half one would be taken for whole later."""
    with pytest.raises(TransferError):
        await artifacts.model(an_artifact(), Library(DATA[:-1]))

    assert (await artifacts.model(an_artifact(), Library())).read_bytes() == DATA


async def test_files_go_with_the_client(artifacts: Artifacts) -> None:
    """Nothing is left on a user's disk."""
    path = await artifacts.model(an_artifact(), Library())

    artifacts.close()

    assert not path.parent.exists()


# -- A cache that others use, too ---------------------------------------------------------------


@pytest.fixture
def cached(tmp_path: Path) -> Iterator[Artifacts]:
    """Those of one client with a cache on disk."""
    artifacts = Artifacts(ModelCache(tmp_path, 1 << 20))
    yield artifacts
    artifacts.close()


@pytest.fixture
def others(tmp_path: Path) -> Iterator[Artifacts]:
    """Those of another client with the same cache."""
    artifacts = Artifacts(ModelCache(tmp_path, 1 << 20))
    yield artifacts
    artifacts.close()


async def test_cut_model_goes_on_where_it_ended(cached: Artifacts) -> None:
    """Within a process nothing is hashed twice."""
    library = Library()
    library.cut_after = 2
    with pytest.raises(ConnectionError):
        await cached.model(an_artifact(), library)

    path = await cached.model(an_artifact(), library)

    assert path.read_bytes() == DATA
    assert library.asked == [0, 2 * CHUNK_BYTES]


async def test_client_was_killed_in_the_middle_the_next_goes_on(
    cached: Artifacts, others: Artifacts
) -> None:
    """Gigabytes are not fetched twice."""
    library = Library()
    library.cut_after = 2
    with pytest.raises(ConnectionError):
        await cached.model(an_artifact(), library)
    cached.close()

    path = await others.model(an_artifact(), library)

    assert path.read_bytes() == DATA
    assert library.asked == [0, 2 * CHUNK_BYTES]


async def test_all_bytes_were_there_already_none_are_asked_for(
    cached: Artifacts, tmp_path: Path
) -> None:
    """A client that was killed just before the file got its name."""
    (tmp_path / f"{sha256(DATA).hex()}.part").write_bytes(DATA)
    library = Library()

    path = await cached.model(an_artifact(), library)

    assert path.read_bytes() == DATA
    assert library.asked == []


async def test_cached_model_outlives_the_client(cached: Artifacts, others: Artifacts) -> None:
    """The next one asks no selector for it."""
    library = Library()
    path = await cached.model(an_artifact(), library)
    cached.close()

    assert await others.model(an_artifact(), library) == path
    assert library.asked == [0]


async def test_two_clients_want_a_model_at_once_it_is_fetched_once(
    cached: Artifacts, others: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits for the first."""
    monkeypatch.setattr(module, "OTHER_LOOK_S", 0.0)
    library = Library()
    library.gate = asyncio.Event()
    first = asyncio.create_task(cached.model(an_artifact(), library))
    await eventually(lambda: library.asked == [0])
    second = asyncio.create_task(others.model(an_artifact(), library))
    await asyncio.sleep(0)

    library.gate.set()

    assert await within(first) == await within(second)
    assert library.asked == [0]


async def test_client_that_fetches_goes_away_the_one_that_waits_goes_on(
    cached: Artifacts, others: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock goes with it."""
    monkeypatch.setattr(module, "OTHER_LOOK_S", 0.0)
    library = Library()
    library.cut_after = 2
    with pytest.raises(ConnectionError):
        await cached.model(an_artifact(), library)
    waiting = asyncio.create_task(others.model(an_artifact(), library))
    await asyncio.sleep(0)

    cached.close()

    assert (await within(waiting)).read_bytes() == DATA
    assert library.asked == [0, 2 * CHUNK_BYTES]


async def test_client_that_fetches_stalls_the_other_fetches_by_itself(
    cached: Artifacts, others: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not hang with a process that was stopped."""
    monkeypatch.setattr(module, "OTHER_LOOK_S", 0.0)
    monkeypatch.setattr(module, "OTHER_STALL_S", 0.0)
    library = Library()
    library.cut_after = 2
    with pytest.raises(ConnectionError):
        await cached.model(an_artifact(), library)

    path = await within(others.model(an_artifact(), library))

    assert path.read_bytes() == DATA
    assert library.asked == [0, 0]


# -- Progress -----------------------------------------------------------------------------------


async def test_long_transfer_says_how_far_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A line each two seconds."""
    caplog.set_level("INFO")
    seconds = itertools.count(0.0, 1.0)
    artifacts = Artifacts(ModelCache(tmp_path, 1 << 20), clock=lambda: next(seconds))

    await artifacts.model(an_artifact(), Library())
    artifacts.close()

    said = [r.msg for r in caplog.records if isinstance(r.msg, dict)]
    assert [s["percent"] for s in said if s["event"] == "fetching"] == [48, 97]
    assert said[0]["artifact"] == "model"
    assert said[0]["size_bytes"] == len(DATA)


async def test_short_transfer_says_nothing(
    artifacts: Artifacts, caplog: pytest.LogCaptureFixture
) -> None:
    """The log of a client with a small model is not filled with it."""
    caplog.set_level("INFO")

    await artifacts.checkpoint(an_artifact(), Library())

    assert not caplog.records
