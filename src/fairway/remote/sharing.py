"""What processes that share a database tell each other of a file that one of them fetches.

Whoever holds the claim of a file fetches it, into a staged file with the name of that claim. A process on the same
machine reads this file while it grows, and so follows as those do who are in the same process; one on another machine
waits until the store has it. A holder that was killed loses its claim soon, and one of those who wait takes it over.

Where claims are kept is not said here (`registry.fetches`): asking other servers needs no database.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from fairway.errors import RemoteError, RemoteUnavailable

LOOK_SECONDS = 0.5


class State(Enum):
    OURS = auto()  # the asker is to fetch it now, and to `end` that
    THEIRS = auto()  # another one is fetching it
    GOOD = auto()  # it has come, was what it should be, and is in the store
    FAILED = auto()
    FREE = auto()  # who fetched it has given up, or has died


@dataclass(frozen=True, slots=True)
class Turn:
    """How it stands with a file. `owner` is the fetch: the name of its staged file, which can be read `here` if that is on
    this machine.
    """

    state: State
    owner: str = ""
    here: bool = False
    error: RemoteError | None = None


class Claim(Protocol):
    """One file that several processes may want. Each method raises `Unavailable`: the database does not answer."""

    def take(self) -> Turn:
        """OURS for one of those who ask at once, THEIRS for the others; GOOD if it is here already."""
        ...

    def look(self, owner: str) -> Turn:
        """What has become of a fetch: THEIRS while it is under way."""
        ...

    def end(self, owner: str, ended: State, error: RemoteError | None = None) -> None:
        """Tell the others: GOOD, FAILED with the reason, or FREE for the next. Raises nothing: if it cannot be told, they
        see it when the lease is over.
        """
        ...


def wait_for_turn(claim: Claim, over: Callable[[], bool]) -> Turn:
    """OURS, or GOOD once another has brought it. Raises what went wrong there, and `Unavailable`."""
    while not over():
        turn = claim.take()
        while turn.state is State.THEIRS and not over():
            time.sleep(LOOK_SECONDS)
            turn = claim.look(turn.owner)
        if turn.state in {State.OURS, State.GOOD}:
            return turn
        if turn.error is not None:
            raise turn.error
    raise RemoteUnavailable("The file was not fetched, because this server is stopping.")
