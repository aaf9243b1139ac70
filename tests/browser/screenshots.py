"""Pictures of the page for docs/screenshots, of a real federation: ``make screenshots``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federation.runtime.control import start_session
from federation.runtime.initialise import initialise_with
from headwater.demo_page import free_port
from tests.browser.chromium import DESKTOP, PHONE, Shown, a_browser, a_page
from tests.browser.softmax_trainer import START
from tests.browser.webserver_process import WebserverProcess
from tests.system.processes import AT_ONCE, HOST, PYTHON, ROOT, Federation, Process

if TYPE_CHECKING:
    from playwright.async_api import Browser

FOLDER = ROOT / "docs" / "screenshots"
BYTES_MAX = 300_000
CLIENTS = 6
LOST = 2
ROUNDS = 200
SHOWN_AFTER = 16
"""Rounds that the pictures have behind them."""

ABANDONED = 9
"""The round that shows what a failure looks like: too few clients stay for it."""


async def take_all() -> None:
    """Run a federation, and take each picture when it is there to be taken."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with Federation(Path(folder)) as federation, a_browser() as browser:
            initialise_with(federation.shared_data, START)
            port = free_port(HOST)
            webserver = WebserverProcess(
                federation, coordinator=f"{HOST}:{port}", shared_data=federation.shared_data
            )
            await webserver.start()
            await take(browser, webserver.url, "empty")
            await begin(federation, webserver, port)
            await take_full(browser, federation, webserver)


async def begin(federation: Federation, webserver: WebserverProcess, port: int) -> None:
    """Start the federation, and lose a part of it in the middle of one round."""
    coordinator = await federation.coordinator(
        port=port, webserver=webserver.url, goal_count=CLIENTS, return_s=1, **AT_ONCE
    )
    selectors = await federation.selectors("north", "south")
    clients = [await a_client(federation, number, selectors) for number in range(CLIENTS)]
    await federation.waiting(CLIENTS)
    plan = {"min_reports": CLIENTS - 1, "learning_rate": 0.8}
    await start_session(coordinator.address, ROUNDS, plan)
    await federation.until(
        lambda status: (
            status.round.round_number == ABANDONED and status.round.counts.configured == CLIENTS
        ),
        "the round that is to fail",
    )
    for client in clients[:LOST]:
        await client.kill()
    await federation.completed(ABANDONED)
    for number in range(CLIENTS, CLIENTS + LOST):
        await a_client(federation, number, selectors)


async def a_client(federation: Federation, number: int, selectors: list[Process]) -> Process:
    """Start a client with its own share of the digits."""
    name = f"client-{number + 1}"
    return await federation.start(
        name,
        [*PYTHON, "client"],
        {"SOFTMAX_SHARD": f"{number % CLIENTS + 1}/{CLIENTS}"},
        client_id=name,
        state=federation.folder / "state" / name,
        selector=selectors[number % len(selectors)].address,
        trainer="tests.browser.softmax_trainer:Softmax",
    )


async def take_full(browser: Browser, federation: Federation, webserver: WebserverProcess) -> None:
    """Take the pictures of a federation in the middle of its work, then of what is the matter."""
    await federation.completed(SHOWN_AFTER)
    await take(browser, webserver.url, "desktop", stage="reporting")
    await take(browser, webserver.url, "phone", stage="reporting", viewport=PHONE, is_mobile=True)
    await take(browser, webserver.url, "dark", stage="reporting", color_scheme="dark")
    await take(browser, f"{webserver.url}/#round-{ABANDONED}", "abandoned-round")
    async with a_page(browser, webserver.url) as shown:
        await settled(shown)
        await webserver.kill()
        await shown.page.wait_for_selector("[data-notice=lost]")
        await save(shown, "disconnected")


async def take(
    browser: Browser,
    url: str,
    name: str,
    *,
    stage: str | None = None,
    **options: Any,
) -> None:
    """Take one picture, while the page shows a stage if one is named."""
    options = {"viewport": DESKTOP, "reduced_motion": "reduce"} | options
    async with a_page(browser, url, **options) as shown:
        await settled(shown)
        if stage is not None:
            await shown.page.wait_for_selector(f"#stages[data-stage={stage}]")
        await save(shown, name)


async def settled(shown: Shown) -> None:
    """Wait until the page has all that it fetches."""
    await shown.connected()
    await shown.page.wait_for_load_state("load")
    await shown.until(
        """() => document.body.dataset.state === "empty"
          || (document.querySelector("#history tr") && document.querySelector("#events li")
            && document.querySelector("#chart-seconds canvas")
            && document.querySelector("#selectors .clients li"))"""
    )
    if "#" in shown.page.url:
        await shown.page.wait_for_selector("#round-clients tr")


async def save(shown: Shown, name: str) -> None:
    """Write the picture, and see that it is no burden for who clones."""
    path = FOLDER / f"{name}.png"
    await shown.page.screenshot(path=path, animations="disabled")
    size = path.stat().st_size
    sys.stdout.write(f"{path.relative_to(ROOT)}  {size / 1000:.0f} kB\n")
    assert size < BYTES_MAX, f"{path} is too large"
    assert shown.errors == []


if __name__ == "__main__":
    asyncio.run(take_all())
