"""Rows at once: the same as through a session, for whoever must not wait."""

import threading

import pytest
from sqlalchemy import bindparam, select

from fairway.db.engine import Database
from fairway.db.models import Audit, Channel
from fairway.errors import Unavailable


@pytest.fixture
def rows(tmp_path, sqlite_template):
    path = tmp_path / "fairway.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


NAMED = select(Channel.id, Channel.name, Channel.allow_v3).where(
    Channel.name == bindparam("name"), Channel.deleted_at.is_(None)
)


def make(database: Database, name: str) -> None:
    with database.write() as session:
        session.add(Channel(name=name, visibility="public", created_at=1))


def test_it_sees_what_was_committed_and_nothing_else(rows):
    make(rows, "one")
    assert rows.glance.execute(NAMED, {"name": "one"})[0][1] == "one"
    with rows.write() as session:
        session.add(Channel(name="two", visibility="public", created_at=1))
        session.flush()
        assert rows.glance.execute(NAMED, {"name": "two"}) == []
    assert len(rows.glance.execute(NAMED, {"name": "two"})) == 1


def test_it_gives_what_a_session_gives(rows):
    with rows.write() as session:
        session.add(Audit(at=1, actor="me", action="test", subject="x", details={"b": [1, "é"], "a": None}))
    query = select(Audit.at, Audit.action, Audit.details).where(Audit.subject == bindparam("subject"))
    with rows.read() as session:
        wanted = [tuple(row) for row in session.execute(query, {"subject": "x"})]
    assert rows.glance.execute(query, {"subject": "x"}) == wanted


def test_it_waits_for_no_writer_and_can_be_used_by_any_thread(rows):
    make(rows, "one")
    found = []
    with rows.write() as session:
        session.add(Channel(name="two", visibility="public", created_at=1))
        session.flush()
        thread = threading.Thread(target=lambda: found.extend(rows.glance.execute(NAMED, {"name": "one"})))
        thread.start()
        thread.join(timeout=20)
    assert len(found) == 1


def test_a_file_that_is_no_database_is_unavailable_and_a_good_one_works_again(rows, tmp_path):
    make(rows, "one")
    rows.glance.close()
    path = tmp_path / "fairway.db"
    path.rename(tmp_path / "away")
    with pytest.raises(Unavailable):
        rows.glance.execute(NAMED, {"name": "one"})
    (tmp_path / "away").rename(path)
    assert len(rows.glance.execute(NAMED, {"name": "one"})) == 1
