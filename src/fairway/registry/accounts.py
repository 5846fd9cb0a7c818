"""People: their accounts, names and addresses, and their passwords as far as rows go (`passwords` has the rest)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from fairway.conda.text import has_control
from fairway.db.models import User
from fairway.db.upsert import added
from fairway.errors import Invalid, NameTaken, NotAllowed, NotFound
from fairway.registry import audit, sessions
from fairway.registry.actor import CONSOLE, Actor

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)
EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,190}")
FULL_NAME_MAX = 100


@dataclass(frozen=True, slots=True)
class UserView:
    id: int
    name: str
    email: str
    full_name: str
    is_admin: bool
    created_at: int
    suspended_at: int | None


@dataclass(frozen=True, slots=True)
class Credential:
    """Whose password is to be given, and what is kept of it; both none if there is nobody who could sign in so."""

    user: UserView | None
    kept: str | None


class NewUser(TypedDict):
    """Who somebody wants to be."""

    name: str
    email: str
    full_name: str
    password_hash: str


class Make(Protocol):
    """What makes an account."""

    def __call__(self, session: Session, /, *, now: int) -> UserView: ...


class SignIn(Protocol):
    """What signs somebody in; the secret of their session, or none."""

    def __call__(self, session: Session, /, *, address: str, agent: str, now: int) -> str | None: ...


def create_user(
    session: Session,
    actor: Actor,
    name: str,
    *,
    email: str,
    password_hash: str | None,
    is_admin: bool,
    now: int,
    full_name: str = "",
) -> UserView:
    """Raises: Invalid: the name or address breaks a rule. NameTaken: somebody has it."""
    name, email, full_name = checked_name(name), checked_email(email), checked_full_name(full_name)
    found = session.scalar(select(User).where(or_(User.name == name, User.email == email)).limit(1))
    if found is not None:
        what = f"user name {name}" if found.name == name else f"address {email}"
        raise NameTaken(f"The {what} is already in use.")
    user = User(
        name=name, email=email, full_name=full_name, password_hash=password_hash, is_admin=is_admin, created_at=now
    )
    if not added(session, user):
        raise NameTaken(f"The user name {name} or the address {email} is already in use.")
    audit.note(session, actor, "user.create", name, now=now, is_admin=is_admin)
    return view(user)


def update_profile(session: Session, actor: Actor, *, full_name: str, email: str, now: int) -> UserView:
    """Change one's own name and address. Raises: Invalid; NameTaken: somebody has the address."""
    user = own(session, actor)
    before: dict[str, Any] = {}
    for field, value in (("full_name", checked_full_name(full_name)), ("email", checked_email(email))):
        if value != getattr(user, field):
            before[field] = [getattr(user, field), value]
    if "email" in before and session.scalar(select(User.id).where(User.email == before["email"][1])) is not None:
        raise NameTaken(f"The address {before['email'][1]} is already in use.")
    for field, (_, value) in before.items():
        setattr(user, field, value)
    if before:
        if not added(session, user):
            raise NameTaken("The address is already in use.")
        audit.note(session, actor, "user.update", user.name, now=now, **before)
    return view(user)


def credential(session: Session, name: str) -> Credential:
    """Whose password it is, by name or address. Who is suspended, or has no password, cannot sign in with one."""
    name = name.strip().lower()
    user = session.scalar(select(User).where(or_(User.name == name, User.email == name)))
    if user is None or user.password_hash is None or user.suspended_at is not None:
        return Credential(None, None)
    return Credential(view(user), user.password_hash)


def own_credential(session: Session, actor: Actor) -> Credential:
    user = own(session, actor)
    return Credential(view(user), user.password_hash)


def set_password(session: Session, actor: Actor, name: str, password_hash: str, *, now: int) -> int:
    """Give somebody a new password; how many of their browsers were signed out by it: all but the one that asks.

    Raises: NotAllowed: not one's own. NotFound.
    """
    user = found(session, name)
    if not actor.console and actor.user_id != user.id:
        raise NotAllowed("A password can be changed only by whose it is.")
    user.password_hash = password_hash
    audit.note(session, actor, "user.password", user.name, now=now)
    return sessions.end_all(session, actor, user.id, now=now, but=actor.session_id)


def sign_in(
    session: Session, *, credential: Credential, renewed: str | None, address: str, agent: str, now: int
) -> str | None:
    """Start a session for whose password was found to match; its secret. None if that was overtaken: the password was
    changed while it was looked at, or its user suspended. `renewed` is the same password, kept in a newer form.
    """
    known = credential.user
    user = None if known is None else session.get(User, known.id, with_for_update=True)
    if user is None or user.suspended_at is not None or user.password_hash != credential.kept:
        return None
    if renewed is not None:
        user.password_hash = renewed
    return sessions.start(session, user.id, name=user.name, address=address, agent=agent, now=now)


def first_time(make: Make) -> SignIn:
    """Make an account and sign it in, at once."""

    def start(session: Session, *, address: str, agent: str, now: int) -> str:
        user = make(session, now=now)
        return sessions.start(session, user.id, name=user.name, address=address, agent=agent, now=now)

    return start


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


def own(session: Session, actor: Actor) -> User:
    user = None if actor.user_id is None else session.get(User, actor.user_id)
    if user is None:
        raise NotFound
    return user


def found(session: Session, name: str) -> User:
    """Somebody, suspended or not. Raises: NotFound."""
    user = session.scalar(select(User).where(User.name == name.strip().lower()))
    if user is None:
        raise NotFound(f"There is no user {name!r}.")
    return user


def checked_name(name: str) -> str:
    name = name.strip().lower()
    if name == CONSOLE.name:
        raise Invalid(f"{name} is what the audit calls the command line of this server.", code="name_invalid")
    if not NAME.fullmatch(name):
        raise Invalid(
            "A user name has 1 to 64 characters of a-z, 0-9, '.', '-' and '_', and begins and ends with a letter or digit.",
            code="name_invalid",
        )
    return name


def checked_email(email: str) -> str:
    email = email.strip().lower()
    if not EMAIL.fullmatch(email):
        raise Invalid(f"{email!r} is not an e-mail address.", code="email_invalid")
    return email


def checked_full_name(text: str) -> str:
    text = " ".join(text.split())
    if len(text) > FULL_NAME_MAX or has_control(text):
        raise Invalid(f"A full name has at most {FULL_NAME_MAX} characters that can be seen.", code="full_name_invalid")
    return text


def view(user: User) -> UserView:
    return UserView(user.id, user.name, user.email, user.full_name, user.is_admin, user.created_at, user.suspended_at)
