"""Channels and their members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from fairway.blobs import keys
from fairway.conda.names import ChannelName
from fairway.db.models import Channel, Invitation, Member, Subdir, User
from fairway.db.upsert import added
from fairway.errors import Invalid, NameTaken, NotAllowed, NotFound
from fairway.registry import access, audit, index, relating, sweep
from fairway.registry.access import Action
from fairway.registry.actor import Actor, Role, Scope, Visibility

DESCRIPTION_MAX = 1_000
README_MAX = 64 << 10  # bytes


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel as listings show it. Sizes in bytes, times in ms."""

    id: int
    name: str
    visibility: Visibility
    description: str
    allow_v3: bool
    allow_overwrite: bool
    quota: int | None
    created_at: int
    updated_at: int  # when its files last changed
    packages: int
    artifacts: int
    size: int


@dataclass(frozen=True, slots=True)
class MemberView:
    user: str
    role: str
    added_at: int


@dataclass(frozen=True, slots=True)
class Change:
    """What to change in a channel; none leaves a value as it is."""

    visibility: Visibility | None = None
    description: str | None = None
    readme: str | None = None  # Markdown
    allow_v3: bool | None = None
    allow_overwrite: bool | None = None
    base: str | None = None  # the channel that goes before this one; "": none
    overrides: str | None = None  # the one that goes after it


def create_channel(
    session: Session,
    actor: Actor,
    name: str,
    *,
    owner: str | None = None,
    visibility: Visibility = Visibility.PRIVATE,
    description: str = "",
    now: int,
) -> ChannelView:
    """Make an empty channel; from this moment on clients can read it.

    Raises:
        Invalid: the name breaks a rule. NameTaken: it is in use, perhaps by a channel the actor may not see.
        NotAllowed: the key may not create channels. NotFound: no such owner.
    """
    name = ChannelName.parse(name)
    if not actor.is_known or actor.scope < Scope.ADMIN or actor.channels is not None:
        raise NotAllowed("To create channels, use an API key with the scope 'admin' that is not bound to channels.")
    owner = owner or actor.name
    if owner != actor.name and not actor.is_admin:
        raise NotAllowed("Only an administrator can create a channel for somebody else.")
    user = session.scalar(select(User).where(User.name == owner, User.suspended_at.is_(None)))
    if user is None:
        raise NotFound(f"There is no user {owner!r}.")
    require_free(session, name)
    channel = Channel(
        name=name,
        updated_at=now,
        visibility=visibility,
        description=checked_description(description),
        created_at=now,
        allow_v3=True,
        allow_overwrite=False,
        packages=0,
        artifacts=0,
        size=0,
    )
    if not added(session, channel):
        raise NameTaken(f"The channel name {name} is already in use.")
    # a restored database may give out the number of a channel whose index still waits to be swept
    sweep.keep(session, [keys.channel_prefix(channel.id)])
    session.add(Member(channel_id=channel.id, user_id=user.id, role=Role.OWNER.text, added_at=now))
    audit.note(
        session, actor, "channel.create", name, now=now, channel_id=channel.id, visibility=visibility, owner=owner
    )
    return view(channel)


def require_free(session: Session, name: str) -> None:
    """Pass if no channel has that name, seen or hidden. Raises: NameTaken."""
    if session.scalar(select(Channel.id).where(Channel.name == name)) is not None:
        raise NameTaken(f"The channel name {name} is already in use.")


def update_channel(session: Session, actor: Actor, name: str, change: Change, *, now: int) -> ChannelView:
    """Raises: as access.require does for MANAGE; Invalid: a description or README that is too long, a relation that
    cannot be (`relating.change`).
    """
    channel = access.channel_for(session, actor, Action.MANAGE, name)
    before: dict[str, Any] = {}
    for field in ("visibility", "description", "readme", "allow_v3", "allow_overwrite"):
        value = getattr(change, field)
        if field == "description" and value is not None:
            value = checked_description(value)
        if field == "readme" and value is not None:
            value = checked_readme(value)
        if value is not None and value != (was := getattr(channel, field)):
            # of a whole text its length says enough
            before[field] = [len(was), len(value)] if field == "readme" else [was, value]
            setattr(channel, field, value)
    before |= relating.change(session, actor, channel, base=change.base, overrides=change.overrides)
    if "visibility" in before:
        session.flush()
        index.renew(session, relating.naming(session, channel.id), now=now)
    elif before.keys() & set(relating.KINDS):
        index.renew(session, [channel.id], now=now)
    if before:
        audit.note(session, actor, "channel.update", name, now=now, channel_id=channel.id, **before)
    return view(channel)


def set_logo(session: Session, actor: Actor, name: str, logo: bytes | None, *, now: int) -> None:
    """Give a channel a picture, a PNG that `logos.encoded` made, or none. Raises as access.require does for MANAGE."""
    channel = access.channel_for(session, actor, Action.MANAGE, name)
    if channel.logo != logo:
        audit.note(session, actor, "channel.logo", name, now=now, channel_id=channel.id, size=len(logo or b""))
        channel.logo = logo


def logo_of(session: Session, channel_id: int) -> bytes | None:
    """A channel's picture, a PNG. Who may see it the caller asks."""
    logo: bytes | None = session.scalar(select(Channel.logo).where(Channel.id == channel_id))
    return logo


def readme_of(session: Session, channel_id: int) -> str:
    """A channel's README, Markdown that strangers wrote. Who may see it the caller asks."""
    return session.scalar(select(Channel.readme).where(Channel.id == channel_id)) or ""


def set_quota(session: Session, actor: Actor, name: str, quota: int | None, *, now: int) -> None:
    """Bound a channel's files to `quota` bytes; for administrators. What is there already stays."""
    channel = access.channel_for(session, actor, Action.READ, name)
    if not actor.is_admin or actor.scope < Scope.ADMIN:
        raise NotAllowed("Only an administrator can set a quota.")
    audit.note(session, actor, "channel.quota", name, now=now, channel_id=channel.id, quota=[channel.quota, quota])
    channel.quota = quota


def delete_channel(session: Session, actor: Actor, name: str, *, now: int) -> None:
    """Take a channel away from everybody at once. Its name and bytes are kept until the sweep, so that a mistake can be
    mended. Raises as access.require does for MANAGE.
    """
    channel = access.channel_for(session, actor, Action.MANAGE, name)
    channel.deleted_at = now
    session.flush()
    index.renew(session, relating.naming(session, channel.id), now=now)
    audit.note(session, actor, "channel.delete", name, now=now, channel_id=channel.id, artifacts=channel.artifacts)


def reindex(session: Session, actor: Actor, name: str, subdir: str | None, *, now: int) -> dict[int, int]:
    """Have the index of a channel, or of one subdir, built anew from its rows; `{subdir id: change number}`.

    Raises: as access.require does for REINDEX; NotFound: no such subdir.
    """
    channel = access.channel_for(session, actor, Action.REINDEX, name)
    query = select(Subdir.id, Subdir.name).where(Subdir.channel_id == channel.id).order_by(Subdir.id)
    found = [row.id for row in session.execute(query) if subdir in {None, row.name}]
    if subdir is not None and not found:
        raise NotFound(f"There is no subdir {subdir} in {name}.")
    changes = {subdir_id: index.touch(session, subdir_id) for subdir_id in found}
    audit.note(session, actor, "channel.reindex", subdir or "*", now=now, channel_id=channel.id)
    return changes


def set_member(session: Session, actor: Actor, name: str, user: str, role: Role | None, *, now: int) -> None:
    """Give a user a role in a channel, or with none take it away. What they were asked before and have not answered is void:
    it must not bring them back, or above what was decided last.

    Raises: as access.require does for MANAGE; NotFound: no such user; Invalid: the channel would lose its last owner.
    """
    channel = access.channel_for(session, actor, Action.MANAGE, name)
    found = session.scalar(select(User).where(User.name == user))
    if found is None:
        raise NotFound(f"There is no user {user!r}.")
    hold(session, channel.id)
    member = session.get(Member, (channel.id, found.id))
    if member is not None and role is not Role.OWNER:
        require_another_owner(session, channel, member, user)
    if role is None:
        if member is not None:
            session.delete(member)
    elif member is None:
        session.add(Member(channel_id=channel.id, user_id=found.id, role=role.text, added_at=now))
    else:
        member.role = role.text
    asked = update(Invitation).where(Invitation.channel_id == channel.id, Invitation.user_id == found.id)
    session.execute(asked.where(Invitation.answered_at.is_(None)).values(answered_at=now, answer="withdrawn"))
    audit.note(
        session,
        actor,
        "member.set" if role else "member.remove",
        user,
        now=now,
        channel_id=channel.id,
        role=role.text if role else None,
    )


def leave(session: Session, actor: Actor, name: str, *, now: int) -> None:
    """Give one's own role in a channel up.

    Raises: as access.require does for READ; NotFound: no member; Invalid: the channel would lose its last owner.
    """
    channel = access.channel_for(session, actor, Action.READ, name)
    require_person(actor)
    hold(session, channel.id)
    member = session.get(Member, (channel.id, actor.user_id))
    if member is None:
        raise NotFound(f"You are no member of {name}.")
    require_another_owner(session, channel, member, actor.name)
    session.delete(member)
    audit.note(session, actor, "member.leave", actor.name, now=now, channel_id=channel.id, role=member.role)


def transfer(session: Session, actor: Actor, name: str, user: str, *, now: int) -> None:
    """Make a member the owner instead of oneself, who stays as a maintainer. Other owners stay what they are, and so does
    an administrator who does this for somebody.

    Raises: as access.require does for MANAGE; Invalid: not a member, or already what the channel would be given.
    """
    channel = access.channel_for(session, actor, Action.MANAGE, name)
    hold(session, channel.id)
    heir = session.scalar(
        select(Member)
        .join(User, User.id == Member.user_id)
        .where(Member.channel_id == channel.id, User.name == user, User.suspended_at.is_(None))
    )
    if heir is None:
        raise Invalid(f"{user} is no member of {name}: invite them first.", code="member_missing")
    if heir.user_id == actor.user_id:
        raise Invalid("You cannot give the channel to yourself.", code="member_missing")
    mine = None if actor.user_id is None else session.get(Member, (channel.id, actor.user_id))
    heir.role = Role.OWNER.text
    if mine is not None and mine.role == Role.OWNER.text:
        mine.role = Role.MAINTAINER.text
    audit.note(session, actor, "channel.transfer", user, now=now, channel_id=channel.id)


def hold(session: Session, channel_id: int) -> None:
    """One change of a channel's members at a time: two owners who leave at once must not both see the other."""
    session.execute(select(Channel.id).where(Channel.id == channel_id).with_for_update())


def require_another_owner(session: Session, channel: Channel, member: Member, user: str) -> None:
    """Raises: Invalid: this one, who is to be none any more, is the last who can sign in."""
    if member.role != Role.OWNER.text:
        return
    others = (
        select(func.count())
        .select_from(Member)
        .join(User, User.id == Member.user_id)
        .where(Member.channel_id == channel.id, Member.role == Role.OWNER.text)
        .where(Member.user_id != member.user_id, User.suspended_at.is_(None))
    )
    if not session.scalar(others):
        raise Invalid(
            f"{user} is the last owner of {channel.name}: give the channel another owner first.", code="last_owner"
        )


def require_person(actor: Actor) -> None:
    """Pass for who may do this for themselves. Raises: NotAllowed."""
    if actor.user_id is None or actor.scope < Scope.ADMIN or actor.channels is not None:
        raise NotAllowed("To do this, use an API key with the scope 'admin' that is not bound to channels.")


def names_of_member(session: Session, actor: Actor, *, limit: int) -> list[str]:
    """The channels somebody is a member of, by name."""
    query = select(Channel.name).join(Member, Member.channel_id == Channel.id)
    query = query.where(Member.user_id == actor.user_id, Channel.deleted_at.is_(None))
    return list(session.scalars(query.order_by(Channel.name).limit(limit)))


def list_members(session: Session, actor: Actor, name: str) -> list[MemberView]:
    """Raises: as access.require does for SEE_MEMBERS."""
    return members_of(session, access.channel_for(session, actor, Action.SEE_MEMBERS, name).id)


def members_of(
    session: Session, channel_id: int, *, after: str = "", limit: int | None = None, only: str | None = None
) -> list[MemberView]:
    """By name; `after` is the last one of the page before, `only` the one that is wanted. Who may see them the caller asks."""
    query = select(User.name, Member.role, Member.added_at).join(User, User.id == Member.user_id)
    query = query.where(Member.channel_id == channel_id, User.name > after)
    if only is not None:
        query = query.where(User.name == only)
    return [MemberView(*row) for row in session.execute(query.order_by(User.name).limit(limit))]


def show(session: Session, actor: Actor, name: str) -> ChannelView:
    """Raises: as access.require does for READ."""
    return view(access.channel_for(session, actor, Action.READ, name))


def list_channels(
    session: Session, actor: Actor, *, after: str = "", limit: int | None = None
) -> Sequence[ChannelView]:
    """The channels the actor may read, by name; `after` is the last name of the page before."""
    query = select(Channel).where(Channel.id.in_(access.visible_to(actor)), Channel.name > after).order_by(Channel.name)
    return [view(channel) for channel in session.scalars(query.limit(limit))]


def checked_description(text: str) -> str:
    text = text.strip()
    if len(text) > DESCRIPTION_MAX:
        raise Invalid(f"A description has at most {DESCRIPTION_MAX} characters.", code="description_invalid")
    return text


def checked_readme(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\0", "").strip()
    if len(text.encode(errors="replace")) > README_MAX:
        raise Invalid(f"A README has at most {README_MAX >> 10} KiB.", code="readme_invalid")
    return text


def view(channel: Channel) -> ChannelView:
    return ChannelView(
        id=channel.id,
        name=channel.name,
        visibility=Visibility(channel.visibility),
        description=channel.description,
        allow_v3=channel.allow_v3,
        allow_overwrite=channel.allow_overwrite,
        quota=channel.quota,
        created_at=channel.created_at,
        updated_at=channel.updated_at,
        packages=channel.packages,
        artifacts=channel.artifacts,
        size=channel.size,
    )
