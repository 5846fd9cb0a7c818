"""INSERT ... ON CONFLICT, which both databases know and SQLAlchemy spells once for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fairway.db.models import Base


def insert_missing(session: Session, model: type[Base], row: Mapping[str, Any], *, key: Sequence[str]) -> None:
    """Insert a row unless one with the same key is there: two who try at once both find it afterwards."""
    statement = _insert(session, model).values(dict(row))
    session.execute(statement.on_conflict_do_nothing(index_elements=list(key)))


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
    statement = _insert(session, model).values([dict(row) for row in rows])
    changes = {name: statement.excluded[name] for name in replace}
    changes |= {name: getattr(model, name) + statement.excluded[name] for name in add}
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=changes))


def _insert(session: Session, model: type[Base]) -> Any:
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    return sqlite.insert(model) if on_sqlite else postgresql.insert(model)
