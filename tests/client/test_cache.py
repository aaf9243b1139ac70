"""The folder of model files that several clients share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.cache import Download, ModelCache
from federation.errors import PeerError, SettingsError, StoreError, TransferError
from tests.raw_client import sha256

DATA = bytes(range(256)) * 4
DIGEST = sha256(DATA)


def a_cache(folder: Path, bytes_max: int = 1 << 20) -> ModelCache:
    """The cache as one more process opens it."""
    cache = ModelCache(folder / "cache", bytes_max)
    cache.prepare()
    return cache


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ModelCache]:
    """The cache of one process."""
    cache = a_cache(tmp_path)
    yield cache
    cache.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[ModelCache]:
    """The same cache in another process."""
    cache = a_cache(tmp_path)
    yield cache
    cache.close()


def begun(cache: ModelCache, data: bytes = DATA) -> Download:
    """Begin to fetch."""
    download = cache.begin(sha256(data), len(data))
    assert download is not None
    return download


def fetched(cache: ModelCache, data: bytes = DATA) -> Path:
    """Fetch all of it."""
    download = begun(cache, data)
    download.add(0, data)
    download.finish(sha256(data))
    return cache.place(download, sha256(data))


def names(cache: ModelCache) -> set[str]:
    """What is in the folder, by the first letters of the digest."""
    return {f"{path.name[:4]}{path.suffix}" for path in cache.folder.iterdir()}


def name(data: bytes, suffix: str = ".h5") -> str:
    """How ``names`` names it."""
    return f"{sha256(data).hex()[:4]}{suffix}"


def age(path: Path, age_s: float) -> None:
    """Make a file look unused for so long."""
    then_s = path.stat().st_mtime - age_s
    os.utime(path, (then_s, then_s))


def test_fetched_file_is_found_under_its_digest(cache: ModelCache) -> None:
    """And its name ends in .h5, by which Keras chooses its parser."""
    path = fetched(cache)

    assert path == cache.find(DIGEST, len(DATA))
    assert path.name == f"{DIGEST.hex()}.h5"
    assert path.read_bytes() == DATA


def test_file_is_found_by_the_next_process(cache: ModelCache, other: ModelCache) -> None:
    """It is fetched once for all clients of a user."""
    path = fetched(cache)

    assert other.find(DIGEST, len(DATA)) == path


def test_damaged_file_is_deleted_at_its_first_use(cache: ModelCache, other: ModelCache) -> None:
    """Once a process all of it is hashed; a wrong one is fetched again."""
    path = fetched(cache)
    path.write_bytes(DATA[:-1] + b"\x00")

    assert other.find(DIGEST, len(DATA)) is None
    assert not path.exists()


def test_file_of_another_size_is_deleted(cache: ModelCache, other: ModelCache) -> None:
    """One that was cut off, for one."""
    fetched(cache).write_bytes(DATA[:-1])

    assert other.find(DIGEST, len(DATA)) is None


def test_file_that_was_deleted_meanwhile_is_not_found(cache: ModelCache) -> None:
    """Somebody emptied the folder."""
    fetched(cache).unlink()

    assert cache.find(DIGEST, len(DATA)) is None


def test_process_ended_in_the_middle_the_next_goes_on(cache: ModelCache, other: ModelCache) -> None:
    """What is there is hashed anew, and the rest is asked for."""
    download = begun(cache)
    download.add(0, DATA[:300])
    download.close()

    download = begun(other)

    assert download.received == 300
    download.add(300, DATA[300:])
    download.finish(DIGEST)
    assert other.place(download, DIGEST).read_bytes() == DATA
    assert names(other) == {name(DATA)}


def test_unfinished_file_is_longer_than_declared_it_starts_over(
    cache: ModelCache, other: ModelCache
) -> None:
    """It cannot be the beginning of this one."""
    download = begun(cache)
    download.add(0, DATA)
    download.close()

    resumed = other.begin(DIGEST, 10)

    assert resumed is not None
    assert resumed.received == 0
    resumed.close()


def test_wrong_bytes_were_kept_the_next_try_starts_over(
    cache: ModelCache, other: ModelCache
) -> None:
    """Nothing of them can be told from the right ones."""
    download = begun(cache)
    download.add(0, b"\xff" * 300)
    download.close()
    download = begun(other)
    download.add(300, DATA[300:])

    with pytest.raises(TransferError) as refused:
        download.finish(DIGEST)

    assert refused.value.reason == "wrong-digest"
    assert download.received == 0
    download.add(0, DATA)
    download.finish(DIGEST)
    assert other.place(download, DIGEST).read_bytes() == DATA


def test_refused_chunk_changes_nothing(cache: ModelCache) -> None:
    """Its offset says where it belongs."""
    download = begun(cache)
    download.add(0, DATA[:300])

    with pytest.raises(TransferError) as refused:
        download.add(301, DATA[301:])

    assert refused.value.reason == "chunk-out-of-order"
    download.add(300, DATA[300:])
    download.finish(DIGEST)
    download.close()


def test_another_process_fetches_it_one_waits(cache: ModelCache, other: ModelCache) -> None:
    """And sees how much there is, in case that one stalls."""
    download = begun(cache)
    download.add(0, DATA[:300])

    assert other.begin(DIGEST, len(DATA)) is None
    assert other.bytes_of_part(DIGEST) == 300
    download.close()


def test_another_process_stalls_one_can_fetch_alone(cache: ModelCache, other: ModelCache) -> None:
    """Under a name of its own; both end with the whole file."""
    slow = begun(cache)

    alone = other.begin(DIGEST, len(DATA), alone=True)
    assert alone is not None
    alone.add(0, DATA)
    alone.finish(DIGEST)
    path = other.place(alone, DIGEST)
    slow.add(0, DATA)
    slow.finish(DIGEST)

    assert cache.place(slow, DIGEST) == path
    assert path.read_bytes() == DATA
    assert other.find(DIGEST, len(DATA)) == path
    assert names(cache) == {name(DATA)}


def test_another_process_was_done_just_now_nothing_is_begun(
    cache: ModelCache, other: ModelCache
) -> None:
    """Between the look for the whole file and the look for the unfinished one."""
    assert other.find(DIGEST, len(DATA)) is None
    fetched(cache)

    assert other.begin(DIGEST, len(DATA)) is None
    assert other.bytes_of_part(DIGEST) == -1
    assert other.find(DIGEST, len(DATA)) is not None


def test_cache_is_full_the_least_recently_used_are_deleted(tmp_path: Path) -> None:
    """Until there is room for the new one."""
    first, second, third = (bytes([fill]) * 400 for fill in (1, 2, 3))
    filling = a_cache(tmp_path)
    age(fetched(filling, first), 20.0)
    age(fetched(filling, second), 30.0)
    filling.close()
    cache = a_cache(tmp_path, bytes_max=1000)

    fetched(cache, third)

    assert names(cache) == {name(first), name(third)}
    cache.close()


def test_use_counts_not_the_time_of_the_fetch(tmp_path: Path) -> None:
    """And the time of change stays, by which trainers see whether they have the model."""
    first, second, third = (bytes([fill]) * 400 for fill in (1, 2, 3))
    filling = a_cache(tmp_path)
    age(path := fetched(filling, first), 30.0)
    age(fetched(filling, second), 20.0)
    filling.close()
    changed_ns = path.stat().st_mtime_ns
    cache = a_cache(tmp_path, bytes_max=1000)
    assert cache.find(sha256(first), len(first)) == path
    cache.close()
    cache = a_cache(tmp_path, bytes_max=1000)

    fetched(cache, third)
    cache.close()

    assert names(cache) == {name(first), name(third)}
    assert path.stat().st_mtime_ns == changed_ns
    cache.close()


def test_cache_is_full_files_in_use_stay(tmp_path: Path, cache: ModelCache) -> None:
    """By whichever process, also beyond the limit; so do those that are being fetched."""
    used, begun_there, new = (bytes([fill]) * 400 for fill in (1, 2, 3))
    age(fetched(cache, used), 30.0)
    download = begun(cache, begun_there)
    download.add(0, begun_there[:10])
    small = a_cache(tmp_path, bytes_max=100)

    fetched(small, new)

    assert names(small) == {name(used), name(begun_there, ".part"), name(new)}
    download.close()
    small.close()


def test_unfinished_files_that_nobody_fetches_are_deleted_too(tmp_path: Path) -> None:
    """A process that was killed leaves one."""
    killed = a_cache(tmp_path)
    download = begun(killed)
    download.add(0, DATA[:300])
    download.close()
    age(download.part, 30.0)
    small = a_cache(tmp_path, bytes_max=500)
    other_data = b"x" * 400

    fetched(small, other_data)

    assert names(small) == {name(other_data)}
    small.close()


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    """The operator named a folder that holds more than ours."""
    small = a_cache(tmp_path, bytes_max=1)
    theirs = small.folder / "thesis.h5"
    theirs.write_bytes(DATA)

    fetched(small)

    assert theirs.exists()
    small.close()


def test_folder_cannot_be_written_the_setting_is_named(tmp_path: Path) -> None:
    """At the start, not at the first round."""
    in_the_way = tmp_path / "file"
    in_the_way.touch()

    with pytest.raises(SettingsError) as refused:
        ModelCache(in_the_way / "cache", 1).prepare()

    assert refused.value.setting == "cache"
    assert "--cache" in str(refused.value)


def test_folder_is_prepared_nothing_is_left_in_it(cache: ModelCache) -> None:
    """Whether it can be written was tried out."""
    assert names(cache) == set()


@pytest.mark.parametrize("digest", [b"", b"short", b"/../../../../../../../etc/passwd-long"])
def test_digest_that_is_none_names_no_file(cache: ModelCache, digest: bytes) -> None:
    """What comes from a peer is no part of a path.

    Elsewhere: the client of a prototype joined a path that its peer sent to its own folder,
    unchecked.
    """
    with pytest.raises(PeerError) as refused:
        cache.find(digest, 1)

    assert refused.value.reason == "artifact-refused"


def test_link_in_the_place_of_a_file_is_not_followed(cache: ModelCache, tmp_path: Path) -> None:
    """The folder may be one that others write to."""
    target = tmp_path / "theirs"
    target.write_bytes(DATA)
    (cache.folder / f"{DIGEST.hex()}.part").symlink_to(target)

    with pytest.raises(Exception, match="cannot write"):
        cache.begin(DIGEST, 1)

    assert target.read_bytes() == DATA


def test_nobody_waits_for_what_was_begun_its_file_is_closed_with_the_cache(tmp_path: Path) -> None:
    """Who asks may be cancelled while a thread opens the file; another process goes on with it."""
    cache, other = a_cache(tmp_path), a_cache(tmp_path)
    early = begun(cache)
    cache.close()
    late = begun(cache)

    assert early.file.closed
    assert late.file.closed
    begun(other).close()
    other.close()


def test_name_cannot_be_given_the_file_is_closed(cache: ModelCache) -> None:
    """So that another process can go on with it."""
    download = begun(cache)
    download.add(0, DATA)
    download.part.unlink()

    with pytest.raises(StoreError):
        cache.place(download, DIGEST)

    assert download.file.closed
