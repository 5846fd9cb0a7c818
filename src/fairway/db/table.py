"""What every table is made from."""

from sqlalchemy import BigInteger, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase

# SQLite gives the number of a deleted row to the next one, unless told not to. These numbers are part of storage paths
# that outlive their row until a sweep, and publishers remember how far the index of a number has come.
NUMBERS_ONCE = {"sqlite_autoincrement": True}


class Base(DeclarativeBase):
    type_annotation_map = {str: String, int: BigInteger, bytes: LargeBinary}  # noqa: RUF012
