"""The forms: a session is started and stopped from the page, by who may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headwater.demo_page import free_port
from tests.browser.chromium import Shown, a_page
from tests.browser.webserver_process import WebserverProcess
from tests.system.processes import AT_ONCE, HOST, Federation

if TYPE_CHECKING:
    from playwright.async_api import Browser

CLIENTS = 2


async def a_waiting_federation(federation: Federation, **settings: Any) -> WebserverProcess:
    """Start a webserver and a coordinator that know each other, and clients that wait."""
    port = free_port(HOST)
    webserver = WebserverProcess(federation, coordinator=f"{HOST}:{port}", **settings)
    await webserver.start()
    await federation.coordinator(port=port, goal_count=CLIENTS, webserver=webserver.url, **AT_ONCE)
    (selector,) = await federation.selectors("north")
    await federation.clients(CLIENTS, selector, trainer="Gated")
    await federation.waiting(CLIENTS)
    return webserver


async def fill_in(shown: Shown, **fields: str) -> None:
    """Open the form if it is not open, and fill it in."""
    if not await shown.page.locator("#start-dialog").is_visible():
        await shown.page.click("#open-start")
    for name, value in fields.items():
        await shown.page.fill(f"#start-form [name={name}]", value)


async def refusal(shown: Shown, *, place: str = "#start-error") -> str:
    """Submit, and return the sentence that the form shows."""
    await shown.page.evaluate("place => { document.querySelector(place).hidden = true; }", place)
    await shown.page.click("#start-form [type=submit]")
    await shown.page.wait_for_selector(place)
    return await shown.page.inner_text(place)


async def test_session_is_started_by_the_form_it_runs_and_a_second_start_is_told_so(
    federation: Federation, browser: Browser
) -> None:
    """One session runs at a time; who comes second reads why nothing began."""
    webserver = await a_waiting_federation(federation)
    async with a_page(browser, webserver.url) as shown, a_page(browser, webserver.url) as other:
        await fill_in(other, rounds="7")
        await fill_in(shown, rounds="1", goal_count="2", learning_rate="0.05", epochs="3")
        await shown.page.click("#start-form [type=submit]")
        await shown.page.wait_for_selector("#stages[data-round='1'][data-stage=reporting]")
        said = await refusal(other)
        federation.open_gate()
        await shown.page.wait_for_selector("#open-start")
        state = await shown.page.inner_text("#control-state")
        await shown.page.click("#eyebrow a")
        plan = await shown.page.inner_text("#round-facts > [data-key=Plan]")

        assert "a session is running" in said
        assert "goal 2, at least 1" in plan
        assert "3 epochs" in plan
        assert "learning rate 0.05" in plan
        assert state == "Over: 1 of 1 round completed."
        assert shown.errors == other.errors == []


async def test_running_session_is_stopped_at_once_its_round_is_abandoned(
    federation: Federation, browser: Browser
) -> None:
    """A stop is confirmed, and says what it costs."""
    webserver = await a_waiting_federation(federation)
    async with a_page(browser, webserver.url) as shown:
        await fill_in(shown, rounds="5")
        await shown.page.click("#start-form [type=submit]")
        await shown.page.wait_for_selector("#stages[data-stage=reporting]")
        await shown.page.click("#open-stop")
        await shown.page.check("#stop-form [value=now]")
        await shown.page.click("#stop-form [type=submit]")
        await shown.page.wait_for_selector("#history .badge[data-kind=bad]")
        why = await shown.page.inner_text("#history .why")
        state = await shown.page.inner_text("#control-state")

        assert why == "session-stopped"
        assert state == "Stopped: 1 of 5 rounds completed."
        assert shown.errors == []


async def test_form_has_mistakes_it_names_the_field_and_the_server_s_sentence_is_shown(
    federation: Federation, browser: Browser
) -> None:
    """What the page can judge it judges; the rest is the coordinator's to refuse."""
    webserver = await a_waiting_federation(federation)
    async with a_page(browser, webserver.url) as shown:
        await fill_in(shown, rounds="0", learning_rate="-1")
        here = await refusal(shown)
        invalid = await shown.page.locator("#start-form [aria-invalid=true]").count()
        await shown.page.click("#start-form details summary")
        await fill_in(shown, rounds="1", learning_rate="", goal_count="1", min_reports="5")
        there = await refusal(shown)

        assert here == (
            "Rounds: it must be a whole number from 1. Learning rate: it must be above 0."
        )
        assert invalid == 2
        assert "min_reports" in there
        assert shown.errors == []


async def test_control_needs_a_token_the_form_asks_for_it_and_keeps_it_for_the_tab(
    federation: Federation, browser: Browser
) -> None:
    """Who has not got it reads that; who has gives it once."""
    webserver = await a_waiting_federation(federation, control_token="open sesame please")
    async with a_page(browser, webserver.url) as shown:
        await fill_in(shown, rounds="1")
        without = await refusal(shown)
        await shown.page.fill("#start-form [name=token]", "a guess")
        wrong = await refusal(shown)
        await shown.page.fill("#start-form [name=token]", "open sesame please")
        await shown.page.click("#start-form [type=submit]")
        await shown.page.wait_for_selector("#stages[data-stage=reporting]")
        await shown.page.click("#open-stop")
        asked_again = await shown.page.locator("#stop-form [name=token]").is_visible()
        await shown.page.click("#stop-form [type=submit]")
        await shown.page.get_by_text("Running, stops after this round").wait_for()

        assert "control token" in without
        assert "not the control token" in wrong
        assert not asked_again


async def test_webserver_controls_nothing_page_says_why_instead_of_buttons(
    webserver: WebserverProcess, browser: Browser
) -> None:
    """No button that cannot work."""
    async with a_page(browser, webserver.url) as shown:
        await shown.page.evaluate("document.body.dataset.state = 'full'")

        assert not await shown.page.locator("#open-start").is_visible()
        assert "--coordinator" in await shown.page.inner_text("#control-why")
