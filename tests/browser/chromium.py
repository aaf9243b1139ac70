"""The system's Chromium, headless, and pages in it that remember what they showed."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, ViewportSize

NAMES = ("chromium", "chromium-browser", "google-chrome")
OF_ONES_OWN = "CHROMIUM"
"""Environment variable that names another one."""

DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
SMALL_PHONE: ViewportSize = {"width": 360, "height": 740}

WITHIN_MS = 90_000
"""What a page does not show by then it never shows, also on a machine with ten times its work."""

MISSING = (
    "there is no Chromium: install it (apt-get install chromium), or name one in " + OF_ONES_OWN
)

REMEMBER = """
    window.seen = { stages: [], connections: [] };
    document.addEventListener("DOMContentLoaded", () => {
      const stages = document.getElementById("stages");
      const chip = document.getElementById("connection");
      const note = (list, value) => { if (value && list.at(-1) !== value) list.push(value); };
      const look = () => {
        const { round, stage } = stages.dataset;
        note(window.seen.stages, stage && `${round} ${stage}`);
        note(window.seen.connections, chip.dataset.connection);
      };
      new MutationObserver(look).observe(stages, { attributes: true });
      new MutationObserver(look).observe(chip, { attributes: true });
      look();
    });
"""
"""Notes, in the page, each stage and each state of the connection that it shows, in order."""

LOADED = """
    () => performance.getEntriesByType("resource").map(
      ({ name, responseStatus, duration }) => `${name} ${responseStatus} ${Math.round(duration)} ms`
    )
"""


def executable() -> str | None:
    """Return where Chromium is, or None."""
    named = os.environ.get(OF_ONES_OWN)
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


@asynccontextmanager
async def a_browser() -> AsyncIterator[Browser]:
    """Start Chromium.

    Raises:
        FileNotFoundError: There is none.
    """
    from playwright.async_api import async_playwright

    path = executable()
    if path is None:
        raise FileNotFoundError(MISSING)
    # Without a sandbox it runs as root, too; it meets no pages but ours.
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--font-render-hinting=none"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


class Shown:
    """One page in the browser, with what went wrong in it.

    Attributes:
        page: The page, to ask and to act on.
        errors: Uncaught exceptions, refusals of the Content-Security-Policy and console errors,
            apart from those about the network, which tests break.
        failed: Requests that got no answer, and why.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.failed: list[str] = []
        page.set_default_timeout(WITHIN_MS)
        page.on(
            "requestfailed", lambda request: self.failed.append(f"{request.url}: {request.failure}")
        )
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._note(message.type, message.text))

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and "Failed to load resource" not in text:
            self.errors.append(text)

    async def seen(self, what: str) -> list[str]:
        """Return what the page showed so far: its ``stages`` or its ``connections``."""
        found: list[str] = await self.page.evaluate("what => window.seen[what]", what)
        return found

    async def until(self, condition: str, argument: Any = None) -> None:
        """Wait until a JavaScript function of an argument returns something true."""
        await self.page.wait_for_function(condition, arg=argument)

    async def connected(self) -> None:
        """Wait until the page follows the stream, whether or not it tells of anything."""
        from playwright.async_api import TimeoutError as TooLate

        states = "[data-connection=live], [data-connection=silent]"
        try:
            await self.page.wait_for_selector(f"#connection:is({states})")
        except TooLate:
            chip = await self.page.inner_text("#connection")
            loaded = await self.page.evaluate(LOADED)
            story = f"{chip!r}; {self.errors}; failed: {self.failed}; loaded: {loaded}"
            raise AssertionError(f"the page did not connect: {story}") from None


@asynccontextmanager
async def a_page(
    browser: Browser, url: str, *, viewport: ViewportSize | None = None, **options: Any
) -> AsyncIterator[Shown]:
    """Open a page that remembers what it shows; ``options`` are those of a browser context."""
    context = await browser.new_context(viewport=viewport or DESKTOP, **options)
    try:
        shown = Shown(await context.new_page())
        await shown.page.add_init_script(REMEMBER)
        await shown.page.goto(url)
        yield shown
    finally:
        await context.close()
