"""INSERT ... ON CONFLICT, which both databases know and SQLAlchemy spells once for each.

A statement is made once and kept: making one anew costs ten times what running it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

from sqlalchemy import Executable, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fairway.db import quick
from fairway.db.models import Base


def insert_missing(session: Session, model: type[Base], row: Mapping[str, Any], *, key: Sequence[str]) -> None:
    """Insert a row unless one with the same key is there: two who try at once both find it afterwards."""
    run = quick.of(session)
    run.execute(_statement(run.dialect, model, tuple(key), (), ()), row)


def added(session: Session, row: Base) -> bool:
    """Add a row; false if somebody else took one of its unique values a moment ago. The transaction is over then, and
    the caller has to raise.
    """
    session.add(row)
    try:
        session.flush()
    except IntegrityError:
        return False
    return True


def upsert(
    session: Session,
    model: type[Base],
    rows: Sequence[Mapping[str, Any]],
    *,
    key: Sequence[str],
    replace: Sequence[str] = (),
    add: Sequence[str] = (),
) -> None:
    """Insert rows; where the key is there already, `replace` columns get the new value, and `add` columns grow by it."""
    if not rows:
        return
    run = quick.of(session)
    run.each(_statement(run.dialect, model, tuple(key), tuple(replace), tuple(add)), rows)


@cache
def _statement(
    dialect: str, model: type[Base], key: tuple[str, ...], replace: tuple[str, ...], add: tuple[str, ...]
) -> Executable:
    table = cast("Table", model.__table__)
    insert: Any = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    changes = {name: insert.excluded[name] for name in replace}
    changes |= {name: table.c[name] + insert.excluded[name] for name in add}
    kept: Executable
    if changes:
        kept = insert.on_conflict_do_update(index_elements=list(key), set_=changes)
    else:
        kept = insert.on_conflict_do_nothing(index_elements=list(key))
    return kept
