"""A clock that is set back, or jumps: order hangs on numbers, and what a time has to say is bounded."""

from __future__ import annotations

import json
import random

import pytest
from sqlalchemy import update

from fairway.db.models import Job, Pointer
from fairway.queue import jobs, worker
from fairway.registry import fsck, withdraw
from fairway.registry.actor import CONSOLE
from fairway.registry.publisher import LEASE_MS, Publisher
from tests.registry.world import DAY, NOW, World
from tests.support.builders import conda_package

HOUR = 3_600_000


@pytest.fixture
def world(fairway):
    return World(fairway)


def build(world: World) -> None:
    app = world.app
    Publisher(app.database, app.blobs, app.staging, clock=lambda: world.now).catch_up()


def times(world: World) -> dict[str, int]:
    """The `indexed_timestamp` of every file in the index."""
    records = json.loads(world.documents()["repodata.json"])["packages.conda"]
    return {filename: record["indexed_timestamp"] for filename, record in records.items()}


def test_a_replaced_file_is_never_older_than_the_one_before(world):
    world.set(allow_overwrite=True)
    first = world.put(conda_package("demo"))
    world.now -= DAY
    second = world.put(conda_package("demo", files={"x": b"other"}), force=True)
    assert second.indexed_timestamp == first.indexed_timestamp
    world.now += 2 * DAY
    third = world.put(conda_package("demo", files={"x": b"third"}), force=True)
    assert third.indexed_timestamp == world.now
    build(world)
    assert times(world) == {first.filename: world.now}


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_clock_does_times_stay_and_the_index_is_right(world, seed):
    chance = random.Random(seed)
    stamps: dict[str, int] = {}
    for number in range(25):
        world.now = NOW + chance.choice([-400 * DAY, -DAY, -HOUR, -1, 0, 0, 1, HOUR, DAY, 400 * DAY])
        if stamps and chance.random() < 0.2:
            gone = chance.choice(sorted(stamps))
            with world.app.database.write() as session:
                withdraw.delete(session, CONSOLE, "lab", "noarch", gone, now=world.now)
            del stamps[gone]
        else:
            done = world.put(conda_package(f"demo{number % 5}", f"1.{number}"))
            stamps[done.filename] = done.indexed_timestamp
        if chance.random() < 0.7:
            build(world)
            assert times(world) == stamps
    build(world)
    assert times(world) == stamps
    found = fsck.check(world.app.database, world.app.blobs, deep=True)
    assert [finding for finding in found if finding.where != "storage"] == []


def test_a_date_that_is_later_than_the_documents_does_not_say_that_nothing_changed(site):
    """The clock was set back between two publications: the newer index has the earlier date."""
    site.channel("lab", "public")
    key = site.key()
    site.put("lab", conda_package("one"), key)
    site.settle()
    path = "/lab/noarch/repodata.json"
    before = site.get(path).headers["last-modified"]
    assert site.get(path, if_modified_since=before).status_code == 304
    site.put("lab", conda_package("two"), key)
    site.settle()
    with site.app.database.write() as session:
        session.execute(update(Pointer).values(flat_at=Pointer.flat_at - HOUR))
    assert site.get(path).headers["last-modified"] != before
    answer = site.get(path, if_modified_since=before)
    assert (answer.status_code, b"two" in answer.content) == (200, True)


def test_a_lease_of_a_clock_that_ran_ahead_holds_nobody_up(world):
    if world.app.database.is_sqlite:
        pytest.skip("one process needs no lease")
    world.put(conda_package("one"))
    build(world)
    world.put(conda_package("two"))
    for until, built in ((world.now + LEASE_MS // 2, False), (world.now + 400 * DAY, True)):
        with world.app.database.write() as session:
            session.execute(update(Pointer).values(lease_until=until))
        build(world)
        assert (len(times(world)) == 2) == built


def test_a_job_is_put_off_by_no_clock_that_ran_ahead(database):
    ran: list[str] = []
    handlers = {"sweep": ran.append}
    with database.write() as session:
        jobs.enqueue(session, "sweep", run_at=NOW + 400 * DAY)
    worker.ensure(database, {"sweep": HOUR}, now=NOW)
    worker.run_due(database, handlers, {"sweep": HOUR}, clock=lambda: NOW)
    assert ran == []
    with database.write() as session:
        session.execute(update(Job).values(lease_until=NOW + 400 * DAY))
    worker.run_due(database, handlers, {"sweep": HOUR}, clock=lambda: NOW + HOUR)
    assert ran == [""]


def test_a_job_that_somebody_runs_is_run_by_nobody_else(database):
    with database.write() as session:
        jobs.enqueue(session, "sweep", run_at=NOW)
        first = jobs.claim(session, now=NOW)
    with database.write() as session:
        assert first is not None
        assert jobs.claim(session, now=NOW) is None
        assert jobs.claim(session, now=NOW + jobs.LEASE_MS - 1) is None
        assert jobs.claim(session, now=NOW + jobs.LEASE_MS) is not None
