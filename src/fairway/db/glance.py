"""A few rows of SQLite, by their key, at once: a tenth of what a session and a thread cost.

For the event loop itself. In WAL mode a reader waits for nobody, and such a query takes some ten microseconds; anything
larger belongs into a thread.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from fairway.db.prepared import prepared
from fairway.errors import Unavailable


class Reads(Protocol):
    """What can be asked for rows: a session, a connection, or a glance."""

    def execute(self, statement: Any, params: Any, /) -> Iterable[Any]: ...


class Glance:
    """Thread-safe; statements must be among those that are kept (`db.prepared`)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def execute(self, statement: Any, params: Any, /) -> list[Any]:
        """The rows as tuples. Raises: Unavailable: not at once; ask in a thread that can wait."""
        kept = prepared(statement, params)
        values = kept.values(params)
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = sqlite3.connect(
                        f"{self._path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False,
                        isolation_level=None, timeout=0,
                    )  # fmt: skip
                    self._connection.execute("PRAGMA mmap_size=268435456")
                rows = self._connection.execute(kept.sql, values).fetchall()
            except sqlite3.Error as error:
                self._connection = None
                raise Unavailable from error
        return kept.rows(rows)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
