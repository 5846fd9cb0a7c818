"""Which channels a package needs: what is answered, to whom, and when it is asked anew."""

import threading

import pytest
from sqlalchemy import select

from fairway.db.models import Channel, Relation
from fairway.errors import AuthRequired, NotFound, PackageRefused
from fairway.registry import channels, virtual
from fairway.registry.actor import CONSOLE, NOBODY, Role
from fairway.registry.solving import Solving
from tests.registry.world import World
from tests.support.builders import conda_package
from tests.support.rows import load, made, named

LINUX = virtual.system("linux-64")


class Channels(World):
    """Channels of records, and a solver."""

    def have(self, channel, *several, subdir="linux-64", visibility="public"):
        with self.app.database.read() as session:
            known = session.scalar(select(Channel.id).where(Channel.name == channel))
        if known is None:
            self.channel(channel, visibility)
        load(self.app, channel, subdir, named(*several))

    def relate(self, channel, *, base=None, overrides=None):
        with self.app.database.write() as session:
            ids = dict(session.execute(select(Channel.name, Channel.id)).tuples().all())
            session.add(Relation(channel_id=ids[channel], base_id=ids.get(base), overrides_id=ids.get(overrides)))

    def which(self, channel, name, *, actor=NOBODY, system=LINUX, version=None):
        return self.app.solving.which(actor, channel, name, system, version)

    @property
    def solved(self):
        return self.app.solving.solved


@pytest.fixture
def world(fairway):
    return Channels(fairway)


def names(needed):
    return [one.name for one in needed.channels]


def test_a_channel_that_has_all_of_it_is_enough(world):
    world.have("own", made("app", "2.0", ["lib >=1", "__glibc >=2.17"]), made("lib", "1.5"), made("app", "1.0"))
    found = world.which("own", "app")
    assert found.solvable
    assert names(found) == ["own"]
    assert (found.version, found.newest, found.platform) == ("2.0", "2.0", "linux-64")
    assert [(one.name, one.version, one.build, one.channel, one.size) for one in found.packages] == [
        ("app", "2.0", "0", "own", 1000),
        ("lib", "1.5", "0", "own", 1000),
    ]
    assert found.size == 2000
    assert found.smallest
    assert not found.shared


def test_what_is_lacking_comes_from_the_channel_that_has_it_and_from_no_other(world):
    world.have("own", made("app", "1.0", ["lib >=2"]))
    world.have("old", made("lib", "1.0"), made("more"))
    world.have("newer", made("lib", "2.0"))
    assert names(world.which("own", "app")) == ["own", "newer"]
    assert [one.related for one in world.which("own", "app").channels] == [True, False]


def test_noarch_counts_for_every_platform(world):
    world.have("own", made("app", "1.0", ["lib"], subdir="noarch", noarch="python"), subdir="noarch")
    world.have("libs", made("lib", subdir="osx-arm64"), subdir="osx-arm64")
    assert names(world.which("own", "app", system=virtual.system("osx-arm64"))) == ["own", "libs"]
    there = world.which("own", "app")
    assert not there.solvable
    assert there.unmet == ("lib",)
    assert there.reason == "These dependencies are met by no channel you may read: lib."


def test_a_diamond_over_three_channels(world):
    world.have("own", made("app", "1.0", ["left", "right"]))
    world.have("lefts", made("left", "1.0", ["bottom >=1"]), made("unrelated"))
    world.have("rights", made("right", "1.0", ["bottom <2"]))
    world.have("bottoms", made("bottom", "1.5"), made("bottom", "2.5"))
    found = world.which("own", "app")
    assert sorted(names(found)) == ["bottoms", "lefts", "own", "rights"]
    assert {(one.name, one.version, one.channel) for one in found.packages} == {
        ("app", "1.0", "own"), ("left", "1.0", "lefts"), ("right", "1.0", "rights"), ("bottom", "1.5", "bottoms"),
    }  # fmt: skip
    assert found.smallest


def test_the_order_counts_where_a_name_is_in_two_channels(world):
    """The first that has a name hides the others, so only one of the orders works."""
    world.have("own", made("app", "1.0", ["left", "right"]))
    world.have("lefts", made("left", "1.0", ["common >=2"]), made("common", "1.0"))
    world.have("rights", made("right", "1.0"), made("common", "2.0"))
    found = world.which("own", "app")
    assert names(found) == ["own", "rights", "lefts"]
    assert found.shared == ("common",)


def test_related_channels_come_first_and_in_their_order(world):
    world.have("own", made("app", "1.0", ["lib"]), made("lib", "1.0"))
    world.have("base", made("lib", "3.0"), made("python"))
    world.have("stranger", made("lib", "9.0"), made("python"))
    world.have("own", made("tool", "1.0", ["python", "lib"]))
    world.relate("own", base="base")
    assert names(world.which("own", "app")) == ["own"]  # smaller, though what it builds on has a newer one
    found = world.which("own", "tool")
    assert names(found) == ["base", "own"]
    assert {one.name: one.version for one in found.packages}["lib"] == "3.0"
    assert found.shared == ("lib",)
    assert all(one.related for one in found.channels)


def test_a_name_that_a_channel_before_has_too_is_said(world):
    world.have("own", made("app", "1.0", ["python"]))
    world.have("base", made("app", "5.0"), made("python"))
    world.relate("own", base="base")
    found = world.which("own", "app")
    assert (found.version, found.hidden_by) == ("1.0", "base")


def test_the_newest_version_counts_and_else_it_is_said_why_not(world):
    world.have("own", made("app", "2.0", ["gone >=2"]), made("app", "1.0", ["lib"]))
    world.have("libs", made("lib"))
    found = world.which("own", "app")
    assert found.solvable
    assert (found.version, found.newest, names(found)) == ("1.0", "2.0", ["own", "libs"])
    assert found.unmet == ("gone",)
    assert "gone >=2" in found.explanation


def test_a_version_can_be_named(world):
    world.have("own", made("app", "2.0", ["lib"]), made("app", "1.0"))
    world.have("libs", made("lib"))
    assert names(world.which("own", "app")) == ["own", "libs"]
    assert names(world.which("own", "app", version="1.0.0")) == ["own"]
    none = world.which("own", "app", version="3.0")
    assert not none.solvable
    assert none.reason == "There is no app 3.0 for linux-64 in own; the newest is 2.0."
    with pytest.raises(PackageRefused):
        world.which("own", "app", version="1..0")


def test_contradictions_are_explained(world):
    world.have("own", made("app", "1.0", ["a", "b"]), made("a", "1.0", ["c <2"]), made("b", "1.0", ["c >=2"]))
    world.have("own", made("c", "1.0"), made("c", "2.0"))
    found = world.which("own", "app")
    assert not found.solvable
    assert found.decided
    assert found.reason == "The dependencies cannot all be met at once by the packages in own."
    assert "c >=2" in found.explanation
    assert "channel.invalid" not in found.explanation


def test_the_system_is_part_of_the_question(world):
    world.have("own", made("app", "1.0", ["__cuda >=12", "__glibc >=2.30"]))
    without = world.which("own", "app")
    assert not without.solvable
    assert "__cuda" in without.reason or "__glibc" in without.reason
    assert world.which("own", "app", system=virtual.system("linux-64", cuda="12.4", glibc="2.34")).solvable


def test_extras_and_records_of_v3_are_solved_too(world):
    world.have("own", made("app", "1.0", ["lib[extras=[fast]]"]), made("lib", "1.0", extra_depends={"fast": ["wings"]}))
    world.have("birds", made("wings"))
    found = world.which("own", "app")
    assert names(found) == ["own", "birds"]
    assert {one.name for one in found.packages} == {"app", "lib", "wings"}


def test_no_package_no_answer(world):
    world.have("own", made("app"))
    for channel, name, error in (
        ("own", "nothing", NotFound),
        ("missing", "app", AuthRequired),
        ("lab", "app", AuthRequired),
    ):
        with pytest.raises(error):
            world.which(channel, name)


# --- who may know --------------------------------------------------------------------------------------------------


def test_what_somebody_may_not_read_changes_nothing(world):
    """Not the answer, not a word of the reason, not what is remembered of other askers."""
    world.have("own", made("app", "1.0", ["secret-lib >=2"]))
    before = world.which("own", "app")
    world.have("vault", made("secret-lib", "1.0"), made("secret-lib", "2.0", ["deep-secret"]), visibility="private")
    world.have("vault", made("deep-secret"))
    assert world.solved == 1
    member = world.actor("owner")
    theirs = world.which("own", "app", actor=member)
    assert names(theirs) == ["own", "vault"]
    stranger = world.actor("stranger")
    for actor in (NOBODY, stranger):
        assert world.which("own", "app", actor=actor) == before
    assert world.which("own", "app", actor=member) == theirs
    assert world.solved == 2
    assert "vault" not in repr(before)
    assert "deep" not in repr(before)


def test_who_joins_or_leaves_gets_another_answer(world):
    world.have("own", made("app", "1.0", ["lib"]))
    world.have("hidden", made("lib"), visibility="private")
    stranger = world.actor("stranger")
    assert not world.which("own", "app", actor=stranger).solvable
    with world.app.database.write() as session:
        channels.set_member(session, CONSOLE, "hidden", "stranger", Role.VIEWER, now=world.now)
    assert names(world.which("own", "app", actor=stranger)) == ["own", "hidden"]
    with world.app.database.write() as session:
        channels.set_member(session, CONSOLE, "hidden", "stranger", None, now=world.now)
    assert not world.which("own", "app", actor=stranger).solvable
    assert world.solved == 2


def test_a_relation_to_what_somebody_may_not_read_does_not_count_for_them(world):
    world.have("own", made("app", "1.0", ["lib"]))
    world.have("hidden", made("lib"), visibility="private")
    with world.app.database.read() as session:
        ids = dict(session.execute(select(Channel.name, Channel.id)).tuples().all())
    app = world.app
    with Solved(app, related=lambda *_: [ids["hidden"], ids["own"]]) as solving:
        assert names(solving.which(world.actor("owner"), "own", "app", LINUX)) == ["hidden", "own"]
        assert not solving.which(NOBODY, "own", "app", LINUX).solvable


class Solved:
    """A solver of its own, closed at the end."""

    def __init__(self, app, **options):
        self.solving = Solving(app.database, **options)

    def __enter__(self):
        return self.solving

    def __exit__(self, *_):
        self.solving.close()


# --- what is remembered --------------------------------------------------------------------------------------------


def test_an_answer_holds_until_an_index_changes_that_it_was_made_of(world):
    world.have("own", made("app", "1.0", ["lib"]))
    world.have("libs", made("lib", "1.0"))
    world.have("elsewhere", made("other"))
    first = world.which("own", "app")
    assert world.which("own", "app") == first
    world.have("elsewhere", made("other", "2.0"))
    assert world.which("own", "app") == first
    assert world.solved == 1
    world.have("libs", made("lib", "2.0"))
    assert {one.name: one.version for one in world.which("own", "app").packages}["lib"] == "2.0"
    assert world.solved == 2


def test_no_is_remembered_too_until_somebody_has_what_is_lacking(world):
    world.have("own", made("app", "1.0", ["lib"]))
    assert not world.which("own", "app").solvable
    assert not world.which("own", "app").solvable
    assert world.solved == 1
    world.have("libs", made("lib", "1.0"))
    assert names(world.which("own", "app")) == ["own", "libs"]


def test_an_upload_counts_at_once(world):
    world.channel("own", "public")
    world.put(conda_package("app", "1.0", depends=["lib"]), channel="own")
    assert not world.which("own", "app").solvable
    world.put(conda_package("lib", "1.0"), channel="own")
    assert names(world.which("own", "app")) == ["own"]


def test_those_who_ask_together_are_answered_together(world):
    world.have("own", made("app", "1.0"))
    start = threading.Barrier(4)
    answers = []

    def ask():
        start.wait()
        answers.append(world.which("own", "app"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [names(one) for one in answers] == [["own"]] * 4
    assert world.solved == 1
