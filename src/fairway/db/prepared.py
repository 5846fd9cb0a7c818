"""Statements of SQLite that are made once and kept, as text and an order of values.

SQLAlchemy finds a statement's text again, expands its lists and describes its result at each call, which takes ten
times as long as a small statement does, and an upload has twenty of them. Only statements that are kept for ever, at
the top of a module, belong here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Insert
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

Convert = Callable[[Any], Any]
Params = Mapping[str, Any]

DIALECT: Any = SQLiteDialect_pysqlite()
_kept: dict[Any, Prepared] = {}
_lists: dict[Any, tuple[str, ...]] = {}


@dataclass(frozen=True, slots=True)
class Slot:
    """One `?`: the parameter it takes, the place in it if that is a list, and what the driver wants made of it."""

    name: str
    place: int | None
    convert: Convert | None

    def value(self, params: Params) -> Any:
        value = params[self.name]
        if self.place is not None:
            # lists are filled up with their last value, which changes nothing in what IN finds
            value = value[min(self.place, len(value) - 1)]
        return value if self.convert is None else self.convert(value)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement in the form for parameters of one shape."""

    sql: str
    slots: Sequence[Slot]
    fixed: Params  # values that the statement itself has
    returns: bool  # whether it gives rows
    results: Sequence[Convert | None] | None  # none: rows are right as they come

    def values(self, params: Params) -> list[Any]:
        if self.fixed:
            params = {**self.fixed, **params}
        return [slot.value(params) for slot in self.slots]

    def rows(self, found: list[Any]) -> list[Any]:
        if self.results is None:
            return found
        return [tuple(_converted(pair) for pair in zip(self.results, row, strict=True)) for row in found]


def prepared(statement: Any, params: Params) -> Prepared:
    """The form of a statement for such parameters. Lists come in lengths of powers of two: few forms, whatever is asked."""
    lists = _lists.get(statement)
    if lists is None:
        lists = _lists[statement] = _lists_of(statement)
    shape = tuple(params) if isinstance(statement, Insert) else tuple(_room(len(params[name])) for name in lists)
    found = _kept.get((statement, shape))
    if found is None:
        found = _kept[statement, shape] = _prepare(statement, params, lists)
    return found


def _lists_of(statement: Any) -> tuple[str, ...]:
    """The parameters that are lists, but for those whose values the statement has."""
    if isinstance(statement, Insert):
        return ()
    compiled = statement.compile(dialect=DIALECT)
    return tuple(name for name, value in compiled.params.items() if value is None and compiled.binds[name].expanding)


def _prepare(statement: Any, params: Params, lists: Sequence[str]) -> Prepared:
    keys = tuple(params) if isinstance(statement, Insert) else None
    compiled = statement.compile(dialect=DIALECT, column_keys=keys)
    if keys is not None and compiled.insert_prefetch:
        missing = ", ".join(column.name for column in compiled.insert_prefetch)
        raise TypeError(f"What is inserted has to say every column, also {missing}.")
    sized = {name: [*params[name], *[None] * (_room(len(params[name])) - len(params[name]))] for name in lists}
    state = compiled.construct_expanded_state({**compiled.params, **params, **sized})
    places = {
        expanded: (name, place)
        for name, names in state.parameter_expansion.items()
        for place, expanded in enumerate(names)
    }
    slots = []
    for bound in state.positiontup or ():
        name, place = places.get(bound, (bound, None))
        slots.append(Slot(name, place, compiled.binds[name].type.dialect_impl(DIALECT).bind_processor(DIALECT)))
    types = [column.type.dialect_impl(DIALECT) for column in statement.exported_columns]
    results = [kind.result_processor(DIALECT, None) for kind in types]
    return Prepared(
        state.statement,
        slots,
        {name: value for name, value in compiled.params.items() if value is not None},
        bool(results),
        results if any(results) else None,
    )


def _room(size: int) -> int:
    return 1 << (size - 1).bit_length() if size else 0


def _converted(pair: tuple[Convert | None, Any]) -> Any:
    convert, value = pair
    return value if convert is None else convert(value)
