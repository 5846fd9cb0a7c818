"""What channels need of each other, and what nobody has: only from what the one who asks may read."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from fairway.errors import Malformed
from fairway.registry import channels, listing, relations, withdraw
from fairway.registry.actor import CONSOLE, NOBODY
from fairway.registry.relations import Neighbour, Unmet
from tests.support.builders import conda_package


def ask(world, function, channel, actor=CONSOLE, **options):
    with world.app.database.read() as session:
        head = listing.enter(session, CONSOLE, channel)
        return function(session, actor, head, **options)


def related(world, channel, actor=CONSOLE):
    return ask(world, relations.related, channel, actor)


def unmet(world, channel, actor=CONSOLE, **options):
    return [one.name for one in ask(world, relations.unmet, channel, actor, **options).items]


def relate(world, channel, **names):
    with world.app.database.write() as session:
        channels.update_channel(session, CONSOLE, channel, channels.Change(**names), now=world.now)


@pytest.fixture
def bio(world):
    """`bio` needs two names of `forge`, one of `extra`, one of its own, and one that nobody has."""
    for name in ("bio", "forge", "extra"):
        world.channel(name, "public")
    for name in ("python", "zlib", "numpy"):
        world.put(conda_package(name), channel="forge")
    for name in ("cuda", "zlib"):
        world.put(conda_package(name), channel="extra")
    world.put(conda_package("aligner", depends=["python >=3", "zlib", "cuda", "reads", "ghost 1.*"]), channel="bio")
    world.put(conda_package("reads", depends=["python", "__glibc >=2"]), channel="bio")
    return world


def test_without_relations_everything_is_elsewhere(bio):
    found = related(bio, "bio")
    assert (found.total, found.inside, found.related, found.elsewhere, found.unmet) == (5, 1, 0, 3, 1)
    assert found.builds_on == (Neighbour("extra", "other", 2), Neighbour("forge", "other", 2))
    assert found.built_on_by == ()
    assert related(bio, "forge").built_on_by == (Neighbour("bio", "other", 2),)
    assert unmet(bio, "bio") == ["ghost"]


def test_the_channels_that_clients_load_come_first(bio):
    relate(bio, "bio", base="forge")
    found = related(bio, "bio")
    assert (found.inside, found.related, found.elsewhere, found.unmet) == (1, 2, 1, 1)
    assert found.builds_on == (Neighbour("forge", "base", 2, direct=True), Neighbour("extra", "other", 1))
    assert related(bio, "forge").built_on_by == (Neighbour("bio", "base", 2, direct=True),)
    relate(bio, "forge", overrides="extra")
    found = related(bio, "bio")
    assert (found.inside, found.related, found.elsewhere, found.unmet) == (1, 3, 0, 1)
    assert [(one.name, one.met, one.direct) for one in found.builds_on] == [("forge", 2, True), ("extra", 1, False)]
    assert related(bio, "extra").built_on_by == (
        Neighbour("forge", "overrides", 0, direct=True),
        Neighbour("bio", "other", 2),
    )


def test_it_changes_as_packages_come_and_go(bio):
    bio.put(conda_package("ghost"), channel="extra")
    assert unmet(bio, "bio") == []
    with bio.app.database.write() as session:
        withdraw.yank(session, CONSOLE, "extra", "noarch", "ghost-1.0-h0_0.conda", "no", now=bio.now)
    assert unmet(bio, "bio") == ["ghost"]
    bio.put(conda_package("aligner", "2.0", depends=["reads"]), channel="bio")
    found = related(bio, "bio")
    assert (found.total, found.inside, found.elsewhere, found.unmet) == (2, 1, 1, 0)
    with bio.app.database.write() as session:
        channels.delete_channel(session, CONSOLE, "forge", now=bio.now)
    assert unmet(bio, "bio") == ["python"]


@pytest.mark.parametrize("visibility", ["private", "internal"])
def test_a_channel_that_one_may_not_read_changes_nothing(bio, visibility):
    before = related(bio, "bio", NOBODY), related(bio, "forge", NOBODY), unmet(bio, "bio", NOBODY)
    bio.channel("hidden", visibility)
    bio.put(conda_package("ghost"), channel="hidden")
    bio.put(conda_package("wants", depends=["python", "aligner"]), channel="hidden")
    relate(bio, "hidden", base="forge")
    assert (related(bio, "bio", NOBODY), related(bio, "forge", NOBODY), unmet(bio, "bio", NOBODY)) == before
    owner = bio.actor("owner")
    assert unmet(bio, "bio", owner) == []
    assert Neighbour("hidden", "base", 1, direct=True) in related(bio, "forge", owner).built_on_by
    assert ("hidden" in [one.name for one in related(bio, "bio", bio.actor("stranger")).builds_on]) == (
        visibility == "internal"
    )


def test_what_is_unmet_says_who_needs_it_page_by_page(world):
    for number in range(7):
        world.put(conda_package(f"p{number}", depends=["ghost", f"g{number}"]))
    page = ask(world, relations.unmet, "lab", limit=3)
    assert page.items == [Unmet(f"g{number}", 1, (f"p{number}",)) for number in range(3)]
    second = ask(world, relations.unmet, "lab", limit=5, cursor=page.cursor)
    assert [one.name for one in second.items] == ["g3", "g4", "g5", "g6", "ghost"]
    assert second.items[-1] == Unmet("ghost", 7, ("p0", "p1", "p2", "p3", "p4"))
    assert second.cursor is None
    assert [one.name for one in ask(world, relations.unmet, "lab", limit=9, cursor=second.previous).items] == [
        "g0",
        "g1",
        "g2",
    ]
    with pytest.raises(Malformed):
        ask(world, relations.unmet, "lab", cursor="x")


def test_few_statements_suffice(bio):
    relate(bio, "bio", base="forge")
    asked = []
    event.listen(bio.app.database.reader, "before_cursor_execute", lambda *args: asked.append(args[2]))
    related(bio, "bio")
    assert len([one for one in asked if one.lstrip().startswith("SELECT")]) <= 9
    asked.clear()
    unmet(bio, "bio")
    assert len([one for one in asked if one.lstrip().startswith("SELECT")]) <= 3


def test_of_a_large_channel_the_same_is_found(bio, monkeypatch):
    before = related(bio, "forge")
    monkeypatch.setattr(relations, "FEW", 0)
    assert related(bio, "forge") == before


def test_what_a_channel_and_its_relations_lack(bio):
    def lacking(*names):
        with bio.app.database.read() as session:
            return relations.lacking(session, channels.show(session, CONSOLE, "bio").id, names)

    assert lacking("python", "reads", "cuda", "ghost") == {"python", "cuda", "ghost"}
    relate(bio, "bio", base="forge")
    assert lacking("python", "reads", "cuda", "ghost") == {"cuda", "ghost"}
    assert lacking() == set()


def test_an_upload_is_told_what_nobody_has(bio):
    """Nobody whom clients ask by themselves; what comes in with it counts."""
    depends = ["python >=3", "cuda", "reads", "ghost", "__glibc >=2", "newcomer"]
    assert bio.put(conda_package("newcomer", depends=depends), channel="bio").unmet == ("cuda", "ghost", "python")
    relate(bio, "bio", base="forge")
    relate(bio, "forge", overrides="extra")
    assert bio.put(conda_package("newcomer", "2.0", depends=depends), channel="bio").unmet == ("ghost",)
    assert bio.put(conda_package("newcomer", "2.0", depends=depends), channel="bio", same_is_fine=True).unmet == ()
    bio.set("extra", visibility="private")
    assert bio.put(conda_package("newcomer", "3.0", depends=depends), channel="bio").unmet == ("cuda", "ghost")
