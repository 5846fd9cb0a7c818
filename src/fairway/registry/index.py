"""The published index: the only writer of index objects and of the pointers to them.

Per subdir there are two projections of the same records, each with its own `built` number below or equal to the
subdir's `changed`: *shards*, which cost a millisecond for each changed name and are built before an upload is answered,
and *flat* (repodata.json and friends), which has to be written whole and follows shortly after.

A build reads rows in a snapshot, puts new objects under their hash, and at the end moves the pointer row in one short
transaction, if nobody moved it further. So readers never see a torn index; a crash leaves `changed` above `built`, and
whoever publishes next carries on; any number of requests are served by one build.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from fairway.blobs import keys
from fairway.blobs.keys import Key
from fairway.blobs.staging import StagedFile, StagingArea
from fairway.blobs.store import BlobStore
from fairway.conda import repodata, shards
from fairway.conda.record import Section
from fairway.conda.repodata import Entry, key_of
from fairway.db.engine import Database
from fairway.db.models import Artifact, Pointer, Record, Shard, Subdir
from fairway.registry import sweep

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SHARD_INDEX = "repodata_shards.msgpack.zst"
REPODATA, REPODATA_ZST = "repodata.json", "repodata.json.zst"
RUN_EXPORTS, RUN_EXPORTS_ZST = "run_exports.json", "run_exports.json.zst"
FLAT = (REPODATA, REPODATA_ZST, RUN_EXPORTS, RUN_EXPORTS_ZST)

NAMES_AT_ONCE = 200
ROWS_AT_ONCE = 2_000
PIECE = 1 << 18
# On real repodata, full of hashes, level 1 is smaller than 3 and twice as fast (bench/README).
FLAT_LEVEL = 1

# Said for every upload: kept, because making a statement costs more than running it.
STATE = (
    select(Subdir.id, Subdir.channel_id, Subdir.name, Subdir.changed, Pointer.shards_built, Pointer.flat_built)
    .outerjoin(Pointer, Pointer.subdir_id == Subdir.id)
    .where(Subdir.id == bindparam("subdir_id"))
)
DUE = (
    select(Shard.name)
    .where(Shard.subdir_id == bindparam("subdir_id"), Shard.changed > bindparam("built"))
    .order_by(Shard.name)
)
RECORDS = select(Record.name, Record.section, Record.filename, Record.record, Record.run_exports).where(
    Record.subdir_id == bindparam("subdir_id"),
    # naming the sections lets each name be a range of the primary key
    Record.section.in_([int(section) for section in Section]),
    Record.name.in_(bindparam("names", expanding=True)),
)

# An index document as a pointer names it: [sha256, size in bytes]
Document = tuple[str, int]


@dataclass(slots=True)
class NameMap:
    """Every published shard of a subdir, as of `built`, in the order of names. Kept between builds by the publisher."""

    built: int = 0
    shards: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """How far a subdir's index is."""

    subdir_id: int
    channel_id: int
    subdir: str
    changed: int
    shards_built: int
    flat_built: int


def state_of(session: Session, subdir_id: int) -> State | None:
    row = session.connection().execute(STATE, {"subdir_id": subdir_id}).one_or_none()
    return None if row is None else State(*row[:4], shards_built=row[4] or 0, flat_built=row[5] or 0)


def behind(session: Session, *, flat: bool) -> list[int]:
    """The subdirs whose index is not up to date, in one projection."""
    built = Pointer.flat_built if flat else Pointer.shards_built
    query = select(Subdir.id).outerjoin(Pointer, Pointer.subdir_id == Subdir.id)
    return list(session.scalars(query.where((built.is_(None)) | (built < Subdir.changed)).order_by(Subdir.id)))


def touch(session: Session, subdir_id: int) -> int:
    """Mark a subdir and each of its packages as changed, so that all of its index is built anew. The new number."""
    subdir = session.get_one(Subdir, subdir_id, with_for_update=True)
    subdir.changed += 1
    session.execute(update(Shard).where(Shard.subdir_id == subdir_id).values(changed=subdir.changed))
    return subdir.changed


# --- shards --------------------------------------------------------------------------------------------------------


def build_shards(database: Database, blobs: BlobStore, subdir_id: int, known: NameMap, *, now: int) -> int:
    """Publish the shards of every name that changed; the change number the shard index has reached.

    `known` is brought up to date. Raises: StorageFull, Unavailable.
    """
    with database.read() as session:
        state = state_of(session, subdir_id)
        if state is None:
            return 0
        if state.changed <= state.shards_built:
            return state.shards_built
        catch_up(session, subdir_id, known, state.shards_built)
        due = {"subdir_id": subdir_id, "built": state.shards_built}
        names = list(session.connection().scalars(DUE, due))
    built: dict[str, bytes | None] = {}
    for begin in range(0, len(names), NAMES_AT_ONCE):
        built |= put_shards(database, blobs, state, names[begin : begin + NAMES_AT_ONCE])
    merged = merge(known.shards, built)
    data = shards.index(state.subdir, merged)
    document = (hashlib.sha256(data).hexdigest(), len(data))
    put_objects(database, blobs, [(keys.document(state.channel_id, state.subdir, SHARD_INDEX, document[0]), data)])
    if flip_shards(database, state, document, built, known.shards, now=now):
        known.built, known.shards = state.changed, merged
    return state.changed


def catch_up(session: Session, subdir_id: int, known: NameMap, built: int) -> None:
    """Bring the map to what is published now: another process may have moved the pointer since."""
    if known.built == built and (built or not known.shards):
        return
    query = select(Shard.name, Shard.sha256).where(Shard.subdir_id == subdir_id)
    if known.built > built:  # a restored database: start again
        known.shards = {}
    elif known.built:
        query = query.where(Shard.changed > known.built)
    fresh = dict(session.execute(query).tuples().all())
    known.shards = merge(known.shards, fresh)
    known.built = built


def merge(old: dict[str, bytes], new: dict[str, bytes | None]) -> dict[str, bytes]:
    """`old` with the changes of `new` (none: the name is gone), in the order of names. `old` itself stays as it is."""
    if all(value is not None and name in old for name, value in new.items()):
        return {**old, **{name: value for name, value in new.items() if value is not None}}
    merged = {**old, **new}
    return {name: value for name, value in sorted(merged.items()) if value is not None}


def put_shards(database: Database, blobs: BlobStore, state: State, names: Sequence[str]) -> dict[str, bytes | None]:
    """Encode and store the shards of some names; each name's hash, none for one without a visible record."""
    found: dict[str, list[Entry]] = {name: [] for name in names}
    with database.read() as session:
        wanted = {"subdir_id": state.subdir_id, "names": names}
        for name, section, filename, record, exports in session.connection().execute(RECORDS, wanted):
            found[name].append(Entry(section, key_of(filename, section), record, exports))
    encoded = {
        name: shards.shard(sorted(entries, key=lambda entry: (entry.section, entry.key)))
        for name, entries in found.items()
        if entries
    }
    hashes = {name: shards.sha256(data) for name, data in encoded.items()}
    put_objects(
        database,
        blobs,
        [(keys.shard(state.channel_id, state.subdir, hashes[name].hex()), data) for name, data in encoded.items()],
    )
    return {name: hashes.get(name) for name in names}


def flip_shards(
    database: Database,
    state: State,
    document: Document,
    built: dict[str, bytes | None],
    before: Mapping[str, bytes | None],
    *,
    now: int,
) -> bool:
    """Make what was built current, unless a later build is current already."""
    with database.write() as session:
        pointer = pointer_for(session, state.subdir_id)
        if pointer.shards_built >= state.changed:
            return False
        if pointer.shards_built != state.shards_built:
            # another process has published meanwhile: what is replaced now is what it wrote, not what we had read
            since = (Shard.subdir_id == state.subdir_id, Shard.changed > state.shards_built)
            before = {**before, **dict(session.execute(select(Shard.name, Shard.sha256).where(*since)).tuples().all())}
        old = pointer.shards or {}
        gone = [
            keys.shard(state.channel_id, state.subdir, old_sha256.hex()).path
            for name, sha256 in built.items()
            if (old_sha256 := before.get(name)) and old_sha256 != sha256
        ]
        if SHARD_INDEX in old and old[SHARD_INDEX][0] != document[0]:
            gone.append(keys.document(state.channel_id, state.subdir, SHARD_INDEX, old[SHARD_INDEX][0]).path)
        pointer.shards, pointer.shards_built, pointer.shards_at = {SHARD_INDEX: document}, state.changed, now
        changes = [
            {"subdir_id": state.subdir_id, "name": name, "sha256": sha256}
            for name, sha256 in built.items()
            if before.get(name) != sha256
        ]
        if changes:
            session.execute(update(Shard), changes)
        sweep.retire(session, gone, now=now)
        shown = [keys.document(state.channel_id, state.subdir, SHARD_INDEX, document[0])]
        shown += [keys.shard(state.channel_id, state.subdir, sha256.hex()) for sha256 in built.values() if sha256]
        sweep.keep(session, [key.path for key in shown])
        return True


# --- flat ----------------------------------------------------------------------------------------------------------


def build_flat(database: Database, blobs: BlobStore, staging: StagingArea, subdir_id: int, *, now: int) -> int:
    """Publish repodata.json, run_exports.json and their .zst; the change number they have reached.

    Memory stays constant: rows stream from one snapshot into files. Raises: StorageFull, Unavailable.
    """
    with database.read() as session:
        state = state_of(session, subdir_id)
        if state is None:
            return 0
        if state.changed <= state.flat_built:
            return state.flat_built
        gone = select(Artifact.filename).where(Artifact.subdir_id == subdir_id, Artifact.deleted_at.is_not(None))
        removed = list(session.scalars(gone))
        with (
            Sheet(staging) as plain,
            Sheet(staging) as packed,
            Sheet(staging) as exports,
            Sheet(staging) as exports_zst,
        ):
            write_both(repodata.repodata(state.subdir, entries_of(session, subdir_id), removed), plain, packed)
            write_both(repodata.run_exports(state.subdir, entries_of(session, subdir_id)), exports, exports_zst)
            session.rollback()  # the snapshot has served
            sheets = dict(zip(FLAT, (plain, packed, exports, exports_zst), strict=True))
            documents = {kind: sheet.document() for kind, sheet in sheets.items()}
            wanted = {kind: keys.document(state.channel_id, state.subdir, kind, documents[kind][0]) for kind in sheets}
            sweep.reclaim(database, [key.path for key in wanted.values()])
            for kind, sheet in sheets.items():
                blobs.put_file(wanted[kind], sheet.staged.path)
    flip_flat(database, state, documents, now=now)
    return state.changed


def entries_of(session: Session, subdir_id: int) -> Iterator[Entry]:
    """Every visible record of a subdir in the order of publication, streamed."""
    query = (
        select(Record.section, Record.filename, Record.record, Record.run_exports)
        .where(Record.subdir_id == subdir_id)
        .order_by(Record.section, Record.name, Record.filename)
        .execution_options(yield_per=ROWS_AT_ONCE, stream_results=True)
    )
    for section, filename, record, exports in session.execute(query):
        yield Entry(section, key_of(filename, section), record, exports)


class Sheet:
    """A document being written: a staged file that is hashed on the way."""

    def __init__(self, staging: StagingArea) -> None:
        self.staged: StagedFile = staging.open(sys.maxsize)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.staged.close()

    def document(self) -> Document:
        digest = self.staged.finish()
        return digest.sha256, digest.size


def write_both(pieces: Iterable[bytes], plain: Sheet, packed: Sheet) -> None:
    """Write a document as it is and as one zstd frame: py-rattler stops reading after the first frame of several."""
    compressor = zstd.ZstdCompressor(FLAT_LEVEL)
    waiting: list[bytes] = []
    size = 0

    def write() -> None:
        data = b"".join(waiting)
        plain.staged.write(data)
        if packed_data := compressor.compress(data):
            packed.staged.write(packed_data)

    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= PIECE:
            write()
            waiting.clear()
            size = 0
    write()
    packed.staged.write(compressor.flush())


def flip_flat(database: Database, state: State, documents: dict[str, Document], *, now: int) -> None:
    with database.write() as session:
        pointer = pointer_for(session, state.subdir_id)
        if pointer.flat_built >= state.changed:
            return
        old = pointer.flat or {}
        gone = [
            keys.document(state.channel_id, state.subdir, kind, sha256).path
            for kind, (sha256, _) in old.items()
            if documents[kind][0] != sha256
        ]
        pointer.flat, pointer.flat_built, pointer.flat_at = documents, state.changed, now
        sweep.retire(session, gone, now=now)
        shown = [keys.document(state.channel_id, state.subdir, kind, sha256) for kind, (sha256, _) in documents.items()]
        sweep.keep(session, [key.path for key in shown])


# --- both ----------------------------------------------------------------------------------------------------------


def pointer_for(session: Session, subdir_id: int) -> Pointer:
    """The subdir's pointer row, locked; made if this is the first build."""
    pointer = session.get(Pointer, subdir_id, with_for_update=True)
    if pointer is None:
        # two first builds at once: the subdir's row decides who makes the pointer
        session.execute(select(Subdir.id).where(Subdir.id == subdir_id).with_for_update())
        pointer = session.get(Pointer, subdir_id, with_for_update=True)
    if pointer is None:
        pointer = Pointer(subdir_id=subdir_id, shards_built=0, flat_built=0, shards_at=0, flat_at=0, lease_until=0)
        session.add(pointer)
        session.flush()
    return pointer


def put_objects(database: Database, blobs: BlobStore, objects: Sequence[tuple[Key, bytes]]) -> None:
    sweep.reclaim(database, [key.path for key, _ in objects])
    for key, data in objects:
        blobs.put(key, data)


def empty_documents(subdir: str) -> dict[str, bytes]:
    """The index of a subdir nothing was ever published to. It is served rather than a 404, because rattler remembers a
    missing shard index for ever and never asks that subdir for shards again.
    """
    plain = b"".join(repodata.repodata(subdir, (), ()))
    exports = b"".join(repodata.run_exports(subdir, ()))
    return {
        SHARD_INDEX: shards.index(subdir, {}),
        REPODATA: plain,
        REPODATA_ZST: zstd.compress(plain, FLAT_LEVEL),
        RUN_EXPORTS: exports,
        RUN_EXPORTS_ZST: zstd.compress(exports, FLAT_LEVEL),
    }
