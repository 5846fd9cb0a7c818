"""Summaries of an upstream's packages, from its channeldata.json: what is listed and searched; and nothing worse if it is odd."""

from __future__ import annotations

import json

import pytest

from fairway.app import Fairway
from fairway.cli.upstreams import run
from fairway.registry import described, upstreams
from fairway.registry.actor import CONSOLE
from fairway.registry.upstreams import Settings
from fairway.settings import load
from tests.support import misbehaving as bad
from tests.support.builders import conda_package
from tests.support.site import Site
from tests.support.upstream import Upstream

DOCUMENT = "channeldata.json"


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        upstream.add("kelp", license="MIT")
        upstream.add("wrack")
        say(upstream, {"kelp": {"summary": "Counts kelp", "license": "GPL"}, "wrack": {"license": "BSD-3-Clause"}})
        upstream.publish()
        yield upstream


def say(upstream, packages):
    upstream.files[DOCUMENT] = json.dumps({"channeldata_version": 1, "packages": packages, "subdirs": []}).encode()


@pytest.fixture
def site(database_url, tmp_path, upstream):
    options = {
        "data": tmp_path / "data", "database_url": database_url, "upstream_allow": upstream.allow, "upstream_patience": 0.5,
    }  # fmt: skip
    with Fairway(load(options, environ={})) as app, Site(app) as site:
        site.channel("lab", "public")
        with app.database.write() as session:
            upstreams.attach(session, CONSOLE, "lab", Settings(upstream.url), now=app.now())
        yield site


def look(site, *, later=0):
    at = site.app.now() + later
    site.app.now = lambda: at
    with site.app.database.read() as session:
        return run(site.app, upstreams.show(session, CONSOLE, "lab").channel_id)


def listed(site):
    items = site.get("/api/v1/channels/lab/packages").json()["items"]
    return {item["name"]: (item["summary"], item["license"]) for item in items}


def test_summaries_are_listed_and_found_and_a_records_own_licence_stays(site, upstream):
    assert look(site).errors == {}
    assert listed(site) == {"kelp": ("Counts kelp", "MIT"), "wrack": ("", "BSD-3-Clause")}
    hits = site.client.get("/api/v1/search", params={"q": "counts"}).json()["items"]
    assert [hit["name"] for hit in hits] == ["kelp"]


def test_it_is_asked_for_twice_a_day_and_only_if_it_changed(site, upstream):
    look(site)
    say(upstream, {"kelp": {"summary": "Weighs kelp"}})
    look(site)
    assert upstream.count(f"*/{DOCUMENT}") == 1
    assert listed(site)["kelp"][0] == "Counts kelp"
    look(site, later=described.EVERY_MS)
    assert listed(site)["kelp"][0] == "Weighs kelp"
    look(site, later=described.EVERY_MS)
    asked = [one for one in upstream.asked if one.path.endswith(DOCUMENT)]
    assert len(asked) == 3
    assert "if-none-match" in asked[-1].headers
    assert listed(site)["kelp"][0] == "Weighs kelp"


def test_a_package_of_ours_keeps_its_own(site, upstream):
    package = conda_package("kelp", "0.1", about={"summary": "Ours"})
    assert site.put("lab", package, site.key()).status_code == 201
    look(site)
    assert listed(site)["kelp"][0] == "Ours"


def test_a_channel_without_one_is_as_good(site, upstream):
    del upstream.files[DOCUMENT]
    assert look(site).errors == {}
    assert listed(site)["kelp"] == ("", "MIT")
    look(site)
    assert upstream.count(f"*/{DOCUMENT}") == 1


@pytest.mark.parametrize(
    "fault",
    [
        bad.status(500), bad.status(403), bad.html(), bad.html("application/json"), bad.half(), bad.truncated(), bad.reset(),
        bad.hangs(), bad.hangs(20), bad.huge(), bad.loops(), bad.redirects("http://169.254.169.254/latest/meta-data/"),
        bad.instead(b""), bad.instead(b"[]"), bad.instead(b'{"packages": []}'), bad.instead(b"[" * 100_000),
        bad.instead(b'{"packages": {"kelp": ' + b"[" * 100_000), bad.instead(b"\xff\xfe{}"),
    ],
)  # fmt: skip
def test_one_that_is_broken_harms_nothing(site, upstream, fault):
    look(site)
    upstream.fault(f"*/{DOCUMENT}", fault)
    done = look(site, later=described.EVERY_MS)
    assert done.errors == {}
    assert listed(site)["kelp"] == ("Counts kelp", "MIT")
    with site.app.database.read() as session:
        assert upstreams.show(session, CONSOLE, "lab").error is None


@pytest.mark.parametrize(
    ("said", "summary"),
    [
        ("a string", ""),
        ([], ""),
        ({"summary": 7, "license": {}}, ""),
        ({"summary": None}, ""),
        ({"summary": "two\nlines\u202e and \x1b[31mred\x00"}, "two lines and [31mred"),
        ({"summary": "<script>alert(1)</script>"}, "<script>alert(1)</script>"),
        ({"summary": "x" * 100_000}, "x" * 1_000),
    ],
)
def test_odd_entries_are_left_or_made_harmless(site, upstream, said, summary):
    say(upstream, {"kelp": said, "nobody-has-it": {"summary": "x"}, "wrack": {"summary": "Of the shore"}})
    assert look(site).errors == {}
    assert listed(site)["kelp"][0] == summary
    assert listed(site)["wrack"][0] == "Of the shore"
    assert "nobody-has-it" not in listed(site)
    assert "<script>alert(1)" not in site.get("/channels/lab").text
