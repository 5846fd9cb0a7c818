"""A few rows of SQLite, by their key, at once: a tenth of what a session and a thread cost.

For the event loop itself. In WAL mode a reader waits for nobody, and such a query takes some ten microseconds; anything
larger belongs into a thread.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Select
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from fairway.errors import Unavailable


class Reads(Protocol):
    """What can be asked for rows: a session, a connection, or a glance."""

    def execute(self, statement: Any, params: Any, /) -> Iterable[Any]: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    sql: str
    names: Sequence[str]
    fixed: dict[str, Any]
    processors: Sequence[Callable[[Any], Any] | None]


class Glance:
    """Thread-safe; `statement` is one of a few that are kept for ever, with named parameters."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._prepared: dict[Any, Prepared] = {}
        self._lock = threading.Lock()

    def execute(self, statement: Any, params: Any, /) -> list[Any]:
        """The rows as tuples. Raises: Unavailable: not at once; ask in a thread that can wait."""
        prepared = self._prepared.get(statement) or self._prepare(statement)
        values = [params[name] if name in params else prepared.fixed[name] for name in prepared.names]
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = sqlite3.connect(
                        f"{self._path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False,
                        isolation_level=None, timeout=0,
                    )  # fmt: skip
                    self._connection.execute("PRAGMA mmap_size=268435456")
                rows = self._connection.execute(prepared.sql, values).fetchall()
            except sqlite3.Error as error:
                self._connection = None
                raise Unavailable from error
        if any(prepared.processors):
            return [self._processed(prepared, row) for row in rows]
        return rows

    def _processed(self, prepared: Prepared, row: Sequence[Any]) -> tuple[Any, ...]:
        pairs = zip(prepared.processors, row, strict=True)
        return tuple(value if process is None else process(value) for process, value in pairs)

    def _prepare(self, statement: Select[Any]) -> Prepared:
        dialect = SQLiteDialect_pysqlite()
        compiled = statement.compile(dialect=dialect)
        types = [column.type.dialect_impl(dialect) for column in statement.selected_columns]
        prepared = Prepared(
            str(compiled),
            compiled.positiontup or (),
            dict(compiled.params),
            [kind.result_processor(dialect, None) for kind in types],
        )
        self._prepared[statement] = prepared
        return prepared

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
