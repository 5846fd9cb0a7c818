"""The page of related channels: the graph, the lists, what is met nowhere."""

from __future__ import annotations

import re

import pytest

from fairway.conda import notes
from fairway.registry import channels
from fairway.registry.actor import CONSOLE
from tests.support.browser import OWN
from tests.support.builders import conda_package

PAGE = "/channels/bio/related"


@pytest.fixture
def bio(site):
    key = site.key()
    for name in ("bio", "forge", "other"):
        site.channel(name, "public")
    site.put("forge", conda_package("python"), key)
    site.put("other", conda_package("cuda"), key)
    site.put("bio", conda_package("aligner", depends=["python", "cuda", "ghost"]), key)
    with site.app.database.write() as session:
        channels.update_channel(session, CONSOLE, "bio", channels.Change(base="forge"), now=site.app.now())
    return site


def drawn(text):
    """The boxes of the graph, without the channel's own."""
    return re.findall(r'graph-name"[^>]*>([^<]*) </text><text class="graph-words"[^>]*>([^<]*)<', text)


def test_it_shows_what_is_built_on_and_what_is_lacking(bio):
    text = bio.get(PAGE).text
    assert drawn(text) == [("forge", "goes before it, 1 dependency"), ("other", "not related, 1 dependency")]
    assert text.count('href="/channels/forge"') == 2
    assert '<span class="package-name">ghost</span>' in text
    assert "met nowhere" in text
    assert 'href="/channels/bio/packages/aligner/dependencies"' in text
    assert drawn(bio.get("/channels/forge/related").text) == [("bio", "builds on it, 1 dependency")]


def test_hidden_channels_are_on_nobodys_page(bio):
    bio.channel("secret")
    bio.put("secret", conda_package("ghost"), bio.key())
    bio.put("secret", conda_package("lab", depends=["aligner"]), bio.key())
    before = bio.get(PAGE).text
    assert "secret" not in before
    assert "ghost" in before
    bio.user("stranger")
    assert "secret" not in bio.browser("stranger").get(PAGE).text
    shown = bio.browser("admin").get(PAGE).text
    assert shown.count('href="/channels/secret"') == 4
    assert '<span class="package-name">ghost</span>' not in shown


def test_names_that_are_long_are_cut_in_the_graph_and_whole_in_the_list(bio):
    name = "c" * 60
    bio.channel(name, "public")
    with bio.app.database.write() as session:
        channels.update_channel(session, CONSOLE, "bio", channels.Change(overrides=name), now=bio.app.now())
    text = bio.get(PAGE).text
    assert f">{'c' * 31}\N{HORIZONTAL ELLIPSIS} </text>" in text
    assert f">{name}</a>" in text


def test_a_channel_alone_says_so_and_a_bad_cursor_is_refused(bio):
    bio.channel("alone", "public")
    assert "alone stands alone" in bio.get("/channels/alone/related").text
    assert bio.get(PAGE + "?cursor=x").status_code == 400
    assert bio.get("/channels/nothing/related", accept="text/html").status_code == 401


def test_an_upload_says_what_nobody_has(bio):
    """In the API's answer, and in the sentence that the page shows; the file is taken all the same."""
    package = conda_package("reader", depends=["python", *(f"missing-{number}" for number in range(7))])
    answer = bio.put("bio", package, bio.key())
    assert answer.status_code == 201
    assert answer.json()["unmet"] == [f"missing-{number}" for number in range(7)]
    assert answer.json()["warnings"] == []
    browser = bio.browser("admin")
    name, data = conda_package("writer", depends=["ghost"])
    token = browser.page("/channels/bio/upload").token()
    answer = browser.client.post(
        f"/channels/bio/upload/file?filename={name}",
        content=data,
        headers=OWN | {"x-csrf-token": token, "content-type": "application/octet-stream", "accept": "application/json"},
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["note"] == "Worth knowing: neither the channel nor one that it is related to has ghost."


def test_a_note_names_the_first_of_many():
    assert notes.lacking(["a"]).endswith("has a")
    assert notes.lacking(list("abcdefg")).endswith("has a, b, c, d, e and 2 more")


def test_dependencies_lead_to_the_channel_that_supplies_them(bio):
    text = bio.get("/channels/bio/packages/aligner/dependencies").text
    assert 'href="/channels/forge/packages/python"' in text
    assert 'href="/channels/forge/packages/python?version=1.0"' in text
    assert "not related" in text.partition('href="/channels/other/packages/cuda"')[2]
    assert 'href="/channels/bio/packages/ghost"' not in text
    assert "chip-bad" in text
    assert "met nowhere" in text
    users = bio.get("/channels/forge/packages/python/dependents").text
    assert 'href="/channels/bio/packages/aligner"' in users
