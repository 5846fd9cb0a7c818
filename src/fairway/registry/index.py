"""The published index: the only writer of shards, of index objects and of the pointers to them.

Per subdir there are two projections of the same records. *Shards* are rows: the transaction that changes a package's
records also writes its shard, so that an upload is answered when every client can see it, and a crash can leave nothing
half done. The *shard index*, a list of their hashes, is made from those rows when somebody asks for it, and kept until
one of them changes. *Flat* documents (repodata.json and friends) have to be written whole and follow shortly after
(`registry.flat`): `Pointer.flat_built` below `Subdir.changed` says that they are behind.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import orjson
import structlog
from sqlalchemy import Table, bindparam, exists, false, func, or_, select, update
from sqlalchemy.orm import Session

from fairway.conda import foreign, shards
from fairway.conda.foreign import Found
from fairway.conda.record import Section, shard_value
from fairway.conda.repodata import NO_RELATIONS, Entry, Relations, key_of
from fairway.db import quick
from fairway.db.engine import Database
from fairway.db.models import Artifact, Package, Pointer, Record, Shard, ShardBytes, Subdir, Upstream, UpstreamName
from fairway.db.upsert import upsert
from fairway.registry import relating, sweep

log = structlog.get_logger("fairway.index")

SHARD_INDEX = "repodata_shards.msgpack.zst"
NAMES_AT_ONCE = 200
# what the shard indexes in memory may take: 100,000 names are about 20 MB, their document 4 MB
NAMES_KEPT = 500_000

STATE = select(Subdir.name, Subdir.changed, Subdir.channel_id).where(Subdir.id == bindparam("subdir_id"))
BUILT = select(Pointer.shards_built).where(Pointer.subdir_id == bindparam("subdir_id"))
ANY_DUE = select(exists().where(Shard.subdir_id == bindparam("subdir_id"), Shard.due))
DUE_NAMES = (
    select(Shard.name)
    .where(Shard.subdir_id == bindparam("subdir_id"), Shard.due, Shard.name > bindparam("after"))
    .order_by(Shard.name)
    .limit(NAMES_AT_ONCE)
)
RECORDS = select(Record.name, Record.section, Record.filename, Record.record).where(
    Record.subdir_id == bindparam("subdir_id"),
    # naming the sections lets each name be a range of the primary key
    Record.section.in_([int(section) for section in Section]),
    Record.name.in_(bindparam("names", expanding=True)),
)
STANDING = select(Shard.name, Shard.sha256).where(
    Shard.subdir_id == bindparam("subdir_id"),
    Shard.name.in_(bindparam("names", expanding=True)),
    Shard.sha256.is_not(None),
)
SINCE = select(Shard.name, Shard.sha256).where(
    Shard.subdir_id == bindparam("subdir_id"), Shard.changed > bindparam("known")
)
RETIRE = (
    update(cast("Table", ShardBytes.__table__))
    .where(ShardBytes.subdir_id == bindparam("place"), ShardBytes.sha256.in_(bindparam("hashes", expanding=True)))
    .values(retired_at=bindparam("now"))
)
# the shard an upstream has of a name, and whether names of ours hide it
THEIRS = (
    select(
        UpstreamName.name,
        UpstreamName.sha256,
        func.coalesce(Package.live, 0),
        func.coalesce(Package.reserved, false()),
        Upstream.merge,
    )
    .join(Subdir, Subdir.id == UpstreamName.subdir_id)
    .join(Upstream, Upstream.channel_id == Subdir.channel_id)
    .outerjoin(Package, (Package.channel_id == Subdir.channel_id) & (Package.name == UpstreamName.name))
    .where(
        UpstreamName.subdir_id == bindparam("subdir_id"),
        UpstreamName.name.in_(bindparam("names", expanding=True)),
        UpstreamName.records > 0,
    )
)
OURS = (
    select(Artifact.filename)
    .join(Package, Package.id == Artifact.package_id)
    .join(Subdir, Subdir.channel_id == Package.channel_id)
    .where(
        Subdir.id == bindparam("subdir_id"),
        Package.name == bindparam("name"),
        Artifact.subdir_id == Subdir.id,
        Artifact.deleted_at.is_(None),
    )
)
ONE_SHARD = select(ShardBytes.data).where(
    ShardBytes.subdir_id == bindparam("subdir_id"), ShardBytes.sha256 == bindparam("sha256")
)
BYTES = (
    select(ShardBytes.data)
    .join(Subdir, Subdir.id == ShardBytes.subdir_id)
    .where(
        Subdir.channel_id == bindparam("channel_id"),
        Subdir.name == bindparam("subdir"),
        ShardBytes.sha256 == bindparam("sha256"),
    )
)


def behind(session: Session) -> list[int]:
    """The subdirs some of whose shards have to be made anew."""
    due = exists().where(Shard.subdir_id == Subdir.id, Shard.due)
    never = or_(Pointer.shards_built.is_(None), Pointer.shards_built == 0)
    query = select(Subdir.id).outerjoin(Pointer, Pointer.subdir_id == Subdir.id)
    return list(session.scalars(query.where(or_(due, never & (Subdir.changed > 0))).order_by(Subdir.id)))


def touch(session: Session, subdir_id: int) -> int:
    """Ask for every shard of a subdir, and so for all of its index, to be made anew. The subdir's change number."""
    subdir = session.get_one(Subdir, subdir_id, with_for_update={"key_share": True})
    subdir.changed += 1
    session.execute(update(Shard).where(Shard.subdir_id == subdir_id).values(due=True))
    # a name without a row is damage, and this is what mends it
    named = select(Shard.name).where(Shard.subdir_id == subdir_id)
    missing = select(Record.name).where(Record.subdir_id == subdir_id, Record.name.not_in(named)).distinct()
    theirs = select(UpstreamName.name).where(
        UpstreamName.subdir_id == subdir_id, ~UpstreamName.pending, UpstreamName.name.not_in(named)
    )
    rows = [
        {"subdir_id": subdir_id, "name": name, "changed": 0, "due": True, "sha256": None}
        for name in {*session.scalars(missing), *session.scalars(theirs)}
    ]
    upsert(session, Shard, rows, key=["subdir_id", "name"], replace=["due"])
    return subdir.changed


def renew(session: Session, channel_ids: Iterable[int], *, now: int) -> None:
    """Have every document of some channels made anew, of the shards that are there: what stands in `info` changed."""
    query = select(Subdir.id).where(Subdir.channel_id.in_(list(channel_ids)), Subdir.changed > 0)
    ids = list(session.scalars(query.order_by(Subdir.id).with_for_update(key_share=True)))
    session.execute(update(Subdir).where(Subdir.id.in_(ids)).values(changed=Subdir.changed + 1))
    reached = select(Subdir.changed).where(Subdir.id == Pointer.subdir_id).scalar_subquery()
    whole = update(Pointer).where(Pointer.subdir_id.in_(ids), Pointer.shards_built > 0)
    session.execute(whole.values(shards_built=reached, shards_at=now), execution_options={"synchronize_session": False})


# --- writing -------------------------------------------------------------------------------------------------------


def write_shards(
    session: Session,
    subdir_id: int,
    change: int,
    names: Iterable[str],
    *,
    now: int,
    built: int | None = None,
    upstream: bool = False,
) -> set[str]:
    """Make the shards of some packages from their records, as part of the subdir's change `change`, whose row the
    caller has locked; `built` is the pointer's `shards_built`, if it was read already, and `upstream` whether the subdir
    has names of one. Returns the names this failed for: their old shard stays, and the background tries again, because
    one record that cannot be encoded must not stop a channel.
    """
    failed: set[str] = set()
    for batch in sweep.batched(names):
        failed |= _write_some(session, subdir_id, change, batch, now=now, upstream=upstream)
    value = quick.of(session).value
    place = {"subdir_id": subdir_id}
    # before the first whole index there is none: a part of it would hand names to the next channel
    whole = bool(built or value(BUILT, place)) or not value(ANY_DUE, place)
    _point(session, subdir_id, change if whole else 0, now=now)
    return failed


def _write_some(
    session: Session, subdir_id: int, change: int, names: Sequence[str], *, now: int, upstream: bool
) -> set[str]:
    run = quick.of(session).execute
    wanted = {"subdir_id": subdir_id, "names": names}
    found: dict[str, list[Entry]] = {name: [] for name in names}
    for name, section, filename, record in run(RECORDS, wanted):
        found[name].append(Entry(section, key_of(filename, section), record))
    before = dict(run(STANDING, wanted))
    theirs = _theirs(session, wanted) if upstream else {}
    encoded: dict[str, bytes] = {}
    failed: set[str] = set()
    for name, entries in found.items():
        try:
            mine = sorted(entries, key=lambda entry: (entry.section, entry.key))
            other = theirs.get(name)
            if other is not None and other.mixed:
                if data := _merged(mine, beside(session, subdir_id, name, other.sha256)):
                    encoded[name] = data
            elif mine:
                encoded[name] = shards.shard(mine)
        except Exception:
            log.exception("index.shard", subdir=subdir_id, name=name)
            failed.add(name)
    hashes = {name: shards.sha256(data) for name, data in encoded.items()}
    hashes |= {name: other.sha256 for name, other in theirs.items() if other.alone}
    upsert(
        session,
        ShardBytes,
        [
            {"subdir_id": subdir_id, "sha256": hashes[name], "retired_at": None, "data": data}
            for name, data in encoded.items()
        ],
        key=["subdir_id", "sha256"],
        replace=["retired_at"],
    )
    rows = [
        {"subdir_id": subdir_id, "name": name, "changed": change, "due": name in failed, "sha256": hashes.get(name)}
        for name in names
    ]
    key = ["subdir_id", "name"]
    made = [row for row in rows if not row["due"]]
    upsert(session, Shard, made, key=key, replace=["changed", "due", "sha256"])
    upsert(session, Shard, [row for row in rows if row["due"]], key=key, replace=["due"])
    kept = {other.sha256 for other in theirs.values()}
    gone = [
        sha256
        for name, sha256 in before.items()
        if name not in failed and hashes.get(name) != sha256 and sha256 not in kept
    ]
    if gone:
        run(RETIRE, {"place": subdir_id, "hashes": gone, "now": now})
    return failed


class _Other(NamedTuple):
    """The shard an upstream has of a name: shown as it is, mixed with what is ours, or neither."""

    sha256: bytes
    alone: bool
    mixed: bool


def _theirs(session: Session, wanted: dict[str, object]) -> dict[str, _Other]:
    """Names of ours win, whatever their versions are and whichever platform they are for: else whoever may publish
    upstream could slip a higher version of a private name in, or take one over of which the last file was deleted. But
    where an owner asked for it both are shown.
    """
    return {
        name: _Other(sha256, alone=not live and bool(merge or not reserved), mixed=bool(live and merge))
        for name, sha256, live, reserved, merge in session.connection().execute(THEIRS, wanted)
    }


def beside(session: Session, subdir_id: int, name: str, sha256: bytes) -> list[Found]:
    """The records of an upstream that stand beside ours in a shard: but for files that we have too, yanked ones among
    them, since what is fetched under such a name is ours.
    """
    data = session.connection().scalar(ONE_SHARD, {"subdir_id": subdir_id, "sha256": sha256})
    ours = set(session.connection().scalars(OURS, {"subdir_id": subdir_id, "name": name}))
    return [] if data is None else [found for found in foreign.decode(data) if found.filename not in ours]


def _merged(mine: Sequence[Entry], theirs: Iterable[Found]) -> bytes | None:
    """A shard of our records and theirs, if there are any."""
    sections: dict[int, dict[str, Any]] = {}
    for found in theirs:
        sections.setdefault(found.section, {})[key_of(found.filename, found.section)] = found.record
    for entry in mine:
        sections.setdefault(entry.section, {})[entry.key] = shard_value(orjson.loads(entry.record))
    if not sections:
        return None
    return shards.encoded({section: dict(sorted(records.items())) for section, records in sections.items()})


def _point(session: Session, subdir_id: int, change: int, *, now: int) -> None:
    values = {
        "subdir_id": subdir_id,
        "shards_built": change,
        "shards_at": now,
        "flat_built": 0,
        "flat": None,
        "flat_at": 0,
        "lease_until": 0,
    }
    upsert(session, Pointer, [values], key=["subdir_id"], replace=["shards_built", "shards_at"])


def rebuild(database: Database, subdir_id: int, *, now: int) -> list[str]:
    """Make every shard of a subdir that is due, some in each transaction, so that uploads go on in between; the names
    this failed for. Raises: StorageFull, Unavailable.
    """
    failed: list[str] = []
    after = ""
    while True:
        with database.write() as session:
            subdir = session.get(Subdir, subdir_id, with_for_update={"key_share": True})
            if subdir is None:
                return failed
            names = list(session.connection().scalars(DUE_NAMES, {"subdir_id": subdir_id, "after": after}))
            if not names:
                # also with some that failed: what can be published is
                _point(session, subdir_id, subdir.changed, now=now)
                return failed
            subdir.changed += 1
            session.flush()
            failed += sorted(write_shards(session, subdir_id, subdir.changed, names, now=now, upstream=subdir.upstream))
            after = names[-1]


# --- reading -------------------------------------------------------------------------------------------------------


def shard_bytes(database: Database, channel_id: int, subdir: str, sha256: str) -> bytes | None:
    """A shard, superseded ones of the last days included."""
    with database.read() as session:
        place = {"channel_id": channel_id, "subdir": subdir, "sha256": bytes.fromhex(sha256)}
        data: bytes | None = session.connection().scalar(BYTES, place)
        return data


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """A subdir's shard index as of its change number `change`."""

    change: int
    sha256: str
    body: bytes


@dataclass(slots=True)
class Names:
    """What this process knows of one subdir: each name's shard as of `known`, in the order of names, and the document
    made of it.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    name: str = ""
    known: int = 0
    shards: dict[str, bytes] = field(default_factory=dict)
    relations: Relations = NO_RELATIONS
    document: ShardIndex | None = None


class ShardIndexes:
    """The shard indexes of this process: made when somebody asks, from what changed since somebody last did.

    It depends on nothing but the rows, so every process makes the same bytes. Thread-safe.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._places: OrderedDict[int, Names] = OrderedDict()

    def kept(self, subdir_id: int, change: int) -> ShardIndex | None:
        """The shard index as of this change number, if it is at hand."""
        names = self._places.get(subdir_id)
        document = None if names is None else names.document
        return document if document is not None and document.change == change else None

    def make(self, subdir_id: int) -> ShardIndex | None:
        """The shard index of this moment; none while some name has never had its shard. Raises: Unavailable."""
        names = self._at(subdir_id)
        with names.lock:
            if not self._catch_up(subdir_id, names):
                return None
            if names.document is None or names.document.change != names.known:
                body = shards.index(names.name, names.shards, names.relations)
                names.document = ShardIndex(names.known, hashlib.sha256(body).hexdigest(), body)
            return names.document

    def _at(self, subdir_id: int) -> Names:
        with self._lock:
            names = self._places.setdefault(subdir_id, Names())
            self._places.move_to_end(subdir_id)
            while len(self._places) > 1 and sum(len(kept.shards) for kept in self._places.values()) > NAMES_KEPT:
                self._places.popitem(last=False)
            return names

    def _catch_up(self, subdir_id: int, names: Names) -> bool:
        place = {"subdir_id": subdir_id}
        with self._database.read() as session:
            run = session.connection().execute
            state = run(STATE, place).one_or_none()
            if state is None or not run(BUILT, place).scalar():
                return False
            if names.known > state.changed:  # a restored database: start again
                names.known, names.shards, names.document = 0, {}, None
            if names.known == state.changed:
                return True
            fresh = run(SINCE, place | {"known": names.known}).tuples().all()
            names.name = state.name
            names.relations = relating.emitted(session.connection(), state.channel_id)
        names.shards = merge(names.shards, dict(fresh))
        names.known = state.changed
        return True


def merge(old: dict[str, bytes], new: dict[str, bytes | None]) -> dict[str, bytes]:
    """`old` with the changes of `new` (none: the name is gone), in the order of names."""
    if all(value is not None and name in old for name, value in new.items()):
        return {**old, **{name: value for name, value in new.items() if value is not None}}
    merged = {**old, **new}
    return {name: value for name, value in sorted(merged.items()) if value is not None}


def empty_shard_index(subdir: str, relations: Relations = NO_RELATIONS) -> bytes:
    """That of a subdir nothing was ever published to. It is served rather than a 404, because rattler remembers a
    missing shard index for ever and never asks that subdir for shards again.
    """
    return shards.index(subdir, {}, relations)
