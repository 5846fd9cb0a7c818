"""People and their passwords."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from fairway.db.models import User
from fairway.db.upsert import added
from fairway.errors import Invalid, NameTaken, NotFound, Unavailable
from fairway.registry import audit
from fairway.registry.actor import Actor

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)
EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,190}")
PASSWORD_MIN, PASSWORD_MAX = 15, 4_096  # NIST 800-63B-4 for a password alone; the maximum bounds the hash's work

# OWASP's first choice: 19 MiB, two passes. At most two at a time, or a flood of sign-ins would take the machine.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
HASHING = threading.BoundedSemaphore(2)
# Checked when there is no such user, so that the answer takes as long as for a wrong password.
NOBODYS_HASH = HASHER.hash("nobody has this password")


@dataclass(frozen=True, slots=True)
class UserView:
    id: int
    name: str
    email: str
    is_admin: bool
    created_at: int


def hashed(password: str) -> str:
    """Raises: Invalid: too short or too long."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise Invalid(f"A password has {PASSWORD_MIN} to {PASSWORD_MAX} characters.", code="password_invalid")
    with hashing_slot():
        return HASHER.hash(password)


class hashing_slot:  # noqa: N801 - reads as the context it is
    def __enter__(self) -> None:
        if not HASHING.acquire(timeout=10):
            raise Unavailable("Too many sign-ins at once; try again in a moment.")

    def __exit__(self, *_: object) -> None:
        HASHING.release()


def create_user(
    session: Session, actor: Actor, name: str, *, email: str, password_hash: str | None, is_admin: bool, now: int
) -> UserView:
    """Raises: Invalid: the name or address breaks a rule. NameTaken: somebody has it."""
    name = name.strip().lower()
    email = email.strip().lower()
    if not NAME.fullmatch(name):
        raise Invalid(
            "A user name has 1 to 64 characters of a-z, 0-9, '.', '-' and '_', and begins and ends with a letter or digit.",
            code="name_invalid",
        )
    if not EMAIL.fullmatch(email):
        raise Invalid(f"{email!r} is not an e-mail address.", code="email_invalid")
    found = session.scalar(select(User).where(or_(User.name == name, User.email == email)).limit(1))
    if found is not None:
        what = f"user name {name}" if found.name == name else f"address {email}"
        raise NameTaken(f"The {what} is already in use.")
    user = User(name=name, email=email, password_hash=password_hash, is_admin=is_admin, created_at=now)
    if not added(session, user):
        raise NameTaken(f"The user name {name} or the address {email} is already in use.")
    audit.note(session, actor, "user.create", name, now=now, is_admin=is_admin)
    return view(user)


def verify_password(session: Session, name: str, password: str) -> UserView | None:
    """The user, if name (or e-mail) and password belong together. Takes as long for a user there is not."""
    user = session.scalar(select(User).where(or_(User.name == name.lower(), User.email == name.lower())))
    wanted = (user.password_hash if user else None) or NOBODYS_HASH
    try:
        with hashing_slot():
            HASHER.verify(wanted, password[: PASSWORD_MAX + 1])
    except (VerificationError, InvalidHashError):
        return None
    return view(user) if user is not None and user.password_hash and user.suspended_at is None else None


def user_named(session: Session, name: str) -> UserView:
    """Raises: NotFound."""
    user = session.scalar(select(User).where(User.name == name.strip().lower(), User.suspended_at.is_(None)))
    if user is None:
        raise NotFound(f"There is no user {name!r}.")
    return view(user)


def list_users(session: Session) -> list[UserView]:
    return [view(user) for user in session.scalars(select(User).order_by(User.name))]


def count_users(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(User)) or 0


def view(user: User) -> UserView:
    return UserView(user.id, user.name, user.email, user.is_admin, user.created_at)
