"""Kept statements within a transaction, on the driver's own cursor where the database is a file.

A statement of SQLite takes a few microseconds, so what surrounds it is what it costs; a round trip to PostgreSQL takes
hundreds, and SQLAlchemy sends many rows in one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import exc
from sqlalchemy.orm import Session

from fairway.db.prepared import prepared

PLACE = "quick"


class Quick:
    """The statements of one transaction. They must be among those that are kept (`db.prepared`)."""

    def __init__(self, session: Session) -> None:
        self._connection = session.connection()
        self.dialect = self._connection.dialect.name
        is_sqlite = self.dialect == "sqlite"
        self._driver: Any = self._connection.connection.dbapi_connection if is_sqlite else None

    def execute(self, statement: Any, params: Mapping[str, Any], /) -> Sequence[Any]:
        """The rows, as tuples; none of a statement that gives none."""
        if self._driver is None:
            result = self._connection.execute(statement, params)
            return result.all() if result.returns_rows else []
        kept = prepared(statement, params)
        return kept.rows(perform(self._driver.execute, kept.sql, kept.values(params)))

    def value(self, statement: Any, params: Mapping[str, Any]) -> Any:
        """The first value of the first row, if there is one."""
        for row in self.execute(statement, params):
            return row[0]
        return None

    def each(self, statement: Any, rows: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """The statement, one without lists, for each of some rows with the same keys; all that it returns."""
        if not rows:
            return []  # SQLAlchemy would run it once, with nothing but defaults
        if self._driver is None:
            result = self._connection.execute(statement, rows)
            return result.all() if result.returns_rows else []
        kept = prepared(statement, rows[0])
        if not kept.returns:
            return perform(self._driver.executemany, kept.sql, map(kept.values, rows))
        found: list[Any] = []
        for row in rows:
            found += perform(self._driver.execute, kept.sql, kept.values(row))
        return kept.rows(found)


def of(session: Session) -> Quick:
    """That of a session, which is one transaction (`Database.read`, `Database.write`)."""
    quick = session.info.get(PLACE)
    if quick is None:
        quick = session.info[PLACE] = Quick(session)
    return quick


def perform(execute: Callable[[str, Any], sqlite3.Cursor], sql: str, values: Iterable[Any]) -> list[Any]:
    """Raises SQLAlchemy's errors, as everything else in a transaction does."""
    try:
        return execute(sql, values).fetchall()
    except sqlite3.Error as error:
        raise exc.DBAPIError.instance(sql, None, error, sqlite3.Error) from error
