"""What can be the matter: each has words of its own on the page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from federation.reasons import REASONS
from tests.browser.chromium import a_page
from tests.browser.scripted_coordinator import ScriptedCoordinator, a_client, a_round
from tests.browser.webserver_process import WebserverProcess
from webserver.reason_words import plain

if TYPE_CHECKING:
    from playwright.async_api import Browser, Route

CLIENTS = [a_client(number, "reported") for number in range(4)]


async def test_coordinator_s_disk_refuses_banner_says_so_until_it_takes_again(
    webserver: WebserverProcess, browser: Browser
) -> None:
    """No round begins meanwhile, and the page says why."""
    coordinator = ScriptedCoordinator(webserver.url, storage_failure="No space left on device")
    coordinator.whole_round(1, CLIENTS)
    async with a_page(browser, webserver.url) as shown:
        await shown.connected()
        banner = await shown.page.inner_text("[data-notice=storage]")
        coordinator.storage_failure = ""
        coordinator.whole_round(2, CLIENTS)
        await shown.page.wait_for_selector("[data-notice=storage]", state="detached")

        assert "disk" in banner
        assert "No space left on device" in banner


async def test_coordinator_says_nothing_beyond_a_deadline_page_calls_it_silent(
    webserver: WebserverProcess, browser: Browser
) -> None:
    """The stream lives, and still nobody should believe that the round goes on."""
    coordinator = ScriptedCoordinator(webserver.url)
    round_ = a_round(1, "reporting", CLIENTS, at_s=time.time()) | {"deadline_s": 1.0}
    coordinator.stage(round_)
    async with a_page(browser, webserver.url) as shown:
        await shown.page.wait_for_selector("#connection[data-connection=silent]")
        notice = await shown.page.inner_text("[data-notice=silent]")
        coordinator.stage(a_round(1, "completed", CLIENTS, at_s=time.time()))
        await shown.page.wait_for_selector("[data-notice=silent]", state="detached")

        assert "The coordinator is silent" in notice
        assert await shown.page.get_attribute("#connection", "data-connection") == "live"


async def test_round_is_abandoned_its_reason_stands_wherever_the_round_does(
    webserver: WebserverProcess, browser: Browser
) -> None:
    """In the status, the stages, the table, the log and the detail."""
    clients = [a_client(1, "reported"), a_client(2, "lost", reason="client-lost")]
    ScriptedCoordinator(webserver.url).whole_round(1, clients, reason="too-few-reports")
    async with a_page(browser, f"{webserver.url}/#round-1") as shown:
        await shown.page.wait_for_selector("#round-reason")

        for place in ("#words", "li[data-stage=completed] .stage-time", "#history .why"):
            assert "too-few-reports" in await shown.page.inner_text(place)
        assert "too-few-reports" in await shown.page.inner_text("#events li:first-child")
        assert "too-few-reports" in await shown.page.inner_text("#round-reason")
        assert "lost, client-lost" in await shown.page.inner_text("#round-clients")
        await shown.page.wait_for_selector("#round-reasons")
        explained = await shown.page.locator("#round-reasons dt").all_inner_texts()
        assert explained == ["too-few-reports", "client-lost"]
        assert plain(REASONS["client-lost"].means) in await shown.page.inner_text("#round-reasons")


async def test_two_federations_report_here_page_stays_with_one_and_the_other_can_be_chosen(
    webserver: WebserverProcess, browser: Browser
) -> None:
    """The address then names it, and all of the page is about it."""
    one = ScriptedCoordinator(webserver.url)
    other = ScriptedCoordinator(webserver.url, federation_id="0ddba11000000001")
    one.stage(a_round(7, "reporting", CLIENTS, at_s=time.time()))
    async with a_page(browser, webserver.url) as shown:
        await shown.connected()
        other.whole_round(41, CLIENTS)
        await shown.page.wait_for_selector("#federation-choice")
        stayed = await shown.page.inner_text("#eyebrow")
        await shown.page.select_option("#federation-choice", other.federation_id)
        await shown.page.locator("#eyebrow", has_text="Round 41").wait_for()
        await shown.page.locator("#history a", has_text="41").wait_for()

        assert stayed.lower() == "round 7"
        assert shown.page.url.endswith(f"?federation={other.federation_id}")
        assert await shown.page.input_value("#federation-choice") == other.federation_id


async def test_api_fails_section_says_so_and_fills_when_it_works_again(
    webserver: WebserverProcess, browser: Browser
) -> None:
    """One part that fails leaves the others alone."""
    coordinator = ScriptedCoordinator(webserver.url)
    coordinator.whole_round(1, CLIENTS)

    async def fail(route: Route) -> None:
        await route.fulfill(status=503, json={"reason": "database", "detail": "the disk is full"})

    async with a_page(browser, webserver.url) as shown:
        await shown.page.wait_for_selector("#history tr")
        await shown.page.route("**/api/v1/rounds?*", fail)
        coordinator.whole_round(2, CLIENTS)
        await shown.page.wait_for_selector("#history-error")
        said = await shown.page.inner_text("#history-error")
        await shown.page.unroute("**/api/v1/rounds?*")
        coordinator.whole_round(3, CLIENTS)
        await shown.until("() => document.querySelectorAll('#history tr').length === 3")

        assert said == "The rounds could not be loaded: the disk is full."
        assert not await shown.page.locator("#history-error").is_visible()


async def test_keyboard_opens_a_round_turns_to_its_neighbour_and_comes_back(
    webserver: WebserverProcess, browser: Browser
) -> None:
    """The detail takes the focus, Escape gives it back to the link, and the address follows."""
    coordinator = ScriptedCoordinator(webserver.url)
    for number in (1, 2):
        coordinator.whole_round(number, CLIENTS)
    async with a_page(browser, webserver.url) as shown:
        link = shown.page.locator("#history a", has_text="2")
        await link.focus()
        await shown.page.keyboard.press("Enter")
        await shown.page.wait_for_selector("#round-body")
        focused = await shown.page.evaluate("document.activeElement.id")
        await shown.page.locator("#round-before").press("Enter")
        await shown.page.locator("#round-heading", has_text="Round 1").wait_for()
        await shown.page.keyboard.press("Escape")
        await shown.page.wait_for_selector("#round-dialog", state="hidden")

        assert focused == "round-heading"
        assert await link.evaluate("link => link === document.activeElement")
        assert await shown.page.evaluate("location.hash") == ""


async def test_page_is_loaded_nothing_is_asked_for_again_while_nothing_happens(
    webserver: WebserverProcess, browser: Browser
) -> None:
    """The page never polls: requests follow from events, and without events there are none."""
    ScriptedCoordinator(webserver.url).whole_round(1, CLIENTS)
    async with a_page(browser, webserver.url) as shown:
        await shown.connected()
        await shown.page.wait_for_selector("#history tr")
        await shown.page.wait_for_selector("#events li")
        await shown.page.wait_for_selector("#chart-first .uplot")
        asked: list[str] = []
        shown.page.on("request", lambda request: asked.append(request.url))
        await shown.until("() => (window.beganAt ??= performance.now()) + 3000 < performance.now()")

        assert asked == []


async def test_script_does_not_come_page_loads_again_by_itself(
    webserver: WebserverProcess, browser: Browser
) -> None:
    """A network that changes while the page loads leaves no dead page behind."""
    cut: list[str] = []

    async def cut_twice(route: Route) -> None:
        """Cut the load ahead of time, and the one that the script itself asks for."""
        if len(cut) == 2:
            await route.continue_()
        else:
            cut.append(route.request.url)
            await route.abort()

    async with a_page(browser, webserver.url) as shown:
        await shown.connected()
        await shown.page.route("**/static/clock.js", cut_twice)
        await shown.page.reload()
        await shown.page.get_by_text("Loading again…").wait_for()
        await shown.connected()

        assert len(cut) == 2
        assert await shown.page.evaluate("sessionStorage.length") == 0
