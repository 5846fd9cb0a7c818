"""API keys: made, shown once, recognised, revoked.

The form is `fwy-<kind>-<32 base62><6 base62 of their CRC32>`, and its alphabet is `[A-Za-z0-9-]` for a reason: conda
cuts a key in `/t/KEY/` at the first other character and then asks another host. The checksum refuses mistyped keys
without a look into the database, and lets scanners recognise a leaked one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.orm import Session

from fairway.db.glance import Reads
from fairway.db.models import Channel, Token, TokenChannel, User
from fairway.errors import Invalid, NotAllowed, NotFound
from fairway.registry import access, audit
from fairway.registry.actor import INVALID, Actor, Scope

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
SECRET_LENGTH, CHECK_LENGTH = 32, 6
PATTERN = re.compile(rf"fwy-([a-z])-([0-9A-Za-z]{{{SECRET_LENGTH}}})([0-9A-Za-z]{{{CHECK_LENGTH}}})", re.ASCII)
# Asked before every upload: kept, because making a statement costs more than running it.
OWNED = select(
    Token.id,
    Token.scope,
    Token.bound,
    Token.expires_at,
    Token.last_used_at,
    Token.revoked_at,
    Token.user_id,
    User.name.label("user"),
    User.is_admin,
    User.suspended_at,
).join(User, User.id == Token.user_id)
BY_DIGEST = OWNED.where(Token.digest == bindparam("digest"))
BY_ID = OWNED.where(Token.id == bindparam("token_id"))
BOUND = select(TokenChannel.channel_id).where(TokenChannel.token_id == bindparam("token_id"))
DAY_MS = 86_400_000
USED_EVERY_MS = 300_000  # last_used_at is written at most this often: reads must not become writes
LIFETIME = re.compile(r"([1-9][0-9]{0,4})([hdwy])", re.ASCII)
UNITS = {"h": DAY_MS // 24, "d": DAY_MS, "w": 7 * DAY_MS, "y": 365 * DAY_MS}


@dataclass(frozen=True, slots=True)
class TokenView:
    id: int
    name: str
    user: str
    scope: str
    channels: tuple[str, ...]
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    revoked_at: int | None


def base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def new_secret(kind: str = "u") -> str:
    secret = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    return f"fwy-{kind}-{secret}{base62(zlib.crc32(secret.encode()), CHECK_LENGTH)}"


def well_formed(text: str) -> bool:
    """Whether this could be one of our keys at all: its form and its checksum, no database asked."""
    match = PATTERN.fullmatch(text)
    return match is not None and base62(zlib.crc32(match[2].encode()), CHECK_LENGTH) == match[3]


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def lifetime(text: str) -> int | None:
    """Milliseconds of "12h", "90d", "6w", "1y"; none for "never". Raises: Invalid."""
    if text == "never":
        return None
    match = LIFETIME.fullmatch(text)
    if match is None:
        raise Invalid(f"{text!r} is no lifetime: say for example 12h, 90d, 6w, 1y or never.", code="expiry_invalid")
    return int(match[1]) * UNITS[match[2]]


def create_token(
    session: Session,
    actor: Actor,
    *,
    user: str,
    name: str,
    scope: Scope,
    channels: Sequence[str] = (),
    lives_ms: int | None = None,
    now: int,
) -> str:
    """Make an API key for a user and return it; it cannot be read again afterwards.

    Raises:
        NotFound: no such user, or a channel the actor may not read. NotAllowed: more than the actor has. Invalid: no name.
    """
    owner = session.scalar(select(User).where(User.name == user, User.suspended_at.is_(None)))
    if owner is None:
        raise NotFound(f"There is no user {user!r}.")
    if not actor.console and (actor.user_id != owner.id or scope > actor.scope or actor.channels is not None):
        raise NotAllowed("A key can be made only for yourself, and with no more rights than you have.")
    if not 1 <= len(name.strip()) <= 100:
        raise Invalid("Give the key a name of 1 to 100 characters, so that you know it again.", code="name_invalid")
    bound = [access.channel_for(session, actor, access.Action.READ, channel).id for channel in channels]
    secret = new_secret()
    token = Token(
        user_id=owner.id,
        name=name.strip(),
        digest=digest(secret),
        scope=scope.text,
        bound=bool(channels),
        created_at=now,
        expires_at=None if lives_ms is None else now + lives_ms,
    )
    session.add(token)
    session.flush()
    session.add_all(TokenChannel(token_id=token.id, channel_id=channel_id) for channel_id in sorted(set(bound)))
    audit.note(
        session, actor, "token.create", f"{owner.name}/{token.name}", now=now, scope=scope.text, channels=list(channels)
    )
    return secret


def revoke_token(session: Session, actor: Actor, token_id: int, *, now: int) -> None:
    """Raises: NotFound: no such key of the actor's."""
    token = session.get(Token, token_id)
    if token is None or not (actor.console or token.user_id == actor.user_id):
        raise NotFound("There is no such API key of yours.")
    if token.revoked_at is None:
        token.revoked_at = now
        audit.note(session, actor, "token.revoke", token.name, now=now, token=token_id)


def list_tokens(
    session: Session,
    user: str | None = None,
    *,
    alive_at: int | None = None,
    before: int | None = None,
    only: int | None = None,
    limit: int | None = None,
) -> list[TokenView]:
    """Keys by user and number. `alive_at` leaves out what is revoked or over by then, and turns them round: the latest
    first; `before` is the id of the last one of the page before.
    """
    order = Token.id if alive_at is None else Token.id.desc()
    query = select(Token, User.name).join(User, User.id == Token.user_id).order_by(User.name, order)
    if user is not None:
        query = query.where(User.name == user)
    if alive_at is not None:
        query = query.where(Token.revoked_at.is_(None), or_(Token.expires_at.is_(None), Token.expires_at > alive_at))
    if before is not None:
        query = query.where(Token.id < before)
    if only is not None:
        query = query.where(Token.id == only)
    found = session.execute(query.limit(limit)).all()
    names: dict[int, list[str]] = {}
    bound = select(TokenChannel.token_id, Channel.name).join(Channel, Channel.id == TokenChannel.channel_id)
    if user is not None:
        bound = bound.where(TokenChannel.token_id.in_([token.id for token, _ in found]))
    for token_id, channel in session.execute(bound.order_by(Channel.name)):
        names.setdefault(token_id, []).append(channel)
    return [
        TokenView(
            token.id,
            token.name,
            owner,
            token.scope,
            tuple(names.get(token.id, ())),
            token.created_at,
            token.expires_at,
            token.last_used_at,
            token.revoked_at,
        )
        for token, owner in found
    ]


@dataclass(frozen=True, slots=True)
class Known:
    """A key that was looked up, or a browser's session: who it is, and until when that holds. `confirmed_at` is when the
    password was last given, which only a session has.
    """

    actor: Actor
    expires_at: int | None
    last_used_at: int | None
    confirmed_at: int = 0


def recognise(reads: Reads, token: str, *, now: int) -> Known:
    """Who a key belongs to; `INVALID` for one that is unknown, revoked, expired, or of a suspended user."""
    if not well_formed(token):
        return Known(INVALID, None, None)
    return _known(reads, reads.execute(BY_DIGEST, {"digest": digest(token)}), now=now)


def still(reads: Reads, actor: Actor, *, now: int) -> Actor:
    """Who that is by now: an upload may take hours, and a key that was revoked meanwhile must not publish."""
    if actor.token_id is None:
        return actor
    return _known(reads, reads.execute(BY_ID, {"token_id": actor.token_id}), now=now).actor


def _known(reads: Reads, rows: Iterable[Any], *, now: int) -> Known:
    for found in rows:
        token_id, scope, bound, expires_at, last_used_at, revoked_at, user_id, name, is_admin, suspended_at = found
        if revoked_at is not None or suspended_at is not None or (expires_at is not None and expires_at <= now):
            break
        channels = None
        if bound:
            channels = frozenset(channel_id for (channel_id,) in reads.execute(BOUND, {"token_id": token_id}))
        actor = Actor(
            user_id=user_id,
            name=name,
            is_admin=bool(is_admin),
            token_id=token_id,
            scope=Scope.of(scope),
            channels=channels,
        )
        return Known(actor, expires_at, last_used_at)
    return Known(INVALID, None, None)


def mark_used(session: Session, used: dict[int, int]) -> None:
    """Write `{token id: when}`; an older time never replaces a newer one."""
    for token_id, at in sorted(used.items()):
        older = (Token.last_used_at.is_(None)) | (Token.last_used_at < at)
        session.execute(update(Token).where(Token.id == token_id, older).values(last_used_at=at))
