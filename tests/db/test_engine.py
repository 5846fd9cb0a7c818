"""Transactions on both databases: who waits, who sees what, what is rolled back, what errors become."""

import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from fairway.db import engine
from fairway.db.engine import Database
from fairway.db.models import Job
from fairway.errors import SetupError, StorageFull, Unavailable


def job(key, run_at=0):
    return Job(kind="test", key=key, run_at=run_at, lease_until=0, attempts=0)


def add(database, key="a", *, raising=None):
    """Add a row; then raise, inside the transaction, if asked to."""
    with database.write() as session:
        session.add(job(key))
        session.flush()
        if raising is not None:
            raise raising


def count(database):
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Job))


def in_threads(function, times):
    """Run in that many threads at once; what was raised."""
    failures = []

    def run(n):
        try:
            function(n)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


@pytest.fixture
def sqlite(database):
    if not database.is_sqlite:
        pytest.skip("this is about SQLite")
    return database


def test_sqlite_is_set_up_to_survive_a_power_cut(sqlite):
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 3_000}
    for pool, query_only in ((sqlite.reader, 1), (sqlite.writer, 0)):
        with pool.connect() as connection:
            found = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in (*wanted, "query_only")}
        assert found == {**wanted, "query_only": query_only}


def test_a_write_is_one_transaction_that_everybody_sees_after_it(database):
    with database.write() as session:
        session.add(job("a"))
        session.flush()
        assert count(database) == 0
        session.add(job("b"))
    assert count(database) == 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Unavailable])
def test_a_write_that_raises_leaves_nothing(database, error):
    with pytest.raises(error):
        add(database, raising=error)
    assert count(database) == 0
    add(database)  # and holds nothing up
    assert count(database) == 1


def test_a_read_is_one_moment_whatever_is_written_meanwhile(database):
    add(database, "a")
    with database.read() as session:
        query = select(func.count()).select_from(Job)
        assert session.scalar(query) == 1
        add(database, "b")
        assert session.scalar(query) == 1
    assert count(database) == 2


def test_a_read_cannot_write(database):
    with pytest.raises((Unavailable, DBAPIError)), database.read() as session:
        session.execute(insert(Job).values(kind="test", key="a", run_at=0, lease_until=0, attempts=0))
    assert count(database) == 0


def test_threads_and_processes_that_read_and_then_write_never_fail_and_lose_nothing(database):
    add(database)
    # each has its own pool, as the server and a command beside it have
    pools = [database, *(Database(database.url.render_as_string(hide_password=False)) for _ in range(2))]

    def increase(n):
        for _ in range(5):
            with pools[n % 3].write() as session:
                row = session.scalars(select(Job).with_for_update()).one()
                time.sleep(0.002)
                row.run_at += 1

    assert in_threads(increase, 9) == []
    with database.read() as session:
        assert session.scalar(select(Job.run_at)) == 45
    for pool in pools[1:]:
        pool.close()


def test_readers_do_not_wait_for_a_writer(database):
    add(database)
    with database.write() as session:
        session.scalars(select(Job).with_for_update()).one().run_at = 7
        session.flush()
        assert in_threads(lambda _: count(database), 4) == []


def test_a_writer_beside_another_process_waits_for_its_turn(sqlite):
    script = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("has it", flush=True)
time.sleep(0.5)
connection.execute("COMMIT")
"""
    other = subprocess.Popen([sys.executable, "-c", script, sqlite.url.database], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline().strip() == "has it"
    add(sqlite)
    assert count(sqlite) == 1
    other.communicate()


def test_the_stamp_changes_with_every_commit_and_only_then(database):
    first = database.stamp()
    if database.is_sqlite:
        assert [database.stamp() for _ in range(20)] == [first] * 20
        count(database)
        assert database.stamp() == first
    seen = {first}
    for n in range(3):
        add(database, str(n))
        assert database.stamp() not in seen
        seen.add(database.stamp())
    before = database.stamp()
    with pytest.raises(ValueError, match="no"):
        add(database, "z", raising=ValueError("no"))
    if database.is_sqlite:
        assert database.stamp() == before


def test_the_stamp_changes_with_commits_of_others(database):
    """Another connection, another pool, another process: on SQLite at once, on PostgreSQL within its half second."""
    first = database.stamp()
    other = Database(database.url.render_as_string(hide_password=False))
    add(other)
    other.close()
    if not database.is_sqlite:
        time.sleep(0.6)
    second = database.stamp()
    assert second != first
    if database.is_sqlite:
        script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('DELETE FROM jobs'); c.commit()"
        subprocess.run([sys.executable, "-c", script, database.url.database], check=True)
        assert database.stamp() != second


def test_a_busy_database_is_unavailable_for_now(tmp_path, sqlite_template, monkeypatch):
    monkeypatch.setattr(engine, "PATIENCE_SECONDS", 0.05)
    path = tmp_path / "busy.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as caught:
        add(database)
    assert "locked" not in caught.value.detail
    other.execute("COMMIT")
    other.close()
    add(database)
    database.close()


def test_a_full_disk_is_said_to_be_one(sqlite):
    with sqlite.writer.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar()
        connection.execute(text(f"PRAGMA max_page_count={pages}"))
        connection.rollback()
    with pytest.raises(StorageFull), sqlite.write() as session:
        session.add_all(job("x" * 1_000 + str(n)) for n in range(200))
    assert count(sqlite) == 0


def test_a_database_that_went_away_is_unavailable(tmp_path):
    database = Database("postgresql://nobody:secret@127.0.0.1:9/none")
    with pytest.raises(Unavailable) as caught:
        database.ping()
    assert "secret" not in caught.value.detail
    database.close()
    folder = tmp_path / "gone"
    database = Database(f"sqlite:///{folder / 'fairway.db'}")
    folder.rmdir()
    with pytest.raises(Unavailable):
        database.ping()
    assert database.stamp() != database.stamp()  # nothing can be kept
    database.close()


def test_a_mistake_of_ours_is_not_hidden(database):
    with pytest.raises(DBAPIError, match="no_such_function"), database.read() as session:
        session.execute(text("SELECT no_such_function(1)"))


@pytest.mark.parametrize("url", ["mysql://host/name", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_refused_in_one_sentence(url):
    with pytest.raises(SetupError) as caught:
        Database(url)
    assert "\n" not in caught.value.detail


def test_foreign_keys_hold(database):
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(text("INSERT INTO members (channel_id, user_id, role, added_at) VALUES (9, 9, 'owner', 0)"))
