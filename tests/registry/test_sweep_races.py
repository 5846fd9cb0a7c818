"""What others do while a sweep is in the middle of something, and a store that fails it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event, select

from fairway.blobs import keys
from fairway.db.engine import Database
from fairway.db.models import Artifact
from fairway.registry import fsck, sweep, withdraw
from fairway.registry.actor import CONSOLE
from tests.registry.world import DAY, World

WEEK = 7 * DAY


@pytest.fixture
def other(world: World) -> Iterator[Database]:
    """The same database as another process has it open."""
    database = Database(world.app.database.url.render_as_string(hide_password=False))
    yield database
    database.close()


def run(world: World, database: Database, blobs: object = None) -> sweep.Swept:
    return sweep.sweep(database, blobs or world.app.blobs, now=world.now, keep_ms=WEEK)


@contextmanager
def beside(act: Callable[[], object]) -> Iterator[list[object]]:
    """Do something in a thread; what came of it is in the list at the end of the block."""
    came: list[object] = []

    def call() -> None:
        try:
            came.append(act())
        except Exception as error:
            came.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    yield came
    thread.join(30)
    assert came


@pytest.mark.parametrize("at", ["INSERT INTO retired", "UPDATE artifacts SET purged_at"])
def test_a_deleted_file_that_is_published_again_in_the_middle_of_a_sweep_stays(world, other, at):
    world.set(allow_overwrite=True)
    done = world.put()
    with world.app.database.write() as session:
        withdraw.delete(session, CONSOLE, "lab", "noarch", done.filename, now=world.now)
    world.now += 8 * DAY
    reached, go_on = threading.Event(), threading.Event()

    @event.listens_for(other.writer, "before_cursor_execute")
    def hold(_, __, statement, *___):
        if statement.startswith(at):
            reached.set()
            assert go_on.wait(10)

    with beside(lambda: run(world, other)):
        assert reached.wait(10)
        with beside(lambda: world.put(force=True)) as came:
            go_on.wait(0.5)  # time enough to pass the sweep, if it can
            go_on.set()
    assert came[0].created, came
    world.publish_index()
    with world.app.database.read() as session:
        row = session.scalars(select(Artifact)).one()
    assert (row.deleted_at, row.purged_at) == (None, None)
    for _ in range(2):
        world.now += 8 * DAY
        run(world, other)
    assert world.app.blobs.stat(keys.package(done.sha256))
    assert list(fsck.check(world.app.database, world.app.blobs, deep=True)) == []
