"""May they? The only place that says yes or no.

The answers follow docs/decisions/0007: who sent no credential learns nothing about a channel that is private, not even
that it exists; the words for "private" and for "missing" are the same object, so that they cannot drift apart. conda
takes a 404 on a subdir for "empty", which would silently hand the name to the next channel: hence "401, sign in".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sqlalchemy import Select, bindparam, or_, select
from sqlalchemy.orm import Session

from fairway.db.glance import Reads
from fairway.db.models import Channel, Member
from fairway.errors import AuthRequired, NotAllowed, NotFound, TokenInvalid
from fairway.registry.actor import Actor, Role, Scope, Visibility

# Asked before every upload and read: kept, because making a statement costs more than running it.
GATE = select(Channel.id, Channel.name, Channel.visibility, Channel.allow_overwrite).where(
    Channel.name == bindparam("name"), Channel.deleted_at.is_(None)
)
NO_CHANNEL = 0
ROLE = select(Member.role).where(Member.channel_id == bindparam("channel_id"), Member.user_id == bindparam("user_id"))


class Action(Enum):
    """An act on a channel: the role and the key's scope it needs, and how a refusal names it."""

    READ = (Role.VIEWER, Scope.READ, "read from")
    UPLOAD = (Role.UPLOADER, Scope.UPLOAD, "upload to")
    OVERWRITE = (Role.MAINTAINER, Scope.UPLOAD, "replace files in")
    DELETE = (Role.MAINTAINER, Scope.UPLOAD, "delete files from")
    YANK = (Role.MAINTAINER, Scope.UPLOAD, "yank files in")
    REINDEX = (Role.MAINTAINER, Scope.UPLOAD, "reindex")
    RELEASE = (Role.MAINTAINER, Scope.ADMIN, "release names of")
    SEE_MEMBERS = (Role.MAINTAINER, Scope.READ, "see the members of")
    MANAGE = (Role.OWNER, Scope.ADMIN, "manage")

    @property
    def role(self) -> Role:
        return self.value[0]

    @property
    def scope(self) -> Scope:
        return self.value[1]

    @property
    def words(self) -> str:
        return self.value[2]


@dataclass(frozen=True, slots=True)
class Gate:
    """What deciding needs to know of a channel: small, so that the read path may keep it."""

    id: int
    name: str
    visibility: Visibility
    allow_overwrite: bool = False


def may_read(actor: Actor, gate: Gate, role: Role | None) -> bool:
    if gate.visibility is Visibility.PUBLIC or actor.console:
        return True
    if not actor.is_known or (actor.channels is not None and gate.id not in actor.channels):
        return False
    return actor.is_admin or role is not None or gate.visibility is Visibility.INTERNAL


def require(actor: Actor, action: Action, gate: Gate | None, role: Role | None) -> None:
    """Pass, or raise. `gate` is none for a channel that does not exist; `role` is the actor's role in it, if any.

    Raises:
        AuthRequired: no credential, and the channel is not for everybody, or not there.
        TokenInvalid: a credential that is no good (a public channel may still be read).
        NotFound: a good credential that may not see the channel.
        NotAllowed: may see it, but not do this.
    """
    visible = gate is not None and may_read(actor, gate, role)
    if not visible or (action is not Action.READ and not actor.is_known):
        if actor.invalid:
            raise TokenInvalid
        if not actor.is_known:
            raise AuthRequired
        raise NotFound
    if action is Action.READ or actor.console or gate is None:
        return
    if actor.channels is not None and gate.id not in actor.channels:
        raise NotAllowed(f"This API key is not for the channel {gate.name}.")
    if actor.scope < action.scope:
        raise NotAllowed(
            f"This API key may only {actor.scope.text}; to {action.words} {gate.name} make one with the scope "
            f"{action.scope.text!r}."
        )
    if not actor.is_admin and (role is None or role < action.role):
        raise NotAllowed(f"You may not {action.words} {gate.name}: that needs the role {action.role.text!r} in it.")


def require_known(actor: Actor) -> None:
    """Pass for somebody with a good key. Raises: AuthRequired, TokenInvalid."""
    if actor.invalid:
        raise TokenInvalid
    if not actor.is_known:
        raise AuthRequired("Sign in first: send an API key, for example as 'Authorization: Bearer KEY'.")


def find(session: Session, name: str) -> Channel | None:
    return session.scalar(select(Channel).where(Channel.name == name, Channel.deleted_at.is_(None)))


def gate_named(reads: Reads, name: str) -> Gate | None:
    for channel_id, found, visibility, allow_overwrite in list(reads.execute(GATE, {"name": name})):
        return Gate(channel_id, found, Visibility(visibility), bool(allow_overwrite))
    return None


def role_in(reads: Reads, actor: Actor, channel_id: int) -> Role | None:
    if actor.user_id is None:
        return None
    for (text,) in reads.execute(ROLE, {"channel_id": channel_id, "user_id": actor.user_id}):
        return Role.of(text)
    return None


def pass_gate(session: Session, actor: Actor, action: Action, name: str) -> None:
    """Pass if the actor may do this to the channel of that name; raises as `require` does."""
    reads = session.connection()
    gate = gate_named(reads, name)
    # asked also of a channel that is not there: it must not take less time than one that is hidden
    role = role_in(reads, actor, NO_CHANNEL if gate is None else gate.id)
    require(actor, action, gate, role)


def readable(session: Session, actor: Actor, name: str) -> bool:
    """Whether there is a channel of that name that the actor may read."""
    try:
        pass_gate(session, actor, Action.READ, name)
    except (AuthRequired, TokenInvalid, NotFound):
        return False
    return True


def channel_for(session: Session, actor: Actor, action: Action, name: str) -> Channel:
    """The channel of that name, if the actor may do this to it; raises as `require` does. Its row is touched only then:
    making an object of it takes time that would tell a hidden channel from none.
    """
    pass_gate(session, actor, action, name)
    channel = find(session, name)
    if channel is None:  # deleted since
        raise NotFound
    return channel


def visible_to(actor: Actor) -> Select[int]:
    """The ids of every channel the actor may read, as a subquery: whatever lists or counts goes through this."""
    query = select(Channel.id).where(Channel.deleted_at.is_(None))
    if actor.console:
        return query
    if not actor.is_known:
        return query.where(Channel.visibility == Visibility.PUBLIC)
    if not actor.is_admin:
        mine = select(Member.channel_id).where(Member.user_id == actor.user_id)
        query = query.where(or_(Channel.visibility != Visibility.PRIVATE, Channel.id.in_(mine)))
    if actor.channels is not None:
        query = query.where(or_(Channel.visibility == Visibility.PUBLIC, Channel.id.in_(actor.channels)))
    return query
