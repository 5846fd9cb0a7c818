"""What a browser test sees: a page that remembers what went wrong in it, and what axe finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response

from tests.conftest import ROOT
from tests.support.server import Server

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
AXE = ROOT / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = 500
COMING = "[hx-trigger=load], .htmx-request, [data-chart], [data-upload]"  # what is asked for once a page is there


class Looks:
    """Opens pages, each in a context of its own (cookies, storage); `problems` is what they said of themselves."""

    def __init__(self, browser: Browser, live: Callable[[], Server]) -> None:
        self._browser, self._live = browser, live
        self._contexts: list[BrowserContext] = []
        self.problems: list[str] = []

    def __call__(
        self,
        path: str = "/",
        *,
        theme: Literal["light", "dark"] = "light",
        width: int = 1440,
        script: bool = True,
        server: Server | None = None,
    ) -> Page:
        context = self._browser.new_context(
            base_url=(server or self._live()).url,
            viewport={"width": width, "height": 900},
            color_scheme=theme,
            reduced_motion="reduce",
            java_script_enabled=script,
            is_mobile=width < PHONE,
            has_touch=width < PHONE,
        )
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self._console(page, message))
        page.on("pageerror", lambda error: self.problems.append(f"{page.url} raised: {error}"))
        visit(page, path)
        return page

    def _console(self, page: Page, message: ConsoleMessage) -> None:
        if message.type != "error":
            return
        # a page that says 404 is a page; only a part of one that is missing is a mistake
        if message.text.startswith("Failed to load resource") and message.location["url"] == page.url:
            return
        self.problems.append(f"{message.location['url']}: {message.text}")

    def close(self) -> None:
        for context in self._contexts:
            context.close()


def visit(page: Page, path: str) -> Response | None:
    """Go there, and wait until nothing more comes. That takes half a second of silence, so only where more does come."""
    answer = page.goto(path, wait_until="load")
    if page.locator(COMING).count():
        page.wait_for_load_state("networkidle")
    return answer


@cache
def axe() -> str:
    if not AXE.is_file():
        pytest.skip("no axe here: remove src/fairway/web/static/dist and run ./dev setup, which installs it")
    return AXE.read_text(encoding="utf-8")


def findings(page: Page, within: str = "html", *, rules: Sequence[str] = ()) -> list[str]:
    """What axe finds wrong, by all its rules or these: `rule: element`."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(axe())
    options = {"resultTypes": ["violations"], **({"runOnly": {"type": "rule", "values": list(rules)}} if rules else {})}
    found: dict[str, Any] = page.evaluate("([part, options]) => axe.run(part, options)", [within, options])
    return [
        f"{violation['id']}: {node['html'][:160]} ({node['failureSummary']})"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def too_wide(page: Page) -> list[str]:
    """What sticks out of the window. There is nothing wrong with what scrolls inside something."""
    found: list[str] = page.evaluate(
        """() => { const wide = document.documentElement.clientWidth; return document.documentElement.scrollWidth <= wide ? [] :
            [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > wide + 1)
                .map(e => e.outerHTML.slice(0, 100)) }"""
    )
    return found
