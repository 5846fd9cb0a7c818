"""The calls that can fail, counted, and made to fail at the n-th: system calls of the local store, requests to an object
store, statements and commits of the database.

Real faults are in the other modules (small disks, cut connections, a database without room). This is for being
exhaustive: every call of an upload and of an index build, one after the other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from obstore.exceptions import GenericError
from sqlalchemy import event, exc

from fairway.app import Fairway
from fairway.blobs import cloud, local, staging
from fairway.db import quick

FILE_CALLS = ("open", "write", "fsync", "rename", "mkdir", "fchmod", "read")
STORE_CALLS = ("put", "head", "get")


class Faults:
    """Counts calls from `arm` on, and fails the n-th: once, so that whoever tries again succeeds."""

    def __init__(self) -> None:
        self.left = 0
        self.hit: str | None = None

    def arm(self, number: int) -> None:
        self.left, self.hit = number, None

    def call(self, name: str, fail: Callable[[], Any]) -> None:
        if self.left:
            self.left -= 1
            if not self.left:
                self.hit = name
                fail()


class System:
    """The module `os`, some of whose calls fail."""

    def __init__(self, faults: Faults, number: int, names: tuple[str, ...]) -> None:
        self._faults, self._errno, self._names = faults, number, names

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in self._names:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            self._faults.call(name, self._fail)
            return real(*arguments, **options)

        return call

    def _fail(self) -> None:
        raise OSError(self._errno, os.strerror(self._errno))


class Requests:
    """The module `obstore`, whose requests fail as when all its own attempts have."""

    def __init__(self, faults: Faults, real: Any) -> None:
        self._faults, self._real = faults, real

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name not in STORE_CALLS:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            self._faults.call(name, self._fail)
            return real(*arguments, **options)

        return call

    def _fail(self) -> None:
        raise GenericError("Generic S3 error: error sending request: connection reset by peer")


def file_calls(patch: pytest.MonkeyPatch, faults: Faults, number: int, names: tuple[str, ...] = FILE_CALLS) -> None:
    """Let calls of the local store and of staging fail with this errno."""
    for module in (local, staging):
        patch.setattr(module, "os", System(faults, number, names))


def store_calls(patch: pytest.MonkeyPatch, faults: Faults) -> None:
    patch.setattr(cloud, "obstore", Requests(faults, cloud.obstore))


@contextlib.contextmanager
def database_calls(app: Fairway, faults: Faults, fail: Callable[[Any], None]) -> Iterator[None]:
    """Let a transaction fail at each statement, its BEGIN among them, and at its commit. `fail(connection)` does it."""
    engines = [app.database.writer, app.database.reader]

    def at(name: str) -> Callable[..., None]:
        return lambda connection, *_: faults.call(name, lambda: fail(connection))

    listeners = [("before_cursor_execute", at("statement")), ("commit", at("commit"))]
    with contextlib.ExitStack() as stack:
        for engine in engines:
            for name, listener in listeners:
                event.listen(engine, name, listener)
                stack.callback(event.remove, engine, name, listener)
        stack.enter_context(kept_statements(app, faults, fail))
        yield


@contextlib.contextmanager
def kept_statements(app: Fairway, faults: Faults, fail: Callable[[Any], None]) -> Iterator[None]:
    """The statements that go past SQLAlchemy, on SQLite."""
    real = quick.perform

    def perform(execute: Any, sql: str, values: Any) -> Any:
        faults.call("statement", lambda: fail(None))
        return real(execute, sql, values)

    with mock.patch.object(quick, "perform", perform):
        yield


def sqlite_says(text: str, code: int) -> Callable[[Any], None]:
    """A failure as SQLite reports it."""

    def fail(_: Any) -> None:
        error = sqlite3.OperationalError(text)
        error.sqlite_errorcode = code
        raise exc.OperationalError("a statement", None, error)

    return fail


def terminate(connection: Any) -> None:
    """Have PostgreSQL end this connection, as an administrator or a crash of its backend does; the call goes on."""
    import psycopg

    url = connection.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    backend = connection.connection.dbapi_connection.info.backend_pid
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])


NO_SPACE, BROKEN = errno.ENOSPC, errno.EIO
