"""Passwords: which are good enough, and how they are kept and compared.

Length is what counts (NIST SP 800-63B-4): 15 characters, no rules about their kinds, no end. What is refused besides is
what somebody would try first who knows this server and this person. Hashing takes a whole core for some 50 ms and 19 MiB,
and everybody may ask for it, so few do at once, few wait, and the rest is told to come again.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from fairway.errors import Invalid, Unavailable

SHORTEST, LONGEST = 15, 4_096  # for a password alone; the maximum bounds the hash's work
REST = 6  # so many characters must be left of a password when the words everybody knows are taken out
WORD = 4  # shorter words are in everything
ROWS = ("01234567890", "abcdefghijklmnopqrstuvwxyz", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "azertyuiop")
NEIGHBOURS = frozenset(pair for row in ROWS for one, two in pairwise(row) for pair in (one + two, two + one))
FAMILIAR = (
    "fairway", "conda", "channel", "package", "password", "passphrase", "passwort", "kennwort", "secret", "changeme",
    "change-me", "letmein", "iloveyou", "welcome", "default", "qwerty", "admin", "administrator", "root", "user", "test",
    "login", "server", "temp",
)  # fmt: skip

# OWASP's first choice: 19 MiB, two passes.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
AT_ONCE, WAITING = 2, 8
HASHING, QUEUE = threading.BoundedSemaphore(AT_ONCE), threading.BoundedSemaphore(AT_ONCE + WAITING)
# Compared with when there is no such user, so that the answer takes as long as for a wrong password.
NOBODYS_HASH = HASHER.hash("nobody has this password")


@contextmanager
def slot() -> Iterator[None]:
    """Raises: Unavailable: too many are at it. Whoever waits holds a thread, so not many may."""
    if not QUEUE.acquire(blocking=False):
        raise Unavailable("Too many sign-ins at once; try again in a moment.")
    try:
        with HASHING:
            yield
    finally:
        QUEUE.release()


def check(password: str, words: Iterable[str] = ()) -> None:
    """Pass for one that is good enough. `words` are those that somebody would try first: names, addresses, this server's.

    Raises: Invalid: too short, too long, too easy to guess.
    """
    password = normal(password)
    if not SHORTEST <= len(password) <= LONGEST:
        raise Invalid(f"A password has {SHORTEST} to {LONGEST} characters.", code="password_invalid")
    if easy(password, words):
        raise Invalid(
            "That password is among the first somebody would try: a row of keys, a repetition, or words such as your name "
            "and this server's. Four or five words that do not belong together are good, and easy to keep in mind.",
            code="password_invalid",
        )


def hashed(password: str) -> str:
    """What is kept of a password, whether it is a good one or not. Raises: Unavailable."""
    with slot():
        return HASHER.hash(normal(password))


def matches(kept: str | None, password: str) -> bool:
    """Whether this is the password that was kept. Takes as long if none was. Raises: Unavailable."""
    try:
        with slot():
            HASHER.verify(kept or NOBODYS_HASH, normal(password[: LONGEST + 1]))
    except (VerificationError, InvalidHashError):
        return False
    return bool(kept)


def browser_mark(kept: str) -> str:
    """What a browser keeps in which this password was given, to be known again. It needs no row, since nobody else knows
    what is kept of a password (a hash with 128 random bits of salt), and is worth nothing once that changes.
    """
    number = secrets.token_urlsafe(16)
    return f"{number}.{_sealed(kept, number)}"


def is_known(kept: str | None, mark: str) -> bool:
    """Whether that is the mark of a browser in which this very password was given."""
    number, _, seal = mark.partition(".")
    return hmac.compare_digest(_sealed(kept or NOBODYS_HASH, number).encode(), seal.encode()) and kept is not None


def _sealed(kept: str, number: str) -> str:
    return hmac.new(kept.encode(), f"browser:{number}".encode(), hashlib.sha256).hexdigest()


def outdated(kept: str) -> bool:
    """Whether it was made with other parameters than are used now."""
    return HASHER.check_needs_rehash(kept)


def normal(password: str) -> str:
    """One form for what looks the same, whichever keyboard typed it (NIST SP 800-63B-4, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


def easy(password: str, words: Iterable[str]) -> bool:
    rest = password.lower()
    known = {part for word in (*FAMILIAR, *words) for part in parts(word.lower()) if len(part) >= WORD}
    for word in sorted(known, key=len, reverse=True):
        rest = rest.replace(word, "")
    rest = "".join(rest.split())
    return len(rest) < REST or len(set(rest)) < REST - 1 or repeated(rest) or in_a_row(rest)


def parts(word: str) -> set[str]:
    """A name or address, and what it is made of."""
    pieces = "".join(one if one.isalnum() else " " for one in word).split()
    return {word, *pieces}


def repeated(text: str) -> bool:
    """Whether it is a shorter text, again and again."""
    return any(
        (text[:length] * (len(text) // length + 1))[: len(text)] == text for length in range(1, len(text) // 2 + 1)
    )


def in_a_row(text: str) -> bool:
    """Whether nearly every character is the one before, or its neighbour on a keyboard or in the alphabet."""
    pairs = [text[place : place + 2] for place in range(len(text) - 1)]
    return sum(pair[0] == pair[1] or pair in NEIGHBOURS for pair in pairs) >= 0.8 * len(pairs)
