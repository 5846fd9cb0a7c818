"""Channels of this server that serve each other: a chain is fine, a circle is refused, and nobody learns of hidden ones."""

from __future__ import annotations

import pytest

from fairway.errors import Invalid
from fairway.registry import channels, circles, upstreams
from fairway.registry.actor import CONSOLE, Visibility
from fairway.registry.upstreams import Settings

SITE = "https://conda.example.org/fairway"


def serve(world, channel, url, *, actor=CONSOLE, site=SITE):
    with world.app.database.write() as session:
        upstreams.attach(session, actor, channel, Settings(url), site=site, now=world.now)


def refused(world, channel, url, *, actor=CONSOLE):
    with pytest.raises(Invalid) as caught:
        serve(world, channel, url, actor=actor)
    assert caught.value.code == "upstream_invalid"
    return caught.value.detail


@pytest.fixture
def three(world):
    for name in ("one", "two", "three"):
        world.channel(name, "public")
    return world


@pytest.mark.parametrize(
    ("url", "site", "name"),
    [
        (f"{SITE}/one", SITE, "one"),
        (f"{SITE}/get/one", SITE, "one"),
        (f"{SITE}/one", SITE + "/", "one"),
        ("http://conda.example.org/fairway/one", SITE, "one"),
        ("https://Conda.Example.org:443/fairway/one", SITE, "one"),
        ("https://conda.example.org/one", "https://conda.example.org", "one"),
        ("http://127.0.0.1:8000/one", "http://127.0.0.1:8000", "one"),
        ("https://conda.example.org/fairwayone", SITE, None),
        ("https://conda.example.org/one", SITE, None),
        ("https://conda.example.org:8443/fairway/one", SITE, None),
        ("https://other.example.org/fairway/one", SITE, None),
        ("http://127.0.0.1:8001/one", "http://127.0.0.1:8000", None),
        (f"{SITE}/one", "", None),
        (f"{SITE}/one", "http://::1:8000", None),
    ],
)
def test_which_addresses_are_of_this_server(url, site, name):
    assert circles.own(url, site) == name


def test_a_chain_may_be_of_any_length_and_a_circle_of_none(three):
    serve(three, "one", f"{SITE}/two")
    serve(three, "two", f"{SITE}/get/three")
    assert "itself" in refused(three, "three", f"{SITE}/three")
    assert "two serves three" in refused(three, "three", f"{SITE}/two")
    assert "one serves three" in refused(three, "three", "http://conda.example.org/fairway/one")
    serve(three, "three", "https://elsewhere.example.org/one")
    with three.app.database.write() as session:
        upstreams.detach(session, CONSOLE, "one", now=three.now)
    serve(three, "three", f"{SITE}/one")
    assert "serves one" in refused(three, "one", f"{SITE}/two")


def test_a_channel_that_is_deleted_makes_no_circle(three):
    serve(three, "two", f"{SITE}/one")
    with three.app.database.write() as session:
        channels.delete_channel(session, CONSOLE, "two", now=three.now)
    assert "no channel two" in refused(three, "one", f"{SITE}/two")


def test_nobody_learns_of_hidden_channels(three):
    owner = three.actor("owner")
    with three.app.database.write() as session:
        channels.create_channel(session, CONSOLE, "hidden", owner="admin", visibility=Visibility.PRIVATE, now=three.now)
    serve(three, "hidden", f"{SITE}/one")
    assert refused(three, "one", f"{SITE}/hidden", actor=owner) == refused(
        three, "one", f"{SITE}/nobody", actor=owner
    ).replace("nobody", "hidden")
    serve(three, "two", f"{SITE}/hidden")
    said = refused(three, "one", f"{SITE}/two", actor=owner)
    assert "hidden" not in said


def test_a_circle_that_was_there_before_it_was_looked_for_is_walked_once(three):
    serve(three, "one", f"{SITE}/two", site="")
    serve(three, "two", f"{SITE}/one", site="")
    serve(three, "three", f"{SITE}/one")
