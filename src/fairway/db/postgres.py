"""Connections to PostgreSQL that give up. Loaded only where PostgreSQL is used.

A server that is stopped, swapped out or behind a network that swallows packets accepts connections and never answers,
and libpq would wait for ever: each request would hold its thread until none is left for those that need no database.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL, Connection

CONNECT_SECONDS = 3
PING_SECONDS = 2.0
"""For the "are you there" before each use of a pooled connection: what a request pays on a server that hangs."""

STATEMENT_SECONDS = 60
LOCK_SECONDS = 3
POOL_SECONDS = 2
ANSWER_SECONDS = STATEMENT_SECONDS + 5.0
"""Longer than the server itself lets a statement run: only a server that says nothing at all gets here."""


class Patient(psycopg.Connection[Any]):
    """Waits at most `patience` seconds for each answer; a connection that gave none is closed."""

    patience: float | None = float(CONNECT_SECONDS)

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()  # the answer may still come, and nobody would be there to take it
            raise


def postgresql_engine(url: URL, *, most: int) -> Engine:
    """An engine of at most `most` connections."""
    options = (
        f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={LOCK_SECONDS}s "
        "-c idle_in_transaction_session_timeout=30s"
    )
    connect = {"connect_timeout": CONNECT_SECONDS, "options": options, "application_name": "fairway"}
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=most // 2,
        max_overflow=most - most // 2,
        pool_timeout=POOL_SECONDS,
        pool_pre_ping=True,
        connect_args=connect,
    )

    @event.listens_for(engine, "do_connect")
    def connecting(_: Any, __: Any, arguments: Any, options: Any) -> Patient:
        return Patient.connect(*arguments, **options)

    @event.listens_for(engine, "checkout")
    def taken(connection: Patient, *_: Any) -> None:
        connection.patience = ANSWER_SECONDS

    @event.listens_for(engine, "checkin")
    def returned(connection: Patient | None, _: Any) -> None:
        if connection is not None:
            connection.patience = PING_SECONDS

    return engine


def take_time(connection: Connection) -> None:
    """Let the statements of this transaction take as long as they need."""
    for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(text(f"SET LOCAL {limit} = 0"))
    held = connection.connection.dbapi_connection
    if isinstance(held, Patient):
        held.patience = None


def may_idle(connection: Connection) -> None:
    """Let this transaction wait between statements as long as it has to: for an object store, say. Its locks would end
    with its session.
    """
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
