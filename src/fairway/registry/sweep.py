"""What may be thrown away, and when.

Only objects listed in `retired` are ever deleted, and only after their time: an object nobody knows is reported by fsck
and left alone, because a store that is swept by "everything I do not recognise" one day forgets something it needs.

Whoever is about to refer to an object again says `reclaim` before writing it. The sweep deletes inside the transaction
that takes the rows away, so it either sees the reclaimed row gone, or has finished before the object is written anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import bindparam, delete, exists, select, update
from sqlalchemy.orm import Session, aliased

from fairway.blobs import keys
from fairway.blobs.store import BlobStore
from fairway.db.engine import Database
from fairway.db.models import Artifact, Channel, Retired, Subdir
from fairway.db.upsert import upsert

BATCH = 500
OBJECTS_AT_ONCE = 25

# Said on every upload: kept, because making a statement costs more than running it.
FIND = select(Retired.path).where(Retired.path.in_(bindparam("paths", expanding=True)))
KEEP = delete(Retired).where(Retired.path.in_(bindparam("paths", expanding=True)))


@dataclass(frozen=True, slots=True)
class Swept:
    channels: int = 0
    files: int = 0
    objects: int = 0


def retire(session: Session, paths: Iterable[str], *, now: int) -> None:
    """Say that nothing refers to these objects any more."""
    for batch in batched(paths):
        rows = [{"path": path, "retired_at": now} for path in batch]
        upsert(session, Retired, rows, key=["path"], replace=["retired_at"])


def keep(session: Session, paths: Iterable[str]) -> None:
    """Say, in the transaction that refers to these objects, that they are needed: somebody else may have retired them
    since they were written.
    """
    for batch in batched(paths):
        session.connection().execute(KEEP, {"paths": batch})


def reclaim(database: Database, paths: Iterable[str]) -> None:
    """Take objects back that are about to be written and referred to again. A look suffices nearly always."""
    for batch in batched(paths):
        with database.read() as session:
            found = session.connection().scalars(FIND, {"paths": batch}).all()
        if found:
            with database.write() as session:
                keep(session, found)


def batched(paths: Iterable[str]) -> Iterator[list[str]]:
    """Paths in order, each once, a statement's worth at a time."""
    wanted = sorted(set(paths))
    for begin in range(0, len(wanted), BATCH):
        yield wanted[begin : begin + BATCH]


def sweep(database: Database, blobs: BlobStore, *, now: int, keep_ms: int) -> Swept:
    """Let go of what was deleted more than `keep_ms` ago: channels, the bytes of files, superseded index objects."""
    before = now - keep_ms
    channels = files = objects = 0
    while _bury_channel(database, before=before, now=now):
        channels += 1
    while count := _purge_files(database, before=before, now=now):
        files += count
    while count := _delete_objects(database, blobs, before=before):
        objects += count
    return Swept(channels, files, objects)


def _bury_channel(database: Database, *, before: int, now: int) -> bool:
    """Remove the rows of one channel that was deleted long enough ago, and retire what only it referred to."""
    with database.write() as session:
        channel = session.scalar(select(Channel).where(Channel.deleted_at < before).limit(1).with_for_update())
        if channel is None:
            return False
        other = aliased(Artifact)
        shared = exists().where(
            other.sha256 == Artifact.sha256, other.channel_id != channel.id, other.purged_at.is_(None)
        )
        mine = select(Artifact.sha256).where(Artifact.channel_id == channel.id, Artifact.purged_at.is_(None), ~shared)
        retire(session, [keys.package(sha256).path for sha256 in session.scalars(mine)], now=now)
        # Its index objects cannot be told apart by rows once these are gone: the job after this one lists the prefix.
        retire(session, [keys.channel_prefix(channel.id)], now=now)
        subdirs = select(Subdir.id).where(Subdir.channel_id == channel.id)
        session.execute(delete(Artifact).where(Artifact.channel_id == channel.id))
        session.execute(delete(Subdir).where(Subdir.id.in_(subdirs)))
        session.delete(channel)
        return True


def _purge_files(database: Database, *, before: int, now: int) -> int:
    """Mark deleted files whose time is over, and retire the bytes that no other file is made of."""
    with database.write() as session:
        due = select(Artifact.id, Artifact.sha256).where(Artifact.deleted_at < before, Artifact.purged_at.is_(None))
        rows = session.execute(due.limit(BATCH)).all()
        if not rows:
            return 0
        session.execute(update(Artifact).where(Artifact.id.in_([row.id for row in rows])).values(purged_at=now))
        used = select(Artifact.sha256).where(
            Artifact.sha256.in_([row.sha256 for row in rows]), Artifact.purged_at.is_(None)
        )
        still = set(session.scalars(used))
        retire(session, [keys.package(row.sha256).path for row in rows if row.sha256 not in still], now=now)
        return len(rows)


def _delete_objects(database: Database, blobs: BlobStore, *, before: int) -> int:
    """Delete a few objects in a transaction: few, because an object store may take long over each, and uploads wait."""
    with database.write() as session:
        due = select(Retired.path).where(Retired.retired_at < before).order_by(Retired.path).limit(OBJECTS_AT_ONCE)
        paths = session.scalars(due.with_for_update(skip_locked=True)).all()
        needed = _needed(session, paths)
        left = {path for path in paths if path.endswith("/") and not _delete_folder(blobs, path)}
        for path in paths:
            if (key := keys.parse(path)) is not None and path not in needed:
                blobs.delete(key)
        session.execute(delete(Retired).where(Retired.path.in_([path for path in paths if path not in left])))
        return len(paths)


def _delete_folder(blobs: BlobStore, prefix: str) -> bool:
    """Delete some of what a buried channel's index was; whether that was all. No channel gets its number again."""
    entries = list(islice(blobs.list(prefix), OBJECTS_AT_ONCE))
    for entry in entries:
        if (key := keys.parse(entry.path)) is not None:
            blobs.delete(key)
    return len(entries) < OBJECTS_AT_ONCE


def _needed(session: Session, paths: Iterable[str]) -> set[str]:
    """Those of the packages that some file is made of after all: whoever retired one could not see a publication of the
    same bytes that was not committed yet.
    """
    packages = {key.sha256 for path in paths if (key := keys.parse(path)) is not None and key.channel_id is None}
    used = select(Artifact.sha256).where(Artifact.sha256.in_(packages), Artifact.purged_at.is_(None))
    return {keys.package(sha256).path for sha256 in session.scalars(used)}
