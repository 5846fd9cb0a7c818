"""What others do while a sweep is in the middle of something, and stores that are slow or fail it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from sqlalchemy import event, select, text

from fairway.blobs import keys
from fairway.blobs.keys import Key
from fairway.db.engine import Database
from fairway.db.models import Artifact, Retired
from fairway.errors import Unavailable
from fairway.registry import fsck, sweep, withdraw
from fairway.registry.actor import CONSOLE
from tests.registry.world import DAY, World
from tests.support.builders import conda_package

WEEK = 7 * DAY


@pytest.fixture
def other(world: World) -> Iterator[Database]:
    """The same database as another process has it open."""
    database = Database(world.app.database.url.render_as_string(hide_password=False))
    yield database
    database.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def run(world: World, database: Database, blobs: object = None) -> sweep.Swept:
    return sweep.sweep(database, blobs or world.app.blobs, now=world.now, keep_ms=WEEK)


def let_go(world: World, *data: bytes) -> list[Key]:
    """Stored objects that are due to be deleted, in the order in which they will be."""
    found = {keys.package(hashlib.sha256(body).hexdigest()): body for body in data}
    for key, body in found.items():
        world.app.blobs.put(key, body)
    with world.app.database.write() as session:
        sweep.retire(session, [key.path for key in found], now=world.now - 8 * DAY)
    return sorted(found, key=lambda key: key.path)


def retired(world: World) -> list[str]:
    with world.app.database.read() as session:
        found = session.scalars(select(Retired.path).order_by(Retired.path))
        return [path for path in found if not path.startswith(sweep.LATE)]


def all_is_well(world: World) -> None:
    world.publish_index()
    assert list(fsck.check(world.app.database, world.app.blobs, deep=True)) == []


class Before:
    """A store that does something else before it deletes."""

    def __init__(self, world: World, act: Callable[[Key], object]) -> None:
        self._store, self._act = world.app.blobs, act

    def delete(self, key: Key) -> bool:
        self._act(key)
        return self._store.delete(key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("at", ["INSERT INTO retired", "UPDATE artifacts SET purged_at"])
def test_a_deleted_file_that_is_published_again_in_the_middle_of_a_sweep_stays(world, other, pool, at):
    if other.is_sqlite and at.startswith("INSERT"):
        pytest.skip("there it makes no difference, and goes past SQLAlchemy")
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

    swept = pool.submit(run, world, other)
    assert reached.wait(10)
    again = pool.submit(world.put, force=True)
    wait([again], timeout=0.5)  # time enough to pass the sweep, if it can
    go_on.set()
    swept.result(30)
    assert again.result(30).created
    world.publish_index()
    with world.app.database.read() as session:
        row = session.scalars(select(Artifact)).one()
    assert (row.deleted_at, row.purged_at) == (None, None)
    for _ in range(2):
        world.now += 8 * DAY
        run(world, other)
    assert world.app.blobs.stat(keys.package(done.sha256))
    all_is_well(world)


def test_a_store_that_is_slower_than_the_databases_patience_costs_no_upload_its_bytes(world, other, pool):
    """Locks on rows end with their session, and PostgreSQL ends one that says nothing for long."""
    if not other.is_sqlite:

        @event.listens_for(other.writer, "begin")
        def hurry(connection):
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '200ms'")

    package = conda_package()
    let_go(world, package[1])
    uploads: list[Future[Any]] = []

    def meanwhile(_: Key) -> None:
        uploads.append(pool.submit(world.put, package))
        wait(uploads, timeout=1.0)

    run(world, other, Before(world, meanwhile))
    (upload,) = uploads
    assert upload.result(30).created
    all_is_well(world)


def test_a_sweep_whose_session_was_ended_deletes_nothing_more(world, other):
    if other.is_sqlite:
        pytest.skip("SQLite ends no sessions")
    first, second = let_go(world, b"one", b"two")
    end = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE state = 'idle in transaction' AND datname = current_database()"  # others use this server, too
    )

    def cut(key: Key) -> None:
        if key == first:
            with world.app.database.read() as session:
                assert session.scalars(end).all() == [True]

    with pytest.raises(Unavailable):
        run(world, other, Before(world, cut))
    assert world.app.blobs.stat(first) is None
    assert world.app.blobs.stat(second)
    run(world, other)
    assert (world.app.blobs.stat(second), retired(world)) == (None, [])


@pytest.mark.parametrize("folder", [False, True])
def test_few_objects_are_deleted_in_one_transaction(world, other, folder):
    """However many are due, and whatever they are listed as."""
    wanted = [keys.document(77 + n % 3, "noarch", "repodata.json", f"{n:064x}") for n in range(60)]
    for key in wanted:
        world.app.blobs.put(key, b"x")
    paths = [keys.channel_prefix(77 + n) for n in range(4)] if folder else [key.path for key in wanted]
    with world.app.database.write() as session:
        sweep.retire(session, paths, now=1)
    deleted = [0]

    @event.listens_for(other.writer, "begin")
    def begun(_):
        deleted.append(0)

    def count(_: Key) -> None:
        deleted[-1] += 1

    run(world, other, Before(world, count))
    assert sum(deleted) == 60
    assert max(deleted) <= sweep.OBJECTS_AT_ONCE
    assert retired(world) == []


def refuse(*bad: Key) -> Callable[[Key], None]:
    def delete(key: Key) -> None:
        if not bad or key in bad:
            raise Unavailable("The object store refuses this server's access key (AccessDenied).")

    return delete


def test_an_object_that_cannot_be_deleted_keeps_no_other(world, other):
    due = let_go(world, *(b"%d" % number for number in range(60)))
    bad = due[0], due[30]
    swept = run(world, other, Before(world, refuse(*bad)))
    assert (swept.objects, swept.failed) == (58, 2)
    assert [key for key in due if world.app.blobs.stat(key)] == list(bad)
    assert retired(world) == [key.path for key in bad]
    assert run(world, other) == sweep.Swept()  # they wait
    world.now += 2 * DAY
    assert run(world, other).objects == 2
    assert retired(world) == []


def test_a_buried_channels_object_that_cannot_be_deleted_keeps_no_other(world, other):
    due = [keys.document(77 + n % 2, "noarch", "repodata.json", f"{n:064x}") for n in range(60)]
    for key in due:
        world.app.blobs.put(key, b"x")
    folders = [keys.channel_prefix(77), keys.channel_prefix(78)]
    with world.app.database.write() as session:
        sweep.retire(session, folders, now=world.now - 8 * DAY)
    run(world, other, Before(world, refuse(due[0])))
    assert [key for key in due if world.app.blobs.stat(key)] == due[:1]
    assert retired(world) == folders[:1]
    world.now += 2 * DAY
    run(world, other)
    assert (world.app.blobs.stat(due[0]), retired(world)) == (None, [])


def test_a_store_that_deletes_nothing_is_not_asked_for_all(world, other):
    due = let_go(world, *(b"%d" % number for number in range(200)))
    asked: list[Key] = []

    def down(key: Key) -> None:
        asked.append(key)
        refuse()(key)

    with pytest.raises(Unavailable, match="AccessDenied"):
        run(world, other, Before(world, down))
    assert 0 < len(asked) < 100
    assert len(retired(world)) == len(due)
    for _ in range(2):
        world.now += 2 * DAY
        run(world, other)
    assert retired(world) == []


def test_files_of_somebody_else_in_a_buried_channels_folder_stay_and_end_no_sweep(world, other):
    mine = keys.document(77, "noarch", "repodata.json", "0" * 64)
    world.app.blobs.put(mine, b"x")
    folder = world.app.settings.data / "blobs" / mine.path
    strange = [folder.with_name(f".nfs{number:04}") for number in range(2 * sweep.OBJECTS_AT_ONCE)]
    for file in strange:
        file.write_bytes(b"theirs")
    with world.app.database.write() as session:
        sweep.retire(session, [keys.channel_prefix(77)], now=1)
    rounds = []

    @event.listens_for(other.writer, "begin")
    def begun(_):
        rounds.append(1)
        assert len(rounds) < 20

    run(world, other)
    assert (world.app.blobs.stat(mine), retired(world)) == (None, [])
    assert [file for file in strange if file.read_bytes() != b"theirs"] == []


def test_others_write_while_a_slow_store_deletes(world, other, pool):
    """On SQLite a sweep that kept the writer for all of its objects would keep everybody out."""
    let_go(world, *(b"%d" % number for number in range(8)))
    uploads: list[Future[Any]] = []
    deleted: list[int] = []  # how many objects were gone when each upload was answered

    def slowly(_: Key) -> None:
        if not uploads:
            uploads.append(pool.submit(world.put))
            uploads[0].add_done_callback(lambda _: deleted.append(8 - len(retired(world))))
        wait(uploads, timeout=sweep.HOLD_SECONDS + 0.1)

    assert run(world, other, Before(world, slowly)).objects == 8
    assert uploads[0].result(30).created
    assert deleted[0] < 8


class Late:
    """A store that does not answer to a DELETE, and carries it out when it is woken."""

    def __init__(self, world: World) -> None:
        self._store = world.app.blobs
        self._heard: list[Key] = []

    def delete(self, key: Key) -> bool:
        self._heard.append(key)
        raise Unavailable

    def wake(self) -> None:
        for key in self._heard:
            self._store.delete(key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_bytes_whose_deletion_was_not_answered_are_taken_again_only_later(world, other):
    """Else a store that wakes up takes what was brought anew."""
    package = conda_package()
    (key,) = let_go(world, package[1])
    store = Late(world)
    with pytest.raises(Unavailable):
        run(world, other, store)
    with pytest.raises(Unavailable, match="has not answered"):
        world.put(package)
    assert world.put(conda_package("other")).created
    world.now += sweep.LATE_MS - 1
    run(world, other)
    with pytest.raises(Unavailable, match="has not answered"):
        world.put(package)
    store.wake()
    world.now += 2
    run(world, other)
    assert world.put(package).created
    for _ in range(2):
        world.now += 8 * DAY
        run(world, other)
    assert world.app.blobs.stat(key)
    all_is_well(world)


def test_who_waits_for_a_sweep_learns_that_the_store_did_not_answer(world, other, pool):
    """Its row is locked until the mark is there."""
    package = conda_package()
    (key,) = let_go(world, package[1])
    uploads: list[Future[Any]] = []

    def unheard(_: Key) -> None:
        uploads.append(pool.submit(world.put, package))
        wait(uploads, timeout=0.5)
        raise Unavailable

    with pytest.raises(Unavailable):
        run(world, other, Before(world, unheard))
    with pytest.raises(Unavailable):
        uploads[0].result(30)
    world.app.blobs.delete(key)
    world.now += 2 * DAY
    run(world, other)
    all_is_well(world)
