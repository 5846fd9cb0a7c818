"""Browsers that people are signed in with.

The cookie holds a secret in the form of an API key, of kind `s`; the row has its SHA-256 and nothing of the secret itself.
So a session is recognised as a key is, kept under the database's stamp, and ends the moment its row does. A signed cookie
without a row could not be taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from fairway.conda.text import one_line
from fairway.db.glance import Reads
from fairway.db.models import BrowserSession, User
from fairway.errors import NotFound
from fairway.registry import audit, tokens
from fairway.registry.actor import NOBODY, Actor, Scope
from fairway.registry.tokens import Known, digest, new_secret, well_formed

KIND = "s"
PREFIX = f"fwy-{KIND}-"
MINUTE_MS = 60_000
IDLE_MS = 120 * MINUTE_MS  # without a request
LIFE_MS = 720 * MINUTE_MS  # whatever is done
CONFIRMED_MS = 15 * MINUTE_MS  # so long after the password was given, dangerous acts do not ask for it again
AGENT_MAX = 300

OWNED = select(
    BrowserSession.id,
    BrowserSession.seen_at,
    BrowserSession.expires_at,
    BrowserSession.confirmed_at,
    User.id.label("user_id"),
    User.name.label("user"),
    User.is_admin,
    User.suspended_at,
).join(User, User.id == BrowserSession.user_id)
BY_DIGEST = OWNED.where(BrowserSession.digest == bindparam("digest"))
BY_ID = OWNED.where(BrowserSession.id == bindparam("session_id"))

NO_SESSION = Known(NOBODY, None, None)


@dataclass(frozen=True, slots=True)
class SessionView:
    """A browser, as its owner is shown it. Times in ms; it ends at `expires_at` at the latest."""

    id: int
    created_at: int
    seen_at: int
    expires_at: int
    address: str
    agent: str


def start(session: Session, user_id: int, *, name: str, address: str, agent: str, now: int) -> str:
    """Sign somebody in who has just given their password; the secret for the cookie, which is always a new one: whoever
    put a cookie into somebody's browser before knows nothing of this one.
    """
    secret = new_secret(KIND)
    mine = BrowserSession.user_id == user_id
    session.execute(delete(BrowserSession).where(mine, BrowserSession.expires_at <= now))
    row = BrowserSession(
        user_id=user_id,
        digest=digest(secret),
        created_at=now,
        seen_at=now,
        expires_at=now + LIFE_MS,
        confirmed_at=now,
        address=one_line(address, 64),
        agent=one_line(agent, AGENT_MAX),
    )
    session.add(row)
    session.flush()
    audit.note(session, Actor(user_id, name), "session.start", name, now=now, session_id=row.id, address=row.address)
    return secret


def failed(session: Session, user: str | None, *, address: str, now: int) -> None:
    """Somebody gave a wrong password. What they gave for a name is kept only if it is one: it may be the password."""
    audit.note(session, NOBODY, "session.refuse", user or "?", now=now, address=one_line(address, 64))


def recognise(reads: Reads, secret: str, *, now: int) -> Known:
    """Whose session this is; nobody's if it is unknown or over, or its user suspended."""
    if not secret.startswith(PREFIX) or not well_formed(secret):
        return NO_SESSION
    return _known(reads.execute(BY_DIGEST, {"digest": digest(secret)}), now=now)


def still(reads: Reads, actor: Actor, *, now: int) -> Actor:
    """Who that is by now, with a key or a session: an upload may take hours, and who was shut out meanwhile must not
    publish.
    """
    if actor.session_id is None:
        return tokens.still(reads, actor, now=now)
    return _known(reads.execute(BY_ID, {"session_id": actor.session_id}), now=now).actor


def _known(rows: Iterable[Any], *, now: int) -> Known:
    for session_id, seen_at, expires_at, confirmed_at, user_id, name, is_admin, suspended_at in rows:
        ends_at = min(expires_at, seen_at + IDLE_MS)
        if suspended_at is not None or ends_at <= now:
            break
        actor = Actor(user_id, name, is_admin=bool(is_admin), scope=Scope.ADMIN, session_id=session_id)
        return Known(actor, ends_at, seen_at, confirmed_at)
    return NO_SESSION


def mark_seen(session: Session, seen: Mapping[int, int]) -> None:
    """Write `{session id: when}`; an older time never replaces a newer one."""
    for session_id, at in sorted(seen.items()):
        mine = (BrowserSession.id == session_id) & (BrowserSession.seen_at < at)
        session.execute(update(BrowserSession).where(mine).values(seen_at=at))


def confirm(session: Session, actor: Actor, *, now: int) -> str:
    """The password was given again: dangerous acts are open for a while. The secret is a new one, so that whoever had
    got hold of the old one is out. Raises: NotFound: the session ended meanwhile.
    """
    row = _own(session, actor, actor.session_id)
    secret = new_secret(KIND)
    row.digest, row.confirmed_at, row.seen_at = digest(secret), now, now
    audit.note(session, actor, "session.confirm", actor.name, now=now, session_id=row.id)
    return secret


def sign_out(session: Session, actor: Actor, *, now: int) -> None:
    """End the session that asks. Raises: NotFound: it ended meanwhile."""
    row = _own(session, actor, actor.session_id)
    session.delete(row)
    audit.note(session, actor, "session.end", actor.name, now=now, session_id=row.id)


def end_quietly(session: Session, actor: Actor) -> None:
    """End the session that asks, if it is still there: another one takes its place."""
    session.execute(delete(BrowserSession).where(BrowserSession.id == actor.session_id))


def end(session: Session, actor: Actor, session_id: int, *, now: int) -> None:
    """End one session of the actor's own. Raises: NotFound."""
    row = _own(session, actor, session_id)
    session.delete(row)
    audit.note(session, actor, "session.end", actor.name, now=now, session_id=row.id)


def end_all(session: Session, actor: Actor, user_id: int, *, now: int, but: int | None = None) -> int:
    """End a user's sessions, perhaps but one; how many that were."""
    mine = BrowserSession.user_id == user_id
    if but is not None:
        mine &= BrowserSession.id != but
    ended = list(session.scalars(delete(BrowserSession).where(mine).returning(BrowserSession.id)))
    if ended:
        user = session.scalar(select(User.name).where(User.id == user_id)) or ""
        audit.note(session, actor, "session.end_all", user, now=now, sessions=sorted(ended))
    return len(ended)


def list_sessions(
    session: Session, user_id: int | None, *, now: int, after: int | None = None, limit: int | None = None
) -> list[SessionView]:
    """Somebody's that are not over, the latest first; `after` is the id of the last one shown before."""
    query = select(BrowserSession).where(
        BrowserSession.user_id == user_id, BrowserSession.expires_at > now, BrowserSession.seen_at > now - IDLE_MS
    )
    if after is not None:
        query = query.where(BrowserSession.id < after)
    return [
        SessionView(
            row.id, row.created_at, row.seen_at, min(row.expires_at, row.seen_at + IDLE_MS), row.address, row.agent
        )
        for row in session.scalars(query.order_by(BrowserSession.id.desc()).limit(limit))
    ]


def forget(session: Session, *, now: int) -> int:
    """Remove what is over: an address and a browser need not be kept. For the sweep."""
    over = (BrowserSession.expires_at <= now) | (BrowserSession.seen_at <= now - IDLE_MS)
    return len(list(session.scalars(delete(BrowserSession).where(over).returning(BrowserSession.id))))


def _own(session: Session, actor: Actor, session_id: int | None) -> BrowserSession:
    row = None if session_id is None else session.get(BrowserSession, session_id)
    if row is None or row.user_id != actor.user_id:
        raise NotFound("There is no such session of yours.")
    return row
