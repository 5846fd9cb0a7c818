"""What the read path asks thousands of times: who is this, may they, which objects are current.

Answers are kept as long as the database says nothing has changed (`Database.stamp`), so a hot request asks no rows at
all. Entries are only ever read under the stamp they were loaded under: there is nothing to invalidate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fairway.db.engine import Database
from fairway.db.models import Artifact, Attestation, Pointer, Subdir
from fairway.registry import access, tokens
from fairway.registry.access import Gate
from fairway.registry.actor import INVALID, NOBODY, Actor, Role
from fairway.registry.index import Document

ENTRIES_MAX = 50_000


class Miss(Exception):
    """The answer is not at hand; ask again with `rows=True`, in a thread that may wait for the database."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is published of a subdir now. `documents` maps a document's name to its object, times are in ms."""

    subdir_id: int
    changed: int
    shards_built: int
    flat_built: int
    documents: dict[str, Document]
    shards_at: int
    flat_at: int


@dataclass(frozen=True, slots=True)
class File:
    artifact_id: int
    sha256: str
    md5: str
    size: int
    indexed_at: int


class Lookup:
    """Thread-safe. `clock` gives the time in ms."""

    def __init__(self, database: Database, *, clock: Callable[[], int]) -> None:
        self._database, self._clock = database, clock
        self._stamp: Any = None
        self._kept: dict[tuple[Any, ...], Any] = {}

    def _find(self, load: Callable[..., Any], *key: Any, rows: bool) -> Any:
        """What `load(session, *key)` gives. The stamp is read first, so a value is never older than it."""
        stamp = self._database.stamp()
        if stamp != self._stamp or len(self._kept) > ENTRIES_MAX:
            # in this order: nobody may find the new stamp beside the old entries
            self._kept, self._stamp = {}, stamp
        kept = self._kept
        place = (load, *key)
        if place in kept:
            return kept[place]
        if not rows:
            raise Miss
        with self._database.read() as session:
            value = load(session, *key)
        kept[place] = value
        return value

    def actor(self, token: str | None, *, rows: bool) -> Actor:
        """Who sent this credential; `NOBODY` without one."""
        if token is None:
            return NOBODY
        if not tokens.well_formed(token):
            return INVALID
        known: tokens.Known = self._find(self._recognise, token, rows=rows)
        if known.expires_at is not None and known.expires_at <= self._clock():
            return INVALID
        return known.actor

    def gate(self, channel: str, *, rows: bool) -> Gate | None:
        found: Gate | None = self._find(_gate, channel, rows=rows)
        return found

    def role(self, actor: Actor, channel_id: int, *, rows: bool) -> Role | None:
        if actor.user_id is None:
            return None
        role: Role | None = self._find(_role, actor, channel_id, rows=rows)
        return role

    def shelf(self, channel_id: int, subdir: str, *, rows: bool) -> Shelf | None:
        """None for a subdir nothing was ever published to."""
        shelf: Shelf | None = self._find(_shelf, channel_id, subdir, rows=rows)
        return shelf

    def file(self, channel_id: int, subdir: str, filename: str, *, rows: bool) -> File | None:
        """A file that can be downloaded, deleted ones within their time of grace included."""
        file: File | None = self._find(_file, channel_id, subdir, filename, rows=rows)
        return file

    def sidecar(self, artifact_id: int, *, rows: bool) -> bytes | None:
        """A file's attestations, as clients fetch them."""
        sidecar: bytes | None = self._find(_sidecar, artifact_id, rows=rows)
        return sidecar

    def level(self, channel_id: int, *, rows: bool) -> int:
        """A number that grows with every change in any subdir of the channel."""
        level: int = self._find(_level, channel_id, rows=rows)
        return level

    def _recognise(self, session: Session, token: str) -> tokens.Known:
        return tokens.recognise(session, token, now=self._clock())


def _gate(session: Session, channel: str) -> Gate | None:
    found = access.find(session, channel)
    return None if found is None else access.gate_of(found)


def _role(session: Session, actor: Actor, channel_id: int) -> Role | None:
    return access.role_in(session, actor, channel_id)


def _shelf(session: Session, channel_id: int, subdir: str) -> Shelf | None:
    query = (
        select(Subdir.id, Subdir.changed, Pointer)
        .outerjoin(Pointer, Pointer.subdir_id == Subdir.id)
        .where(Subdir.channel_id == channel_id, Subdir.name == subdir)
    )
    row = session.execute(query).one_or_none()
    if row is None:
        return None
    subdir_id, changed, pointer = row
    if pointer is None:
        return Shelf(subdir_id, changed, 0, 0, {}, 0, 0)
    documents = {
        kind: (str(sha256), int(size))
        for kind, (sha256, size) in ({**(pointer.shards or {}), **(pointer.flat or {})}).items()
    }
    return Shelf(
        subdir_id, changed, pointer.shards_built, pointer.flat_built, documents, pointer.shards_at, pointer.flat_at
    )


def _file(session: Session, channel_id: int, subdir: str, filename: str) -> File | None:
    query = (
        select(Artifact.id, Artifact.sha256, Artifact.md5, Artifact.size, Artifact.indexed_at)
        .join(Subdir, Subdir.id == Artifact.subdir_id)
        .where(
            Subdir.channel_id == channel_id,
            Subdir.name == subdir,
            Artifact.filename == filename,
            Artifact.purged_at.is_(None),
        )
    )
    row = session.execute(query).one_or_none()
    return None if row is None else File(*row)


def _sidecar(session: Session, artifact_id: int) -> bytes | None:
    return session.scalar(select(Attestation.sidecar).where(Attestation.artifact_id == artifact_id))


def _level(session: Session, channel_id: int) -> int:
    return (
        session.scalar(select(func.coalesce(func.sum(Subdir.changed), 0)).where(Subdir.channel_id == channel_id)) or 0
    )
