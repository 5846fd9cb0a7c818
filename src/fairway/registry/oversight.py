"""What an administrator looks at: users, storage, jobs, the audit. Every function asks whether the actor is one.

Raises, all of them: NotAllowed, AuthRequired, TokenInvalid: not an administrator. Malformed: no cursor of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import and_, func, or_, select, union
from sqlalchemy.orm import Session

from fairway.db.models import Artifact, Audit, Channel, Copy, Job, Member, Subdir, User
from fairway.errors import NotAllowed, NotFound
from fairway.registry import access, listing
from fairway.registry.actor import Actor, Role, Scope, Visibility
from fairway.registry.packages import Event
from fairway.registry.paging import Page, event_named, page


@dataclass(frozen=True, slots=True)
class UserRow:
    """Somebody with an account. `size` in bytes and `channels`: those of the channels they own."""

    id: int
    name: str
    full_name: str
    email: str
    is_admin: bool
    has_password: bool
    created_at: int
    suspended_at: int | None
    channels: int
    size: int


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """A channel, deleted ones too, and its owners. Sizes in bytes, times in ms."""

    id: int
    name: str
    visibility: Visibility
    owners: tuple[str, ...]
    packages: int
    artifacts: int
    size: int
    quota: int | None
    downloads: int  # in the last `listing.DAYS` days
    created_at: int
    updated_at: int
    deleted_at: int | None


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes in all: of live files, of yanked ones among them, of deleted ones whose bytes are still kept; and of `copies`,
    files that were fetched from upstreams, which no quota counts. `stored` is what distinct files take: the same bytes in
    several channels are kept once.
    """

    channels: int
    packages: int
    files: int
    size: int
    yanked: int
    deleted: int
    copies: int
    copied: int
    stored: int


@dataclass(frozen=True, slots=True)
class Totals:
    """How much there is in all, suspended users counted."""

    users: int
    admins: int
    suspended: int
    channels: int
    packages: int
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one channel, or the channels of one owner, take of the storage."""

    name: str
    count: int  # files of a channel, channels of an owner
    size: int


class State(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    FAILED = "failed"  # and will be tried again at `run_at`


@dataclass(frozen=True, slots=True)
class JobRow:
    id: int
    kind: str
    key: str
    state: State
    run_at: int
    attempts: int
    error: str | None


@dataclass(frozen=True, slots=True)
class AuditRow(Event):
    """A line of the audit; `channel` is its name by now, none if there is none (any more)."""

    channel: str | None
    token_id: int | None


def require_admin(actor: Actor) -> None:
    access.require_known(actor)
    if not actor.is_admin or actor.scope < Scope.ADMIN or actor.channels is not None:
        raise NotAllowed("That is for administrators of this server.")


def users(
    session: Session, actor: Actor, *, text: str = "", state: str = "", cursor: str = "", limit: int = 50
) -> Page[UserRow]:
    """Accounts by name. `text` is in the name, the full name or the address; `state` "suspended", "active" or "admin"
    keeps those. Two statements.
    """
    require_admin(actor)
    query = select(User)
    if text:
        wanted = text.strip().lower()
        columns = (User.name, func.lower(User.full_name), User.email)
        query = query.where(or_(*(column.contains(wanted, autoescape=True) for column in columns)))
    if state == "suspended":
        query = query.where(User.suspended_at.is_not(None))
    elif state == "active":
        query = query.where(User.suspended_at.is_(None))
    elif state == "admin":
        query = query.where(User.is_admin)
    rows, following, previous = page(
        session, query, (User.name,), cursor=cursor, limit=limit, key=lambda row: (row[0].name,)
    )
    return Page(user_rows(session, [user for (user,) in rows]), following, previous)


def user(session: Session, actor: Actor, name: str) -> UserRow:
    """Two statements. Raises also NotFound."""
    require_admin(actor)
    found = session.scalar(select(User).where(User.name == name.strip().lower()))
    if found is None:
        raise NotFound(f"There is no user {name!r}.")
    return user_rows(session, [found])[0]


def user_rows(session: Session, found: Sequence[User]) -> list[UserRow]:
    owned = owned_by(session, [user.id for user in found])
    return [
        UserRow(
            id=user.id,
            name=user.name,
            full_name=user.full_name,
            email=user.email,
            is_admin=user.is_admin,
            has_password=user.password_hash is not None,
            created_at=user.created_at,
            suspended_at=user.suspended_at,
            channels=owned.get(user.id, (0, 0))[0],
            size=owned.get(user.id, (0, 0))[1],
        )
        for user in found
    ]


def owned_by(session: Session, ids: list[int]) -> dict[int, tuple[int, int]]:
    """How many channels some users own, and their bytes: `{user id: (channels, size)}`."""
    if not ids:
        return {}
    query = (
        select(Member.user_id, func.count(), func.sum(Channel.size))
        .join(Channel, Channel.id == Member.channel_id)
        .where(Member.user_id.in_(ids), Member.role == Role.OWNER.text, Channel.deleted_at.is_(None))
        .group_by(Member.user_id)
    )
    return {user_id: (int(count), int(size or 0)) for user_id, count, size in session.execute(query)}


def channels(
    session: Session,
    actor: Actor,
    *,
    text: str = "",
    by_size: bool = False,
    deleted: bool = False,
    cursor: str = "",
    limit: int = 50,
    now: int,
) -> Page[ChannelRow]:
    """Every channel by name, or the largest first; with `deleted` only those in the trash. Three statements."""
    require_admin(actor)
    query = select(Channel.id, *CHANNEL).where(
        Channel.deleted_at.is_not(None) if deleted else Channel.deleted_at.is_(None)
    )
    if text:
        query = query.where(Channel.name.contains(text.strip().lower(), autoescape=True))
    rows, following, previous = page(
        session,
        query,
        (Channel.size, Channel.id) if by_size else (Channel.name,),
        cursor=cursor,
        limit=limit,
        key=(lambda row: (row.size, row.id)) if by_size else (lambda row: (row.name,)),
        descending=by_size,
    )
    ids = [row.id for row in rows]
    owners = owners_of(session, ids)
    days = listing.channel_days(session, ids, now=now)
    items = [
        ChannelRow(
            id=row.id,
            name=row.name,
            visibility=Visibility(row.visibility),
            owners=owners.get(row.id, ()),
            packages=row.packages,
            artifacts=row.artifacts,
            size=row.size,
            quota=row.quota,
            downloads=sum(days[row.id]),
            created_at=row.created_at,
            updated_at=row.updated_at,
            deleted_at=row.deleted_at,
        )
        for row in rows
    ]
    return Page(items, following, previous)


CHANNEL = (
    Channel.name,
    Channel.visibility,
    Channel.packages,
    Channel.artifacts,
    Channel.size,
    Channel.quota,
    Channel.created_at,
    Channel.updated_at,
    Channel.deleted_at,
)


def owners_of(session: Session, ids: list[int]) -> dict[int, tuple[str, ...]]:
    if not ids:
        return {}
    query = (
        select(Member.channel_id, User.name)
        .join(User, User.id == Member.user_id)
        .where(Member.channel_id.in_(ids), Member.role == Role.OWNER.text)
        .order_by(User.name)
    )
    found: dict[int, tuple[str, ...]] = {}
    for channel_id, name in session.execute(query):
        found[channel_id] = (*found.get(channel_id, ()), name)
    return found


def totals(session: Session, actor: Actor) -> Totals:
    """Two statements, neither of which looks at files."""
    require_admin(actor)
    people = select(
        func.count(), func.count().filter(User.is_admin), func.count().filter(User.suspended_at.is_not(None))
    ).select_from(User)
    things = select(
        func.count(), func.sum(Channel.packages), func.sum(Channel.artifacts), func.sum(Channel.size)
    ).where(Channel.deleted_at.is_(None))
    counted = [*session.execute(people).one(), *session.execute(things).one()]
    return Totals(*(int(value or 0) for value in counted))


def largest_channels(session: Session, actor: Actor, *, limit: int) -> list[Part]:
    """One statement."""
    require_admin(actor)
    query = select(Channel.name, Channel.artifacts, Channel.size).where(Channel.deleted_at.is_(None))
    return [Part(*row) for row in session.execute(query.order_by(Channel.size.desc(), Channel.id).limit(limit))]


def largest_owners(session: Session, actor: Actor, *, limit: int) -> list[Part]:
    """Who owns the largest channels together. One statement."""
    require_admin(actor)
    size = func.sum(Channel.size)
    query = (
        select(User.name, func.count(), size)
        .join(Member, (Member.user_id == User.id) & (Member.role == Role.OWNER.text))
        .join(Channel, (Channel.id == Member.channel_id) & Channel.deleted_at.is_(None))
        .group_by(User.id, User.name)
        .order_by(size.desc(), User.id)
    )
    return [Part(name, int(count), int(total)) for name, count, total in session.execute(query.limit(limit))]


def storage(session: Session, actor: Actor) -> Storage:
    """What everything takes. Four statements; the last reads an index of every file, which is a sixth of a second for a
    million of them: no page for everybody.
    """
    require_admin(actor)
    here = Channel.deleted_at.is_(None)
    totals = select(
        func.count(), func.sum(Channel.packages), func.sum(Channel.artifacts), func.sum(Channel.size)
    ).where(here)
    count, packages, files, size = session.execute(totals).one()
    kept = Artifact.purged_at.is_(None)
    sums = select(
        func.sum(Artifact.size).filter(and_(Artifact.deleted_at.is_(None), Artifact.yanked_at.is_not(None))),
        func.sum(Artifact.size).filter(Artifact.deleted_at.is_not(None)),
    ).where(kept, or_(Artifact.deleted_at.is_not(None), Artifact.yanked_at.is_not(None)))
    yanked, deleted = session.execute(sums).one()
    fetched = Copy.fetched_at.is_not(None)
    copies, copied = session.execute(select(func.count(), func.sum(Copy.size)).where(fetched)).one()
    once = union(select(Artifact.sha256, Artifact.size).where(kept), select(Copy.sha256, Copy.size).where(fetched))
    stored = session.scalar(select(func.sum(once.subquery().c.size)))
    values = (count, packages, files, size, yanked, deleted, copies, copied, stored)
    return Storage(*(int(value or 0) for value in values))


def largest_copies(session: Session, actor: Actor, *, limit: int) -> list[Part]:
    """Which channels have fetched most of their upstreams. One statement."""
    require_admin(actor)
    size = func.sum(Copy.size)
    query = (
        select(Channel.name, func.count(), size)
        .join(Subdir, Subdir.channel_id == Channel.id)
        .join(Copy, Copy.subdir_id == Subdir.id)
        .where(Copy.fetched_at.is_not(None), Channel.deleted_at.is_(None))
        .group_by(Channel.id, Channel.name)
        .order_by(size.desc(), Channel.id)
    )
    return [Part(name, int(count), int(total)) for name, count, total in session.execute(query.limit(limit))]


# --- jobs -----------------------------------------------------------------------------------------------------------


def jobs(session: Session, actor: Actor, *, state: State | None = None, now: int) -> list[JobRow]:
    """All jobs, the next first: there are as many as kinds of them. One statement."""
    require_admin(actor)
    rows = [
        JobRow(job.id, job.kind, job.key, state_of(job, now=now), job.run_at, job.attempts, job.error)
        for job in session.scalars(select(Job).order_by(Job.run_at, Job.id).limit(1_000))
    ]
    return [row for row in rows if state in {None, row.state}]


def state_of(job: Job, *, now: int) -> State:
    if job.lease_until > now:
        return State.RUNNING
    return State.FAILED if job.error is not None else State.WAITING


# --- the audit ------------------------------------------------------------------------------------------------------


def audit(
    session: Session,
    actor: Actor,
    *,
    by: str = "",
    action: str = "",
    channel: str = "",
    since: int | None = None,
    until: int | None = None,
    cursor: str = "",
    limit: int = 100,
) -> Page[AuditRow]:
    """Lines of the audit, the latest first: `by` whom, what (`action` "artifact.yank", or "artifact" for all of them),
    in which `channel`, `since` and `until` when (ms, the latter not included). One statement.
    """
    require_admin(actor)
    query = select(
        Audit.id, Audit.at, Audit.actor, Audit.action, Audit.subject, Audit.details, Audit.token_id,
        Channel.name.label("channel"),
    ).outerjoin(Channel, Channel.id == Audit.channel_id)  # fmt: skip
    if by:
        query = query.where(Audit.actor == by.strip().lower())
    if action:
        exact = "." in action
        query = query.where(Audit.action == action if exact else Audit.action.startswith(f"{action}.", autoescape=True))
    if channel:
        named = select(Channel.id).where(Channel.name == channel.strip().lower()).scalar_subquery()
        query = query.where(Audit.channel_id == named)
    if since is not None:
        query = query.where(Audit.at >= since)
    if until is not None:
        query = query.where(Audit.at < until)
    rows, following, previous = page(
        session, query, (Audit.id,), cursor=cursor, limit=limit, key=lambda row: (row.id,), descending=True
    )
    return Page([audit_row(row) for row in rows], following, previous)


def audit_row(row: Any) -> AuditRow:
    details: Mapping[str, Any] = row.details or {}
    return AuditRow(row.id, row.at, row.actor, row.action, row.subject, details, row.channel, row.token_id)


def channel_audit(session: Session, head: listing.Head, *, cursor: str = "", limit: int = 50) -> Page[Event]:
    """What was done in one channel, for who may see its members (the caller asks). One statement."""
    query = select(Audit.id, Audit.at, Audit.actor, Audit.action, Audit.subject, Audit.details)
    rows, following, previous = page(
        session,
        query.where(Audit.channel_id == head.id),
        (Audit.id,),
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.at, row.action, row.subject),
        descending=True,
        named=event_named(Audit.channel_id, head.id),
    )
    events = [Event(row.id, row.at, row.actor, row.action, row.subject, row.details or {}) for row in rows]
    return Page(events, following, previous)
