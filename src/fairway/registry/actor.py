"""Who is asking."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Scope(IntEnum):
    """What an API key may do at most; each includes the ones before it."""

    READ = 1
    UPLOAD = 2
    ADMIN = 3

    @classmethod
    def of(cls, text: str) -> Scope:
        return cls[text.upper()]

    @property
    def text(self) -> str:
        return self.name.lower()


class Visibility(StrEnum):
    PRIVATE = "private"  # members
    INTERNAL = "internal"  # everybody with an account here
    PUBLIC = "public"  # everybody


class Role(IntEnum):
    """What a member may do in a channel; each includes the ones before it."""

    VIEWER = 1
    UPLOADER = 2
    MAINTAINER = 3
    OWNER = 4

    @classmethod
    def of(cls, text: str) -> Role:
        return cls[text.upper()]

    @property
    def text(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody, or nobody. `channels` binds an API key to channel ids; none means every channel of its user.

    `invalid` marks a request that carried a credential which is no good: on a public channel it reads as nobody.
    `session_id` is that of somebody who is signed in with a browser: they have all their user's rights.
    """

    user_id: int | None = None
    name: str = "anonymous"
    is_admin: bool = False
    token_id: int | None = None
    scope: Scope = Scope.READ
    channels: frozenset[int] | None = None
    invalid: bool = False
    console: bool = False
    session_id: int | None = None

    @property
    def is_known(self) -> bool:
        return self.user_id is not None or self.console


NOBODY = Actor()
INVALID = Actor(invalid=True)
# The command line on the server's own machine: whoever can read the data folder could change it anyway.
CONSOLE = Actor(name="console", is_admin=True, scope=Scope.ADMIN, console=True)
