"""Yanking, deleting and their undoing: what stays, what leaves the index, and that it comes back byte for byte."""

from __future__ import annotations

import orjson
import pytest
from sqlalchemy import select

from fairway import errors
from fairway.db.models import Artifact, Audit, Channel, Need, Package, Record, Withheld
from fairway.registry import access, browse, channels, fsck, listing, packages, sweep, withdraw
from fairway.registry.actor import CONSOLE
from tests.registry.world import DAY
from tests.support.builders import conda_package

KEEP = 7 * DAY
FILE = "demo-1.0-h0_0.conda"


def act(world, do, *arguments, actor=CONSOLE, channel="lab", **options):
    with world.app.database.write() as session:
        return do(session, actor, channel, *arguments, now=world.now, **options)


def yank(world, filename=FILE, reason="it eats data", subdir="noarch", actor=CONSOLE):
    return act(world, withdraw.yank, subdir, filename, reason, actor=actor)


def unyank(world, filename=FILE, subdir="noarch"):
    return act(world, withdraw.unyank, subdir, filename)


def undelete(world, filename=FILE, subdir="noarch"):
    return act(world, withdraw.undelete, subdir, filename, keep_ms=KEEP)


def every(world, model):
    with world.app.database.read() as session:
        return list(session.scalars(select(model)))


def index_of(world, subdir="noarch"):
    world.publish_index()
    return {**world.documents(subdir), "shards": world.shards(subdir)}


def package_of(world, name="demo"):
    (found,) = [package for package in every(world, Package) if package.name == name]
    return found


def sound(world):
    found = list(fsck.check(world.app.database, world.app.blobs, deep=True))
    assert [finding for finding in found if finding.harm == "error"] == []


def test_a_yanked_file_leaves_the_index_is_listed_as_removed_and_comes_back_to_the_byte(world):
    world.put(conda_package("demo", "1.0", depends=["python >=3.9", "numpy"], run_exports={"weak": ["demo >=1"]}))
    world.put(conda_package("demo", "0.9", depends=["python"]))
    before = index_of(world)
    totals = [(channel.artifacts, channel.size, channel.packages) for channel in every(world, Channel)]
    world.now += 1000
    yank(world)
    hidden = index_of(world)
    flat = orjson.loads(hidden["repodata.json"])
    assert (list(flat["packages.conda"]), flat["removed"]) == (["demo-0.9-h0_0.conda"], [FILE])
    assert list(orjson.loads(hidden["run_exports.json"])["packages.conda"]) == ["demo-0.9-h0_0.conda"]
    assert hidden["shards"] != before["shards"]
    assert [(channel.artifacts, channel.size, channel.packages) for channel in every(world, Channel)] == totals
    assert (package_of(world).version, package_of(world).live) == ("0.9", 2)
    assert {need.name for need in every(world, Need)} == {"python"}
    sound(world)
    unyank(world)
    assert index_of(world) == before
    assert package_of(world).version == "1.0"
    assert {need.name for need in every(world, Need)} == {"python", "numpy"}
    assert every(world, Withheld) == []
    sound(world)


def test_who_yanked_it_and_why_is_in_the_row_and_the_audit(world):
    world.put()
    yank(world, reason="  one\n line ", actor=world.actor("maintainer", "upload"))
    (row,) = every(world, Artifact)
    assert (row.yanked_at, row.yank_reason, row.deleted_at) == (world.now, "one line", None)
    lines = [line for line in every(world, Audit) if line.action == "artifact.yank"]
    assert [(line.actor, line.subject, line.details, line.package_id) for line in lines] == [
        ("maintainer", f"noarch/{FILE}", {"reason": "one line"}, row.package_id)
    ]
    world.now += 5
    yank(world, reason="another")
    (row,) = every(world, Artifact)
    assert (row.yanked_at, row.yank_reason) == (world.now - 5, "another")
    unyank(world)
    (row,) = every(world, Artifact)
    assert (row.yanked_at, row.yank_reason) == (None, None)


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "be\u202eware"])
def test_a_reason_is_one_readable_line(world, reason):
    world.put()
    with pytest.raises(errors.Invalid) as caught:
        yank(world, reason=reason)
    assert caught.value.code == "reason_invalid"


@pytest.mark.parametrize(
    ("user", "scope", "refusal"),
    [
        ("stranger", "admin", errors.NotFound),
        ("uploader", "admin", errors.NotAllowed),
        ("maintainer", "read", errors.NotAllowed),
    ],
)
def test_yanking_is_for_maintainers(world, user, scope, refusal):
    world.put()
    with pytest.raises(refusal):
        yank(world, actor=world.actor(user, scope))
    yank(world)
    with pytest.raises(refusal):
        act(world, withdraw.unyank, "noarch", FILE, actor=world.actor(user, scope))


def test_what_is_not_there_cannot_be_yanked_and_what_is_not_yanked_not_unyanked(world):
    world.put()
    for subdir, filename in (("noarch", "none-1-0.conda"), ("linux-64", FILE)):
        with pytest.raises(errors.NotFound):
            yank(world, filename, subdir=subdir)
    with pytest.raises(errors.NotFound):
        unyank(world)
    with pytest.raises(errors.NotFound):
        undelete(world)
    act(world, withdraw.delete, "noarch", FILE)
    with pytest.raises(errors.NotFound):
        yank(world)


def test_a_whole_version_is_yanked_in_all_its_subdirs(world):
    for subdir in ("linux-64", "osx-arm64"):
        world.put(conda_package("demo", "2.0", subdir=subdir))
    world.put()
    assert package_of(world).places.bit_count() == 3
    changes = act(world, withdraw.yank_version, "demo", "2.0", "broken")
    assert len(changes) == 2
    package = package_of(world)
    assert (package.version, package.places, package.live) == ("1.0", 1, 3)
    for subdir in ("linux-64", "osx-arm64"):
        flat = orjson.loads(index_of(world, subdir)["repodata.json"])
        assert (flat["packages.conda"], flat["removed"]) == ({}, ["demo-2.0-h0_0.conda"])
    sound(world)
    act(world, withdraw.unyank_version, "demo", "2.0")
    assert (package_of(world).version, package_of(world).places.bit_count()) == ("2.0", 3)
    sound(world)


def test_a_package_that_is_yanked_altogether_has_no_latest(world):
    world.put()
    yank(world)
    package = package_of(world)
    assert (package.version, package.places, package.live) == ("", 0, 1)
    with world.app.database.read() as session:
        head = listing.enter(session, CONSOLE, "lab")
        assert (head.packages, head.artifacts) == (1, 1)
        shown = packages.show(session, head, "demo")
        assert shown.version == ""
        ((version, reason),) = packages.versions(session, shown).items()
        assert (version, bool(reason)) == ("1.0", True)
    world.put(conda_package("demo", "0.1"))
    assert package_of(world).version == "0.1"
    sound(world)


def test_a_yanked_file_counts_for_the_quota_and_is_never_swept(world):
    done = world.put()
    yank(world)
    world.now += 400 * DAY
    assert sweep.sweep(world.app.database, world.app.blobs, now=world.now, keep_ms=KEEP).files == 0
    with world.app.database.write() as session:
        channels.set_quota(session, CONSOLE, "lab", done.size, now=world.now)
    with pytest.raises(errors.QuotaExceeded):
        world.put(conda_package("more"))
    sound(world)


def test_the_name_of_a_yanked_file_is_taken_as_that_of_any_other(world):
    first = world.put()
    yank(world)
    again = world.put(same_is_fine=True)
    assert (again.created, again.indexed, again.sha256) == (False, False, first.sha256)
    other = conda_package(files={"share/other.txt": b"other"})
    with pytest.raises(errors.ArtifactExists):
        world.put(other)
    world.set(allow_overwrite=True)
    assert world.put(other, force=True).replaced
    (row,) = every(world, Artifact)
    assert (row.yanked_at, row.yank_reason) == (None, None)
    assert (package_of(world).live, every(world, Withheld)) == (1, [])
    sound(world)


def test_deleting_a_yanked_file_and_bringing_it_back_leaves_it_yanked(world):
    world.put()
    yank(world)
    act(world, withdraw.delete, "noarch", FILE)
    assert [(channel.artifacts, channel.packages) for channel in every(world, Channel)] == [(0, 0)]
    undelete(world)
    (row,) = every(world, Artifact)
    assert (row.deleted_at, row.yank_reason) == (None, "it eats data")
    assert every(world, Record) == []
    assert [(channel.artifacts, channel.packages) for channel in every(world, Channel)] == [(1, 1)]
    unyank(world)
    assert len(every(world, Record)) == 1
    sound(world)


def test_a_deleted_file_comes_back_to_the_byte_within_its_time(world):
    world.put(conda_package("demo", "1.0", run_exports={"weak": ["demo"]}))
    before = index_of(world)
    totals = [(channel.artifacts, channel.size, channel.packages) for channel in every(world, Channel)]
    act(world, withdraw.delete, "noarch", FILE)
    assert orjson.loads(index_of(world)["repodata.json"])["removed"] == [FILE]
    world.now += KEEP
    undelete(world)
    assert index_of(world) == before
    assert [(channel.artifacts, channel.size, channel.packages) for channel in every(world, Channel)] == totals
    act(world, withdraw.delete, "noarch", FILE)
    world.now += KEEP + 1
    with pytest.raises(errors.NotFound):
        undelete(world)
    sweep.sweep(world.app.database, world.app.blobs, now=world.now, keep_ms=KEEP)
    assert every(world, Withheld) == []
    sound(world)


def test_what_comes_back_needs_room(world):
    done = world.put()
    act(world, withdraw.delete, "noarch", FILE)
    with world.app.database.write() as session:
        channels.set_quota(session, CONSOLE, "lab", done.size - 1, now=world.now)
    with pytest.raises(errors.QuotaExceeded):
        undelete(world)
    assert [channel.artifacts for channel in every(world, Channel)] == [0]


def test_a_restored_backup_has_what_was_yanked(world, tmp_path):
    from fairway.app import Fairway
    from fairway.db import migrate
    from fairway.registry import backup
    from fairway.settings import load

    world.put()
    yank(world)
    backup.backup(world.app.database, world.app.blobs, tmp_path / "b", schema=migrate.HEAD, now=world.now)
    with Fairway(load({"data": tmp_path / "other", "reading_processes": 1}, environ={})) as other:
        backup.restore(other.database, other.blobs, other.staging, tmp_path / "b", schema=migrate.HEAD)
        with other.database.write() as session:
            withdraw.unyank(session, CONSOLE, "lab", "noarch", FILE, now=world.now)
        other.publisher.catch_up()
        assert [found for found in fsck.check(other.database, other.blobs) if found.harm == "error"] == []
        with other.database.read() as session:
            assert browse.one_file(session, CONSOLE, "lab", "noarch", FILE).listed
            assert access.readable(session, CONSOLE, "lab")
