"""What peers say is text: none of it acts, and none of it breaks the page's layout."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.browser.chromium import PHONE, SMALL_PHONE, a_page
from tests.browser.scripted_coordinator import ScriptedCoordinator, a_client, a_round
from tests.browser.webserver_process import WebserverProcess

if TYPE_CHECKING:
    from playwright.async_api import Browser

MARKUP = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
REASON = "</main><svg onload=alert(3)>&amp;{{7*7}}"
ADDRESS = "javascript:alert(4)//<b>bold</b>"

FOREIGN = """
    () => [...document.querySelectorAll("body *")].filter(
      (found) => ["svg", "SCRIPT", "B", "IFRAME"].includes(found.nodeName)
        || (found.nodeName === "IMG" && !found.src.endsWith("/static/mark.svg"))
        || [...found.attributes].some((attribute) => attribute.name.startsWith("on"))
    ).length
"""
"""Counts elements in the body that the page itself never has, and handlers in attributes."""


async def test_peers_say_markup_page_shows_it_as_text(
    webserver: WebserverProcess, browser: Browser
) -> None:
    """Whoever can name a client or give a reason can write on the page, and do nothing else.

    The coordinator lets no such name in; so it comes by an update straight to the webserver.
    """
    coordinator = ScriptedCoordinator(webserver.url, selectors=(MARKUP[:60],))
    hostile = a_client(1, "rejected", MARKUP[:60], REASON, client_id=MARKUP)
    hostile["metrics"] = {MARKUP: 1.0, "loss": 0.5}
    hostile["shape"] = MARKUP
    for number in (1, 2):
        coordinator.stage(a_round(number, "selection", [hostile], at_s=time.time()))
        ended = a_round(number, "completed", [hostile], at_s=time.time(), reason=REASON)
        coordinator.stage(ended | {"metrics": {MARKUP: 0.1 * number}})
    coordinator.storage_failure = MARKUP
    async with a_page(browser, webserver.url) as shown:
        dialogs: list[str] = []
        shown.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        await shown.connected()
        before = await shown.page.inner_text("#words")
        coordinator.stage(a_round(3, "reporting", [hostile], at_s=time.time()))
        await shown.page.wait_for_selector("#stages[data-round='3']")
        await shown.page.wait_for_selector("#selectors .client-id")
        name = await shown.page.inner_text("#selectors .client-id")
        notice = await shown.page.inner_text("[data-notice=storage]")
        await shown.page.click("#charts-table summary")
        await shown.until("() => document.querySelectorAll('#charts-table-body tr').length === 2")
        await shown.page.evaluate("location.hash = '#round-2'")
        await shown.page.wait_for_selector("#round-reason")
        reason = await shown.page.inner_text("#round-reason")
        shape = await shown.page.inner_text("#round-clients .shape")
        await shown.page.reload()
        await shown.connected()

        assert REASON in before
        assert name == MARKUP
        assert MARKUP in notice
        assert REASON in reason
        assert shape == MARKUP
        assert dialogs == []
        assert await shown.page.evaluate(FOREIGN) == 0
        assert shown.errors == []


async def test_many_clients_with_long_names_phone_has_no_sideways_scroll(
    webserver: WebserverProcess, browser: Browser
) -> None:
    """The longest names that are allowed, and 300 clients of which 200 are listed."""
    long = "a-client-with-a-very-long-name." * 4
    selectors = ("n" * 63, "south")
    coordinator = ScriptedCoordinator(webserver.url, selectors=selectors)
    clients = [
        a_client(n, "rejected", selectors[n % 2], "update-norm-too-large", f"{long}{n}")
        for n in range(300)
    ]
    coordinator.whole_round(1, clients, reason="too-few-reports")
    coordinator.stage(a_round(2, "reporting", clients, at_s=time.time()))
    for viewport in (PHONE, SMALL_PHONE):
        async with a_page(browser, webserver.url, viewport=viewport) as shown:
            await shown.connected()
            await shown.until("() => document.querySelectorAll('#history tr').length === 2")
            await shown.until(
                "() => document.querySelectorAll('#selectors .clients li').length === 200"
            )
            note = await shown.page.inner_text("#selectors-note")
            width = await shown.page.evaluate("document.documentElement.scrollWidth")
            await shown.page.evaluate("location.hash = '#round-1'")
            await shown.until("() => document.querySelectorAll('#round-clients tr').length === 100")
            drawer = await shown.page.evaluate(
                "document.querySelector('#round-dialog').scrollWidth"
            )
            await shown.page.click("#clients-after")
            await shown.page.get_by_text("101 to 200 of 300").wait_for()

            assert "200 of 300 clients are listed" in note
            assert width <= viewport["width"]
            assert drawer <= viewport["width"]
            assert shown.errors == []
