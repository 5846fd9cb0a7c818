"""Pages of a listing, forwards and backwards, by the key of the row they begin behind: as fast at the end of a million
rows as at the beginning, and nothing is skipped or shown twice when rows come and go.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import orjson
from sqlalchemy import ColumnElement, Select, tuple_
from sqlalchemy.orm import Session

from fairway.errors import Malformed

T = TypeVar("T")
CURSOR_MAX = 600


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing; `cursor` asks for the next, `previous` for the one before; none where there is none."""

    items: list[T] = field(default_factory=list)
    cursor: str | None = None
    previous: str | None = None


def page(
    session: Session,
    query: Select[*tuple[Any, ...]],
    order: Sequence[Any],
    *,
    cursor: str,
    limit: int,
    key: Callable[[Any], Sequence[int | str | bytes]],
    descending: bool = False,
) -> tuple[list[Any], str | None, str | None]:
    """Some rows of `query` in the order of the columns `order`, which together are unique, and the cursors of the next
    page and of the one before. `key` gives the values of these columns of a row. Raises: Malformed: no cursor of ours.
    """
    back, place = decoded(cursor, "".join(kind_of(column) for column in order)) if cursor else (False, None)
    down = descending != back
    if place is not None:
        columns: ColumnElement[Any] = tuple_(*order)
        query = query.where(columns < tuple(place) if down else columns > tuple(place))
    query = query.order_by(*(column.desc() if down else column.asc() for column in order))
    rows = list(session.execute(query.limit(limit + 1)))
    more = len(rows) > limit
    rows = rows[:limit]
    if back:
        rows.reverse()
    if not rows:
        return [], None, None
    following = encoded(key(rows[-1]), back=False) if more or back else None
    previous = encoded(key(rows[0]), back=True) if (more if back else place is not None) else None
    return rows, following, previous


def encoded(key: Sequence[int | str | bytes], *, back: bool) -> str:
    values = [value.hex() if isinstance(value, bytes) else value for value in key]
    kinds = "".join("b" if isinstance(value, bytes) else "i" if isinstance(value, int) else "s" for value in key)
    body = orjson.dumps([int(back), kinds, *values])
    return base64.urlsafe_b64encode(body).rstrip(b"=").decode()


def kind_of(column: Any) -> str:
    """What stands for a column's type in a cursor: a value of another would be an error in the database."""
    return {int: "i", str: "s", bytes: "b"}[column.type.python_type]


def decoded(cursor: str, wanted: str) -> tuple[bool, list[int | str | bytes]]:
    """Whether it asks for the page before, and the key, whose values are of the kinds that are wanted. Raises: Malformed."""
    try:
        back, kinds, *values = orjson.loads(base64.urlsafe_b64decode(cursor[:CURSOR_MAX] + "=" * (-len(cursor) % 4)))
        found = [_value(kind, value) for kind, value in zip(kinds, values, strict=True)]
    except (ValueError, TypeError):
        found = []
        kinds, back = "", 0
    if kinds != wanted or back not in (0, 1):
        raise Malformed("The cursor is not one this server gave.", code="cursor_invalid")
    return bool(back), found


def _value(kind: str, value: Any) -> int | str | bytes:
    if kind == "i" and type(value) is int and abs(value) < 1 << 63:
        return value
    if kind == "s" and type(value) is str and "\0" not in value:
        return value
    if kind == "b" and type(value) is str:
        return bytes.fromhex(value)
    raise ValueError
