"""The first administrator: made by whoever can read the server's console, with a code that works once.

There is no default account, and an empty server that anybody could claim would be worse than one (Harbor CVE-2026-4404).
The code is void an hour later, when it was used, when the server starts again, and once anybody has an account.
"""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from fairway.db.models import SetupCode
from fairway.errors import Invalid, NotFound
from fairway.registry import accounts
from fairway.registry.accounts import UserView
from fairway.registry.actor import CONSOLE

LIFE_MS = 3_600_000
# Crockford's: no letter that is taken for a digit. 20 of them are 100 random bits, and can be typed.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH, GROUP = 20, 5
MISREAD = str.maketrans("OIL", "011")


def wanted(session: Session) -> bool:
    """Whether nobody has an account yet."""
    return accounts.count_users(session) == 0


def new_code(session: Session, *, now: int) -> str | None:
    """A new code, after which no older one works; none if somebody has an account."""
    session.execute(delete(SetupCode))
    if not wanted(session):
        return None
    plain = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    session.add(SetupCode(digest=digest(plain), expires_at=now + LIFE_MS))
    return "-".join(plain[place : place + GROUP] for place in range(0, LENGTH, GROUP))


def check(session: Session, code: str, *, now: int) -> None:
    """Pass if this code would work. Raises: NotFound: somebody has an account. Invalid: it would not."""
    if not wanted(session):
        raise NotFound
    good = (SetupCode.digest == digest(code)) & (SetupCode.expires_at > now)
    if session.scalar(select(SetupCode.id).where(good)) is None:
        raise no_good()


def finish(
    session: Session, code: str, *, name: str, email: str, full_name: str, password_hash: str, now: int
) -> UserView:
    """Make the first administrator. Of many who try at once, one does.

    Raises: NotFound: somebody has an account. Invalid: the code is no good, or what `accounts.create_user` refuses.
    """
    # the row is taken first: on PostgreSQL whoever comes second waits here, and then finds none
    good = (SetupCode.digest == digest(code)) & (SetupCode.expires_at > now)
    taken = session.scalar(delete(SetupCode).where(good).returning(SetupCode.id))
    if not wanted(session):
        raise NotFound
    if taken is None:
        raise no_good()
    return accounts.create_user(
        session, CONSOLE, name, email=email, full_name=full_name, password_hash=password_hash, is_admin=True, now=now
    )


def no_good() -> Invalid:
    return Invalid(
        "That is not the code, or its hour is over. Look at the console of the server; each start prints a new one.",
        code="setup_code_invalid",
    )


def digest(code: str) -> bytes:
    """However it was typed."""
    plain = "".join(one for one in code.upper().translate(MISREAD) if one in ALPHABET)
    return hashlib.sha256(plain.encode()).digest()
