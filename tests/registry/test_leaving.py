"""Channels of many upstream names that go: a few rows at a time, since whoever writes waits meanwhile, and from anywhere on."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import event, func, select

from fairway.app import Fairway
from fairway.cli.upstreams import run
from fairway.db.models import Base, Channel
from fairway.registry import channels, upstreams
from fairway.registry.actor import CONSOLE
from fairway.registry.sweep import BATCH, sweep
from fairway.registry.upstreams import Settings
from fairway.settings import load
from tests.support.site import Site
from tests.support.upstream import Upstream

NAMES = 4_000
# Of a batch of names: each its package, what that needs and is wanted for, and the rows of the search
ROWS_OF_A_NAME = 12


@pytest.fixture
def upstream():
    with Upstream(documents=("json",)) as upstream:
        for number in range(NAMES):
            upstream.add(f"p{number:04}", depends=[f"p{number // 2:04}"])
        upstream.publish()
        yield upstream


@pytest.fixture
def site(database_url, tmp_path, upstream):
    options = {"data": tmp_path / "data", "database_url": database_url, "upstream_allow": upstream.allow}
    with Fairway(load(options, environ={})) as app, Site(app) as site:
        site.user("owner")
        site.channel("lab", "public", owner="owner")
        with app.database.write() as session:
            view = upstreams.attach(session, CONSOLE, "lab", Settings(upstream.url), now=app.now())
        assert run(app, view.channel_id).names == NAMES
        yield site


def rows(site):
    """How many rows each table has that says whose they are."""
    with site.app.database.read() as session:
        number = session.scalar(select(Channel.id).where(Channel.name == "lab"))
        return number, {
            table.name: session.scalar(select(func.count()).select_from(table))
            for table in Base.metadata.sorted_tables
            if table.name not in {"users", "channels", "members", "audit", "retired", "jobs"}
        }


def delete(site):
    with site.app.database.write() as session:
        channels.delete_channel(session, CONSOLE, "lab", now=site.app.now())


def swept(site):
    return sweep(site.app.database, site.app.blobs, now=site.app.now() + 1_000, keep_ms=0)


def test_a_channel_with_an_upstream_is_buried_a_few_rows_at_a_time(site):
    if not site.app.database.is_sqlite:
        pytest.skip("elsewhere nobody waits for it")
    changes = [0]
    event.listen(
        site.app.database.writer,
        "commit",
        lambda connection: changes.append(connection.connection.dbapi_connection.total_changes),
    )
    delete(site)
    changes[:] = changes[-1:]
    assert swept(site).channels == 1
    most = max(after - before for before, after in itertools.pairwise(changes))
    assert 0 < most <= ROWS_OF_A_NAME * BATCH
    assert most < NAMES


def test_burying_goes_on_from_wherever_it_was_broken_off(site):
    class Broken(Exception):
        pass

    def breaks(*_):
        left[0] -= 1
        if not left[0]:
            raise Broken

    delete(site)
    assert site.client.get("/lab/noarch/repodata.json").status_code == 401
    left = [0]
    # psycopg takes no connection back whose commit was kept from it; SQLite is asked much past SQLAlchemy
    moment = "commit" if site.app.database.is_sqlite else "before_cursor_execute"
    event.listen(site.app.database.writer, moment, breaks)
    for left[0] in (1, 2, 4, 6, 8, 10) if site.app.database.is_sqlite else (1, 3, 6, 10, 15, 20):
        with pytest.raises(Broken):
            swept(site)
        assert site.client.get("/lab/noarch/repodata.json").status_code == 401
    left[0] = 0
    assert swept(site).channels == 1
    number, there = rows(site)
    assert number is None
    assert {name: count for name, count in there.items() if count} == {}
