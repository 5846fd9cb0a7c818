"""What is asked of a search for the channels that a package needs, and what it answers. Knows no solver, so that the server
need not load one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Virtual(msgspec.Struct, frozen=True):
    """A package of the system: `__glibc` 2.28."""

    name: str
    version: str
    build: str = "0"


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """A package of a solution; `channel` by its name, `size` in bytes."""

    name: str
    version: str
    build: str
    channel: str
    subdir: str
    filename: str
    size: int | None


class Place(msgspec.Struct, frozen=True):
    """A channel, as the question has it."""

    id: int
    name: str


class Found(msgspec.Struct, frozen=True):
    """The shard of a package name in a subdir of a channel."""

    channel: int
    subdir: str
    name: str
    sha256: bytes


class Supply(Protocol):
    """Where shards are. What it raises ends the search."""

    def find(self, channels: Sequence[int], names: Sequence[str]) -> list[Found]:
        """Which of these channels have which of these names, in the subdirs of the question."""

    def read(self, wanted: Sequence[Found]) -> list[bytes]:
        """Their bytes, in the same order."""

    def suppliers(self, names: Sequence[str]) -> list[Place]:
        """Channels that have some of these names, the best first; also ones that are known already."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """`related` are the channels of the package and those related to it, the first before the others; `home` is the id of
    its own. No `version`: the newest there is. `seconds` is what all of it may take.
    """

    name: str
    version: str | None
    home: int
    related: list[Place]
    subdirs: list[str]
    virtual: list[Virtual]
    seconds: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. If it is `solvable`, `channels` are the ones that are needed, by their ids, the first before the
    others, and `packages` is what is then installed. Else `reason` says in a sentence why not, and `explanation` is what
    the solver says, in lines.

    `version` is what was solved, `newest` what is there: they differ if the newest cannot be installed, for what is then
    the `reason`. `smallest`: no smaller list does. `shared` are packages that several of the channels have, so that the
    order matters. `hidden_by` is a channel before its own that has a package of this name too. `unmet` are dependencies
    that no channel has.
    """

    solvable: bool
    version: str = ""
    newest: str = ""
    channels: list[int] = []
    packages: list[Chosen] = []
    smallest: bool = True
    shared: list[str] = []
    hidden_by: int | None = None
    unmet: list[str] = []
    reason: str = ""
    explanation: str = ""
    decided: bool = True
    attempts: int = 0
