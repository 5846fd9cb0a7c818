"""Downloads and uses of keys are counted in memory and added up."""

import threading

import pytest
from sqlalchemy import select

from fairway.db.models import Artifact, Channel, ChannelDay, Download, Package, PackageDay, Token
from fairway.errors import Unavailable
from fairway.registry import channels, listing
from fairway.registry.actor import CONSOLE, Actor
from fairway.registry.statistics import Counts, downloads_of
from tests.registry.world import DAY
from tests.support.builders import conda_package

SOMEBODY = Actor(user_id=1, name="somebody", token_id=1)


@pytest.fixture
def artifact(world):
    world.put()
    with world.app.database.read() as session:
        return session.scalar(select(Artifact.id))


def written(world):
    with world.app.database.read() as session:
        return {(row.artifact_id, row.day): row.count for row in session.scalars(select(Download))}


def used(world):
    with world.app.database.read() as session:
        return session.scalar(select(Token.last_used_at))


def test_counts_add_up_by_file_and_day_over_flushes(world, artifact):
    world.put(conda_package("other"))
    counts = Counts()
    for now, file in ((0, artifact), (DAY - 1, artifact), (DAY, artifact), (5, artifact + 1)):
        counts.download(file, now=now)
    assert counts.flush(world.app.database) == 3
    assert written(world) == {(artifact, 0): 2, (artifact, 1): 1, (artifact + 1, 0): 1}
    counts.download(artifact, now=9)
    counts.flush(world.app.database)
    assert written(world)[artifact, 0] == 3
    assert counts.flush(world.app.database) == 0
    with world.app.database.read() as session:
        assert downloads_of(session, [artifact, artifact + 1, 999]) == {artifact: 4, artifact + 1: 1}


def test_two_processes_add_to_the_same_row(world, artifact):
    one, two = Counts(), Counts()
    for counts in (one, two, two):
        counts.download(artifact, now=1)
    one.flush(world.app.database)
    two.flush(world.app.database)
    assert written(world) == {(artifact, 0): 3}


def test_a_file_that_is_gone_does_not_lose_the_others_counts(world, artifact):
    counts = Counts()
    counts.download(artifact, now=1)
    counts.download(artifact + 1_000, now=1)
    counts.flush(world.app.database)
    assert written(world) == {(artifact, 0): 1}


def test_nothing_is_lost_when_a_flush_fails(world, artifact):
    class Down:
        def write(self):
            raise Unavailable

    world.key()
    counts = Counts()
    counts.download(artifact, now=1)
    counts.used(SOMEBODY, now=1_000_000)
    with pytest.raises(Unavailable):
        counts.flush(Down())
    counts.download(artifact, now=1)
    counts.used(SOMEBODY, now=1_000_001)
    counts.flush(world.app.database)
    assert (written(world), used(world)) == ({(artifact, 0): 2}, 1_000_001)


def test_more_than_one_statement_takes_is_written_after_an_outage(world, artifact):
    """PostgreSQL takes 65,535 values in a statement."""
    counts = Counts()
    for number in range(70_000):
        counts.download(artifact + number, now=1)
    counts.download(artifact, now=1)
    assert counts.flush(world.app.database) == 70_000
    assert written(world) == {(artifact, 0): 2}
    assert counts.flush(world.app.database) == 0


def test_what_was_written_before_a_flush_failed_is_not_counted_again(world, artifact):
    class Failing:
        """Breaks down at the third transaction."""

        begun = 0

        def write(self):
            self.begun += 1
            if self.begun == 3:
                raise Unavailable
            return world.app.database.write()

    world.key()
    counts = Counts()
    for day in range(1_700):
        counts.download(artifact, now=day * DAY)
    counts.used(SOMEBODY, now=1_000_000)
    with pytest.raises(Unavailable):
        counts.flush(Failing())
    assert 0 < len(written(world)) < 1_700
    counts.download(artifact, now=0)
    counts.flush(world.app.database)
    assert written(world) == {(artifact, day): 1 + (day == 0) for day in range(1_700)}
    assert used(world) == 1_000_000


def test_many_threads_count_every_download(world, artifact):
    counts = Counts()

    def download():
        for _ in range(500):
            counts.download(artifact, now=1)

    threads = [threading.Thread(target=download) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        counts.flush(world.app.database)
    counts.flush(world.app.database)
    assert written(world) == {(artifact, 0): 4_000}


def test_the_last_use_of_a_key_is_written_every_five_minutes_at_most(world):
    world.key()
    counts = Counts()
    counts.used(SOMEBODY, now=1_000_000)
    assert counts.flush(world.app.database) == 1
    counts.used(SOMEBODY, now=1_299_999)
    assert counts.flush(world.app.database) == 0
    assert used(world) == 1_000_000
    counts.used(SOMEBODY, now=1_300_000)
    counts.flush(world.app.database)
    assert used(world) == 1_300_000


def test_downloads_count_for_the_package_and_the_channel_of_their_day(world, artifact):
    world.channel("other")
    world.put(conda_package("demo", "2.0"))
    world.put(conda_package("else"))
    world.put(conda_package("demo"), channel="other")
    counts = Counts()
    for file, now, times in (
        (artifact, 0, 2),
        (artifact + 1, 0, 1),
        (artifact + 1, DAY, 4),
        (artifact + 2, 0, 1),
        (artifact + 3, 0, 7),
    ):
        for _ in range(times):
            counts.download(file, now=now)
    for _ in range(2):  # what is there already grows
        counts.flush(world.app.database)
        counts.download(artifact, now=0)
    with world.app.database.read() as session:
        packages = {(row.name, row.channel_id): (row.id, row.downloads) for row in session.scalars(select(Package))}
        package_days = {(row.package_id, row.day): row.count for row in session.scalars(select(PackageDay))}
        channel_days = {(row.channel_id, row.day): row.count for row in session.scalars(select(ChannelDay))}
        lab, other = session.scalars(select(Channel.id).order_by(Channel.id))
    demo, rest, there = packages["demo", lab], packages["else", lab], packages["demo", other]
    assert (demo[1], rest[1], there[1]) == (8, 1, 7)
    assert package_days == {(demo[0], 0): 4, (demo[0], 1): 4, (rest[0], 0): 1, (there[0], 0): 7}
    assert channel_days == {(lab, 0): 5, (lab, 1): 4, (other, 0): 7}


def test_what_is_downloaded_of_a_channel_on_its_way_out_is_not_counted(world, artifact):
    counts = Counts()
    counts.download(artifact, now=0)
    with world.app.database.write() as session:
        channels.delete_channel(session, CONSOLE, "lab", now=world.now)
    counts.flush(world.app.database)
    assert written(world) == {}


def test_a_channel_in_numbers(world, artifact):
    world.put(conda_package("only", subdir="linux-64"))
    counts = Counts()
    for day in (0, 0, 5, 400):
        counts.download(artifact, now=world.now - day * DAY)
    counts.flush(world.app.database)
    with world.app.database.read() as session:
        found = listing.statistics(session, listing.enter(session, CONSOLE, "lab"), days=7, now=world.now)
    assert (found.days, found.total) == ((0, 1, 0, 0, 0, 0, 2), 4)
    assert [(row.name, row.downloads) for row in found.most] == [("demo", 4)]
    assert found.platforms == {"linux-64": 1, "noarch": 1}
