"""Tests of ``webserver.asking``: the JSON API, checked against the models that document it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from federation.reasons import REASONS
from tests.webserver.sites import a_browser_at, a_site, tell
from tests.webserver.telling import FEDERATION, Teller, a_client, a_round, a_session, counts
from webserver import answers

OTHER = "fedcba9876543210"


async def asked(browser: httpx.AsyncClient, path: str) -> Any:
    """Return what the API answers."""
    answer = await browser.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_nothing_was_heard_yet_every_question_has_an_empty_answer(tmp_path: Path) -> None:
    """A page asks them all before the first coordinator comes."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        assert answers.Overview(**await asked(browser, "overview")).federation is None
        assert await asked(browser, "rounds") == {"rounds": [], "next": None}
        assert await asked(browser, "events") == {"events": [], "next": None}
        assert await asked(browser, "sessions") == {"sessions": [], "next": None}
        assert (await asked(browser, "series"))["round_number"] == []


async def test_round_runs_the_overview_is_as_it_is_documented(tmp_path: Path) -> None:
    """It is written by hand for speed, and so is compared with its model."""
    clients = [a_client("client-1", standing="pending", training_s=None)]
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        await tell(browser, Teller().stage(a_round(1, "reporting", clients=clients)))
        shown = await asked(browser, "overview")

    assert answers.Overview.model_validate(shown).model_dump(mode="json") == shown
    assert shown["round"]["clients"] == clients
    assert shown["now_s"] >= shown["federation"]["heard_s"]


async def test_rounds_are_paged_next_leads_through_all_of_them(tmp_path: Path) -> None:
    """The last page says that it is the last."""
    teller = Teller()
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        for number in range(1, 6):
            await tell(browser, teller.stage(a_round(number, "completed")))
        first = await asked(browser, "rounds?limit=2")
        second = await asked(browser, f"rounds?limit=2&before={first['next']}")
        third = await asked(browser, f"rounds?limit=2&before={second['next']}")

    numbers = [[line["round_number"] for line in page["rounds"]] for page in (first, second, third)]
    assert numbers == [[5, 4], [3, 2], [1]]
    assert third["next"] is None


async def test_round_makes_progress_its_line_and_its_detail_show_it(tmp_path: Path) -> None:
    """Not only where it stood when its stage began."""
    teller = Teller()
    now = a_round(
        1,
        counts=counts(admitted=3),
        clients=[a_client(f"client-{number}", standing="held") for number in range(3)],
        clients_total=3,
    )
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        await tell(browser, teller.stage(a_round(1)), teller.progress(now))
        (line,) = (await asked(browser, "rounds"))["rounds"]
        detail = await asked(browser, "rounds/1?clients_limit=2&clients_offset=1")

    assert line["counts"]["admitted"] == 3
    assert [client["client_id"] for client in detail["clients"]] == ["client-1", "client-2"]
    assert detail["clients_total"] == 3
    assert [stage["stage"] for stage in detail["stages"]] == ["selection"]


async def test_two_federations_tell_each_is_asked_for_by_its_name(tmp_path: Path) -> None:
    """Without a name it is the one that was heard of first, while its session runs."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        await tell(browser, *Teller().whole_round(1))
        await tell(browser, *Teller(OTHER).whole_round(7))

        for name, number in (("", 1), (f"federation={OTHER}", 7), (f"federation={FEDERATION}", 1)):
            shown = await asked(browser, f"overview?{name}")
            assert shown["round"]["round_number"] == number
            (line,) = (await asked(browser, f"rounds?{name}"))["rounds"]
            assert line["round_number"] == number
            assert (await asked(browser, f"series?{name}"))["round_number"] == [number]
            assert len((await asked(browser, f"events?{name}"))["events"]) == 4


async def test_session_is_told_of_it_is_listed(tmp_path: Path) -> None:
    """With when it began and changed."""
    teller = Teller()
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        await tell(browser, teller.session(a_session()))
        await tell(browser, teller.session(a_session(session_id="session-2", running=False)))
        listed = await asked(browser, "sessions?limit=1")
        older = await asked(browser, f"sessions?limit=1&before={listed['next']}")

    assert [s["session_id"] for s in listed["sessions"]] == ["session-2"]
    assert listed["sessions"][0]["running"] is False
    assert [s["session_id"] for s in older["sessions"]] == ["session-1"]


async def test_webserver_starts_again_it_knows_what_it_knew(tmp_path: Path) -> None:
    """Restarting it loses nothing: overview, checkpoints, rounds, events."""
    questions = ("rounds", "rounds/2", "series", "events", "sessions")
    teller = Teller()
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        await tell(browser, *teller.whole_round(1), *teller.whole_round(2))
        await tell(browser, teller.progress(a_round(2, "completed"), waiting_clients=5))
        before = [await asked(browser, question) for question in questions]
        overview = await asked(browser, "overview")

    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        after = [await asked(browser, question) for question in questions]
        again = await asked(browser, "overview")
        repeated = await tell(browser, *Teller().whole_round(1))
        events = await asked(browser, "events")

    assert after == before
    assert again | {"now_s": 0} == overview | {"now_s": 0}
    assert again["waiting_clients"] == 5
    assert again["checkpoints"]["best"]["round_number"] == 2
    assert repeated == [204] * 4
    assert events == before[3]


async def test_reason_words_are_asked_for_each_has_its_sentences(tmp_path: Path) -> None:
    """Those of docs/errors.md, as text."""
    async with a_site(tmp_path) as site, a_browser_at(site) as browser:
        answer = (await browser.get("/api/v1/reasons")).json()

    told = {one["word"]: one for one in answer["reasons"]}
    assert told.keys() == REASONS.keys()
    assert told["port-in-use"]["to_do"].startswith("Give another --port (0 picks")
    sentences = [one[field] for one in answer["reasons"] for field in ("means", "to_do")]
    assert all(sentences)
    assert not [sentence for sentence in sentences if "](" in sentence or "`" in sentence]
