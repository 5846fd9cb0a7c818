"""Transactions. This is the only module that begins or commits one.

One request or job is one write transaction, and slow work (reading archives, writing blobs) comes before it opens,
because SQLite has one writer and PostgreSQL's locks are held until the commit.

SQLite gets two pools. A deferred transaction that reads and then writes fails with "database is locked" whatever the
busy timeout, when another one wrote in between; so writers say BEGIN IMMEDIATE, and wait their turn instead. WAL with
synchronous=FULL: a commit that was answered survives a power cut.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, exc, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.orm import Session, sessionmaker

from fairway.db import quick
from fairway.db.glance import Glance
from fairway.db.turn import Turn
from fairway.errors import SetupError, StorageFull, Unavailable

PATIENCE_SECONDS = 3.0
"""How long a writer waits for the others, in this process and outside: then it is for the client to ask again."""

PATIENCE = "fairway_patience"
"""The execution option with what is left of it when a transaction begins."""

STALE_SECONDS = 0.5

BUSY = "The database is busy; nothing was changed. Try again in a moment."
UNCHANGED = "The database does not answer; nothing was changed. Try again in a moment."
UNKNOWN = (
    "The database went away at the very end, so that nobody knows whether this was done. Do it again in a moment: what "
    "was done already is not done twice."
)
DAMAGED = {
    sqlite3.SQLITE_NOTADB: "not a database of SQLite",
    sqlite3.SQLITE_CORRUPT: "damaged, and its administrator has to restore a backup",
}


class Database:
    """The rows of one Fairway. Thread-safe; sessions are not."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self._commits = 0
        self.glance: Glance | None = None
        self._look: Glance | None = None
        self._lock = threading.Lock()
        self._turn = Turn()
        if self.url.get_backend_name() == "sqlite":
            self.is_sqlite = True
            self._open_sqlite()
        elif self.url.get_backend_name() == "postgresql":
            self.is_sqlite = False
            self._open_postgresql()
        else:
            raise SetupError(
                f"The database URL must begin with sqlite:/// or postgresql://, not {self.url.drivername}."
            )
        self._read = sessionmaker(self.reader, autoflush=False, expire_on_commit=False)
        self._write = sessionmaker(self.writer, autoflush=False, expire_on_commit=False)

    def _open_sqlite(self) -> None:
        if sqlite3.sqlite_version_info < (3, 38):
            raise SetupError(f"Fairway needs SQLite 3.38 or newer; this Python has {sqlite3.sqlite_version}.")
        path = Path(self.url.database or "")
        if not path.name or str(path) == ":memory:":
            raise SetupError("The SQLite database must be a file: sqlite:///path/to/fairway.db")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.writer = sqlite_engine(self.url, writer=True)
        self.reader = sqlite_engine(self.url, writer=False)
        # Asked on every request whether anything changed: a raw connection, because the answer takes 2 microseconds.
        self._watch: sqlite3.Connection | None = None
        self._path = path
        self.glance = Glance(path)
        self._look = Glance(path)  # of its own: the event loop must not wait for a thread that was put to sleep

    def _open_postgresql(self) -> None:
        from fairway.db.postgres import postgresql_engine  # noqa: PLC0415 - psycopg is installed only where it is used

        self.writer = postgresql_engine(self.url, most=12)
        # Connections of its own: writers that wait for a lock must not keep readers out. A snapshot for the length of
        # the transaction, because the index is built from one moment of the rows.
        reader = postgresql_engine(self.url, most=16)
        self.reader = reader.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A snapshot of the rows; nothing can be written in it.

        Raises:
            Unavailable: the database does not answer, or has no connection free.
        """
        with translated(), self._read() as session:
            yield session

    def look(self, statement: Any, params: Mapping[str, Any]) -> Sequence[Any]:
        """The rows of one small kept statement (`db.prepared`), as they are now. Raises: Unavailable."""
        if self._look is not None:
            try:
                return self._look.execute(statement, params)
            except Unavailable:
                pass  # not at once
        with self.read() as session:
            return quick.of(session).execute(statement, params)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is committed when the block ends, and rolled back when it raises.

        Raises:
            StorageFull: no room on the disk. Unavailable: the database does not answer or stayed locked.
        """
        with self._writing() as session:
            yield session
            try:
                with translated(UNKNOWN):
                    session.commit()
            finally:
                # also when it failed: whose connection is cut meanwhile may have committed
                with self._lock:
                    self._commits += 1

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        if not self.is_sqlite:
            with translated(), self._write() as session:
                yield session
            return
        left = self._turn.take(PATIENCE_SECONDS)
        if left is None:
            raise Unavailable(BUSY)
        try:
            with translated(), self._write() as session:
                session.connection(execution_options={PATIENCE: left})  # begin now, before anything is read
                yield session
        finally:
            self._turn.give()

    def stamp(self) -> tuple[int, int]:
        """A value that differs once rows may have changed: what was read under the same stamp still holds.

        SQLite knows exactly, whoever wrote (`PRAGMA data_version`). On PostgreSQL it is this process's own commits and
        the half second on the clock: what others did is seen that much later at most.
        """
        if not self.is_sqlite:
            return self._commits, int(time.monotonic() / STALE_SECONDS)
        with self._lock:
            try:
                if self._watch is None:
                    self._watch = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=0)
                return 0, self._watch.execute("PRAGMA data_version").fetchone()[0]
            except sqlite3.Error:
                self._watch = None  # the file went away or is locked by a recovery: read on, without a cache
                return 1, time.monotonic_ns()

    def ping(self) -> None:
        """Raises: Unavailable: the database does not answer."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        if self.is_sqlite and self._watch is not None:
            self._watch.close()
        for glance in (self.glance, self._look):
            if glance is not None:
                glance.close()
        self.reader.dispose()
        self.writer.dispose()


def sqlite_engine(url: URL, *, writer: bool) -> Engine:
    engine = create_engine(
        url,
        connect_args={"check_same_thread": False, "timeout": PATIENCE_SECONDS},
        pool_size=1 if writer else 8,
        max_overflow=0 if writer else 8,
        pool_timeout=PATIENCE_SECONDS,
    )

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        pragmas = [
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={int(PATIENCE_SECONDS * 1000)}",
            "journal_size_limit=67108864",
            f"cache_size={-32768 if writer else -8192}",  # KiB; a scan needs none, and every commit empties it
            "temp_store=MEMORY",
        ]
        if not writer:
            pragmas.append("query_only=ON")
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        if not writer:
            connection.exec_driver_sql("BEGIN")
            return
        left = connection.get_execution_options().get(PATIENCE, PATIENCE_SECONDS)
        connection.exec_driver_sql(f"PRAGMA busy_timeout={int(left * 1000)}")  # for other processes
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    @event.listens_for(engine, "checkin")
    def returned(connection: sqlite3.Connection | None, _: Any) -> None:
        # SQLAlchemy takes a transaction for ended when its COMMIT fails; SQLite may not, and then nobody writes any more
        if connection is not None and connection.in_transaction:
            connection.rollback()

    return engine


@contextmanager
def translated(lost: str = UNCHANGED) -> Iterator[None]:
    """Turn what a database driver raises when it cannot work now into our own words. Programming errors pass. `lost` is
    what to say when the connection was lost.
    """
    try:
        yield
    except exc.TimeoutError as error:
        raise Unavailable(BUSY) from error
    except exc.DBAPIError as error:
        said = str(error.orig).lower()
        result = getattr(error.orig, "sqlite_errorcode", None)
        if "disk is full" in said or "disk full" in said or "no space left" in said:
            raise StorageFull from error
        if result == sqlite3.SQLITE_ERROR:
            raise  # a statement of ours that SQLite cannot run; PostgreSQL has another class for it
        if result in DAMAGED:
            raise Unavailable(f"The database file is {DAMAGED[result]}; nothing was changed.") from error
        if error.connection_invalidated:
            raise Unavailable(lost) from error
        if isinstance(error, exc.OperationalError | exc.InterfaceError):
            # SQLite has one kind of error for all that can go wrong, and rolls back whenever it does
            raise Unavailable(UNCHANGED) from error
        raise
