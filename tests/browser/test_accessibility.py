"""axe-core finds nothing serious, in light and dark, empty and full, and in each dialog."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import pytest
from axe_playwright_python.async_playwright import Axe

from tests.browser.chromium import PHONE, Shown, a_page
from tests.browser.scripted_coordinator import ScriptedCoordinator, a_client, a_round
from tests.browser.webserver_process import WebserverProcess
from tests.system.processes import Federation

if TYPE_CHECKING:
    from playwright.async_api import Browser

FAULTS = ("serious", "critical")
PLACES = ("empty", "full", "a round", "stopping", "starting", "disconnected")
EVERY_STANDING = ("folded", "pending", "away", "rejected", "discarded", "withdrawn", "lost")


async def faults(shown: Shown) -> list[str]:
    """Return each serious violation with the element that has it."""
    results = await Axe().run(shown.page)
    return [
        f"{violation['id']}: {node['html']} ({node['failureSummary']})"
        for violation in results.response["violations"]
        if violation["impact"] in FAULTS
        for node in violation["nodes"]
    ]


def tell_of_much(url: str) -> None:
    """Have something of everything on the page: standings, outcomes, notices."""
    coordinator = ScriptedCoordinator(url, storage_failure="No space left on device")
    clients = [a_client(n, standing, reason="word") for n, standing in enumerate(EVERY_STANDING)]
    ended = [a_client(n, "reported") for n in range(4)]
    for number in range(1, 20):
        coordinator.whole_round(number, ended, "too-few-reports" if number % 5 == 0 else "")
    coordinator.stage(a_round(20, "reporting", clients, at_s=time.time()))


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_page_has_no_serious_violation(
    federation: Federation, browser: Browser, scheme: Literal["light", "dark"]
) -> None:
    """Whoever reads with a keyboard, a screen reader or weak eyes can use all of it."""
    webserver = WebserverProcess(federation, coordinator="127.0.0.1:9", control_token="a" * 20)
    await webserver.start()
    found: dict[str, list[str]] = {}
    async with a_page(browser, webserver.url, color_scheme=scheme) as shown:
        await shown.connected()
        found["empty"] = await faults(shown)
        tell_of_much(webserver.url)
        await shown.until("() => document.querySelectorAll('#history tr').length === 15")
        await shown.until("() => document.querySelectorAll('#selectors .clients li').length > 5")
        await shown.page.click("#charts-table summary")
        found["full"] = await faults(shown)
        await shown.page.evaluate("location.hash = '#round-20'")
        await shown.page.wait_for_selector("#round-clients tr")
        found["a round"] = await faults(shown)
        await shown.page.click("#round-close")
        await shown.page.click("#open-stop")
        found["stopping"] = await faults(shown)
        await shown.page.click("#stop-dialog [data-close]")
        await shown.page.evaluate("document.querySelector('#start-dialog').showModal()")
        await shown.page.fill("#start-form [name=rounds]", "0")
        await shown.page.click("#start-form [type=submit]")
        await shown.page.wait_for_selector("#start-error")
        found["starting"] = await faults(shown)
        await shown.page.click("#start-dialog [data-close]")
        await webserver.kill()
        await shown.page.wait_for_selector("[data-notice=lost]")
        found["disconnected"] = await faults(shown)

    assert [*found] == [*PLACES]
    assert not any(found.values()), found


async def test_page_on_a_phone_has_no_serious_violation(
    webserver: WebserverProcess, browser: Browser
) -> None:
    """Its narrow form is other markup to the eye, and the same to axe."""
    tell_of_much(webserver.url)
    async with a_page(browser, webserver.url, viewport=PHONE) as shown:
        await shown.connected()
        await shown.page.wait_for_selector("#history tr")

        assert await faults(shown) == []


async def test_theme_is_chosen_it_stays_after_a_reload(
    webserver: WebserverProcess, browser: Browser
) -> None:
    """System, light, dark, and round again."""
    async with a_page(browser, webserver.url, color_scheme="light") as shown:
        ground = "getComputedStyle(document.body).backgroundColor"
        light = await shown.page.evaluate(ground)
        await shown.page.click("#theme")
        await shown.page.click("#theme")
        dark = await shown.page.evaluate(ground)
        await shown.page.reload()

        assert await shown.page.inner_text("#theme") == "Theme: dark"
        assert light != dark == await shown.page.evaluate(ground)
