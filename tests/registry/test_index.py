"""The published index: levels, sharing of builds, and what crashes and races leave."""

import os
import threading
from functools import partial

import msgspec
import orjson
import pytest
from sqlalchemy import delete, select, update

from fairway import tasks
from fairway.blobs import keys
from fairway.conda import shards
from fairway.conda.names import Filename
from fairway.conda.shards import decompressed
from fairway.db.models import Channel, Pointer, Retired, Shard, ShardBytes, Subdir
from fairway.errors import Unavailable
from fairway.registry import admit, channels, flat, fsck, index, publish, withdraw
from fairway.registry.actor import CONSOLE
from fairway.registry.publisher import Publisher
from fairway.registry.sweep import sweep
from tests.registry.stores import Gate, Watched
from tests.registry.world import DAY
from tests.support.builders import conda_package
from tests.web.reading import unpacked


def publisher(world, before):
    """A publisher as another process has one, on a store that is watched."""
    app = world.app
    return Publisher(app.database, Watched(app.blobs, before), app.staging, clock=lambda: world.now)


def pointer(world):
    with world.app.database.read() as session:
        return session.scalars(select(Pointer)).one_or_none()


def retired(world):
    with world.app.database.read() as session:
        return set(session.scalars(select(Retired.path)))


def behind(world):
    with world.app.database.read() as session:
        return index.behind(session), flat.behind(session)


def remove(world, filename, channel="lab"):
    with world.app.database.write() as session:
        return withdraw.delete(session, CONSOLE, channel, "noarch", filename, now=world.now)


def reindex(world, channel="lab"):
    with world.app.database.write() as session:
        return channels.reindex(session, CONSOLE, channel, None, now=world.now)


def agree(world, *, notes=False):
    found = list(fsck.check(world.app.database, world.app.blobs, deep=True))
    assert [finding for finding in found if notes or finding.harm == "error"] == []


def in_thread(function, *arguments, **options):
    thread = threading.Thread(target=function, args=arguments, kwargs=options)
    thread.start()
    return thread


def shard_of(world, name="demo"):
    return index.shard_bytes(world.app.database, 1, "noarch", world.shards()[name].hex())


def due(world):
    with world.app.database.read() as session:
        return sorted(session.scalars(select(Shard.name).where(Shard.due)))


def test_the_flat_documents_are_a_level_until_they_are_published(world):
    assert behind(world) == ([], [])
    done = world.put()
    assert behind(world) == ([], [done.subdir_id])  # the shards came with the upload
    assert set(world.documents()) == {index.SHARD_INDEX}
    assert world.app.publisher.wait_flat(done.subdir_id, done.change, seconds=5)
    assert behind(world) == ([], [])
    assert set(world.documents()) == {index.SHARD_INDEX, *flat.FLAT}
    found = pointer(world)
    assert (found.shards_built, found.flat_built) == (1, 1)
    assert world.app.publisher.catch_up() == 0


def test_an_upload_and_its_shard_are_one_transaction(world, monkeypatch):
    class Crash(BaseException):
        pass

    world.put(conda_package("demo", "1.0"))
    before = world.shards()

    def crash(*_arguments, **_options):
        raise Crash

    monkeypatch.setattr(index, "_point", crash)  # the last thing that is written
    with pytest.raises(Crash):
        world.put(conda_package("demo", "2.0"))
    assert world.shards() == before
    agree(world)
    monkeypatch.undo()
    world.put(conda_package("demo", "2.0"))
    assert len(unpacked(shard_of(world))["packages.conda"]) == 2
    agree(world)


def test_many_who_wait_share_one_build(world):
    puts = []
    changes = [world.put(conda_package("demo", f"1.{n}")) for n in range(8)]
    shared = publisher(world, lambda key: puts.append(key.path))
    answers = []

    def wait(done):
        answers.append(shared.wait_flat(done.subdir_id, done.change, seconds=10))

    for thread in [in_thread(wait, done) for done in reversed(changes) for _ in range(4)]:
        thread.join()
    assert answers == [True] * 32
    # each build covers every change it finds: the newest asked first
    assert len([path for path in puts if "/repodata.json/" in path]) == 1


def test_who_waits_too_long_is_told_so_and_the_build_goes_on(world):
    gate = Gate("/repodata.json/")
    shared = publisher(world, gate)
    done = world.put()
    builder = in_thread(shared.wait_flat, done.subdir_id, done.change, seconds=10)
    assert gate.reached.wait(5)
    assert shared.wait_flat(done.subdir_id, done.change, seconds=0.05) is False
    gate.opened.set()
    builder.join()
    assert shared.wait_flat(done.subdir_id, done.change, seconds=0) is True


def test_a_record_that_cannot_be_encoded_stops_neither_its_upload_nor_its_channel(world, monkeypatch):
    world.put(conda_package("demo", "1.0"))
    old = world.shards()["demo"]
    encode = shards.shard

    def picky(entries):
        entries = list(entries)
        if any("demo-2.0" in entry.key for entry in entries):
            raise ValueError("no")
        return encode(entries)

    monkeypatch.setattr(shards, "shard", picky)
    assert world.put(conda_package("demo", "2.0")).indexed is False
    assert world.put(conda_package("other")).indexed is True
    assert (world.shards()["demo"], sorted(world.shards()), due(world)) == (old, ["demo", "other"], ["demo"])
    assert world.app.publisher.catch_up() == 1  # flat; the shard failed again, and will be tried later
    assert due(world) == ["demo"]
    monkeypatch.undo()
    assert index.rebuild(world.app.database, 1, now=world.now) == []
    assert len(unpacked(shard_of(world))["packages.conda"]) == 2
    world.publish_index()
    agree(world, notes=True)


def test_before_the_first_whole_shard_index_there_is_none(world):
    """As after a restored backup: a part of the index would hand names to the next channel."""
    for name in ("a", "b"):
        world.put(conda_package(name))
    with world.app.database.write() as session:
        session.execute(delete(Pointer))
        session.execute(delete(ShardBytes))
        session.execute(update(Shard).values(sha256=None, due=True))
    assert world.app.shard_indexes.make(1) is None
    assert world.put(conda_package("c")).indexed is True
    assert world.app.shard_indexes.make(1) is None
    world.publish_index()
    assert sorted(world.shards()) == ["a", "b", "c"]
    agree(world, notes=True)


def test_a_subdir_to_which_nothing_ever_came_in_has_nothing_to_build(world):
    """An earlier version left such rows when a first upload was refused; its index was 503 for ever."""
    with world.app.database.write() as session:
        channel_id = session.scalar(select(Channel.id))
        session.add(Subdir(channel_id=channel_id, name="win-64", changed=0))
    with world.app.database.read() as session:
        assert (index.behind(session), flat.behind(session)) == ([], [])
    assert world.app.lookup.view().shelf(channel_id, "win-64", rows=True) is None


def test_the_shard_index_is_made_once_for_each_change_and_from_what_changed(world):
    world.put(conda_package("demo", "1.0"))
    one = world.app.shard_indexes.make(1)
    assert world.app.shard_indexes.make(1) is one
    assert world.app.shard_indexes.kept(1, one.change) is one
    world.put(conda_package("demo", "2.0"))
    world.put(conda_package("another"))
    assert world.app.shard_indexes.kept(1, one.change + 2) is None
    two = world.app.shard_indexes.make(1)
    assert two.change == one.change + 2
    fresh = index.ShardIndexes(world.app.database).make(1)
    assert (fresh.sha256, fresh.body) == (two.sha256, two.body)  # every process makes the same
    assert list(unpacked(two.body)["shards"]) == ["another", "demo"]


def test_a_shard_index_that_is_ahead_of_a_restored_database_starts_again(world):
    for name in ("a", "b"):
        world.put(conda_package(name))
    assert sorted(world.shards()) == ["a", "b"]
    with world.app.database.write() as session:
        session.execute(delete(Shard).where(Shard.name == "b"))
        session.execute(update(Subdir).values(changed=1))
    assert sorted(world.shards()) == ["a"]


def test_a_flat_build_that_was_overtaken_moves_nothing_back(world):
    gate = Gate("/run_exports.json.zst/")
    app = world.app
    world.put(conda_package("first"))
    slow = in_thread(flat.build_flat, app.database, Watched(app.blobs, gate), app.staging, 1, now=world.now)
    assert gate.reached.wait(5)
    world.put(conda_package("second"))
    assert app.publisher.wait_flat(1, 2, seconds=5)
    gate.opened.set()
    slow.join()
    assert pointer(world).flat_built == 2
    assert len(orjson.loads(world.documents()["repodata.json"])["packages.conda"]) == 2
    app.publisher.catch_up()
    agree(world)


def test_a_shard_that_comes_back_is_not_swept(world):
    world.put(conda_package("demo", "1.0"))
    before = world.shards()
    added = world.put(conda_package("demo", "2.0"))
    remove(world, added.filename)
    assert world.shards() == before
    world.publish_index()
    world.now += 30 * DAY
    sweep(world.app.database, world.app.blobs, now=world.now, keep_ms=7 * DAY)
    agree(world)
    assert shard_of(world) is not None


def test_a_name_without_records_vanishes_and_its_shard_can_still_be_fetched(world):
    filename = world.put().filename
    world.put(conda_package("other"))
    world.publish_index()
    old = world.shards()["demo"]
    remove(world, filename)
    world.publish_index()
    assert list(world.shards()) == ["other"]
    assert unpacked(index.shard_bytes(world.app.database, 1, "noarch", old.hex()))["packages.conda"]
    document = orjson.loads(world.documents()["repodata.json"])
    assert (list(document["packages.conda"]), document["removed"]) == (["other-1.0-h0_0.conda"], [filename])
    agree(world)


def test_the_same_packages_give_the_same_bytes_in_whatever_order_they_came(world):
    packages = [conda_package(name, version) for name in ("b", "a", "c") for version in ("1.0", "2.0")]
    world.channel("other")
    for package in packages:
        world.put(package)
        world.publish_index()
    for package in reversed(packages):
        world.put(package, channel="other")
    world.publish_index()
    one, two = world.documents(), world.documents(channel="other")
    assert one == two
    names = list(orjson.loads(one["repodata.json"])["packages.conda"])
    assert names == sorted(names)
    assert list(unpacked(one[index.SHARD_INDEX])["shards"]) == ["a", "b", "c"]


def test_an_index_built_anew_has_the_same_bytes_and_timestamps(world):
    world.put()
    world.put(conda_package("other", subdir="linux-64"))
    world.publish_index()
    before = {subdir: world.documents(subdir) for subdir in ("noarch", "linux-64")}
    world.now += DAY
    assert len(reindex(world)) == 2
    assert world.app.publisher.catch_up() == 4
    assert {subdir: world.documents(subdir) for subdir in ("noarch", "linux-64")} == before
    record = orjson.loads(before["noarch"]["repodata.json"])["packages.conda"]["demo-1.0-h0_0.conda"]
    assert record["indexed_timestamp"] == world.now - DAY
    assert retired(world) == set()


def test_repodata_is_one_zstd_frame_of_the_very_same_bytes(world):
    world.put()
    world.publish_index()
    documents = world.documents()
    for name in ("repodata.json", "run_exports.json"):
        assert decompressed(documents[f"{name}.zst"]) == documents[name]
        assert documents[f"{name}.zst"].count(b"\x28\xb5\x2f\xfd") == 1


def test_superseded_objects_are_kept_for_days_and_then_swept(world):
    world.now = world.app.now()
    world.put(conda_package("demo", "1.0"))
    world.publish_index()
    shard = world.shards()["demo"].hex()
    old = {entry.path for entry in world.app.blobs.list(keys.index_prefix())}
    world.put(conda_package("demo", "2.0"))
    world.publish_index()
    assert retired(world) == old
    for days, there in ((0, True), (6.9, True), (7.1, False)):
        now = world.app.now() + int(days * DAY)  # the application's publisher goes by the clock
        sweep(world.app.database, world.app.blobs, now=now, keep_ms=7 * DAY)
        left = {entry.path for entry in world.app.blobs.list(keys.index_prefix())}
        assert (old <= left, bool(old & left)) == (there, there), days
        assert (index.shard_bytes(world.app.database, 1, "noarch", shard) is not None) is there, days
    agree(world, notes=True)


@pytest.fixture
def large(world, monkeypatch):
    """A subdir that counts as large, in a server that must not write its documents itself."""
    done = world.put()
    world.publish_index()
    monkeypatch.setattr(flat, "LARGE_BYTES", -1)
    monkeypatch.setattr(flat, "build_flat", lambda *_, **__: pytest.fail("built here"))
    return done.subdir_id


def waited(world, subdir_id, change):
    """Whether documents are there for a server that hands the large ones to another process."""
    server = publisher(world, lambda *_: None)
    server.start(apart=partial(tasks.build, world.app))
    try:
        return server.wait_flat(subdir_id, change, seconds=60)
    finally:
        server.stop()


def test_the_documents_of_a_large_subdir_are_written_by_another_process(world, large):
    assert waited(world, large, world.put(conda_package("other")).change)
    assert behind(world) == ([], [])
    listed = orjson.loads(world.documents()[flat.REPODATA])["packages.conda"]
    assert sorted(listed) == ["demo-1.0-h0_0.conda", "other-1.0-h0_0.conda"]


def test_where_that_process_fails_the_documents_stay_behind(world, large, monkeypatch):
    change = world.put(conda_package("other")).change
    monkeypatch.setattr(tasks, "environment", lambda _: {**os.environ, "FAIRWAY_DATABASE": "sqlite:////nowhere/db"})
    assert not waited(world, large, change)
    assert behind(world) == ([], [large])


def test_a_subdir_that_fails_does_not_hold_up_the_others(world):
    for subdir in ("noarch", "linux-64", "osx-64"):
        world.put(conda_package("demo", subdir=subdir))
    broken = {"linux-64"}

    def before(key):
        if key.subdir in broken:
            raise Unavailable("no store")

    shared = publisher(world, before)
    assert shared.catch_up() == 2
    assert [flat.REPODATA in world.documents(subdir) for subdir in ("noarch", "linux-64", "osx-64")] == [
        True, False, True,
    ]  # fmt: skip
    assert shared.wait_flat(2, 1, seconds=1) is False
    broken.clear()
    assert shared.wait_flat(2, 1, seconds=1) is True
    world.publish_index()
    agree(world)


@pytest.mark.parametrize("at", ["/repodata.json/", "/run_exports.json.zst/"])
def test_after_a_crash_before_the_flip_the_old_index_stands_and_the_next_publisher_carries_on(world, at):
    class Crash(BaseException):
        pass

    world.put(conda_package("demo", "1.0"))
    world.publish_index()
    world.put(conda_package("demo", "2.0"))
    before = world.documents()

    def crash(key):
        if at in key.path:
            raise Crash

    with pytest.raises(Crash):
        publisher(world, crash).catch_up()
    assert world.documents() == before
    agree(world)
    assert publisher(world, lambda _: None).catch_up() > 0
    assert len(orjson.loads(world.documents()["repodata.json"])["packages.conda"]) == 2
    agree(world)


def test_more_names_than_one_batch_are_all_published(world):
    filename, data = conda_package("seed")
    with world.app.staging.open(1 << 20) as staged:
        staged.write(data)
        seed = publish.receive(world.app.intake, staged, publish.Offer("lab", Filename.parse(filename)), now=world.now)
    count = index.NAMES_AT_ONCE + 3
    submissions = []
    for n in range(count):
        name = f"p{n:04}"
        facts = msgspec.structs.replace(
            seed.facts, name=name, filename=f"{name}-1.0-h0_0.conda", record={**seed.facts.record, "name": name}
        )
        offer = publish.Offer("lab", Filename.parse(facts.filename))
        submissions.append(publish.Submission(publish.Received(facts, seed.digest), CONSOLE, offer, world.now))
    with world.app.database.write() as session:
        outcomes = admit.publish(session, "lab", submissions)
    assert all(outcome.indexed for outcome in outcomes)
    world.publish_index()
    assert list(world.shards()) == [f"p{n:04}" for n in range(count)]
    assert pointer(world).shards_built == 1  # one change
    reindex(world)
    world.publish_index()
    assert list(world.shards()) == [f"p{n:04}" for n in range(count)]
    agree(world, notes=True)


def test_a_publisher_that_finds_another_at_work_lets_its_turn_go(world):
    done = world.put()
    gate = Gate("/repodata.json/")
    shared = publisher(world, gate)
    reader = in_thread(shared.wait_flat, done.subdir_id, done.change, seconds=10)
    assert gate.reached.wait(5)
    assert shared.catch_up() == 0
    assert pointer(world).lease_until == 0
    gate.opened.set()
    reader.join()
    assert behind(world) == ([], [])
