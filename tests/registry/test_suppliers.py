"""Which channel a dependency comes from, and which version: as clients would take it, of what one may read."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from fairway.conda import shards
from fairway.registry import channels, dependencies, listing, packages, relating, suppliers, withdraw
from fairway.registry.actor import CONSOLE, NOBODY
from fairway.registry.suppliers import Supplier
from tests.support.builders import conda_package


def relate(world, channel, **names):
    with world.app.database.write() as session:
        channels.update_channel(session, CONSOLE, channel, channels.Change(**names), now=world.now)


def supplied(world, *specs, channel="bio", actor=CONSOLE, platforms=("noarch",)):
    with world.app.database.read() as session:
        head = listing.enter(session, CONSOLE, channel)
        names = {spec: dependencies.name_in(spec) for spec in specs}
        return suppliers.suppliers(session, actor, head, names, platforms)


@pytest.fixture
def bio(world):
    for name in ("bio", "forge", "extra"):
        world.channel(name, "public")
    for version in ("1.0", "2.0", "3.1"):
        world.put(conda_package("engine", version), channel="forge")
    world.put(conda_package("engine", "2.5"), channel="extra")
    world.put(conda_package("tool", depends=["engine >=1,<3", "ghost"]), channel="bio")
    return world


def test_the_first_channel_of_the_clients_list_that_has_the_name(bio):
    spec = "engine >=1,<3"
    assert supplied(bio, spec) == {spec: Supplier("extra", "other", "2.5", "2.5")}
    relate(bio, "bio", base="forge")
    assert supplied(bio, spec) == {spec: Supplier("forge", "base", "3.1", "2.0")}
    bio.put(conda_package("engine", "1.5"), channel="bio")
    assert supplied(bio, spec) == {spec: Supplier("forge", "base", "3.1", "2.0")}
    relate(bio, "bio", base="", overrides="forge")
    assert supplied(bio, spec) == {spec: Supplier("bio", "this", "1.5", "1.5")}
    assert supplied(bio, "engine >=2") == {"engine >=2": Supplier("bio", "this", "1.5", "")}
    assert supplied(bio, "ghost") == {}


def test_versions_are_of_what_is_in_the_index_for_the_platform(bio):
    bio.put(conda_package("engine", "4.0", subdir="win-64"), channel="extra")
    assert supplied(bio, "engine", platforms=["noarch"])["engine"].fitting == "4.0"
    assert supplied(bio, "engine", platforms=["linux-64"])["engine"].fitting == "2.5"
    assert supplied(bio, "engine", platforms=["win-64", "linux-64"])["engine"].fitting == "4.0"
    with bio.app.database.write() as session:
        withdraw.yank(session, CONSOLE, "extra", "win-64", "engine-4.0-h0_0.conda", "x", now=bio.now)
    assert supplied(bio, "engine", platforms=["win-64"])["engine"] == Supplier("extra", "other", "2.5", "2.5")


def test_a_channel_that_has_it_for_other_platforms_does_not_supply_it(bio):
    """As pkgs-main, which had a pytorch for linux-aarch64 alone and goes before pytorch's own channel."""
    relate(bio, "bio", base="forge")
    bio.put(conda_package("torch", "1.0", subdir="linux-aarch64"), channel="forge")
    bio.put(conda_package("torch", "2.0", subdir="linux-64"), channel="bio")
    bio.put(conda_package("vision", subdir="linux-64", depends=["torch"]), channel="bio")
    assert supplied(bio, "torch", platforms=["linux-64"]) == {"torch": Supplier("bio", "this", "2.0", "2.0")}
    assert supplied(bio, "torch", platforms=["linux-aarch64"]) == {"torch": Supplier("forge", "base", "1.0", "1.0")}
    assert supplied(bio, "torch") == {"torch": Supplier("forge", "base", "1.0", "1.0")}
    assert supplied(bio, "torch", platforms=["win-64"]) == {"torch": Supplier("forge", "base", "1.0", "")}
    with bio.app.database.read() as session:
        head = listing.enter(session, CONSOLE, "bio")
        vision, placed = packages.show(session, head, "vision"), relating.order(session, head.id)
        found = dependencies.needed(session, CONSOLE, vision, placed, limit=9)
    assert [(name, one.channel) for name, one in found] == [("torch", "bio")]
    bio.put(conda_package("torch", "3.0", subdir="win-64"), channel="extra")
    assert supplied(bio, "torch", platforms=["win-64"]) == {"torch": Supplier("extra", "other", "3.0", "3.0")}


def test_what_nobody_can_say_is_not_said(bio, monkeypatch):
    assert supplied(bio, "engine >=1 ,, x") == {"engine >=1 ,, x": Supplier("extra", "other", "2.5", None)}
    monkeypatch.setattr(suppliers, "TESTS_MOST", 3)  # each spec is held against two builds of extra
    bio.put(conda_package("engine", "2.6"), channel="extra")
    found = supplied(bio, "engine", "engine <2.6")
    assert [one.fitting for one in found.values()] == ["2.6", None]
    monkeypatch.setattr(suppliers, "BYTES_MOST", 1)
    assert supplied(bio, "engine") == {"engine": Supplier("extra", "other", "2.6", None)}
    assert shards.builds(b"\x93no shard") == []


def test_only_what_one_may_read(bio):
    bio.channel("hidden")
    bio.put(conda_package("ghost"), channel="hidden")
    bio.put(conda_package("engine", "9.0"), channel="hidden")
    for actor in (NOBODY, bio.actor("stranger")):
        assert supplied(bio, "ghost", "engine", actor=actor) == {"engine": Supplier("extra", "other", "2.5", "2.5")}
    assert supplied(bio, "ghost", actor=bio.actor("owner"))["ghost"].channel == "hidden"


def test_the_page_of_a_package_takes_few_statements(bio):
    relate(bio, "bio", base="forge")
    asked = []
    event.listen(bio.app.database.reader, "before_cursor_execute", lambda *args: asked.append(args[2]))
    with bio.app.database.read() as session:
        head = listing.enter(session, CONSOLE, "bio")
        package = packages.show(session, head, "tool")
        asked.clear()
        found = dependencies.dependencies(session, CONSOLE, head, package)
    assert [(one.name, one.supplier and one.supplier.channel) for one in found.depends] == [
        ("engine", "forge"),
        ("ghost", None),
    ]
    assert len(asked) <= 6


def test_dependents_are_in_every_channel_one_may_read_the_own_first(bio):
    bio.channel("hidden")
    for channel in ("hidden", "bio", "forge"):
        for name in ("b-user", "a-user"):
            bio.put(conda_package(name, depends=["engine"]), channel=channel)

    def users(actor):
        found, cursor = [], ""
        with bio.app.database.read() as session:
            head = listing.enter(session, CONSOLE, "forge")
            while cursor is not None:
                page = dependencies.dependents(session, actor, head, "engine", cursor=cursor, limit=2, now=bio.now)
                found += [(row.channel, row.name) for row in page.items]
                cursor = page.cursor
            assert dependencies.count_dependents(session, actor, "engine") == len(found)
        return found

    public = [("forge", "a-user"), ("forge", "b-user"), ("bio", "a-user"), ("bio", "b-user"), ("bio", "tool")]
    assert users(NOBODY) == users(bio.actor("stranger")) == public
    assert users(bio.actor("owner")) == [*public, ("hidden", "a-user"), ("hidden", "b-user")]
