"""Column types that mean the same on SQLite and PostgreSQL."""

from typing import Any

import orjson
from sqlalchemy import BigInteger, Dialect, Integer, LargeBinary, String, TypeDecorator

# SQLite gives out row ids only for a column spelt INTEGER.
Id = BigInteger().with_variant(Integer, "sqlite")

# Compared byte by byte on both databases: PostgreSQL's default collation would order names by language, and an index
# built there would differ from one built on SQLite.
Name = String().with_variant(String(collation="C"), "postgresql")


class Json(TypeDecorator[Any]):
    """A JSON value kept as the bytes orjson writes, keys sorted: the same value is always the same bytes."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else orjson.loads(value)
