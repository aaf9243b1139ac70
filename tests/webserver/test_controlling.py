"""Tests of ``webserver.controlling``, with a real coordinator on loopback."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.servers import a_coordinator, a_shared_directory
from tests.webserver.sites import a_browser_at, a_site

TOKEN = "the control token"


@asynccontextmanager
async def controlled(tmp_path: Path, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run a coordinator, and a webserver that controls it."""
    directory = a_shared_directory(tmp_path / "shared", {"w": np.zeros(3, np.float32)})
    async with a_coordinator(directory.root) as coordinator:
        target = f"127.0.0.1:{coordinator.port}"
        async with (
            a_site(tmp_path, coordinator=target, **changes) as site,
            a_browser_at(site) as browser,
        ):
            yield browser


def told(answer: httpx.Response) -> tuple[int, str]:
    """Return status and reason of a refusal."""
    return answer.status_code, answer.json()["reason"]


async def test_session_is_started_it_runs_until_it_is_stopped(tmp_path: Path) -> None:
    """One at a time: a second start says so instead of starting a second one."""
    async with controlled(tmp_path) as browser:
        nothing = await browser.delete("/api/v1/session")
        started = await browser.post("/api/v1/session", json={"rounds": 3, "goal_count": 5})
        again = await browser.post("/api/v1/session", json={"rounds": 9})
        stopped = await browser.delete("/api/v1/session?after_round=false")

    assert told(nothing) == (409, "no-session")
    assert started.status_code == 201
    assert (started.json()["rounds"], started.json()["running"]) == (3, True)
    assert told(again) == (409, "session-running")
    assert stopped.status_code == 200
    assert stopped.json()["session_id"] == started.json()["session_id"]
    assert stopped.json()["running"] is False


IMPOSSIBLE: tuple[tuple[object, str], ...] = (
    ({"rounds": 0}, "rounds"),
    ({}, "rounds"),
    ({"rounds": "3"}, "rounds"),
    ({"rounds": 2**40}, "rounds"),
    ({"rounds": 3, "goal_count": 2, "min_reports": 3}, "min_reports"),
    ({"rounds": 3, "over_selection": 0.5}, "over_selection"),
    ({"rounds": 3, "report_window_s": -1}, "report_window_s"),
    ({"rounds": 3, "lunch": True}, "lunch"),
    ([], "body"),
)


async def test_plan_is_impossible_nothing_is_started_and_the_mistake_is_named(
    tmp_path: Path,
) -> None:
    """Whether it is found here or by the coordinator, which knows the whole plan."""
    async with controlled(tmp_path) as browser:
        for plan, named in IMPOSSIBLE:
            refused = await browser.post("/api/v1/session", json=plan)

            assert told(refused) == (422, "impossible-plan"), plan
            assert named in refused.json()["detail"]
        nothing = await browser.delete("/api/v1/session")

    assert told(nothing) == (409, "no-session")


async def test_body_is_no_json_it_is_malformed(tmp_path: Path) -> None:
    """And no plan."""
    async with controlled(tmp_path) as browser:
        refused = await browser.post(
            "/api/v1/session", content=b"{", headers={"Content-Type": "application/json"}
        )

    assert told(refused) == (422, "malformed-request")


async def test_coordinator_does_not_answer_the_page_is_told_so(tmp_path: Path) -> None:
    """In time, and without a session."""
    async with (
        a_site(tmp_path, coordinator="127.0.0.1:1") as site,
        a_browser_at(site) as browser,
    ):
        assert told(await browser.delete("/api/v1/session")) == (503, "coordinator-unreachable")
        refused = await browser.post("/api/v1/session", json={"rounds": 1})

    assert told(refused) == (503, "coordinator-unreachable")


async def test_no_coordinator_is_known_the_overview_and_the_answer_say_so(tmp_path: Path) -> None:
    """A page then shows no form."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        shown = (await browser.get("/api/v1/overview")).json()["control"]
        refused = await browser.post("/api/v1/session", json={"rounds": 1})

    assert shown == {"possible": False, "needs_token": False}
    assert told(refused) == (503, "coordinator-unreachable")


async def test_control_token_is_set_only_who_gives_it_starts_a_session(tmp_path: Path) -> None:
    """Whoever may look need not be who may control."""
    async with controlled(tmp_path, control_token=TOKEN) as browser:
        shown = (await browser.get("/api/v1/overview")).json()["control"]
        without = await browser.post("/api/v1/session", json={"rounds": 1})
        wrong = await browser.post(
            "/api/v1/session", json={"rounds": 1}, headers={"Authorization": "Bearer x"}
        )
        right = await browser.post(
            "/api/v1/session", json={"rounds": 1}, headers={"Authorization": f"Bearer {TOKEN}"}
        )

    assert shown == {"possible": True, "needs_token": True}
    assert told(without) == (401, "control-token-needed")
    assert told(wrong) == (401, "wrong-control-token")
    assert right.status_code == 201


async def test_server_is_open_to_others_without_a_token_its_page_only_shows(
    tmp_path: Path,
) -> None:
    """And its form would do nothing."""
    async with controlled(tmp_path, host="0.0.0.0") as browser:
        shown = (await browser.get("/api/v1/overview")).json()["control"]
        refused = await browser.post("/api/v1/session", json={"rounds": 1})

    assert shown == {"possible": False, "needs_token": False}
    assert told(refused) == (403, "control-token-needed")


async def test_page_starts_a_session_with_its_token_another_site_s_page_cannot(
    tmp_path: Path,
) -> None:
    """The browser adds the cookie to both, and our script the token to one."""
    async with controlled(tmp_path) as browser:
        page = (await browser.get("/")).text
        found = re.search(r'name="headwater-csrf" content="([0-9a-f]+)"', page)
        assert found is not None
        ours = {"Origin": "http://127.0.0.1:8050", "X-Headwater-CSRF": found[1]}
        theirs = {"Origin": "http://attacker.example", "X-Headwater-CSRF": found[1]}
        forged = await browser.post("/api/v1/session", json={"rounds": 1}, headers=theirs)
        blind = await browser.post("/api/v1/session", json={"rounds": 1})
        started = await browser.post("/api/v1/session", json={"rounds": 1}, headers=ours)

    assert told(forged) == (403, "cross-site-request")
    assert told(blind) == (403, "cross-site-request")
    assert started.status_code == 201


async def test_another_federation_is_meant_nothing_is_started_or_stopped(tmp_path: Path) -> None:
    """A page may show one federation while the webserver controls the coordinator of another."""
    async with controlled(tmp_path) as browser:
        mine = (tmp_path / "shared" / "coordinator" / "federation_id").read_text().strip()
        wrong = await browser.post(
            "/api/v1/session?federation=0123456789abcdef", json={"rounds": 1}
        )
        started = await browser.post(f"/api/v1/session?federation={mine}", json={"rounds": 1})
        kept = await browser.delete("/api/v1/session?federation=0123456789abcdef")
        stopped = await browser.delete(f"/api/v1/session?federation={mine}&after_round=false")

    assert told(wrong) == told(kept) == (409, "other-federation")
    assert (started.status_code, stopped.status_code) == (201, 200)
