"""What an administrator does to accounts and jobs. Each act is a line of the audit.

Raises, all of them: NotAllowed, AuthRequired, TokenInvalid: not an administrator. NotFound: no such user or job.
"""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from fairway.db.models import BrowserSession, Job, User
from fairway.errors import Invalid, NotFound
from fairway.registry import audit
from fairway.registry.actor import Actor
from fairway.registry.oversight import require_admin


def suspend(session: Session, actor: Actor, name: str, *, now: int) -> None:
    """Keep somebody out: their keys stop at once, their sessions end. Nothing of theirs is taken away. Raises also
    Invalid: the last administrator, or oneself.
    """
    require_admin(actor)
    user = named(session, name)
    if user.id == actor.user_id:
        raise Invalid("You cannot suspend yourself: ask another administrator.", code="last_admin")
    if user.suspended_at is not None:
        return
    keep_one(session, user)
    user.suspended_at = now
    session.execute(delete(BrowserSession).where(BrowserSession.user_id == user.id))
    audit.note(session, actor, "user.suspend", user.name, now=now)


def resume(session: Session, actor: Actor, name: str, *, now: int) -> None:
    """Let somebody in again."""
    require_admin(actor)
    user = named(session, name)
    if user.suspended_at is not None:
        user.suspended_at = None
        audit.note(session, actor, "user.resume", user.name, now=now)


def set_admin(session: Session, actor: Actor, name: str, *, is_admin: bool, now: int) -> None:
    """Make somebody an administrator, or one no longer. Raises also Invalid: the last one, or somebody suspended."""
    require_admin(actor)
    user = named(session, name)
    if user.is_admin == is_admin:
        return
    if is_admin and user.suspended_at is not None:
        raise Invalid(f"{user.name} is suspended: let them in again first.", code="user_suspended")
    if not is_admin:
        keep_one(session, user)
    user.is_admin = is_admin
    audit.note(session, actor, "user.admin", user.name, now=now, is_admin=is_admin)


def keep_one(session: Session, user: User) -> None:
    """Pass if another administrator is left without this one."""
    if not user.is_admin or user.suspended_at is not None:
        return
    # locked: two administrators who take each other's rights away at once must not both succeed
    left = select(User.id).where(User.is_admin, User.suspended_at.is_(None)).order_by(User.id).with_for_update()
    if set(session.scalars(left)) <= {user.id}:
        raise Invalid(f"{user.name} is the last administrator: make somebody else one first.", code="last_admin")


def named(session: Session, name: str) -> User:
    user = session.scalar(select(User).where(User.name == name.strip().lower()))
    if user is None:
        raise NotFound(f"There is no user {name!r}.")
    return user


def retry(session: Session, actor: Actor, job_id: int, *, now: int) -> None:
    """Have a job run as soon as a worker looks, whatever it waits for."""
    require_admin(actor)
    job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
    if job is None:
        raise NotFound("There is no such job: it may have just been done.")
    if job.lease_until > now:
        return  # somebody is at it
    job.run_at = now
    audit.note(session, actor, "job.retry", f"{job.kind}/{job.key}", now=now)
