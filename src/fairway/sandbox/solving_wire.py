"""What passes between the server and a solving child, in the frames of `wire`.

The child gets its Bounds, says READY, and from then on gets a Question at a time. Until it is Done with that it asks for
what it needs, and each time gets a list: of Found, of bytes, of Place.
"""

from __future__ import annotations

import msgspec

from fairway.conda.question import Answer, Found


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for a child, in bytes; `kept` is what it remembers of shards, `file_size` what it may write."""

    memory: int
    files: int
    file_size: int
    kept: int


class Find(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    channels: list[int]
    names: list[str]


class Read(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    wanted: list[Found]


class Suppliers(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    names: list[str]


class Done(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    answer: Answer


Asked = Find | Read | Suppliers
