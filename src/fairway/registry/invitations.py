"""Invitations: into a channel, by its owners, and onto this server, by its administrators.

Nobody becomes a member of a channel without agreeing. No e-mail is sent, so an invitation of an address comes with a link
to pass on; it works once, for 14 days, for whoever holds it. Whether an address has an account is told to nobody: the link
is made either way, and an account that has the address now finds the invitation among its own. One that takes the address
later does not: addresses are not verified here, and anybody could.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

from sqlalchemy import ColumnElement, Select, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from fairway.db.models import Channel, Invitation, Member, User
from fairway.errors import Invalid, NotAllowed, NotFound
from fairway.registry import access, accounts, audit, channels, oversight
from fairway.registry.access import Action
from fairway.registry.accounts import UserView
from fairway.registry.actor import CONSOLE, Actor, Role
from fairway.registry.tokens import digest, new_secret, well_formed

KIND = "i"
LIFE_MS = 14 * 86_400_000
PENDING_MAX = 500  # of a channel, or of the server

Mode = Literal["open", "invitation", "closed"]


class Which(TypedDict, total=False):
    """An invitation: one of one's own, or one that a link leads to."""

    invitation_id: int
    code: str


Inviter, Invited = aliased(User), aliased(User)
SHOWN = (
    select(
        Invitation.id,
        Channel.name.label("channel"),
        Invitation.role,
        Invited.name.label("user"),
        Invitation.email,
        Inviter.name.label("invited_by"),
        Invitation.created_at,
        Invitation.expires_at,
    )
    .outerjoin(Channel, Channel.id == Invitation.channel_id)
    .outerjoin(Invited, Invited.id == Invitation.user_id)
    .outerjoin(Inviter, Inviter.id == Invitation.invited_by)
)


@dataclass(frozen=True, slots=True)
class InvitationView:
    """`user` or `email` is who was asked, as they were named; no channel: onto the server."""

    id: int
    channel: str | None
    role: str | None
    user: str | None
    email: str | None
    invited_by: str | None
    created_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What was made. The code is for the link, is shown this once, and is none for who was named by user name."""

    invitation: InvitationView
    code: str | None


def invite(session: Session, actor: Actor, channel: str, who: str, role: Role, *, now: int) -> Sent:
    """Ask somebody into a channel, by user name or e-mail address; whoever was asked before is asked anew.

    Raises: as access.require does for MANAGE; NotFound: no such user; Invalid: a member already, no address, too many.
    """
    found = access.channel_for(session, actor, Action.MANAGE, channel)
    user_id, email = _named(session, who)
    if email is None and session.get(Member, (found.id, user_id)) is not None:
        raise Invalid(f"{who} is a member already: change the role in the list.", code="member_already")
    # one of an address stays when its owner is asked by name, and the other way round: that would tell whose it is
    by_name = (Invitation.user_id == user_id) & Invitation.email.is_(None)
    same = by_name if email is None else Invitation.email == email
    return _make(session, actor, found, role, user_id, email, same, now=now)


def invite_to_server(session: Session, actor: Actor, email: str | None, *, now: int) -> Sent:
    """Let somebody make an account; the address is only what the form begins with. Raises: NotAllowed; Invalid."""
    oversight.require_admin(actor)
    email = None if not email else accounts.checked_email(email)
    return _make(session, actor, None, None, None, email, Invitation.email == email, now=now)


def _named(session: Session, who: str) -> tuple[int | None, str | None]:
    who = who.strip().lower()
    if "@" in who:
        email = accounts.checked_email(who)
        # looked up now, and never said: see above
        return session.scalar(select(User.id).where(User.email == email, User.suspended_at.is_(None))), email
    return accounts.user_named(session, who).id, None


def _make(
    session: Session,
    actor: Actor,
    channel: Channel | None,
    role: Role | None,
    user_id: int | None,
    email: str | None,
    same: ColumnElement[bool],
    *,
    now: int,
) -> Sent:
    if channel is not None:
        channels.hold(session, channel.id)  # before invitations are locked, as by who changes members
    here = Invitation.channel_id == channel.id if channel is not None else Invitation.channel_id.is_(None)
    _answer(session, here & same, "withdrawn", now=now)
    waiting = select(func.count()).select_from(Invitation).where(here, pending(now))
    if (session.scalar(waiting) or 0) >= PENDING_MAX:
        raise Invalid(f"More than {PENDING_MAX} invitations wait for an answer.", code="too_many")
    code = new_secret(KIND)
    row = Invitation(
        channel_id=None if channel is None else channel.id,
        role=None if role is None else role.text,
        user_id=user_id,
        email=email,
        digest=digest(code),
        invited_by=actor.user_id,
        created_at=now,
        expires_at=now + LIFE_MS,
    )
    session.add(row)
    session.flush()
    shown = one(session, Invitation.id == row.id)
    subject = shown.email or shown.user or "?"
    audit.note(
        session, actor, "invitation.create", subject, now=now, channel_id=row.channel_id, role=row.role, id=row.id
    )
    by_name = email is None and user_id is not None
    return Sent(shown, None if by_name else code)


def pending(now: int) -> ColumnElement[bool]:
    return Invitation.answered_at.is_(None) & (Invitation.expires_at > now)


def mine(actor: Actor, now: int) -> ColumnElement[bool]:
    """What somebody was asked, and has not answered."""
    alive = or_(Invitation.channel_id.is_(None), Channel.deleted_at.is_(None))
    return (Invitation.user_id == actor.user_id) & pending(now) & alive


def one(session: Session, condition: ColumnElement[bool]) -> InvitationView:
    """Raises: NotFound, with the same words whatever the reason."""
    for row in session.execute(SHOWN.where(condition)):
        return _shown(row)
    raise NotFound("There is no such invitation, or it was answered or is over.")


def with_code(session: Session, code: str, *, now: int) -> InvitationView:
    """What a link leads to. Raises: NotFound."""
    return one(session, by_code(code) & pending(now) & Channel.deleted_at.is_(None))


def by_code(code: str) -> ColumnElement[bool]:
    wanted = digest(code) if well_formed(code) else b""
    return Invitation.digest == wanted


def list_mine(session: Session, actor: Actor, *, now: int, limit: int = PENDING_MAX) -> list[InvitationView]:
    return _listed(session, SHOWN.where(mine(actor, now)), limit)


def list_of_channel(
    session: Session, actor: Actor, channel: str, *, now: int, limit: int = PENDING_MAX
) -> list[InvitationView]:
    """Those that wait for an answer. Raises: as access.require does for MANAGE."""
    found = access.channel_for(session, actor, Action.MANAGE, channel)
    return _listed(session, SHOWN.where(Invitation.channel_id == found.id, pending(now)), limit)


def list_of_server(session: Session, actor: Actor, *, now: int, limit: int = PENDING_MAX) -> list[InvitationView]:
    """Those onto the server that wait for an answer. Raises: NotAllowed."""
    oversight.require_admin(actor)
    return _listed(session, SHOWN.where(Invitation.channel_id.is_(None), pending(now)), limit)


def _listed(session: Session, query: Select[*tuple[Any, ...]], limit: int) -> list[InvitationView]:
    return [_shown(row) for row in session.execute(query.order_by(Invitation.id.desc()).limit(limit))]


def accept(session: Session, actor: Actor, *, now: int, invitation_id: int = 0, code: str | None = None) -> str:
    """Become a member; the channel's name. With the code of a link, or an invitation of one's own.

    Raises: NotFound. Invalid: whoever invited may not do so any more.
    """
    row = _mine_or_linked(session, actor, invitation_id, code, now=now)
    channel = None if row.channel_id is None else session.get(Channel, row.channel_id)
    if channel is None or channel.deleted_at is not None or row.role is None or actor.user_id is None:
        raise NotFound
    if not may_still_invite(session, row):
        raise Invalid("Whoever invited you may not do so any more: ask for a new invitation.", code="invitation_void")
    channels.hold(session, channel.id)
    if not _answer(session, Invitation.id == row.id, "accepted", now=now):
        raise NotFound
    role = Role.of(row.role)
    member = session.get(Member, (channel.id, actor.user_id))
    if member is None:
        session.add(Member(channel_id=channel.id, user_id=actor.user_id, role=role.text, added_at=now))
    else:
        member.role = max(Role.of(member.role), role).text  # nobody loses rights by saying yes
    audit.note(
        session, actor, "invitation.accept", channel.name, now=now, channel_id=channel.id, role=role.text, id=row.id
    )
    return channel.name


def decline(session: Session, actor: Actor, *, now: int, invitation_id: int = 0, code: str | None = None) -> None:
    """Raises: NotFound."""
    row = _mine_or_linked(session, actor, invitation_id, code, now=now)
    if not _answer(session, Invitation.id == row.id, "declined", now=now):
        raise NotFound
    audit.note(session, actor, "invitation.decline", actor.name, now=now, channel_id=row.channel_id, id=row.id)


def withdraw(session: Session, actor: Actor, invitation_id: int, *, now: int, channel: str | None = None) -> None:
    """Take an invitation into this channel back, or with none one onto the server.

    Raises: as access.require does for MANAGE; NotAllowed; NotFound: it is another channel's, or was answered.
    """
    if channel is None:
        oversight.require_admin(actor)
        here: ColumnElement[bool] = Invitation.channel_id.is_(None)
    else:
        here = Invitation.channel_id == access.channel_for(session, actor, Action.MANAGE, channel).id
    shown = one(session, here & (Invitation.id == invitation_id) & pending(now))
    if not _answer(session, Invitation.id == invitation_id, "withdrawn", now=now):
        raise NotFound
    channel_id = session.scalar(select(Invitation.channel_id).where(Invitation.id == invitation_id))
    subject = shown.email or shown.user or "?"
    audit.note(session, actor, "invitation.withdraw", subject, now=now, channel_id=channel_id, id=invitation_id)


def may_sign_up(session: Session, mode: Mode, code: str | None, *, now: int) -> InvitationView | None:
    """Pass for somebody who may make an account; what the code stands for, if one was given.

    Where accounts need an invitation it has to be an administrator's: whoever has an account sees every internal channel,
    and that is not for an owner of some channel to give away.

    Raises: NotAllowed: not here. NotFound: the code is no good.
    """
    if mode == "closed":
        raise NotAllowed("Accounts are made by the administrators of this server only.", code="sign_up_closed")
    row = None if code is None else _row(session, by_code(code) & pending(now))
    if mode == "invitation":
        if row is None:
            raise NotAllowed("To make an account here you need an invitation.", code="sign_up_closed")
        inviter = None if row.invited_by is None else session.get(User, row.invited_by)
        console = row.invited_by is None and row.channel_id is None
        if not console and (inviter is None or not inviter.is_admin or inviter.suspended_at is not None):
            raise NotAllowed(
                "This invitation is for people who have an account here. An administrator can invite you to make one.",
                code="sign_up_closed",
            )
    return None if row is None else one(session, Invitation.id == row.id)


def sign_up(
    session: Session,
    mode: Mode,
    code: str | None,
    *,
    name: str,
    email: str,
    full_name: str,
    password_hash: str,
    now: int,
) -> UserView:
    """Make an account. The link works no more then: an invitation into a channel waits among the new account's own.

    Raises: as `may_sign_up` and `accounts.create_user` do.
    """
    invitation = may_sign_up(session, mode, code, now=now)
    user = accounts.create_user(
        session, CONSOLE, name, email=email, full_name=full_name, password_hash=password_hash, is_admin=False, now=now
    )
    if invitation is None or code is None:
        return user
    values = {"user_id": user.id, "digest": digest(new_secret(KIND))}
    if invitation.channel is None:
        values |= {"answered_at": now, "answer": "accepted"}
    taken = update(Invitation).where(by_code(code), pending(now)).values(values).returning(Invitation.id)
    if session.scalar(taken) is None:  # somebody else was faster
        raise NotFound
    actor = Actor(user.id, user.name)
    audit.note(session, actor, "invitation.sign_up", user.name, now=now, id=invitation.id)
    return user


def may_still_invite(session: Session, row: Invitation) -> bool:
    """Whether whoever invited is an owner or administrator to this day: who was put out must not come back by it."""
    inviter = None if row.invited_by is None else session.get(User, row.invited_by)
    if inviter is None or inviter.suspended_at is not None:
        return False
    member = session.get(Member, (row.channel_id, inviter.id))
    return inviter.is_admin or (member is not None and member.role == Role.OWNER.text)


def _mine_or_linked(session: Session, actor: Actor, invitation_id: int, code: str | None, *, now: int) -> Invitation:
    if code is not None:
        return _row(session, by_code(code) & pending(now))
    return _row(session, (Invitation.id == invitation_id) & (Invitation.user_id == actor.user_id) & pending(now))


def _row(session: Session, condition: ColumnElement[bool]) -> Invitation:
    row = session.scalar(select(Invitation).where(condition))
    if row is None:
        raise NotFound("There is no such invitation, or it was answered or is over.")
    return row


def _answer(session: Session, condition: ColumnElement[bool], answer: str, *, now: int) -> list[int]:
    """Answer what was not answered yet; of two who do so at once, one gets its id."""
    statement = update(Invitation).where(condition, Invitation.answered_at.is_(None))
    statement = statement.values(answered_at=now, answer=answer).returning(Invitation.id)
    return list(session.scalars(statement.execution_options(synchronize_session=False)))


def _shown(row: Any) -> InvitationView:
    found = InvitationView(*row)
    return found if found.email is None else replace(found, user=None)  # whose address it is stays untold
