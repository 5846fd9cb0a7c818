"""What was deleted and may come back: channels, and files of a channel, until their time is over.

A deleted channel keeps its name, members, keys and index; nobody sees it but who may bring it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from fairway.db.models import Artifact, Channel, Member, Subdir, User, Withheld
from fairway.errors import NotAllowed, NotFound
from fairway.registry import access, audit, index, packages, relating
from fairway.registry.access import Action
from fairway.registry.actor import Actor, Role, Visibility
from fairway.registry.browse import FileView
from fairway.registry.channels import ChannelView, view
from fairway.registry.listing import Head
from fairway.registry.paging import Page, file_named, page


@dataclass(frozen=True, slots=True)
class TrashedChannel:
    """A deleted channel. `until` is when the sweep may take it (ms)."""

    name: str
    visibility: Visibility
    packages: int
    artifacts: int
    size: int
    deleted_at: int
    until: int


def channels(session: Session, actor: Actor, *, now: int, keep_ms: int) -> list[TrashedChannel]:
    """What the actor may restore: their own, administrators all; the latest first. One statement."""
    access.require_known(actor)
    query = restorable(actor, now=now, keep_ms=keep_ms).order_by(Channel.deleted_at.desc(), Channel.id.desc())
    return [
        TrashedChannel(
            name=channel.name,
            visibility=Visibility(channel.visibility),
            packages=channel.packages,
            artifacts=channel.artifacts,
            size=channel.size,
            deleted_at=channel.deleted_at or 0,
            until=(channel.deleted_at or 0) + keep_ms,
        )
        for channel in session.scalars(query.limit(200))
    ]


def restorable(actor: Actor, *, now: int, keep_ms: int) -> Select[*tuple[Any, ...]]:
    # the sweep takes what is older than this, and has perhaps begun
    query = select(Channel).where(Channel.deleted_at >= now - keep_ms)
    if not actor.is_admin:
        mine = select(Member.channel_id).where(Member.user_id == actor.user_id, Member.role == Role.OWNER.text)
        query = query.where(Channel.id.in_(mine))
    if actor.channels is not None:
        query = query.where(Channel.id.in_(actor.channels))
    return query


def restore_channel(session: Session, actor: Actor, name: str, *, now: int, keep_ms: int) -> ChannelView:
    """Give a deleted channel back to everybody, as it was.

    Raises: AuthRequired, TokenInvalid: nobody asks. NotFound: there is none that this actor could restore, or it is too
    late. NotAllowed: the key's scope.
    """
    access.require_known(actor)
    channel = session.scalar(
        restorable(actor, now=now, keep_ms=keep_ms).where(Channel.name == name).with_for_update(key_share=True)
    )
    if channel is None:
        raise NotFound(f"There is no deleted channel {name} that you could restore.")
    if actor.scope < Action.MANAGE.scope:
        raise NotAllowed("To restore a channel, use an API key with the scope 'admin'.")
    audit.note(session, actor, "channel.restore", name, now=now, channel_id=channel.id, deleted_at=channel.deleted_at)
    channel.deleted_at = None
    session.flush()
    index.renew(session, relating.naming(session, channel.id), now=now)
    return view(channel)


def files(session: Session, head: Head, *, cursor: str = "", limit: int = 50, now: int, keep_ms: int) -> Page[FileView]:
    """The deleted files of a channel that can be brought back, the latest first. One statement. Raises: Malformed."""
    query = (
        select(*packages.FILE)
        .join(Subdir, Subdir.id == Artifact.subdir_id)
        .join(Withheld, Withheld.artifact_id == Artifact.id)
        .outerjoin(User, User.id == Artifact.uploaded_by)
        .where(Artifact.channel_id == head.id, Artifact.purged_at.is_(None), Artifact.deleted_at >= now - keep_ms)
    )
    rows, following, previous = page(
        session,
        query,
        (Artifact.deleted_at, Artifact.id),
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.deleted_at, row.subdir, row.filename),
        descending=True,
        named=file_named(Artifact.channel_id, head.id),
    )
    return Page([packages.file_view(row, 0) for row in rows], following, previous)
