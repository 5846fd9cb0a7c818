"""`./dev screenshots`: pictures of the pages for the README and the documentation, of the data that `fairway demo` makes."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.demo import Demo
from tests.browser.looking import ARGUMENTS
from tests.conftest import ROOT

IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 1280, 800
LARGEST = 200_000  # bytes: they are in the repository
USER = "tomas"
# name, path, and what has to be there
PICTURES = {
    "home": ("/", "main h1"),
    "search": ("/search?q=tide", "main mark"),
    "channel": ("/channels/saltmarsh", "main table"),
    "package": ("/channels/saltmarsh/packages/saltmarsh-msgs", "main h1"),
    "versions": ("/channels/saltmarsh/packages/driver-imu-nine/versions", ".matrix"),
    "upload": ("/channels/polar-ocean/upload", ".dropzone"),
    "keys": ("/settings/keys", "main table"),
}
# Pictures show no address of this machine.
SAID = "https://conda.saltmarsh.example"


def take(browser: Browser, demo: Demo, theme: str) -> None:
    context = browser.new_context(
        base_url=demo.server.url,
        viewport={"width": WIDTH, "height": HEIGHT},
        color_scheme=theme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    page = context.new_page()
    demo.sign_in(page, USER)
    for name, (path, wanted) in PICTURES.items():
        answer = page.goto(path, wait_until="networkidle")
        if answer is None or answer.status != 200:
            raise SystemExit(f"screenshots: {path} answered {answer and answer.status}")
        page.locator(wanted).first.wait_for()
        page.evaluate("document.fonts.ready")
        page.evaluate(
            """([from, to]) => {
                const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
                while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replaceAll(from, to)
            }""",
            [demo.server.url, SAID],
        )
        target = IMAGES / f"{name}-{theme}.png"
        page.screenshot(path=target, animations="disabled")
        if target.stat().st_size > LARGEST:
            raise SystemExit(f"screenshots: {target.name} has {target.stat().st_size} bytes, more than {LARGEST}")
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size // 1000} kB")
    context.close()


def main() -> None:
    found = shutil.which("chromium")
    if found is None:
        sys.exit("screenshots: no Chromium here: apt-get install chromium")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fairway-screenshots-") as work, sync_playwright() as playwright:
        demo = Demo.fill(Path(work) / "data", small=False)
        with demo.server:
            browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
            for theme in ("light", "dark"):
                take(browser, demo, theme)
            browser.close()


if __name__ == "__main__":
    main()
