"""A PostgreSQL that does not allow pg_trgm: everything is there but the index, and search finds the same."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from fairway.app import Fairway
from fairway.cli.maintain import search_state
from fairway.db import migrate
from fairway.registry import search
from fairway.registry.actor import CONSOLE
from fairway.settings import load
from tests.conftest import FULL
from tests.registry.world import World
from tests.support.builders import conda_package
from tests.support.postgres import fresh_database

pytestmark = pytest.mark.skipif(not FULL, reason="PostgreSQL is for the full run (FAIRWAY_TEST_FULL=1)")


@pytest.fixture
def modest() -> Iterator[str]:
    """A database that belongs to nobody who may create an extension in it."""
    from psycopg import connect, sql

    name, password = f"modest_{secrets.token_hex(4)}", secrets.token_hex(8)
    with fresh_database() as url:
        with connect(url, autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
            )
            admin.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(sql.Identifier(name)))
        parts = urlsplit(url)
        yield urlunsplit(parts._replace(netloc=f"{name}:{password}@{parts.hostname}:{parts.port}"))
        with connect(url, autocommit=True) as admin:
            for statement in ("DROP OWNED BY {}", "DROP ROLE {}"):
                admin.execute(sql.SQL(statement).format(sql.Identifier(name)))


def test_search_works_without_the_extension(modest, tmp_path):
    with Fairway(load({"data": tmp_path / "data", "database_url": modest, "reading_processes": 1}, environ={})) as app:
        world = World(app)
        for name, summary in (("numpy", ""), ("numpy-base", ""), ("py-numpy", ""), ("other", "beside NumPy")):
            world.put(conda_package(name, about={"summary": summary}))
        with app.database.read() as session:
            assert not search.has_index(session)
            found = [hit.name for hit in search.search(session, CONSOLE, "numpy")[0]]
            assert found == ["numpy", "numpy-base", "py-numpy", "other"]
            assert [hit.name for hit in search.search(session, CONSOLE, "numppy")[0]] == ["numpy"]
        assert search_state(app).startswith("without an index of words")
        migrate.downgrade(app.database, "0003")
        migrate.upgrade(app.database)
