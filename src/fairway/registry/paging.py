"""Pages of a listing, forwards and backwards, by the key of the row they begin behind: as fast at the end of a million
rows as at the beginning, and nothing is skipped or shown twice when rows come and go.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import orjson
from sqlalchemy import ColumnElement, ScalarSelect, Select, func, literal, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from fairway.db.models import Artifact, Audit, Package, Subdir
from fairway.errors import Malformed

T = TypeVar("T")
CURSOR_MAX = 4_000


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing; `cursor` asks for the next, `previous` for the one before; none where there is none."""

    items: list[T] = field(default_factory=list)
    cursor: str | None = None
    previous: str | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """What a cursor says instead of the id that an order ends with. Ids are counted over all channels: two of them tell how
    much happened in between, also in those that one may not read.

    `columns` are values that readers see and that name one row; `id_of` finds its id by them, among the rows that this
    reader may see. If it is not there any more, those that only the id kept apart from it are left out.
    """

    columns: Sequence[Any]
    id_of: Callable[..., ScalarSelect[int]]


def page(
    session: Session,
    query: Select[*tuple[Any, ...]],
    order: Sequence[Any],
    *,
    cursor: str,
    limit: int,
    key: Callable[[Any], Sequence[int | str | bytes]],
    descending: bool = False,
    named: Named | None = None,
) -> tuple[list[Any], str | None, str | None]:
    """Some rows of `query` in the order of the columns `order`, which together are unique, and the cursors of the next
    page and of the one before. `key` gives the values of these columns of a row; with `named`, its name for the last.
    Raises: Malformed: no cursor of ours.
    """
    said = order if named is None else [*order[:-1], *named.columns]
    back, place = decoded(cursor, "".join(kind_of(column) for column in said)) if cursor else (False, None)
    down = descending != back
    if place is not None:
        columns: ColumnElement[Any] = tuple_(*order)
        begin = tuple_(*bounds(order, place, named))
        query = query.where(columns < begin if down else columns > begin)
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


def bounds(order: Sequence[Any], place: Sequence[int | str | bytes], named: Named | None) -> list[Any]:
    if named is None:
        return [literal(value, column.type) for column, value in zip(order, place, strict=True)]
    before = len(order) - 1
    values = [literal(value, column.type) for column, value in zip(order[:-1], place[:before], strict=True)]
    return [*values, named.id_of(*place[before:])]


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


# --- what cursors call things, and where they are looked for: a column, and whose rows somebody was let into ------------


def package_named(channel_id: int) -> Named:
    def id_of(name: str) -> ScalarSelect[int]:
        one = aliased(Package)
        return select(one.id).where(one.channel_id == channel_id, one.name == name).scalar_subquery()

    return Named((Package.name,), id_of)


def file_named(whose: InstrumentedAttribute[int], owner: int) -> Named:
    def id_of(subdir: str, filename: str) -> ScalarSelect[int]:
        one, place = aliased(Artifact), aliased(Subdir)
        query = select(one.id).join(place, place.id == one.subdir_id)
        same = (getattr(one, whose.key) == owner, place.name == subdir, one.filename == filename)
        return query.where(*same).scalar_subquery()

    return Named((Subdir.name, Artifact.filename), id_of)


def event_named(whose: InstrumentedAttribute[int | None], owner: int) -> Named:
    """A line of the audit. Two at one moment that say the same are as good as one."""

    def id_of(at: int, action: str, subject: str) -> ScalarSelect[int]:
        one = aliased(Audit)
        same = (getattr(one, whose.key) == owner, one.at == at, one.action == action, one.subject == subject)
        return select(func.max(one.id)).where(*same).scalar_subquery()

    return Named((Audit.at, Audit.action, Audit.subject), id_of)
