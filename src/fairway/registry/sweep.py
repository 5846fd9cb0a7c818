"""What may be thrown away, and when.

Only objects listed in `retired` are ever deleted, and only after their time: an object nobody knows is reported by fsck
and left alone, because a store that is swept by "everything I do not recognise" one day forgets something it needs. An
administrator may have such objects listed (`retire_unknown`); their time begins then.

Whoever is about to refer to an object again says `reclaim` before writing it. The sweep deletes inside the transaction
that takes the rows away, so it either sees the reclaimed row gone, or has finished before the object is written anew.

A store that did not answer may carry a DELETE out later, and would take bytes that were written anew meanwhile. So the
sweep leaves a mark for such an object, and `reclaim` refuses it until a later sweep drops that. Who dies in that very moment leaves
none, and neither does a PostgreSQL that ends the session while the store is at it: that is the risk that remains.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain, islice
from typing import TypeVar

import structlog
from sqlalchemy import ColumnElement, bindparam, delete, select, union, update
from sqlalchemy.orm import Session

from fairway.blobs import keys
from fairway.blobs.keys import Key
from fairway.blobs.store import BlobStore, Entry
from fairway.conda.record import Section
from fairway.db import quick
from fairway.db.engine import Database
from fairway.db.models import (
    Artifact,
    Channel,
    Copy,
    Package,
    Pointer,
    Record,
    Retired,
    Shard,
    ShardBytes,
    Subdir,
    UpstreamName,
    Withheld,
)
from fairway.db.upsert import upsert
from fairway.errors import FairwayError, Unavailable

log = structlog.get_logger("fairway.sweep")

T = TypeVar("T", str, int, bytes)

BATCH = 500
OBJECTS_AT_ONCE = 25
# A store that deletes nothing of what so many transactions tried is taken for down.
ROUNDS_IN_VAIN = 3
# On SQLite nobody else can write meanwhile, and whoever waits is patient for three seconds.
HOLD_SECONDS = 0.5
# And then: other processes look for SQLite's lock every tenth of a second.
PAUSE_SECONDS = 0.15
# What could not be deleted is tried again a day later: one such object must not keep all others.
AGAIN_MS = 86_400_000
# How long a store may take to carry out what it did not answer.
LATE_MS = 600_000
LATE = "late/"
"""What the mark of an object begins with. It is a row of its own, which the sweep drops when its time is over."""

# What was written lately may belong to an upload or a build that has not committed yet.
YOUNG_MS = 86_400_000

# Said on every upload: kept, because making a statement costs more than running it.
FIND = select(Retired.path).where(Retired.path.in_(bindparam("paths", expanding=True)))
FOLDER = Retired.path.endswith("/")
KEEP = delete(Retired).where(Retired.path.in_(bindparam("paths", expanding=True)))


@dataclass(frozen=True, slots=True)
class Swept:
    channels: int = 0
    files: int = 0
    objects: int = 0
    failed: int = 0  # objects that the store did not delete


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
        quick.of(session).execute(KEEP, {"paths": batch})


def reclaim(database: Database, paths: Iterable[str]) -> None:
    """Take objects back that are about to be written and referred to again. A look suffices nearly always.

    Raises: Unavailable: the store did not say whether it deletes one of them.
    """
    for batch in batched(paths):
        marks = [LATE + path for path in batch]
        found = list(database.look(FIND, {"paths": batch + marks}))
        if found:
            with database.write() as session:
                keep(session, batch)
                # after the rows, which a sweep that is at it holds until it has left its marks
                if session.connection().scalars(FIND, {"paths": marks}).first() is not None:
                    raise Unavailable(
                        "The object store was asked to delete these bytes and has not answered. Try again in an hour."
                    )


def batched(values: Iterable[T]) -> Iterator[list[T]]:
    """Paths, names or numbers in order, each once, a statement's worth at a time."""
    wanted = sorted(set(values))
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
    while count := _forget_shards(database, before=before):
        objects += count
    deleted, failed = _delete_due(database, blobs, before=before)
    return Swept(channels, files, objects + deleted, failed)


def _bury_channel(database: Database, *, before: int, now: int) -> bool:
    """Remove the rows of one channel that was deleted long enough ago, and retire what only it referred to.

    Some rows at a time, because uploads to other channels wait for the writer meanwhile; the channel's own row goes
    last, so that whatever is left after a crash is found again.
    """
    with database.read() as session:
        channel_id = session.scalar(select(Channel.id).where(Channel.deleted_at < before).limit(1))
    if channel_id is None:
        return False
    pieces = (_bury_names, _bury_theirs, _bury_shards, _bury_files, _bury_copies, _bury_packages, _bury_rest)
    for piece in pieces:
        more = True
        while more:
            with database.write() as session:
                more = piece(session, channel_id, now)
    return True


def _bury_names(session: Session, channel_id: int, _: int) -> bool:
    """Records and shards of some package names; whether there were any."""
    subdirs = select(Subdir.id).where(Subdir.channel_id == channel_id)
    rows = session.execute(select(Shard.subdir_id, Shard.name).where(Shard.subdir_id.in_(subdirs)).limit(BATCH)).all()
    places: dict[int, list[str]] = {}
    for row in rows:
        places.setdefault(row.subdir_id, []).append(row.name)
    for subdir_id, names in places.items():
        # naming the sections lets each name be a range of the primary key
        mine = (Record.subdir_id == subdir_id, Record.section.in_([*Section]), Record.name.in_(names))
        session.execute(delete(Record).where(*mine))
        session.execute(delete(Shard).where(Shard.subdir_id == subdir_id, Shard.name.in_(names)))
    return bool(rows)


def _bury_theirs(session: Session, channel_id: int, _: int) -> bool:
    """Some of the names that an upstream has; whether there were any."""
    subdirs = select(Subdir.id).where(Subdir.channel_id == channel_id)
    mine = select(UpstreamName.subdir_id, UpstreamName.name).where(UpstreamName.subdir_id.in_(subdirs)).limit(BATCH)
    rows = session.execute(mine).all()
    for subdir_id in {row.subdir_id for row in rows}:
        names = [row.name for row in rows if row.subdir_id == subdir_id]
        session.execute(delete(UpstreamName).where(UpstreamName.subdir_id == subdir_id, UpstreamName.name.in_(names)))
    return bool(rows)


def _bury_shards(session: Session, channel_id: int, _: int) -> bool:
    subdirs = select(Subdir.id).where(Subdir.channel_id == channel_id)
    found = session.scalars(select(ShardBytes.id).where(ShardBytes.subdir_id.in_(subdirs)).limit(BATCH)).all()
    session.execute(delete(ShardBytes).where(ShardBytes.id.in_(found)))
    return bool(found)


def _bury_files(session: Session, channel_id: int, now: int) -> bool:
    """Some files, whose bytes are retired if no other file is made of them; whether there were any."""
    query = select(Artifact.id, Artifact.sha256, Artifact.purged_at).where(Artifact.channel_id == channel_id)
    rows = session.execute(query.limit(BATCH)).all()
    session.execute(delete(Artifact).where(Artifact.id.in_([row.id for row in rows])))
    retire_unused(session, {row.sha256 for row in rows if row.purged_at is None}, now=now)
    return bool(rows)


def _bury_copies(session: Session, channel_id: int, now: int) -> bool:
    """Some files that were fetched from an upstream, in the same way."""
    query = select(Copy.id, Copy.sha256, Copy.fetched_at).join(Subdir, Subdir.id == Copy.subdir_id)
    rows = session.execute(query.where(Subdir.channel_id == channel_id).limit(BATCH)).all()
    session.execute(delete(Copy).where(Copy.id.in_([row.id for row in rows])))
    retire_unused(session, {row.sha256 for row in rows if row.fetched_at is not None}, now=now)
    return bool(rows)


def _bury_packages(session: Session, channel_id: int, _: int) -> bool:
    found = session.scalars(select(Package.id).where(Package.channel_id == channel_id).limit(BATCH)).all()
    session.execute(delete(Package).where(Package.id.in_(found)))
    return bool(found)


def _bury_rest(session: Session, channel_id: int, now: int) -> bool:
    # Its index objects cannot be told apart by rows once these are gone: the job after this one lists the prefix.
    retire(session, [keys.channel_prefix(channel_id)], now=now)
    session.execute(delete(Subdir).where(Subdir.channel_id == channel_id))
    session.execute(delete(Channel).where(Channel.id == channel_id))
    return False


def _purge_files(database: Database, *, before: int, now: int) -> int:
    """Mark deleted files whose time is over, and retire the bytes that no other file is made of."""
    with database.write() as session:
        due = (Artifact.deleted_at < before, Artifact.purged_at.is_(None))
        rows = session.execute(select(Artifact.id, Artifact.sha256).where(*due).limit(BATCH)).all()
        if not rows:
            return 0
        paths = {keys.package(row.sha256).path for row in rows}
        # bytes before rows, as whoever replaces a file has it: else each could wait for the other
        retire(session, paths, now=now)
        # said again, because somebody may have published under one of the names since
        mine = update(Artifact).where(Artifact.id.in_([row.id for row in rows]), *due)
        purged = session.scalars(mine.values(purged_at=now).returning(Artifact.id)).all()
        session.execute(delete(Withheld).where(Withheld.artifact_id.in_(purged)))  # nothing left to bring back
        keep(session, referred(session, paths))
        return len(purged)


def retire_unused(session: Session, hashes: set[str], *, now: int) -> None:
    """Retire those packages that no file is made of any more."""
    paths = {keys.package(sha256).path for sha256 in hashes}
    retire(session, paths - referred(session, paths), now=now)


def _forget_shards(database: Database, *, before: int) -> int:
    """Delete some superseded shards that no client can still be asking for."""
    with database.write() as session:
        due = select(ShardBytes.id).where(ShardBytes.retired_at < before).limit(BATCH)
        gone = session.scalars(due.with_for_update(skip_locked=True)).all()
        session.execute(delete(ShardBytes).where(ShardBytes.id.in_(gone), ShardBytes.retired_at < before))
        return len(gone)


class Round:
    """One transaction's worth of deleting: few objects and little time, because whoever brings the same bytes waits
    meanwhile, and on SQLite everybody who writes.
    """

    def __init__(self, session: Session, blobs: BlobStore, before: int) -> None:
        self._session, self._blobs, self._before = session, blobs, before
        self.done = self.failed = 0
        self.error: FairwayError | None = None
        self._until = time.monotonic() + HOLD_SECONDS
        if session.get_bind().dialect.name == "postgresql":
            from fairway.db.postgres import may_idle  # noqa: PLC0415 - psycopg is installed only where it is used

            may_idle(session.connection())

    @property
    def over(self) -> bool:
        """Whether to end after at least one object: a store may take seconds for each."""
        return bool(self.done or self.failed) and time.monotonic() >= self._until

    def take(self, which: ColumnElement[bool], *, most: int) -> list[str]:
        """Lock some of what is due, so that nobody takes it back before it is gone."""
        due = select(Retired.path).where(Retired.retired_at < self._before, which).order_by(Retired.path).limit(most)
        return list(self._session.scalars(due.with_for_update(skip_locked=True)))

    def delete(self, row: str, key: Key) -> bool:
        """Delete an object on account of the locked `row`, if the store can."""
        # A session that the database has ended holds no lock any more, and somebody may have taken the object back: then
        # this statement raises.
        self._session.connection().execute(FIND, {"paths": [row]})
        try:
            self._blobs.delete(key)
        except FairwayError as error:
            self.fail(key.path, error)
            retire(self._session, [LATE + key.path], now=self._before + LATE_MS)
            return False
        self.done += 1
        return True

    def fail(self, path: str, error: FairwayError) -> None:
        log.warning("sweep.delete", path=path, error=error.detail)
        self.error, self.failed = error, self.failed + 1

    def finish(self, gone: Sequence[str] = (), left: Sequence[str] = ()) -> None:
        """Forget the rows of what is gone, and let what could not be deleted wait until all others had their turn."""
        self._session.execute(delete(Retired).where(Retired.path.in_(gone)))
        self._session.execute(update(Retired).where(Retired.path.in_(left)).values(retired_at=self._before + AGAIN_MS))


def _delete_due(database: Database, blobs: BlobStore, *, before: int) -> tuple[int, int]:
    """Delete all objects that are due; how many that was, and how many the store did not delete.

    Raises: Unavailable: the store deletes nothing at all, or the database does not answer.
    """
    done = failed = 0
    error: FairwayError | None = None
    for piece in (_delete_objects, _delete_folder):
        vain = 0
        while vain < ROUNDS_IN_VAIN and (this := piece(database, blobs, before=before)) is not None:
            done, failed, error = done + this.done, failed + this.failed, this.error or error
            vain = vain + 1 if this.failed and not this.done else 0
            if this.over:
                time.sleep(PAUSE_SECONDS)
    if error is not None and not done:
        raise error
    return done, failed


def _delete_objects(database: Database, blobs: BlobStore, *, before: int) -> Round | None:
    """Delete some of the objects that are due, if there are any."""
    with database.write() as session:
        this = Round(session, blobs, before)
        paths = this.take(~FOLDER, most=OBJECTS_AT_ONCE)
        # whoever retired one could not see what refers to it again in a transaction that was not committed yet
        needed = referred(session, paths)
        gone: list[str] = []
        left: list[str] = []
        for path in paths:
            if this.over:
                break
            key = keys.parse(path)
            ended = key is None or path in needed or this.delete(path, key)
            (gone if ended else left).append(path)
        this.finish(gone, left)
        return this if paths else None


def _delete_folder(database: Database, blobs: BlobStore, *, before: int) -> Round | None:
    """Delete some of what a buried channel's index was, if there is one. No channel gets its number again."""
    with database.write() as session:
        this = Round(session, blobs, before)
        folders = this.take(FOLDER, most=1)
        for folder in folders:
            try:
                # what somebody else keeps there stays, and is no reason to come again
                ours = (key for entry in blobs.list(folder) if (key := keys.parse(entry.path)) is not None)
                found = list(islice(ours, OBJECTS_AT_ONCE))
            except FairwayError as error:
                found = []
                this.fail(folder, error)
            for key in found:
                if not this.over:
                    this.delete(folder, key)
            if this.done == len(found) < OBJECTS_AT_ONCE and this.error is None:
                this.finish(gone=[folder])
            elif not this.done:
                this.finish(left=[folder])
        return this if folders else None


def referred(session: Session, paths: Iterable[str]) -> set[str]:
    """Those of some objects that rows refer to: packages that a file is made of, index documents a pointer names."""
    found = {path: key for path in paths if (key := keys.parse(path)) is not None}
    hashes = {key.sha256 for key in found.values() if key.channel_id is None}
    used = select(Artifact.sha256).where(Artifact.sha256.in_(hashes), Artifact.purged_at.is_(None))
    fetched = select(Copy.sha256).where(Copy.sha256.in_(hashes), Copy.fetched_at.is_not(None))
    needed = {keys.package(sha256).path for sha256 in session.scalars(union(used, fetched))} if hashes else set()
    channels = {key.channel_id for key in found.values()} - {None}
    if channels:
        query = select(Subdir.channel_id, Subdir.name, Pointer.flat)
        query = query.join(Pointer, Pointer.subdir_id == Subdir.id).where(Subdir.channel_id.in_(channels))
        for channel_id, subdir, documents in session.execute(query):
            for kind, (sha256, _) in (documents or {}).items():
                needed.add(keys.document(channel_id, subdir, kind, sha256).path)
    return needed & found.keys()


# --- what nobody knows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unknown:
    """An object that no row refers to and nothing has retired. `ours` says that Fairway could have made it."""

    entry: Entry
    ours: bool


def unknown(database: Database, blobs: BlobStore) -> Iterator[Unknown]:
    """What the store has and the rows do not know: what crashes left, what is being brought in right now, and perhaps
    what somebody else keeps there.
    """
    entries = chain(blobs.list(keys.packages_prefix()), blobs.list(keys.index_prefix()))
    while batch := {entry.path: entry for entry in islice(entries, BATCH)}:
        with database.read() as session:
            known = _known(session, batch.keys())
        for path, entry in batch.items():
            if path not in known:
                yield Unknown(entry, keys.parse(path) is not None)


def _known(session: Session, paths: AbstractSet[str]) -> set[str]:
    known = referred(session, paths) | set(session.connection().scalars(FIND, {"paths": list(paths)}))
    # a folder may be retired as a whole: what is left of a buried channel's index
    folders = {path: {path[: at + 1] for at, sign in enumerate(path) if sign == "/"} for path in paths}
    retired = set(session.connection().scalars(FIND, {"paths": sorted(set().union(*folders.values()))}))
    return known | {path for path, above in folders.items() if above & retired}


def retire_unknown(database: Database, blobs: BlobStore, *, now: int) -> list[Entry]:
    """Retire what nobody knows, could be ours, and is older than a day: it goes when its time is over, unless somebody
    refers to it until then. What was retired.
    """
    old = [found.entry for found in unknown(database, blobs) if found.ours and _age(found.entry, now) > YOUNG_MS]
    gone: set[str] = set()
    for batch in batched(entry.path for entry in old):
        with database.write() as session:
            # since it was listed somebody may have begun to refer to it
            fresh = set(batch) - _known(session, set(batch))
            retire(session, fresh, now=now)
        gone |= fresh
    return [entry for entry in old if entry.path in gone]


def _age(entry: Entry, now: int) -> float:
    """In ms, by the store's clock and ours."""
    return now - entry.modified.timestamp() * 1000
