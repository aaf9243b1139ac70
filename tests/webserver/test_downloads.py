"""Tests of ``webserver.downloads``: checkpoints of a real shared directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from federation.runtime.hdf5 import blocks_of, read_weights
from federation.runtime.history import History
from federation.runtime.store import SharedDirectory
from federation.tensors import ModelSpec
from tests.servers import a_shared_directory
from tests.webserver.sites import a_browser_at, a_site, tell
from tests.webserver.telling import FEDERATION, Teller, a_round

WEIGHTS = {"w": np.arange(300_000, dtype=np.float32)}


def a_committed_round(root: Path, round_number: int) -> tuple[SharedDirectory, str]:
    """Lay out a directory with a round in its history; return it and the checkpoint's digest."""
    directory = a_shared_directory(root, WEIGHTS)
    history = History(directory.history)
    spec = ModelSpec.of(WEIGHTS)
    staged = history.stage(round_number, spec, blocks_of(WEIGHTS), {}, directory.checkpoint)
    history.publish(staged, round_number)
    return directory, staged.digest


async def test_checkpoint_is_in_the_history_it_is_downloaded_whole(tmp_path: Path) -> None:
    """Under a name that Keras loads, with the digest of the weights."""
    directory, digest = a_committed_round(tmp_path / "shared", 41)
    told = Teller().stage(a_round(41, "completed", checkpoint_digest=digest))
    async with (
        a_site(tmp_path, shared_data=directory.root) as site,
        a_browser_at(site) as browser,
    ):
        await tell(browser, told)
        best = (await browser.get("/api/v1/overview")).json()["checkpoints"]["best"]
        answer = await browser.get(best["url"])

    assert best["url"] == f"/api/v1/checkpoints/41?federation={FEDERATION}"
    assert answer.status_code == 200
    assert answer.headers["x-headwater-checkpoint-sha256"] == digest
    assert answer.headers["content-disposition"] == (
        'attachment; filename="fl_checkpoint-round-000041.h5"'
    )
    downloaded = tmp_path / "downloaded.h5"
    downloaded.write_bytes(answer.content)
    np.testing.assert_array_equal(read_weights(downloaded)["w"], WEIGHTS["w"])


async def test_checkpoint_was_deleted_there_is_no_link_and_no_download(tmp_path: Path) -> None:
    """History keeps the newest ones; the link goes when the next round completes."""
    directory, digest = a_committed_round(tmp_path / "shared", 1)
    teller = Teller()
    async with (
        a_site(tmp_path, shared_data=directory.root) as site,
        a_browser_at(site) as browser,
    ):
        await tell(browser, teller.stage(a_round(1, "completed", checkpoint_digest=digest)))
        shutil.rmtree(directory.history)
        answer = await browser.get("/api/v1/checkpoints/1")
        await tell(browser, teller.stage(a_round(2, "completed")))
        shown = (await browser.get("/api/v1/overview")).json()["checkpoints"]

    assert (answer.status_code, answer.json()["reason"]) == (404, "checkpoint-missing")
    assert shown["last"]["round_number"] == 2
    assert (shown["last"]["url"], shown["best"]["url"]) == (None, None)


async def test_directory_is_another_federation_s_its_checkpoint_is_not_given(
    tmp_path: Path,
) -> None:
    """A round of that number is there, too; the digest tells."""
    directory, _ = a_committed_round(tmp_path / "shared", 1)
    async with (
        a_site(tmp_path, shared_data=directory.root) as site,
        a_browser_at(site) as browser,
    ):
        await tell(browser, Teller().stage(a_round(1, "completed", checkpoint_digest="ab" * 32)))
        answer = await browser.get("/api/v1/checkpoints/1")

    assert answer.status_code == 404


async def test_webserver_has_no_shared_directory_it_gives_no_checkpoint(tmp_path: Path) -> None:
    """It need not run beside the coordinator."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        await tell(browser, Teller().stage(a_round(1, "completed")))
        shown = (await browser.get("/api/v1/overview")).json()["checkpoints"]
        answer = await browser.get("/api/v1/checkpoints/1")

    assert shown["last"]["url"] is None
    assert (answer.status_code, answer.json()["reason"]) == (404, "checkpoint-missing")
