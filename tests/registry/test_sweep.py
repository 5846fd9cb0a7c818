"""What is thrown away and when; and that nothing is that anybody may still ask for."""

import hashlib
import os
import random
from contextlib import contextmanager

import pytest
from sqlalchemy import select

from fairway.blobs import keys
from fairway.db.models import Artifact, Channel, Retired, Subdir
from fairway.errors import ArtifactExists, NameTaken, Unavailable
from fairway.registry import channels, fsck, sweep, withdraw
from fairway.registry.actor import CONSOLE
from fairway.registry.publisher import Publisher
from tests.registry.world import DAY
from tests.support.builders import conda_package

WEEK = 7 * DAY


def run(world, *, days=0.0):
    world.now += int(days * DAY)
    return sweep.sweep(world.app.database, world.app.blobs, now=world.now, keep_ms=WEEK)


def stored(world, prefix=""):
    return {entry.path for entry in world.app.blobs.list(prefix)}


def remove(world, filename, channel="lab"):
    with world.app.database.write() as session:
        withdraw.delete(session, CONSOLE, channel, "noarch", filename, now=world.now)


def delete_channel(world, name="lab"):
    with world.app.database.write() as session:
        channels.delete_channel(session, CONSOLE, name, now=world.now)


def rows(world, model):
    with world.app.database.read() as session:
        return list(session.scalars(select(model)))


def publish_index(world):
    """As the background does, by the clock of this world."""
    app = world.app
    Publisher(app.database, app.blobs, app.staging, clock=lambda: world.now).catch_up()


def test_a_deleted_file_can_be_fetched_for_its_days_and_then_its_bytes_go(world):
    done = world.put()
    key = keys.package(done.sha256)
    remove(world, done.filename)
    assert run(world, days=6.9) == sweep.Swept()
    assert world.app.blobs.stat(key)
    assert world.app.lookup.view().file(1, "noarch", done.filename, rows=True)
    assert run(world, days=0.2).files == 1
    assert world.app.lookup.view().file(1, "noarch", done.filename, rows=True) is None
    assert world.app.blobs.stat(key)  # somebody may be in the middle of it
    assert run(world, days=7.1).objects == 1
    assert world.app.blobs.stat(key) is None
    (row,) = rows(world, Artifact)
    assert (row.filename, row.purged_at is None) == (done.filename, False)  # its name stays taken
    with pytest.raises(ArtifactExists) as caught:
        world.put()
    assert caught.value.code == "filename_retired"


def test_bytes_that_another_file_is_made_of_stay(world):
    world.channel("other")
    done = world.put()
    world.put(channel="other")
    remove(world, done.filename)
    for _ in range(4):
        run(world, days=8)
    assert world.app.blobs.stat(keys.package(done.sha256))
    remove(world, done.filename, "other")
    for _ in range(4):
        run(world, days=8)
    assert world.app.blobs.stat(keys.package(done.sha256)) is None


def test_bytes_that_are_uploaded_again_before_they_are_swept_stay(world):
    done = world.put()
    remove(world, done.filename)
    assert run(world, days=8).files == 1
    assert keys.package(done.sha256).path in {row.path for row in rows(world, Retired)}
    world.channel("other")
    world.put(channel="other")
    assert rows(world, Retired) == []
    for _ in range(3):
        run(world, days=8)
    assert world.app.blobs.get(keys.package(done.sha256)) == conda_package()[1]


def test_replaced_bytes_go_after_their_days(world):
    old = world.put()
    world.set(allow_overwrite=True)
    new = world.put(conda_package(files={"share/demo/x": b"x"}), force=True)
    run(world, days=6.9)
    assert world.app.blobs.stat(keys.package(old.sha256))
    run(world, days=0.2)
    assert world.app.blobs.stat(keys.package(old.sha256)) is None
    assert world.app.blobs.stat(keys.package(new.sha256))


def test_reclaim_takes_an_object_back(world):
    with world.app.database.write() as session:
        sweep.retire(session, [f"packages/{n}" for n in range(1_200)], now=1)
    sweep.reclaim(world.app.database, ["packages/7", "packages/1100", "none"])
    left = {row.path for row in rows(world, Retired)}
    assert left == {f"packages/{n}" for n in range(1_200)} - {"packages/7", "packages/1100"}


def test_an_object_nobody_made_is_never_deleted(world):
    strange = ["packages/aa/bb/readme.txt", "index/1/noarch/other/thing", "../outside"]
    with world.app.database.write() as session:
        sweep.retire(session, strange, now=1)
    for path in strange[:2]:
        file = world.app.settings.data / "blobs" / path
        file.parent.mkdir(parents=True)
        file.write_bytes(b"mine")
    run(world, days=30)
    assert {path for path in stored(world) if "readme" in path or "other" in path} == set(strange[:2])


def test_a_deleted_channel_keeps_everything_for_its_days_and_then_leaves_nothing(world):
    world.put()
    world.put(conda_package("other", subdir="linux-64"))
    world.channel("stays")
    kept = world.put(conda_package("kept"), channel="stays")
    shared = world.put(channel="stays")
    publish_index(world)
    before = stored(world)
    mine = {path for path in before if path.startswith("index/1/")}
    assert mine
    delete_channel(world)
    assert run(world, days=6.9) == sweep.Swept()
    assert stored(world) == before
    assert run(world, days=0.2).channels == 1
    assert [row.name for row in rows(world, Channel)] == ["stays"]
    assert {row.channel_id for row in rows(world, Artifact)} == {2}
    run(world, days=7.1)
    left = {keys.package(done.sha256).path for done in (kept, shared)}
    assert {path for path in stored(world) if path.startswith("packages/")} == left
    assert stored(world, "index/1/") == set()
    assert stored(world, "index/2/")
    publish_index(world)
    assert list(fsck.check(world.app.database, world.app.blobs, deep=True)) == []


class Failing:
    """A database whose n-th transaction to write fails at its end, as when the server is killed there."""

    def __init__(self, database, number):
        self._database, self.left = database, number
        self.read = database.read

    @contextmanager
    def write(self):
        self.left -= 1
        with self._database.write() as session:
            yield session
            if self.left == 0:
                raise Unavailable


def test_a_sweep_that_is_cut_off_anywhere_is_finished_by_the_next(world):
    """A deleted channel goes in pieces; whatever is left of it is found again, and nothing that is shared goes with it."""
    kept = []
    for number in range(100):
        name, done = f"doomed{number}", 0
        world.channel(name)
        for package in ("demo", "other"):
            world.put(conda_package(package, f"1.{number}"), channel=name)
        kept.append(world.put(conda_package("demo", f"1.{number}")).sha256)
        publish_index(world)
        delete_channel(world, name)
        world.now += 8 * DAY
        failing = Failing(world.app.database, number + 1)
        try:
            sweep.sweep(failing, world.app.blobs, now=world.now, keep_ms=WEEK)
        except Unavailable:
            errors = [finding for finding in fsck.check(world.app.database, world.app.blobs) if finding.harm == "error"]
            assert errors == []
        else:
            done = failing.left
        run(world)
        assert {row.name for row in rows(world, Channel)} == {"lab"}
        if done > 0:
            break
    assert number > 6  # there were that many places to be cut off at
    run(world, days=8)
    run(world, days=8)
    assert stored(world, "packages/") == {keys.package(sha256).path for sha256 in kept}
    assert {path.split("/")[1] for path in stored(world, "index/")} == {"1"}
    assert list(fsck.check(world.app.database, world.app.blobs, deep=True)) == []


def test_an_object_a_pointer_names_is_not_deleted_even_if_it_was_retired(world):
    """Two builds at once: one retires what the other is about to name."""
    world.put()
    publish_index(world)
    before = {path for path in stored(world) if "/shards/" not in path}
    with world.app.database.write() as session:
        sweep.retire(session, before, now=1)
    run(world)
    assert stored(world) >= before
    assert list(fsck.check(world.app.database, world.app.blobs, deep=True)) == []


def leave(world, data, *, days):
    """An object as a crash leaves it, so many days old by the store's clock."""
    key = keys.package(hashlib.sha256(data).hexdigest())
    world.app.blobs.put(key, data)
    at = world.now / 1000 - days * DAY / 1000
    os.utime(world.app.settings.data / "blobs" / key.path, (at, at))
    return key


def test_what_nobody_knows_goes_when_it_is_old_and_was_let_go_on_purpose(world):
    world.put()
    publish_index(world)
    before = stored(world)
    old, young, wanted = leave(world, b"old", days=2), leave(world, b"young", days=0.9), leave(world, b"wanted", days=2)
    stranger = world.app.settings.data / "blobs" / "packages" / "readme.txt"
    stranger.write_text("mine")
    os.utime(stranger, (1, 1))
    run(world, days=8)
    assert stored(world) == before | {old.path, young.path, wanted.path, "packages/readme.txt"}
    world.now -= 8 * DAY
    gone = sweep.retire_unknown(world.app.database, world.app.blobs, now=world.now)
    assert {entry.path for entry in gone} == {old.path, wanted.path}
    run(world)
    assert old.path in stored(world)
    sweep.reclaim(world.app.database, [wanted.path])  # whoever brings it again says so first
    run(world, days=8)
    assert stored(world) == before | {young.path, wanted.path, "packages/readme.txt"}


def test_a_deleted_channels_name_is_free_again_only_when_its_rows_are_gone(world):
    delete_channel(world)
    with pytest.raises(NameTaken):
        world.channel("lab")
    run(world, days=8)
    assert world.channel("lab") > 1


def test_a_new_channel_never_gets_the_number_of_one_whose_objects_wait_to_be_swept(world):
    world.put()
    publish_index(world)
    delete_channel(world)
    run(world, days=8)
    assert world.channel("next") > 1
    done = world.put(channel="next")
    assert done.subdir_id > 1
    publish_index(world)
    run(world, days=8)
    assert list(fsck.check(world.app.database, world.app.blobs, deep=True)) == []
    assert world.documents(channel="next")


def test_a_channel_of_a_restored_database_keeps_its_index_whatever_number_it_gets(world):
    with world.app.database.write() as session:
        # the number that comes next, on the list from before the backup
        sweep.retire(session, [keys.channel_prefix(2)], now=1)
    assert world.channel("next") == 2
    world.put(channel="next")
    publish_index(world)
    run(world, days=8)
    assert list(fsck.check(world.app.database, world.app.blobs, deep=True)) == []


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_in_whatever_order_nothing_referenced_is_ever_gone(world, seed):
    """Uploads, replacements, deletions, deleted channels, index builds and sweeps at random; after each, all is whole."""
    chance = random.Random(seed)
    names = ["lab", "second"]
    world.channel("second")
    for name in names:
        world.set(name, allow_overwrite=True)
    packages = [conda_package("demo", version, files={"x": text}) for version in ("1", "2") for text in (b"a", b"b")]
    for step in range(30):
        world.now += chance.choice([0, 0, DAY, 5 * DAY])
        channel = chance.choice(names)
        match chance.choice(["put", "put", "put", "remove", "index", "index", "sweep", "sweep", "channel"]):
            case "put":
                world.put(chance.choice(packages), channel=channel, force=True)
            case "remove":
                live = [row for row in rows(world, Artifact) if row.deleted_at is None]
                home = {row.id: row.name for row in rows(world, Channel) if row.deleted_at is None}
                if live and (row := chance.choice(live)).channel_id in home:
                    remove(world, row.filename, home[row.channel_id])
            case "index":
                publish_index(world)
            case "sweep":
                run(world)
            case "channel":
                delete_channel(world, channel)
                names.remove(channel)
                names.append(f"new-{step}")
                world.channel(names[-1])
                world.set(names[-1], allow_overwrite=True)
        found = [finding for finding in fsck.check(world.app.database, world.app.blobs) if finding.harm == "error"]
        assert found == [], step
    assert len(rows(world, Subdir)) > 0
