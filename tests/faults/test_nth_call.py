"""Every call of an upload and of an index build fails once, one after the other; nothing is ever half done."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from fairway.app import Fairway
from fairway.db.models import Artifact, Audit, Channel, Package, Pointer, Record, Shard, Subdir
from fairway.registry import fsck
from fairway.registry.publisher import Publisher
from fairway.settings import load
from tests.conftest import FULL
from tests.faults.seams import (
    BROKEN,
    FILE_CALLS,
    NO_SPACE,
    Faults,
    database_calls,
    file_calls,
    sqlite_says,
    store_calls,
    terminate,
)
from tests.support.builders import conda_package
from tests.support.site import Site

ROWS = (Artifact, Package, Record, Shard, Subdir, Audit)
MOST = 400
REFUSALS = {503: "busy", 507: "storage_full"}


class Bench:
    """A site with a public channel; each attempt sends a file of its own."""

    def __init__(self, site: Site, faults: Faults) -> None:
        self.site, self.faults = site, faults
        site.channel("lab", "public")
        self.key = site.key()
        self.numbers = count()
        self.seen: set[str] = set()

    @property
    def app(self) -> Fairway:
        return self.site.app

    def package(self) -> tuple[str, bytes]:
        return conda_package("demo", f"1.{next(self.numbers)}")

    def state(self) -> dict[str, Any]:
        with self.app.database.read() as session:
            found: dict[str, Any] = {
                table.__tablename__: session.scalar(select(func.count()).select_from(table)) for table in ROWS
            }
            found["counters"] = [tuple(row) for row in session.execute(select(Channel.artifacts, Channel.size))]
        found["staged"] = list(self.app.staging.folder.iterdir())
        return found

    def pointers(self) -> dict[int, tuple[Any, ...]]:
        with self.app.database.read() as session:
            return {row.subdir_id: (row.flat_built, row.flat) for row in session.scalars(select(Pointer))}

    def whole(self) -> None:
        """Rows, files and index agree, but for what a crash may leave: bytes nobody refers to, an index that is behind."""
        found = list(fsck.check(self.app.database, self.app.blobs, deep=True))
        assert not [finding for finding in found if finding.harm == "error"], found

    def settle(self) -> None:
        self.publisher().catch_up()
        found = [finding for finding in fsck.check(self.app.database, self.app.blobs) if finding.where != "storage"]
        assert found == []

    def publisher(self) -> Publisher:
        """One that remembers no failure."""
        return Publisher(self.app.database, self.app.blobs, self.app.staging, clock=self.app.now)

    def refuse_once(self, number: int, statuses: set[int]) -> bool:
        """Send a file while the n-th call fails; false if so many calls are not made."""
        package, before = self.package(), self.state()
        self.faults.arm(number)
        answer = self.site.put("lab", package, self.key)
        self.faults.arm(0) if self.faults.hit is None else None
        hit = self.faults.hit
        if hit is None:
            assert answer.status_code == 201, answer.text
            return False
        self.seen.add(hit)
        assert answer.status_code in {201, *statuses}, (number, hit, answer.status_code, answer.text)
        after = self.state()
        if answer.status_code == 201:
            # it failed after all was done that was promised: a build that the background makes up for
            assert after["artifacts"] == before["artifacts"] + 1, (number, hit)
            assert not after["staged"]
        else:
            assert answer.headers["retry-after"]
            assert answer.json()["code"] == REFUSALS[answer.status_code]
            assert after == before, (number, hit)
        self.whole()
        again = self.site.put("lab", package, self.key)
        assert again.status_code in {200, 201}, (number, hit, again.text)
        if answer.status_code != 201:
            assert again.status_code == 201
        return True

    def sweep(self, statuses: set[int]) -> None:
        for number in range(1, MOST):
            if not self.refuse_once(number, statuses):
                break
        else:
            raise AssertionError("it never ends")
        assert number > 1
        self.settle()
        served = self.site.get("/lab/noarch/repodata.json").json()["packages.conda"]
        assert len(served) == next(self.numbers)


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def bench(site: Site, faults: Faults) -> Bench:
    return Bench(site, faults)


@pytest.fixture
def on_sqlite(bench: Bench) -> Bench:
    if not bench.app.database.is_sqlite:
        pytest.skip("this is about SQLite")
    return bench


@pytest.fixture
def on_postgresql(bench: Bench) -> Bench:
    if bench.app.database.is_sqlite:
        pytest.skip("this is about PostgreSQL")
    return bench


# --- uploads -------------------------------------------------------------------------------------------------------


def test_an_upload_whose_nth_file_call_finds_no_room(bench, faults, monkeypatch):
    file_calls(monkeypatch, faults, NO_SPACE)
    bench.sweep({507})
    assert {"open", "write", "fsync", "rename", "mkdir"} <= bench.seen


def test_an_upload_whose_nth_file_call_fails(bench, faults, monkeypatch):
    """All but fsync, after whose failure nothing is taken any more."""
    names = tuple(name for name in FILE_CALLS if name != "fsync")
    file_calls(monkeypatch, faults, BROKEN, names)
    bench.sweep({503})
    assert {"open", "write", "rename"} <= bench.seen


def test_after_an_fsync_that_failed_nothing_is_acknowledged_until_a_restart(fairway, faults, monkeypatch):
    """The kernel forgets a write-back that failed: the next fsync would say that all is well."""
    file_calls(monkeypatch, faults, BROKEN, ("fsync",))
    with Site(fairway) as site:
        bench = Bench(site, faults)
        there = bench.package()
        assert site.put("lab", there, bench.key).status_code == 201
        bench.settle()
    for number in range(1, MOST):
        with fresh(fairway) as site:
            bench.site = site
            package = bench.package()
            before = bench.state()
            faults.arm(number)
            first = site.put("lab", package, bench.key)
            if faults.hit is None:
                assert first.status_code == 201
                break
            assert first.status_code in {201, 503}  # 201: the index was what failed
            for _ in range(3):
                again = site.put("lab", bench.package(), bench.key)
                assert (again.status_code, again.json()["code"]) == (503, "busy")
            if first.status_code == 503:
                assert bench.state() == before
            assert site.get("/health/ready").status_code == 503
            assert site.get("/health/live").status_code == 200
            assert site.get(f"/lab/noarch/{there[0]}").content == there[1]
            bench.whole()
        with fresh(fairway) as site:
            bench.site = site
            assert site.get("/health/ready").status_code == 200
            assert site.put("lab", package, bench.key).status_code in {200, 201}
            bench.settle()
    assert number > 2


def fresh(app: Fairway) -> Site:
    """The same Fairway after a restart."""
    url = app.database.url.render_as_string(hide_password=False)
    options = {"data": app.settings.data, "database_url": url, "reading_processes": 1}
    return Site.around(Fairway(load(options, environ={})))


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        ("database or disk is full", sqlite3.SQLITE_FULL, 507),
        ("disk I/O error", sqlite3.SQLITE_IOERR, 503),
        ("database is locked", sqlite3.SQLITE_BUSY, 503),
    ],
)
def test_an_upload_whose_nth_statement_fails_on_sqlite(on_sqlite, faults, text, code, status):
    with database_calls(on_sqlite.app, faults, sqlite_says(text, code)):
        on_sqlite.sweep({status})
    assert {"statement", "commit"} <= on_sqlite.seen


def test_a_database_that_has_room_for_n_more_pages(on_sqlite):
    """SQLite itself finds no room, at every page it needs, until there is enough."""
    bench = on_sqlite
    depends = [f"needed-{number} >={'1.' * 15}{number}" for number in range(1_200)]  # many pages
    package, before = conda_package("full", index={"depends": depends}), bench.state()
    writer = bench.app.database.writer
    with writer.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    refused = 0
    for room in range(MOST):
        with writer.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + room}")
        answer = bench.site.put("lab", package, bench.key)
        if answer.status_code == 201:
            break
        assert (answer.status_code, answer.json()["code"]) == (507, "storage_full"), (room, answer.text)
        assert bench.state() == before
        assert bench.site.get("/lab/noarch/repodata.json").status_code == 200
        bench.whole()
        refused += 1
    assert refused > 0
    with writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1073741823")
    bench.settle()


def test_an_upload_whose_connection_is_cut_at_the_nth_statement(on_postgresql, faults):
    """A connection that is cut before its first statement is replaced by another, and nobody notices."""
    with database_calls(on_postgresql.app, faults, terminate):
        on_postgresql.sweep({503})
    assert {"statement", "commit"} <= on_postgresql.seen


# --- the index -----------------------------------------------------------------------------------------------------


def builds(bench: Bench) -> None:
    """A file is there, and the index is built while the n-th call fails: it stays what it was, or is the next one."""
    for number in range(1, MOST):
        assert bench.site.put("lab", bench.package(), bench.key).status_code == 201
        before = bench.pointers()
        bench.faults.arm(number)
        bench.publisher().catch_up()
        hit = bench.faults.hit
        if hit is None:
            bench.faults.arm(0)
            break
        bench.seen.add(hit)
        after = bench.pointers()
        assert all(after[subdir] == place or after[subdir][0] > place[0] for subdir, place in before.items())
        assert not list(bench.app.staging.folder.iterdir()), (number, hit)
        bench.whole()
        bench.settle()
    assert number > 3
    served = bench.site.get("/lab/noarch/repodata.json").json()["packages.conda"]
    assert len(served) == next(bench.numbers)


@pytest.mark.parametrize("number", [NO_SPACE, BROKEN])
def test_a_build_whose_nth_file_call_fails(bench, faults, monkeypatch, number):
    names = FILE_CALLS if number == NO_SPACE else tuple(name for name in FILE_CALLS if name != "fsync")
    file_calls(monkeypatch, faults, number, names)
    builds(bench)
    assert {"open", "write", "rename"} <= bench.seen


# --- an object store -----------------------------------------------------------------------------------------------


@pytest.fixture
def cloud_bench(
    database_url: str, s3: Any, tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    if not FULL:
        pytest.skip("S3 is for the full run (FAIRWAY_TEST_FULL=1)")
    options = {
        "data": tmp_path / "data",
        "database_url": database_url,
        "storage_url": f"s3://{s3.fresh_bucket()}",
        "reading_processes": 1,
    }
    with ExitStack() as stack:
        site = stack.enter_context(Site(Fairway(load(options, environ=s3.options))))
        store_calls(monkeypatch, faults)
        yield Bench(site, faults)


def test_an_upload_whose_nth_request_to_the_store_fails(cloud_bench):
    cloud_bench.sweep({503})
    assert {"put", "head"} <= cloud_bench.seen


def test_a_build_whose_nth_request_to_the_store_fails(cloud_bench):
    builds(cloud_bench)
    assert {"put", "head"} <= cloud_bench.seen
