"""Upstreams in a browser, against a server of static files: adding one, watching it come, its packages, and a mirror's estimate."""

from __future__ import annotations

import re
import threading

import pytest
from playwright.sync_api import expect

from tests.browser.demo import Demo
from tests.browser.looking import findings, too_wide
from tests.browser.test_journeys import fill, press
from tests.support.misbehaving import html
from tests.support.upstream import Upstream

pytestmark = pytest.mark.xdist_group("browser")

SETTINGS = "/channels/{}/settings/upstream"
PATIENCE = 60_000  # ms, which a good run never needs


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as upstream:
        for number in range(60):
            upstream.add("kelp", f"1.{number}", license="MIT")
        for number in range(20):
            upstream.add(f"wrack-{number}", depends=["kelp >=1.5"], subdir="linux-64")
        upstream.publish()
        yield upstream


@pytest.fixture(scope="module")
def sea(upstream, tmp_path_factory):
    """A server that may ask it."""
    sea = Demo.fill(tmp_path_factory.mktemp("sea") / "data", FAIRWAY_UPSTREAM_ALLOW=upstream.allow)
    with sea.server:
        yield sea


@pytest.fixture
def gate(upstream):
    """Holds the upstream's index back until it is opened."""
    opened = threading.Event()

    def wait(handler, body):
        opened.wait(60)
        handler.good(body)

    upstream.fault("*/noarch/repodata_shards.msgpack.zst", wait)
    yield opened
    opened.set()
    upstream.heal()


def looks_right(page):
    """In light and dark, on a desk and on a phone."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found += [f"{scheme}: {finding}" for finding in findings(page)]
    page.set_viewport_size({"width": 360, "height": 740})
    found += [f"360 px: {element}" for element in too_wide(page)]
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(color_scheme="light")
    return found


def make_channel(page, name, address=""):
    page.goto("/channels/new")
    fill(page, name=name, **({"address": address} if address else {}))
    page.get_by_role("radio", name=re.compile("^Public")).check()
    press(page, "Make the channel")


def test_an_upstream_is_added_watched_and_its_packages_are_there(look, sea, upstream, gate):
    page = look("/login", server=sea.server)
    sea.sign_in(page, "mara")
    make_channel(page, "reef")
    page.goto(SETTINGS.format("reef"))
    assert looks_right(page) == []
    fill(page, url=upstream.url)
    press(page, "Serve it")
    state = page.locator("#state")
    expect(state.locator("progress")).to_be_visible(timeout=PATIENCE)
    assert looks_right(page) == []
    gate.set()
    # nobody loads the page again
    expect(state.locator("progress")).to_have_count(0, timeout=PATIENCE)
    expect(state.get_by_role("status")).to_have_text("up is read.")
    expect(state.get_by_role("row", name=re.compile("linux-64"))).to_contain_text("20")
    assert looks_right(page) == []
    page.goto("/channels/reef")
    page.get_by_role("link", name="kelp", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("kelp")
    expect(page.get_by_text("from up").first).to_be_visible()
    for tab in ("files", "history", "contents"):
        page.goto(f"/channels/reef/packages/kelp/{tab}")
        assert looks_right(page) == []
    page.goto("/channels/reef/packages/kelp/files")
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("51 to 60 of 60")).to_be_visible()
    page.goto("/search?q=kelp")
    expect(page.get_by_text("from up").first).to_be_visible()
    assert looks_right(page) == []


def test_a_new_channel_fills_while_one_looks_and_a_mirror_is_estimated(look, sea, upstream):
    page = look("/login", server=sea.server)
    sea.sign_in(page, "mara")
    make_channel(page, "lagoon", upstream.url)
    expect(page.locator("#packages")).to_be_visible(timeout=PATIENCE)
    page.goto(SETTINGS.format("lagoon"))
    expect(page.get_by_label("Match specs")).to_be_hidden()
    page.get_by_role("radio", name=re.compile("^Mirror")).check()
    fill(page, names="wrack-1*", newest="1")
    page.get_by_role("button", name="Estimate the mirror").click()
    expect(page.locator("#estimate")).to_contain_text("11 files")
    page.get_by_role("checkbox", name="And what all these need").check()
    page.get_by_role("button", name="Estimate the mirror").click()
    expect(page.locator("#estimate")).to_contain_text("12 files")
    assert page.url.endswith(SETTINGS.format("lagoon"))
    assert looks_right(page) == []
    press(page, "Save")
    state = page.locator("#state")
    expect(state.get_by_text("wrack-1*; the newest version of each; and what these need")).to_be_visible()
    expect(state.get_by_text(re.compile("^12 files, "))).to_be_visible(timeout=PATIENCE)


def test_what_went_wrong_is_said_and_a_changed_file_is_listed(look, sea, upstream):
    page = look("/login", server=sea.server)
    sea.sign_in(page, "mara")
    make_channel(page, "strand", upstream.url)
    expect(page.locator("#packages")).to_be_visible(timeout=PATIENCE)
    upstream.add("kelp", "1.7", data=b"another file of that name")
    upstream.publish()
    sea.server.cli("upstream", "refresh", "strand")
    page.goto(SETTINGS.format("strand"))
    expect(page.locator("#conflicts")).to_contain_text("kelp-1.7-h0_0.conda")
    upstream.fault("*", html())
    sea.server.cli("upstream", "refresh", "strand", check=False)
    upstream.heal()
    page.goto(SETTINGS.format("strand"))
    expect(page.locator("#state").get_by_text(re.compile("The last look failed"))).to_be_visible()
    assert looks_right(page) == []


def test_without_a_script_it_is_added_estimated_and_loaded_again(look, sea, upstream):
    page = look("/login", server=sea.server, script=False)
    sea.sign_in(page, "mara")
    make_channel(page, "plain", upstream.url)
    page.goto(SETTINGS.format("plain"))
    for _ in range(600):
        if not page.get_by_role("link", name="Load again").count():
            break
        page.get_by_role("link", name="Load again").click()
    page.get_by_role("radio", name=re.compile("^Mirror")).check()
    fill(page, names="wrack-1*", newest="1")
    press(page, "Estimate the mirror")
    expect(page.locator("#estimate")).to_contain_text("11 files")
    expect(page.get_by_label("Names", exact=True)).to_have_value("wrack-1*")
    press(page, "Save")
    expect(page.locator("#state")).to_contain_text("wrack-1*; the newest version of each")
    page.goto("/channels/plain/packages/kelp/files")
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("51 to 60 of 60")).to_be_visible()
