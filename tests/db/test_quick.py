"""Kept statements: whatever SQLAlchemy would have given, on both databases."""

import pytest
from sqlalchemy import Boolean, bindparam, exists, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from fairway.db import prepared, quick
from fairway.db.models import Audit, Channel, Retired
from fairway.db.upsert import upsert

LINES = insert(Audit.__table__).returning(Audit.__table__.c.subject, Audit.__table__.c.id)
ABOUT = (
    select(Audit.subject, Audit.details, Audit.user_id)
    .where(Audit.action.in_(["a", "b", "c"]), Audit.subject.in_(bindparam("subjects", expanding=True)))
    .order_by(Audit.id)
)
ANY = select(exists().where(Audit.subject == bindparam("subject")))
RENAME = update(Audit.__table__).where(Audit.__table__.c.subject == bindparam("old")).values(subject=bindparam("new"))
HALF = insert(Channel.__table__)


def line(subject, action="a", **more):
    row = {"at": 1, "actor": "me", "user_id": None, "token_id": None, "action": action, "channel_id": None}
    return {**row, "subject": subject, "details": {"é": [1, None]}, **more}


def test_what_goes_in_comes_out(database):
    with database.write() as session:
        run = quick.of(session)
        ids = dict(run.each(LINES, [line("one"), line("two", action="b"), line("three", action="z")]))
        assert sorted(ids) == ["one", "three", "two"]
        assert run.each(LINES, []) == []
    with database.read() as session:
        found = quick.of(session).execute(ABOUT, {"subjects": ["one", "two", "three"]})
        assert [tuple(row) for row in found] == [
            ("one", {"é": [1, None]}, None),
            ("two", {"é": [1, None]}, None),
        ]
        assert [tuple(row) for row in session.execute(ABOUT, {"subjects": ["one", "two", "three"]})] == [
            *map(tuple, found)
        ]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 9, 500])
def test_lists_of_any_length_find_what_they_name(database, count):
    with database.write() as session:
        quick.of(session).each(LINES, [line(str(number)) for number in range(600)])
    with database.read() as session:
        found = quick.of(session).execute(ABOUT, {"subjects": [str(number) for number in range(count)]})
    assert [row[0] for row in found] == [str(number) for number in range(count)]


def test_few_forms_are_kept_whatever_is_asked():
    forms = {prepared.prepared(ABOUT, {"subjects": ["x"] * count}).sql for count in range(1, 501)}
    assert len(forms) == 10


def test_types_are_those_of_the_schema(database):
    assert isinstance(ANY.selected_columns[0].type, Boolean)
    with database.write() as session:
        run = quick.of(session)
        assert run.value(ANY, {"subject": "x"}) is False
        run.execute(LINES, line("x"))
        assert run.value(ANY, {"subject": "x"}) is True
        assert run.execute(RENAME, {"old": "x", "new": "y"}) == []
        assert run.value(ABOUT, {"subjects": ["y"]}) == "y"
        assert run.value(ABOUT, {"subjects": ["x"]}) is None


def test_it_belongs_to_the_transaction(database):
    def write_and_fail():
        with database.write() as session:
            quick.of(session).execute(LINES, line("gone"))
            assert quick.of(session) is quick.of(session)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_and_fail()
    with database.read() as session:
        assert quick.of(session).value(ANY, {"subject": "gone"}) is False


def test_its_errors_are_those_of_everything_else(database):
    # what is unique stays unique, and is said in SQLAlchemy's words
    with database.write() as session:
        upsert(session, Retired, [{"path": "a", "retired_at": 1}], key=["path"])
    plain = insert(Retired.__table__)
    with pytest.raises(IntegrityError), database.write() as session:
        quick.of(session).execute(plain, {"path": "a", "retired_at": 2})
    with database.write() as session:
        quick.of(session).execute(plain, {"path": "b", "retired_at": 2})


def test_a_reader_cannot_write_this_way_either(database):
    if not database.is_sqlite:
        pytest.skip("tests/db/test_engine.py has this for PostgreSQL")
    with pytest.raises(Exception) as caught, database.read() as session:
        quick.of(session).execute(LINES, line("x"))
    assert isinstance(caught.value.__cause__, OperationalError)


def test_an_insert_has_to_say_every_column():
    with pytest.raises(TypeError, match="description"):
        prepared.prepared(HALF, {"name": "x", "visibility": "public", "created_at": 1})
