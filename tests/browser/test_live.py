"""The page beside a real federation: every stage is shown, whatever breaks on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.chromium import Shown, a_page
from tests.browser.webserver_process import WebserverProcess
from tests.system.processes import AT_ONCE, Federation

if TYPE_CHECKING:
    from playwright.async_api import Browser

STAGES = ("selection", "configuration", "reporting", "completed")
CLIENTS = 4

STROKED = """
    host => {
      const canvas = document.querySelector(`#${host} canvas`);
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      let coloured = 0;
      for (let at = 0; at < data.length; at += 4) {
        const [red, green, blue, alpha] = data.subarray(at, at + 4);
        if (alpha > 200 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60) {
          coloured += 1;
        }
      }
      return coloured > 20;
    }
"""
"""Says whether something is drawn in a chart that is neither grid nor text, which are grey."""


async def a_federation(federation: Federation, webserver: WebserverProcess, rounds: int) -> None:
    """Start a coordinator that tells the webserver, two selectors, and four gated clients."""
    await federation.coordinator(
        rounds=rounds, goal_count=CLIENTS, webserver=webserver.url, **AT_ONCE
    )
    selectors = await federation.selectors("north", "south")
    for number in range(CLIENTS):
        selector = selectors[number % len(selectors)]
        await federation.client(f"client-{number}", selector, trainer="Gated")


async def shows(shown: Shown, round_number: int, stage: str) -> None:
    """Wait until the page shows a stage of a round."""
    await shown.page.wait_for_selector(f"#stages[data-round='{round_number}'][data-stage={stage}]")


async def test_federation_runs_page_shows_each_stage_of_two_rounds_without_reload(
    federation: Federation, webserver: WebserverProcess, browser: Browser
) -> None:
    """An open page follows from nothing at all to the last round's end."""
    async with a_page(browser, webserver.url) as shown:
        empty = await shown.page.inner_text("#empty h1")
        await shown.page.evaluate("window.loadedOnce = true")
        await a_federation(federation, webserver, rounds=2)
        await shows(shown, 1, "reporting")
        federation.open_gate(1)
        await shows(shown, 2, "reporting")
        words = await shown.page.inner_text("#words")
        cards = await shown.page.locator("#selectors .clients li").count()
        federation.open_gate(2)
        await shows(shown, 2, "completed")
        await shown.until("() => document.querySelectorAll('#history tr').length === 2")
        await shown.until(
            "() => document.querySelector('#chart-first .plot').ariaLabel.includes('2 rounds')"
        )

        assert empty == "No coordinator has reported yet"
        assert await shown.seen("stages") == [f"{n} {stage}" for n in (1, 2) for stage in STAGES]
        assert words.startswith("Reporting: ")
        assert cards == CLIENTS
        assert await shown.page.evaluate(STROKED, "chart-first-plot")
        assert await shown.page.evaluate(STROKED, "chart-seconds-plot")
        assert await shown.page.evaluate("window.loadedOnce")
        assert shown.errors == []


async def test_webserver_is_killed_and_comes_back_in_mid_round_page_heals_and_misses_no_stage(
    federation: Federation, webserver: WebserverProcess, browser: Browser
) -> None:
    """What happened while it was away arrives afterwards, each stage once and in order."""
    async with a_page(browser, webserver.url) as shown:
        await a_federation(federation, webserver, rounds=3)
        await shows(shown, 1, "reporting")
        await webserver.kill()
        await shown.page.wait_for_selector("[data-notice=lost]")
        notice = await shown.page.inner_text("[data-notice=lost]")
        federation.open_gate(1)
        federation.open_gate(2)
        await federation.completed(2)
        await webserver.start()
        await shows(shown, 3, "reporting")
        federation.open_gate(3)
        await shows(shown, 3, "completed")

        assert "Disconnected: last update" in notice
        assert "reconnecting" in notice
        stages = [f"{n} {stage}" for n in (1, 2, 3) for stage in STAGES]
        assert await shown.seen("stages") == stages
        connections = await shown.seen("connections")
        assert connections[-2:] == ["lost", "live"]
        assert await shown.page.locator("[data-notice=lost]").count() == 0
        assert shown.errors == []
