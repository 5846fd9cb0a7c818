"""The schema: made, taken back and made again; the same as the models; refused when a newer version wrote it."""

import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, event, inspect, text

from fairway.conda.names import SUBDIR_NUMBERS
from fairway.db import migrate
from fairway.db.engine import Database
from fairway.db.models import Base
from fairway.errors import SetupError
from tests.conftest import DATABASES
from tests.support.postgres import fresh_database
from tests.support.servers import Missing


@pytest.fixture(params=DATABASES)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without any table."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'fairway.db'}")
        yield database
        database.close()
        return
    try:
        with fresh_database() as url:
            database = Database(url)
            yield database
            database.close()
    except Missing as reason:
        pytest.skip(f"no PostgreSQL: {reason}")


def schema(database: Database) -> dict[str, object]:
    """Tables with columns, keys and indexes, as the database itself tells."""
    found = inspect(database.writer)
    return {
        table: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(table)],
            found.get_pk_constraint(table)["constrained_columns"],
            sorted((key["constrained_columns"], key["referred_table"], str(key["options"])) for key in found.get_foreign_keys(table)),
            sorted((index["column_names"], index["unique"]) for index in found.get_indexes(table) if not str(index["name"]).endswith(TRIGRAMS)),
            sorted(constraint["column_names"] for constraint in found.get_unique_constraints(table)),
        )
        for table in sorted(found.get_table_names())
        if table not in {"alembic_version", "sqlite_sequence"} and not table.startswith(WORDS)
    }  # fmt: skip


# the index of words, which each database keeps in its own way and no model knows
WORDS, TRIGRAMS = "package_words", "_trigrams"


def of_models(_, name, kind, *__):
    return not (kind == "table" and name.startswith(WORDS)) and not (kind == "index" and name.endswith(TRIGRAMS))


def test_up_down_and_up_again_give_the_same_schema(empty):
    assert migrate.current(empty) is None
    migrate.upgrade(empty)
    assert migrate.current(empty) == migrate.HEAD
    first = schema(empty)
    assert set(first) == set(Base.metadata.tables)
    migrate.downgrade(empty, "base")
    assert (schema(empty), migrate.current(empty)) == ({}, None)
    migrate.upgrade(empty)
    assert schema(empty) == first
    migrate.upgrade(empty)  # nothing to do
    assert schema(empty) == first


def test_the_migrations_make_what_the_models_say(empty):
    migrate.upgrade(empty)
    with empty.writer.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_object": of_models})
        assert compare_metadata(context, Base.metadata) == []


def test_on_sqlite_also_what_alembic_does_not_compare(tmp_path):
    """AUTOINCREMENT and WITHOUT ROWID are seen only in the statements."""
    database = Database(f"sqlite:///{tmp_path / 'migrated.db'}")
    migrate.upgrade(database)
    engine = create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    Base.metadata.create_all(engine)

    def marks(used):
        query = text("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        with used.connect() as connection:
            rows = connection.execute(query).all()
        return {
            name: [mark for mark in ("AUTOINCREMENT", "WITHOUT ROWID", "COLLATE") if mark in sql.upper()]
            for name, sql in rows
            if name != "alembic_version" and not name.startswith(WORDS)
        }

    assert marks(database.writer) == marks(engine)
    assert marks(engine)["channels"] == ["AUTOINCREMENT"]
    engine.dispose()
    database.close()


def test_a_schema_of_a_newer_version_is_refused_in_one_sentence(empty):
    migrate.upgrade(empty)
    with empty.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    before = schema(empty)
    with pytest.raises(SetupError) as caught:
        migrate.upgrade(empty)
    assert caught.value.detail.startswith("The database is at schema 9999, which this version of Fairway does not know")
    assert "\n" not in caught.value.detail
    assert (schema(empty), migrate.current(empty)) == (before, "9999")


def test_two_that_start_at_once_migrate_once(empty):
    failures = []

    def start():
        database = Database(empty.url.render_as_string(hide_password=False))
        try:
            migrate.upgrade(database)
        except Exception as error:
            failures.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert migrate.current(empty) == migrate.HEAD


def test_who_finds_the_database_empty_and_then_not_is_content(empty):
    """Another one that starts migrates in the moment between looking and locking."""
    first = Database(empty.url.render_as_string(hide_password=False))
    looked = []

    def meanwhile(_):
        if len(looked) == 1:
            looked.append("migrated")
            migrate.upgrade(first)
        looked.append("looked")

    event.listen(empty.reader, "engine_connect", meanwhile)
    event.listen(empty.writer, "engine_connect", meanwhile)
    try:
        migrate.upgrade(empty)
    finally:
        first.close()
    assert looked[:3] == ["looked", "migrated", "looked"]
    assert migrate.current(empty) == migrate.HEAD


def test_shards_that_were_objects_are_let_go_of_and_asked_for_anew(empty):
    """0002, up and down, on a database in use."""
    migrate.upgrade(empty, "0001")
    with empty.writer.begin() as connection:
        for statement in (
            """INSERT INTO channels
               (id, name, visibility, description, allow_v3, allow_overwrite, created_at, artifacts, size)
               VALUES (7, 'lab', 'private', '', true, false, 1, 0, 0)""",
            "INSERT INTO subdirs (id, channel_id, name, changed) VALUES (3, 7, 'noarch', 5)",
            """INSERT INTO pointers (subdir_id, shards_built, flat_built, shards_at, flat_at, lease_until)
               VALUES (3, 5, 5, 99, 99, 0)""",
            "INSERT INTO shards (subdir_id, name, changed, sha256) VALUES (3, 'demo', 5, NULL)",
        ):
            connection.execute(text(statement))
    migrate.upgrade(empty)
    paths = ["index/7/noarch/repodata_shards.msgpack.zst/", "index/7/noarch/shards/"]
    with empty.writer.connect() as connection:
        assert connection.execute(text("SELECT path, retired_at FROM retired ORDER BY path")).all() == [
            (path, 99) for path in paths
        ]
        assert connection.scalar(text("SELECT shards_built FROM pointers")) == 0
        assert connection.scalar(text("SELECT count(*) FROM shards WHERE due")) == 1
    migrate.downgrade(empty, "0001")
    with empty.writer.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM retired")) == 0
        assert connection.execute(text("SELECT name, changed FROM shards")).all() == [("demo", 5)]
    migrate.upgrade(empty)
    assert migrate.current(empty) == migrate.HEAD


OLD_ROWS = (
    """INSERT INTO channels (id, name, visibility, description, allow_v3, allow_overwrite, created_at, artifacts, size)
       VALUES (7, 'lab', 'private', '', true, false, 1, 3, 60), (8, 'bare', 'public', '', true, false, 5, 0, 0)""",
    "INSERT INTO subdirs (id, channel_id, name, changed) VALUES (3, 7, 'noarch', 5), (4, 7, 'linux-64', 5)",
    """INSERT INTO packages (id, channel_id, name, created_at, updated_at, live, version, version_key, summary, licence)
       VALUES (1, 7, 'demo', 1, 40, 2, '2', '\\x02', 'Arrays', 'MIT'), (2, 7, 'gone', 1, 30, 0, '', '', '', '')""",
    *(
        f"""INSERT INTO artifacts (id, channel_id, subdir_id, package_id, filename, name, version, version_key, build,
            build_number, section, sha256, md5, size, indexed_at, deleted_at)
            VALUES ({number}, 7, {subdir}, {package}, '{name}-{version}-0.conda', '{name}', '{version}', '{key}', '0', 0, 1,
            's{number}', 'm', 20, 1, {deleted})"""
        for number, subdir, package, name, version, key, deleted in (
            (1, 3, 1, "demo", "1", "\\x01", "NULL"),
            (2, 4, 1, "demo", "2", "\\x02", "NULL"),
            (3, 3, 2, "gone", "1", "\\x01", "9"),
        )
    ),
    *(
        f"""INSERT INTO records (subdir_id, section, name, filename, record)
            VALUES ({subdir}, 1, 'demo', 'demo-{version}-0.conda', '{record}')"""
        for subdir, version, record in (
            (3, "1", '{"depends":["old"]}'),
            (4, "2", '{"depends":["Python >=3","__glibc >=2","conda-forge::numpy 1.*","numpy","bad spec["]}'),
        )
    ),
    "INSERT INTO downloads (artifact_id, day, count) VALUES (1, 100, 3), (2, 100, 4), (2, 101, 5), (3, 101, 6)",
    """INSERT INTO audit (id, at, actor, action, channel_id, subject, details) VALUES
       (1, 1, 'a', 'artifact.publish', 7, 'linux-64/demo-2-0.conda', '{}'), (2, 1, 'a', 'channel.create', 7, 'lab', '{}'),
       (3, 1, 'a', 'artifact.delete', 7, 'noarch/gone-1-0.conda', '{}'), (4, 1, 'a', 'artifact.publish', 9, 'x', '{}')""",
)


def in_words_of(connection, statement):
    """Bytes are written in PostgreSQL's way."""
    if connection.dialect.name == "sqlite":
        return statement.replace("'\\x02'", "x'02'").replace("'\\x01'", "x'01'")
    return statement


def column(connection, query):
    return [tuple(row) for row in connection.execute(text(query))]


def test_what_pages_need_is_counted_from_what_is_there(empty):
    """0003 and 0004, up and down, on a database in use."""
    migrate.upgrade(empty, "0002")
    with empty.writer.begin() as connection:
        for statement in OLD_ROWS:
            connection.exec_driver_sql(in_words_of(connection, statement))
    for _ in range(2):
        migrate.upgrade(empty)
        with empty.writer.connect() as connection:
            bits = {name: 1 << SUBDIR_NUMBERS[name] for name in ("noarch", "linux-64")}
            assert column(connection, "SELECT name, places, downloads FROM packages ORDER BY id") == [
                ("demo", bits["noarch"] | bits["linux-64"], 12),
                ("gone", 0, 6),
            ]
            assert column(connection, "SELECT name, updated_at, packages FROM channels ORDER BY id") == [
                ("lab", 40, 1),
                ("bare", 5, 0),
            ]
            assert column(connection, "SELECT package_id, day, count FROM package_days ORDER BY 1, 2") == [
                (1, 100, 7),
                (1, 101, 5),
                (2, 101, 6),
            ]
            assert column(connection, "SELECT channel_id, day, count FROM channel_days ORDER BY 1, 2") == [
                (7, 100, 7),
                (7, 101, 11),
            ]
            assert column(connection, "SELECT package_id, name FROM needs ORDER BY name") == [
                (1, "bad"), (1, "numpy"), (1, "python"),
            ]  # fmt: skip
            assert column(connection, "SELECT id, package_id FROM audit ORDER BY id") == [
                (1, 1),
                (2, None),
                (3, 2),
                (4, None),
            ]
            if connection.dialect.name == "sqlite":
                found = 'SELECT rowid FROM package_words WHERE package_words MATCH \'"arr" AND "ays"\''
                assert column(connection, found) == [(1,)]
        migrate.downgrade(empty, "0002")
    with empty.writer.connect() as connection:
        assert column(connection, "SELECT id FROM artifacts WHERE deleted_at IS NULL ORDER BY id") == [(1,), (2,)]


def test_going_back_what_was_yanked_counts_as_deleted(empty):
    migrate.upgrade(empty, "0002")
    with empty.writer.begin() as connection:
        for statement in OLD_ROWS[:6]:
            connection.exec_driver_sql(in_words_of(connection, statement))
    migrate.upgrade(empty)
    with empty.writer.begin() as connection:
        connection.execute(text("UPDATE artifacts SET yanked_at = 77, yank_reason = 'bad' WHERE id = 2"))
        connection.execute(text("DELETE FROM records WHERE subdir_id = 4"))
    migrate.downgrade(empty, "0002")
    with empty.writer.connect() as connection:
        assert column(connection, "SELECT id, deleted_at FROM artifacts ORDER BY id") == [(1, None), (2, 77), (3, 9)]
        assert column(connection, "SELECT artifacts, size FROM channels WHERE id = 7") == [(2, 40)]
        assert column(connection, "SELECT live FROM packages ORDER BY id") == [(1,), (0,)]


def test_going_back_what_only_an_upstream_had_goes_and_what_is_ours_stays(empty):
    migrate.upgrade(empty, "0002")
    with empty.writer.begin() as connection:
        for statement in OLD_ROWS[:6]:
            connection.exec_driver_sql(in_words_of(connection, statement))
    migrate.upgrade(empty)
    with empty.writer.begin() as connection:
        connection.execute(text("UPDATE packages SET remote = 3, reserved = false, version = '9' WHERE name = 'gone'"))
        connection.execute(
            text(
                "INSERT INTO packages (id, channel_id, name, created_at, updated_at, live, remote, places, downloads, version,"
                " version_key, summary, licence) SELECT 9, channel_id, 'theirs', 1, 1, 0, 3, 1, 0, '9', version_key, '', ''"
                " FROM packages WHERE name = 'demo'"
            )
        )
    migrate.downgrade(empty, "0004")
    with empty.writer.connect() as connection:
        assert column(connection, "SELECT id FROM artifacts ORDER BY id") == [(1,), (2,), (3,)]
        assert column(connection, "SELECT name, version FROM packages ORDER BY id") == [("demo", "2"), ("gone", "")]


def test_subdirs_keep_the_numbers_the_migration_gave_them():
    module = import_module("fairway.db.migrations.versions.0003_what_pages_need")
    assert {name: number for number, name in enumerate(module.SUBDIRS)}.items() <= SUBDIR_NUMBERS.items()
    assert max(SUBDIR_NUMBERS.values()) < 63
