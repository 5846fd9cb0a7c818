"""What the read path asks thousands of times: who is this, may they, which objects are current.

Answers are kept as long as the database says nothing has changed (`Database.stamp`), so a hot request asks no rows at
all. Entries are only ever read under the stamp they were loaded under: there is nothing to invalidate.

While the database does not answer, what was last known is answered: what may be read of a public channel for as long as
that lasts, who somebody is for a minute. Nobody waits for it then; one thread asks whether it is back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import bindparam, exc, func, select

from fairway.conda.names import KNOWN_SUBDIRS, MAX_CHANNEL_NAME, MAX_FILENAME
from fairway.conda.repodata import Relations
from fairway.db.engine import Database
from fairway.db.glance import Reads
from fairway.db.models import Artifact, Attestation, Channel, Invitation, Pointer, Subdir, User
from fairway.errors import FairwayError, Unavailable
from fairway.registry import access, copies, relating, sessions, tokens
from fairway.registry.access import Action, Gate
from fairway.registry.actor import INVALID, NOBODY, Actor, Role
from fairway.registry.copies import Offer
from fairway.registry.flat import Document

log = structlog.get_logger("fairway.lookup")

ENTRIES_MAX = 20_000
PERSONAL_SECONDS = 60.0  # how long a key that was good stays good while the database is away
LOOK_SECONDS = 1.0  # how often an absent database is looked for
MISSING: Any = object()
ANONYMOUS, REFUSED = tokens.Known(NOBODY, None, None), tokens.Known(INVALID, None, None)

Load = Callable[..., Any]


class Miss(Exception):
    """The answer is not at hand; ask again with `rows=True`, in a thread that may wait for the database."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is published of a subdir now. `documents` maps a flat document's name to its object, times are in ms."""

    subdir_id: int
    changed: int
    shards_built: int
    flat_built: int
    documents: dict[str, Document]
    shards_at: int
    flat_at: int
    upstream: bool


@dataclass(frozen=True, slots=True)
class File:
    artifact_id: int
    sha256: str
    md5: str
    size: int
    indexed_at: int
    deleted: bool


@dataclass(frozen=True, slots=True)
class Person:
    """`invitations` is how many wait for an answer."""

    full_name: str
    invitations: int


class View:
    """What is known under one stamp. Thread-safe. `derived` is room for what a reader makes of it, gone with the view."""

    __slots__ = ("_kept", "_lookup", "derived", "stamp")

    def __init__(self, lookup: Lookup, stamp: Any) -> None:
        self._lookup, self.stamp = lookup, stamp
        self._kept: dict[tuple[Any, ...], Any] = {}
        self.derived: dict[Any, Any] = {}

    @property
    def full(self) -> bool:
        return len(self._kept) > ENTRIES_MAX or len(self.derived) > ENTRIES_MAX

    def _find(self, load: Load, *key: Any, rows: bool) -> Any:
        """What `load(session, *key)` gives."""
        place = (load, *key)
        value = self._kept.get(place, MISSING)
        if value is MISSING:
            value = self._kept[place] = self._lookup.load(*place, rows=rows)
        return value

    def actor(self, token: str | None, *, rows: bool) -> Actor:
        """Who sent this credential; `NOBODY` without one."""
        return self.known(token, rows=rows).actor

    def known(self, token: str | None, *, rows: bool) -> tokens.Known:
        """The same, with the time at which it ends."""
        if token is None:
            return ANONYMOUS
        if not tokens.well_formed(token):
            return REFUSED
        in_cookie = token.startswith(sessions.PREFIX)
        known: tokens.Known = self._find(_signed_in if in_cookie else _known, token, rows=rows)
        if known.expires_at is not None and known.expires_at <= self._lookup.clock():
            # a browser keeps its cookie beyond the session's end: that is no more than not to be signed in
            return ANONYMOUS if in_cookie else REFUSED
        return known

    def reader(self, token: str | None, gate: Gate | None, *, rows: bool) -> tokens.Known:
        """The same for who only wants to read: what is for everybody needs no key, nor a database that knows it."""
        try:
            return self.known(token, rows=rows)
        except Unavailable:
            if gate is None or not access.may_read(NOBODY, gate, None):
                raise
            return ANONYMOUS

    def gate(self, channel: str, *, rows: bool) -> Gate | None:
        if len(channel) > MAX_CHANNEL_NAME:
            return None  # nothing is kept of what cannot be
        found: Gate | None = self._find(_gate, channel, rows=rows)
        return found

    def role(self, actor: Actor, channel_id: int, *, rows: bool) -> Role | None:
        if actor.user_id is None:
            return None
        role: Role | None = self._find(_role, actor, channel_id, rows=rows)
        return role

    def require(self, actor: Actor, action: Action, channel: str, *, rows: bool = True) -> None:
        """Pass if the actor may do this to the channel of that name; raises as `access.require` does, Unavailable, Miss.
        Before anything else is asked of the channel, so that one that is hidden takes as long as one that is not there.
        """
        gate = self.gate(channel, rows=rows)
        role = self.role(actor, access.NO_CHANNEL if gate is None else gate.id, rows=rows)
        try:
            access.require(actor, action, gate, role)
        except FairwayError:
            if self._lookup.away:
                # a refusal from memory would tell which hidden names somebody asked for before
                raise Unavailable("The database does not answer. Try again in a moment.") from None
            raise

    def person(self, actor: Actor, *, rows: bool) -> Person:
        """What each page says of who is signed in."""
        person: Person = self._find(_person, actor.user_id, rows=rows)
        return person

    def shelf(self, channel_id: int, subdir: str, *, rows: bool) -> Shelf | None:
        """None for a subdir nothing was ever published to."""
        shelf: Shelf | None = self._find(_shelf, channel_id, subdir, rows=rows)
        return shelf

    def relations(self, channel_id: int, *, rows: bool) -> Relations:
        """What clients are told of the channels around this one."""
        relations: Relations = self._find(_relations, channel_id, rows=rows)
        return relations

    def file(self, channel_id: int, subdir: str, filename: str, *, rows: bool) -> File | None:
        """A file that can be downloaded, deleted ones within their time of grace included."""
        if len(filename) > MAX_FILENAME or subdir not in KNOWN_SUBDIRS:
            return None
        file: File | None = self._find(_file, channel_id, subdir, filename, rows=rows)
        return file

    def copy(self, channel_id: int, subdir: str, filename: str, *, rows: bool) -> Offer | None:
        """A file of the channel's upstream, if it has one: here, or to be fetched."""
        shelf = self.shelf(channel_id, subdir, rows=rows) if subdir in KNOWN_SUBDIRS else None
        if len(filename) > MAX_FILENAME or shelf is None or not shelf.upstream:
            return None
        found: Offer | None = self._find(_here, channel_id, subdir, filename, rows=rows)
        if found is None:
            if not rows:
                raise Miss  # a shard has to be read, which is too much for the event loop
            found = self._find(_offered, channel_id, subdir, filename, rows=rows)
        return found

    def sidecar(self, artifact_id: int, *, rows: bool) -> bytes | None:
        """A file's attestations, as clients fetch them."""
        sidecar: bytes | None = self._find(_sidecar, artifact_id, rows=rows)
        return sidecar

    def level(self, channel_id: int, *, rows: bool) -> int:
        """A number that grows with every change in any subdir of the channel."""
        level: int = self._find(_level, channel_id, rows=rows)
        return level


class Lookup:
    """Thread-safe. `clock` gives the time in ms. `away` says that the database did not answer lately."""

    def __init__(self, database: Database, *, clock: Callable[[], int]) -> None:
        self._database, self.clock = database, clock
        self._view = View(self, None)
        self._last = Memory(ENTRIES_MAX)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._outages = 0
        self.away = False

    def view(self) -> View:
        """What holds now. The stamp is read before anything is loaded, so a value is never older than it."""
        stamp, view = (self._outages, self._database.stamp()), self._view
        if stamp != view.stamp or view.full:
            view = self._view = View(self, stamp)
        return view

    def load(self, load: Load, *key: Any, rows: bool) -> Any:
        """What `load(reads, *key)` gives, or gave. Raises: Unavailable; Miss: it has to be waited for."""
        if not self.away:
            try:
                value = self._ask(load, *key, rows=rows)
            except Unavailable as error:
                if isinstance(error.__cause__, exc.TimeoutError):
                    raise  # it is busy, not away: an old answer would hide what was acknowledged
                self._lost()
            else:
                self._last.put((load, *key), value)
                return value
        value, age = self._last.get((load, *key))
        if value is MISSING or (load in PERSONAL and age > PERSONAL_SECONDS):
            raise Unavailable("The database does not answer. Try again in a moment.")
        return value

    def _ask(self, load: Load, *key: Any, rows: bool) -> Any:
        more = {"now": self.clock()} if load in TIMED else {}
        if rows:
            with self._database.read() as session:
                return load(session.connection(), *key, **more)
        if self._database.glance is None:
            raise Miss
        try:
            return load(self._database.glance, *key, **more)
        except Unavailable:
            raise Miss from None  # not at once; who waits will hear why

    def _lost(self) -> None:
        with self._lock:
            if self.away or self._closed.is_set():
                return
            self.away = True
        log.warning("database.away")
        threading.Thread(target=self._look_again, name="database-away", daemon=True).start()

    def _look_again(self) -> None:
        started = time.monotonic()
        while not self._closed.is_set():
            try:
                self._database.ping()
            except Unavailable:
                self._closed.wait(LOOK_SECONDS)
                continue
            self._outages += 1  # in this order: nothing that was only remembered stays in a view
            self.away = False
            log.warning("database.back", seconds=round(time.monotonic() - started, 1))
            return

    def close(self) -> None:
        self._closed.set()


class Memory:
    """Values and when they were put, in seconds; bounded by forgetting the older half."""

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._new: dict[Any, tuple[Any, float]] = {}
        self._old: dict[Any, tuple[Any, float]] = {}

    def put(self, place: Any, value: Any) -> None:
        if len(self._new) >= self._half:
            self._old, self._new = self._new, {}
        self._new[place] = (value, time.monotonic())

    def get(self, place: Any) -> tuple[Any, float]:
        """The value and its age; `MISSING` if there is none."""
        value, at = self._new.get(place) or self._old.get(place) or (MISSING, 0.0)
        return value, time.monotonic() - at


def _known(reads: Reads, token: str, *, now: int) -> tokens.Known:
    return tokens.recognise(reads, token, now=now)


def _signed_in(reads: Reads, secret: str, *, now: int) -> tokens.Known:
    return sessions.recognise(reads, secret, now=now)


def _gate(reads: Reads, channel: str) -> Gate | None:
    return access.gate_named(reads, channel)


def _role(reads: Reads, actor: Actor, channel_id: int) -> Role | None:
    return access.role_in(reads, actor, channel_id)


SHELF = (
    select(
        Subdir.id,
        Subdir.changed,
        Pointer.shards_built,
        Pointer.flat_built,
        Pointer.flat,
        Pointer.shards_at,
        Pointer.flat_at,
        Subdir.upstream,
    )
    .outerjoin(Pointer, Pointer.subdir_id == Subdir.id)
    .where(Subdir.channel_id == bindparam("channel_id"), Subdir.name == bindparam("subdir"))
)
FILE = (
    select(
        Artifact.id,
        Artifact.sha256,
        Artifact.md5,
        Artifact.size,
        Artifact.indexed_at,
        Artifact.deleted_at.is_not(None).label("deleted"),
    )
    .join(Subdir, Subdir.id == Artifact.subdir_id)
    .where(
        Subdir.channel_id == bindparam("channel_id"),
        Subdir.name == bindparam("subdir"),
        Artifact.filename == bindparam("filename"),
        Artifact.purged_at.is_(None),
    )
)
SIDECAR = select(Attestation.sidecar).where(Attestation.artifact_id == bindparam("artifact_id"))
# the condition of invitations.mine, whose statement is not one that is kept
WAITING = (
    select(func.count())
    .select_from(Invitation)
    .outerjoin(Channel, Channel.id == Invitation.channel_id)
    .where(
        Invitation.user_id == bindparam("user_id"),
        Invitation.answered_at.is_(None),
        Invitation.expires_at > bindparam("now"),
        Channel.deleted_at.is_(None),
    )
)
PERSON = select(User.full_name, WAITING.scalar_subquery()).where(User.id == bindparam("user_id"))
LEVEL = select(func.coalesce(func.sum(Subdir.changed), 0)).where(Subdir.channel_id == bindparam("channel_id"))


def _shelf(reads: Reads, channel_id: int, subdir: str) -> Shelf | None:
    for found in reads.execute(SHELF, {"channel_id": channel_id, "subdir": subdir}):
        subdir_id, changed, shards_built, flat_built, flat, shards_at, flat_at, upstream = found
        if not changed:
            return None  # its first upload was refused after its row was made
        documents = {kind: (str(sha256), int(size)) for kind, (sha256, size) in (flat or {}).items()}
        return Shelf(
            subdir_id,
            changed,
            shards_built or 0,
            flat_built or 0,
            documents,
            shards_at or 0,
            flat_at or 0,
            bool(upstream),
        )
    return None


def _relations(reads: Reads, channel_id: int) -> Relations:
    return relating.emitted(reads, channel_id)


def _file(reads: Reads, channel_id: int, subdir: str, filename: str) -> File | None:
    for found in reads.execute(FILE, {"channel_id": channel_id, "subdir": subdir, "filename": filename}):
        return File(*found)
    return None


def _here(reads: Reads, channel_id: int, subdir: str, filename: str) -> Offer | None:
    return copies.here(reads, channel_id, subdir, filename)


def _offered(reads: Reads, channel_id: int, subdir: str, filename: str) -> Offer | None:
    return copies.offered(reads, channel_id, subdir, filename)


def _sidecar(reads: Reads, artifact_id: int) -> bytes | None:
    for (sidecar,) in reads.execute(SIDECAR, {"artifact_id": artifact_id}):
        return bytes(sidecar)
    return None


def _level(reads: Reads, channel_id: int) -> int:
    for (level,) in reads.execute(LEVEL, {"channel_id": channel_id}):
        return int(level)
    return 0


def _person(reads: Reads, user_id: int, *, now: int) -> Person:
    for full_name, waiting in reads.execute(PERSON, {"user_id": user_id, "now": now}):
        return Person(full_name, int(waiting))
    return Person("", 0)


TIMED = frozenset((_known, _signed_in, _person))
PERSONAL = frozenset((_known, _signed_in, _role))
"""Who somebody is, and what they may: a key that was revoked must not work on for long."""
