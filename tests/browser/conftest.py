"""A real server, and pages of it in Debian's Chromium. Without Chromium these tests are skipped, and say so."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.demo import Demo
from tests.browser.looking import ARGUMENTS, Looks
from tests.support.server import Server


# `scope="module"`: Playwright keeps an event loop running in its thread, in which no other test could run one. So all of
# these tests are one group, and it ends with each file.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests of a process that can share one: with an administrator, and the style page."""
    with Server(tmp_path_factory.mktemp("live") / "data", env={"FAIRWAY_DEVELOPMENT": "true"}) as server:
        server.make_admin()
        yield server


@pytest.fixture
def look(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Looks]:
    """Open pages of `live`, or of another server: `look("/search?q=x", theme="dark", width=360, script=False, server=...)`.
    At the end of the test they must not have broken the policy, raised, or written an error to the console.
    """
    looks = Looks(chromium, lambda: request.getfixturevalue("live"))
    yield looks
    looks.close()
    assert looks.problems == []


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A server on the small demo, shared by all tests of a process."""
    demo = Demo.fill(tmp_path_factory.mktemp("demo") / "data")
    with demo.server:
        yield demo


@pytest.fixture
def unguarded(chromium: Browser) -> Iterator[Callable[[Demo, str | None], Page]]:
    """Pages without their policy, in which `ran()` is noticed: `unguarded(demo, "mara")`, signed in as somebody or none."""
    with ExitStack() as stack:

        def open_page(demo: Demo, user: str | None) -> Page:
            context = chromium.new_context(base_url=demo.server.url, bypass_csp=True, reduced_motion="reduce")
            stack.callback(context.close)
            context.add_init_script("window.ran = () => { window.hasRun = true }")
            page = context.new_page()
            if user is not None:
                demo.sign_in(page, user)
            return page

        yield open_page
