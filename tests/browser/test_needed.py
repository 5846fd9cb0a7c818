"""Which channels a package needs: following a dependency to the channel that has it, and copying the lines that name all of
them, with a script and without; and every state of that part of the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from fairway.app import Fairway
from fairway.settings import load
from tests.browser.looking import findings, too_wide, visit
from tests.support import related
from tests.support.builders import conda_package
from tests.support.server import Server
from tests.support.site import Site

pytestmark = pytest.mark.xdist_group("browser")

BIO = "/channels/bio/packages"
NEEDED = "#needed"


@pytest.fixture(scope="module")
def bio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the channels of `related`, and with packages in them that were uploaded."""
    data = tmp_path_factory.mktemp("needed") / "data"
    with Fairway(load({"data": data}, environ={})) as app, Site(app) as site:
        related.fill(app)
        key = site.key()
        for channel, package in (
            ("forge", conda_package("runtime", "3.12", subdir="linux-64")),
            ("forge", conda_package("runtime", "3.13", subdir="linux-64")),
            ("bio", conda_package("walker", "1.0", depends=["runtime <3.13"])),
            ("bio", conda_package("walker", "2.0", depends=["runtime"])),
        ):
            assert site.put(channel, package, key).status_code == 201
        site.settle()
    with Server(data, env={"FAIRWAY_SOLVES_PER_MINUTE": "36"}) as server:
        yield server


def follow(page: Page, server: Server) -> None:
    """From a package of bio to what it depends on, in the channel that bio builds on, and back."""
    page.goto(f"{BIO}/walker/dependencies?version=1.0")
    row = page.get_by_role("row").filter(has_text="runtime")
    expect(row).to_contain_text("forge")
    row.get_by_role("link", name="3.12").click()
    page.wait_for_url("**/channels/forge/packages/runtime?version=3.12")
    expect(page.get_by_role("heading", level=1)).to_have_text("runtime")
    page.go_back()
    page.get_by_role("link", name="Overview").click()
    page.wait_for_url(f"**{BIO}/walker")


def test_a_dependency_is_followed_and_the_lines_with_all_channels_are_copied(look, bio):
    page = look("/channels/bio", server=bio)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    follow(page, bio)
    part = page.locator(NEEDED)
    expect(part.get_by_role("listitem")).to_have_text(["forge", "bio"])
    expect(page.get_by_role("status").and_(page.locator("#needed-said"))).to_have_text("Needed channels: forge, bio.")
    for client, copied in (
        ("pixi", f"pixi workspace channel add {bio.url}/forge {bio.url}/bio\npixi add walker"),
        ("conda", f"conda install -c {bio.url}/forge -c {bio.url}/bio walker"),
        ("mamba", f"mamba install -c {bio.url}/forge -c {bio.url}/bio walker"),
        ("micromamba", f"micromamba install -c {bio.url}/forge -c {bio.url}/bio walker"),
    ):
        part.get_by_role("tab", name=client, exact=True).click()
        part.get_by_role("button", name=f"Copy the {client} command").click()
        assert page.evaluate("() => navigator.clipboard.readText()") == copied
    page.get_by_label("Version", exact=True).select_option("1.0")
    page.wait_for_url(re.compile(r"version=1\.0"))
    expect(part.get_by_role("tab", name="micromamba")).to_have_attribute("aria-selected", "true")
    expect(part).to_contain_text("Installs walker 1.0 on linux-64")
    expect(part).to_contain_text(f"-c {bio.url}/forge -c {bio.url}/bio walker=1.0")
    part.get_by_role("link", name="forge").click()
    page.wait_for_url("**/channels/forge")


def test_the_same_without_a_script(look, bio):
    page = look("/channels/bio", server=bio, script=False)
    follow(page, bio)
    part = page.locator(NEEDED)
    page.get_by_label("Platform").select_option("osx-arm64")
    page.get_by_role("button", name="Show").first.click()
    page.wait_for_url(re.compile("platform=osx-arm64"))
    expect(part.get_by_text("Finding out")).to_be_hidden()
    part.get_by_role("link", name="Show").click()
    page.wait_for_url("**/walker/needed?platform=osx-arm64")
    expect(part).to_contain_text("No channel that you may read has, for that platform:")
    page.get_by_label("Platform").select_option("linux-64")
    page.get_by_role("button", name="Show").first.click()
    if part.get_by_role("link", name="Show").count():  # unless somebody has asked before
        part.get_by_role("link", name="Show").click()
    expect(part.get_by_role("listitem")).to_have_text(["forge", "bio"])
    for line in (f"conda install -c {bio.url}/forge -c {bio.url}/bio walker", "pixi add walker"):
        expect(part.get_by_text(line)).to_be_visible()


STATES = {
    "aligner": "Needs these channels, in this order",
    "alone": "Needs this channel alone",
    "viewer": "it only happens to have what is needed",
    "lonely": "No channel that you may read has, for that platform:",
    "torn": "cannot be installed on linux-64",
    "stepped": "so 1.0 is taken",
    "fast?cuda=12.4": "On a machine with glibc 2.28, Linux 4.18, CUDA 12.4",
}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_state_can_be_read(look, bio, theme):
    page = look("/", server=bio, theme=theme)
    for path, words in STATES.items():
        page.set_viewport_size({"width": 1440, "height": 900})
        visit(page, f"{BIO}/{path}")
        expect(page.locator(".install")).to_contain_text(words)
        for each in page.locator(".install summary").all():
            each.click()
        assert findings(page) == [], path
        page.set_viewport_size({"width": 360, "height": 740})
        assert too_wide(page) == [], path


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_being_found_out_and_what_failed_can_be_read(look, bio, theme):
    page = look("/", server=bio, theme=theme)
    page.route("**/needed*", lambda route: None)  # for as long as one looks
    page.goto(f"{BIO}/aligner?glibc=2.3{len(theme)}")
    part = page.locator(NEEDED)
    expect(part).to_contain_text("Finding out which channels are needed")
    expect(part.get_by_role("link", name="Show")).to_be_hidden()
    expect(part).to_contain_text(f"pixi workspace channel add {bio.url}/forge {bio.url}/bio")
    assert findings(page) == []
    page.unroute("**/needed*")
    page.route("**/needed*", lambda route: route.fulfill(status=503, body="busy"))
    page.goto(f"{BIO}/aligner?glibc=2.4{len(theme)}")
    expect(page.locator("[data-toast]")).to_contain_text("The server could not do that")
    expect(part.get_by_text("Finding out")).to_be_hidden()
    page.unroute("**/needed*")
    page.set_viewport_size({"width": 360, "height": 740})
    assert too_wide(page) == []
    assert findings(page) == []
    part.get_by_role("link", name="Show").click()
    expect(part.get_by_role("listitem")).to_have_text(["forge", "bio"])
    assert len(look.problems) == 1  # the answer that was made to fail
    assert "503" in look.problems.pop()


def test_who_asks_too_often_is_told_so_and_keeps_the_lines(look, bio):
    page = look("/", server=bio)
    part = page.locator(NEEDED)
    for minor in range(60, 100):
        page.goto(f"{BIO}/aligner/needed?glibc=2.{minor}")
        if "very often" in part.inner_text():
            break
    expect(part).to_contain_text("You can ask again in")
    expect(part.get_by_text("pixi add aligner")).to_be_visible()
    assert findings(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert too_wide(page) == []
