"""Fixtures. Whatever uses `fairway` or `site` runs on SQLite, and in the full run (`./dev test`) on PostgreSQL too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fairway.app import Fairway
from fairway.db import migrate
from fairway.db.engine import Database
from fairway.settings import load
from tests.support.postgres import fresh_database, release_postgres
from tests.support.s3 import S3Server, release_s3, s3_server
from tests.support.server import Server
from tests.support.servers import Missing
from tests.support.site import Site

FULL = os.environ.get("FAIRWAY_TEST_FULL") == "1"
ROUNDS = int(os.environ.get("FAIRWAY_TEST_ROUNDS") or 1)  # more of what depends on chance: kills, races, random walks
ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
DATABASES = ["sqlite", "postgresql"] if FULL else ["sqlite"]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, where there is one."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no ../shared/data here: the suite's own packages are tested, the real ones are not")
    return SHARED / "data"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database: copying it is twenty times as fast as migrating."""
    path = tmp_path_factory.mktemp("template") / "fairway.db"
    database = Database(f"sqlite:///{path}")
    migrate.upgrade(database)
    database.close()
    return path


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[str]:
    """The same for PostgreSQL: the URL of a migrated, empty database nobody is connected to."""
    try:
        with fresh_database() as url:
            database = Database(url)
            migrate.upgrade(database)
            database.close()
            yield url
    except Missing as reason:
        pytest.skip(f"no PostgreSQL: {reason}")
    finally:
        release_postgres()


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty, migrated database."""
    if request.param == "sqlite":
        path = tmp_path / "data" / "fairway.db"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    with fresh_database(template=request.getfixturevalue("postgres_template")) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def fairway(database_url: str, tmp_path: Path) -> Iterator[Fairway]:
    """An open Fairway on local storage, its background not running."""
    options = {"data": tmp_path / "data", "database_url": database_url, "reading_processes": 1}
    app = Fairway(load(options, environ={}))
    yield app
    app.close()


@pytest.fixture
def site(fairway: Fairway) -> Iterator[Site]:
    """The whole application in this process, with an administrator, and a client to ask it."""
    with Site(fairway) as site:
        yield site


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A real S3 API."""
    try:
        yield s3_server()
    except Missing as reason:
        pytest.skip(f"no S3 server: {reason}")
    finally:
        release_s3()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start real servers: `serve(database_url=..., env=...)`; they are stopped after the test."""
    with ExitStack() as stack:

        def start(data: Path | None = None, **options: object) -> Server:
            return stack.enter_context(Server(data or tmp_path / "server", **options))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    """A real server on SQLite and a folder, with an administrator called admin."""
    started = serve()
    started.make_admin()
    return started
