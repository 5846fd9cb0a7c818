"""Which channel goes before and after which: who may say it, when it is said to clients, and that it has no loops."""

from __future__ import annotations

import threading
from itertools import pairwise

import orjson
import pytest
from sqlalchemy import delete, select

from fairway import errors
from fairway.conda.repodata import Relations
from fairway.conda.shards import decompressed
from fairway.db.models import Audit, Member, Pointer, Relation, Shard, Subdir
from fairway.registry import access, channels, index, relating, sweep, tokens, trash
from fairway.registry.actor import CONSOLE, NOBODY, Visibility
from tests.registry.world import unpacked
from tests.support.builders import conda_package


def relate(world, channel, *, actor=CONSOLE, **names):
    with world.app.database.write() as session:
        channels.update_channel(session, actor, channel, channels.Change(**names), now=world.now)


def told(world, channel):
    """What both documents say of a channel that has packages: they must agree."""
    world.publish_index()
    documents = world.documents(channel=channel)
    shard_info = unpacked(documents[index.SHARD_INDEX])["info"]
    flat_info = orjson.loads(documents["repodata.json"])["info"]
    assert orjson.loads(decompressed(documents["repodata.json.zst"]))["info"] == flat_info
    assert shard_info.get("channel_relations") == flat_info.get("channel_relations")
    return flat_info.get("channel_relations")


def order(world, channel):
    with world.app.database.read() as session:
        return [one.name for one in relating.order(session, channels.show(session, CONSOLE, channel).id)]


def shown(world, channel, actor=CONSOLE):
    with world.app.database.read() as session:
        number = channels.show(session, CONSOLE, channel).id
        return relating.shown(session, actor, [number])[number]


@pytest.fixture
def three(world):
    """`mine` is private and has packages; `forge` and `bio` are public."""
    for name in ("forge", "bio"):
        world.channel(name, "public")
    world.channel("mine")
    for name in ("mine", "bio", "forge"):
        world.put(conda_package("tool"), channel=name)
    return world


def test_relations_are_in_both_documents_and_shards_stay(three):
    assert told(three, "mine") is None
    before = three.shards(channel="mine")
    relate(three, "mine", base="forge", overrides="bio")
    assert told(three, "mine") == {"base": "../forge", "overrides": "../bio"}
    assert three.shards(channel="mine") == before
    with three.app.database.read() as session:
        assert not session.scalars(select(Shard.name).where(Shard.due)).all()
        details = [line.details for line in session.scalars(select(Audit).where(Audit.action == "channel.update"))]
        reached = session.execute(
            select(Subdir.changed, Pointer.shards_built).join(Pointer, Pointer.subdir_id == Subdir.id)
        ).all()
    assert details == [{"base": [None, "forge"], "overrides": [None, "bio"]}]
    assert all(changed == built for changed, built in reached)
    relate(three, "mine", base="", description="x")
    assert told(three, "mine") == {"overrides": "../bio"}
    relate(three, "mine", overrides="")
    assert told(three, "mine") is None


def test_what_does_not_change_makes_nothing_anew(three):
    relate(three, "mine", base="forge")
    three.publish_index()
    with three.app.database.read() as session:
        before = session.scalars(select(Subdir.changed).order_by(Subdir.id)).all()
    relate(three, "mine", base="forge", overrides="")
    with three.app.database.read() as session:
        assert session.scalars(select(Subdir.changed).order_by(Subdir.id)).all() == before
        assert len(session.scalars(select(Audit).where(Audit.action == "channel.update")).all()) == 1


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"base": "mine"}, "to itself"),
        ({"base": "forge", "overrides": "forge"}, "both before and after"),
        ({"base": "nothing"}, "no channel nothing"),
        ({"base": "../forge"}, "no channel"),
        ({"base": "x" * 300}, "no channel"),
        ({"base": "hidden"}, "no channel hidden"),
        ({"overrides": "lab"}, "lab is private"),
    ],
)
def test_what_cannot_be_named_is_refused(three, names, words):
    with three.app.database.write() as session:
        channels.create_channel(session, CONSOLE, "hidden", owner="admin", now=three.now)
    with pytest.raises(errors.Invalid, match=words) as caught:
        relate(three, "mine", actor=three.actor("owner"), **names)
    assert caught.value.code == "relation_invalid"
    assert told(three, "mine") is None


def test_only_owners_say_it(three):
    relate(three, "mine", actor=three.actor("owner"), base="forge")
    relate(three, "mine", actor=three.actor("admin"), base="bio")
    for name in ("maintainer", "uploader", "viewer"):
        with pytest.raises(errors.NotAllowed):
            relate(three, "lab", actor=three.actor(name), base="forge")
    with pytest.raises(errors.NotFound):
        relate(three, "mine", actor=three.actor("stranger"), base="forge")
    with pytest.raises(errors.NotAllowed):
        relate(three, "mine", actor=three.actor("owner", "upload"), base="forge")


def test_it_is_said_only_while_everybody_may_read_the_other(three):
    three.channel("within", "internal")
    relate(three, "mine", base="within", overrides="forge")
    assert told(three, "mine") == {"base": "../within", "overrides": "../forge"}
    three.set("mine", visibility="public")
    assert told(three, "mine") == {"overrides": "../forge"}
    three.set("within", visibility="public")
    assert told(three, "mine") == {"base": "../within", "overrides": "../forge"}
    three.set("forge", visibility="private")
    assert told(three, "mine") == {"base": "../within"}
    assert order(three, "mine") == ["within", "mine"]
    three.set("forge", visibility="public")
    assert order(three, "mine") == ["within", "mine", "forge"]
    three.channel("more", "internal")
    with pytest.raises(errors.Invalid, match="is public and more is not"):
        relate(three, "mine", base="more")


def test_it_is_not_said_while_the_other_is_deleted(three):
    relate(three, "mine", base="forge")
    with three.app.database.write() as session:
        channels.delete_channel(session, CONSOLE, "forge", now=three.now)
    assert told(three, "mine") is None
    assert shown(three, "mine") == Relations()
    with three.app.database.write() as session:
        trash.restore_channel(session, CONSOLE, "forge", now=three.now, keep_ms=1_000)
    assert told(three, "mine") == {"base": "../forge"}
    with three.app.database.write() as session:
        channels.delete_channel(session, CONSOLE, "forge", now=three.now)
    sweep.sweep(three.app.database, three.app.blobs, now=three.now + 10, keep_ms=1)
    assert told(three, "mine") is None
    with three.app.database.read() as session:
        assert [one.base_id for one in session.scalars(select(Relation))] == [None]


def test_nobody_is_shown_a_channel_they_may_not_read(three):
    three.channel("within", "internal")
    three.channel("other", "internal")
    relate(three, "other", base="within")
    assert shown(three, "other", three.actor("stranger")) == Relations("within")
    with three.app.database.read() as session:
        number = channels.show(session, CONSOLE, "other").id
    key = three.key("stranger", "read", channels=["other"])
    with three.app.database.read() as session:
        bound = tokens.recognise(session, key, now=three.now).actor
    assert shown(three, "other", bound) == Relations()
    three.set("other", visibility="public")
    assert shown(three, "other", NOBODY) == Relations()
    assert shown(three, "other") == Relations()
    with three.app.database.read() as session:
        assert relating.said(session, CONSOLE, number) == {"base": relating.Said("within", False)}
        assert relating.said(session, NOBODY, number) == {}


def test_loops_are_refused_however_they_come_about(three):
    for name in ("a", "b", "c"):
        three.channel(name, "public")
    relate(three, "a", base="b")
    relate(three, "b", base="c")
    for name, names in (("c", {"base": "a"}), ("b", {"base": "a"}), ("a", {"overrides": "c"}), ("c", {"base": "b"})):
        with pytest.raises(errors.Invalid) as caught:
            relate(three, name, **names)
        assert caught.value.code == "relation_loop", (name, names)
    # the same said from the other end is no loop
    relate(three, "b", overrides="a")
    relate(three, "c", overrides="a")
    assert order(three, "a") == ["c", "b", "a"]
    assert order(three, "c") == ["c", "b", "a"]


def test_a_chain_has_an_end(three):
    names = [f"link{number:02}" for number in range(12)]
    for name in names:
        three.channel(name, "public")
    for one, other in pairwise(names[1:]):
        relate(three, one, base=other)
    assert order(three, "link01") == names[:0:-1]
    with pytest.raises(errors.Invalid, match="with that there would be more") as caught:
        relate(three, "link00", base="link01")
    assert caught.value.code == "relation_depth"
    relate(three, "link00", base="link02")
    with pytest.raises(errors.Invalid, match="there would be more"):
        relate(three, "link11", base="forge")


def hide(world, channel):
    """Let nobody but administrators read it."""
    with world.app.database.write() as session:
        channels.update_channel(
            session, CONSOLE, channel, channels.Change(visibility=Visibility.PRIVATE), now=world.now
        )
        number = channels.show(session, CONSOLE, channel).id
        session.execute(delete(Member).where(Member.channel_id == number))


def test_a_refusal_says_the_same_whether_one_sees_what_is_in_the_way_or_not(three):
    """How many channels are behind one, and which, is told to nobody who may not read them."""
    owner = three.actor("owner")
    said = {}
    for visibility in ("public", "private"):
        start = f"{visibility}-start"
        three.channel(start, "public")
        # ten behind it, each naming the one before, which is hidden from the owner of the first in the end
        names = [start, *(f"{visibility}-{number:02}" for number in range(10))]
        for name in names[1:]:
            three.channel(name, "public")
        for before, name in pairwise(names):
            relate(three, name, base=before)
        for name in names[1:] if visibility == "private" else ():
            hide(three, name)
        with pytest.raises(errors.Invalid) as caught:
            relate(three, start, actor=owner, base="forge")
        assert caught.value.code == "relation_depth"
        with three.app.database.read() as session:
            assert access.readable(session, owner, names[-1]) == (visibility == "public")
        said[visibility] = caught.value.detail
    assert said["public"] == said["private"]
    assert "11" not in said["public"]


def test_a_refused_loop_does_not_say_what_it_leads_through(three):
    owner = three.actor("owner")
    said = {}
    for visibility in ("public", "private"):
        start, between = f"{visibility}-start", f"{visibility}-secret"
        for name in (start, between, f"{visibility}-end"):
            three.channel(name, "public")
        relate(three, between, base=start)
        relate(three, f"{visibility}-end", base=between)
        if visibility == "private":
            hide(three, between)
        with pytest.raises(errors.Invalid) as caught:
            relate(three, start, actor=owner, base=f"{visibility}-end")
        assert (caught.value.code, "secret" in caught.value.detail) == ("relation_loop", False)
        assert "other channels" not in caught.value.detail
        said[visibility] = caught.value.detail.replace(visibility, "V")
    assert said["public"] == said["private"]


def test_two_at_once_make_no_loop(three):
    """Ten times two owners name each other's channel at the same moment: one of them is refused."""
    for number in range(10):
        pair = [f"left{number}", f"right{number}"]
        for name in pair:
            three.channel(name, "public")
        start = threading.Barrier(2)
        refused = []

        def name_other(one, other, start=start, refused=refused):
            start.wait()
            try:
                relate(three, one, base=other)
            except errors.Invalid as error:
                refused.append(error.code)

        threads = [threading.Thread(target=name_other, args=names) for names in (pair, pair[::-1])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused == ["relation_loop"]


def test_the_order_is_that_of_the_clients(three):
    for name in ("low", "lower", "ground"):
        three.channel(name, "public")
    relate(three, "mine", base="bio", overrides="low")
    relate(three, "bio", base="forge", overrides="lower")
    relate(three, "forge", base="ground")
    relate(three, "low", overrides="lower")
    with three.app.database.read() as session:
        placed = relating.order(session, channels.show(session, CONSOLE, "mine").id)
    assert [one.name for one in placed][:4] == ["ground", "forge", "bio", "mine"]
    assert [(one.name, one.kind, one.direct) for one in placed] == [
        ("ground", "base", False),
        ("forge", "base", False),
        ("bio", "base", True),
        ("mine", "this", False),
        ("low", "overrides", True),
        ("lower", "overrides", False),
    ]
