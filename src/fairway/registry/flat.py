"""The flat documents of a subdir: repodata.json, run_exports.json and their .zst, the only writer of them.

A build reads rows in a snapshot, puts new objects under their hash, and at the end moves the pointer row in one short
transaction, if nobody moved it further. So readers never see a torn index; a crash leaves `Subdir.changed` above
`Pointer.flat_built`, and whoever publishes next carries on; any number of requests are served by one build.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Self, cast

import orjson
from sqlalchemy import bindparam, func, or_, select
from sqlalchemy.orm import Session

from fairway.blobs import keys
from fairway.blobs.staging import StagedFile, StagingArea
from fairway.blobs.store import BlobStore
from fairway.conda import foreign, repodata
from fairway.conda.record import Section
from fairway.db.engine import Database
from fairway.db.models import Artifact, Copy, Pointer, Record, Shard, ShardBytes, Subdir, UpstreamName, UpstreamSubdir
from fairway.registry import relating, sweep

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

REPODATA, REPODATA_ZST = "repodata.json", "repodata.json.zst"
RUN_EXPORTS, RUN_EXPORTS_ZST = "run_exports.json", "run_exports.json.zst"
FLAT = (REPODATA, REPODATA_ZST, RUN_EXPORTS, RUN_EXPORTS_ZST)

ROWS_AT_ONCE = 2_000
SHARDS_AT_ONCE = 100
PIECE = 1 << 18
# Half a second's work each, a process more than one; an upstream's records have to be read out of their shards first.
LARGE_BYTES = 96 << 20
LARGE_THEIRS = 60_000
# On real repodata, full of hashes, level 1 is smaller than 3 and twice as fast (bench/README).
FLAT_LEVEL = 1

STATE = (
    select(Subdir.id, Subdir.channel_id, Subdir.name, Subdir.changed, Subdir.upstream, Pointer.flat_built)
    .outerjoin(Pointer, Pointer.subdir_id == Subdir.id)
    .where(Subdir.id == bindparam("subdir_id"))
)

RECORDS = (
    select(Record.filename, Record.record, Record.run_exports)
    .where(Record.subdir_id == bindparam("subdir_id"), Record.section == bindparam("section"))
    .order_by(Record.name, Record.filename)
)

EXPORTS = select(Record.filename, Record.run_exports).where(
    Record.subdir_id == bindparam("subdir_id"), Record.run_exports.is_not(None)
)

SHARDS = (
    select(ShardBytes.data, UpstreamName.exports)
    .select_from(Shard)
    .join(ShardBytes, (ShardBytes.subdir_id == Shard.subdir_id) & (ShardBytes.sha256 == Shard.sha256))
    .outerjoin(UpstreamName, (UpstreamName.subdir_id == Shard.subdir_id) & (UpstreamName.name == Shard.name))
    .where(Shard.subdir_id == bindparam("subdir_id"), Shard.sha256.is_not(None))
    .order_by(Shard.name)
)

# An index document as a pointer names it: [sha256, size in bytes]
Document = tuple[str, int]


@dataclass(frozen=True, slots=True)
class State:
    """How far a subdir's flat documents are."""

    subdir_id: int
    channel_id: int
    subdir: str
    changed: int
    upstream: bool
    flat_built: int


def state_of(session: Session, subdir_id: int) -> State | None:
    row = session.connection().execute(STATE, {"subdir_id": subdir_id}).one_or_none()
    return None if row is None else State(*row[:5], flat_built=row[5] or 0)


def behind(session: Session) -> list[int]:
    """The subdirs whose flat documents are not up to date."""
    query = select(Subdir.id).outerjoin(Pointer, Pointer.subdir_id == Subdir.id)
    built = func.coalesce(Pointer.flat_built, 0)  # a subdir whose first upload was refused has nothing to build
    return list(session.scalars(query.where(built < Subdir.changed).order_by(Subdir.id)))


def is_large(session: Session, subdir_id: int) -> bool:
    """Whether writing the flat documents takes long enough to be worth a process of its own: by what they were last, and
    by what the upstream has.
    """
    theirs = session.scalar(select(UpstreamSubdir.records).where(UpstreamSubdir.subdir_id == subdir_id)) or 0
    pointer = session.get(Pointer, subdir_id)
    _, size = ((pointer and pointer.flat) or {}).get(REPODATA, ("", 0))
    return size > LARGE_BYTES or theirs > LARGE_THEIRS


def reached(session: Session, subdir_id: int) -> int:
    """The change number up to which flat documents are written."""
    return session.scalar(select(Pointer.flat_built).where(Pointer.subdir_id == subdir_id)) or 0


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
        with Pair(staging) as records, Pair(staging) as exports:
            for piece, exported in pieces(session, state):
                records.write(piece)
                exports.write(exported)
            session.rollback()  # the snapshot has served
            sheets = dict(zip(FLAT, (*records.finish(), *exports.finish()), strict=True))
            documents = {kind: document_of(sheet) for kind, sheet in sheets.items()}
            wanted = {kind: keys.document(state.channel_id, state.subdir, kind, documents[kind][0]) for kind in sheets}
            sweep.reclaim(database, [key.path for key in wanted.values()])
            for kind, sheet in sheets.items():
                blobs.put_file(wanted[kind], sheet.path)
    flip_flat(database, state, documents, now=now)
    return state.changed


def pieces(session: Session, state: State) -> Iterator[tuple[bytes, bytes]]:
    """repodata.json and run_exports.json as the rows are in the session's snapshot, a piece of each at a time."""
    removed = removed_from(session, state.subdir_id)
    relations = relating.emitted(session.connection(), state.channel_id)
    return repodata.documents(state.subdir, parts(session, state), removed, relations)


def parts(session: Session, state: State) -> Callable[[Section], Iterator[repodata.Row]]:
    """The records of each section, which are asked for in the order of sections."""
    return theirs_too(session, state.subdir_id) if state.upstream else partial(parts_of, session, state.subdir_id)


def removed_from(session: Session, subdir_id: int) -> list[str]:
    """The files that left the index: deleted, yanked, or gone from the upstream."""
    gone = or_(Artifact.deleted_at.is_not(None), Artifact.yanked_at.is_not(None))
    ours = select(Artifact.filename).where(Artifact.subdir_id == subdir_id, gone)
    theirs = select(Copy.filename).where(Copy.subdir_id == subdir_id, Copy.gone_at.is_not(None))
    return sorted({*session.scalars(ours), *session.scalars(theirs)})


def parts_of(session: Session, subdir_id: int, section: Section) -> Iterator[repodata.Row]:
    """A section's visible records in the order of publication, streamed."""
    options = {"yield_per": ROWS_AT_ONCE, "stream_results": True}
    where = {"subdir_id": subdir_id, "section": int(section)}
    for part in session.connection().execute(RECORDS, where, execution_options=options).partitions():
        yield cast("repodata.Row", part)


def theirs_too(session: Session, subdir_id: int) -> Callable[[Section], Iterator[repodata.Row]]:
    """The same of a subdir with an upstream, whose records are nowhere but in shards: those that are shown, in the order
    of names. They are read once for each section there is.
    """
    ours: dict[str, bytes | None] = dict(session.connection().execute(EXPORTS, {"subdir_id": subdir_id}).tuples().all())
    seen: set[int] = set()

    def parts(section: Section) -> Iterator[repodata.Row]:
        if section is not Section.PACKAGES and section not in seen:
            return
        options = {"yield_per": SHARDS_AT_ONCE, "stream_results": True}
        found = session.connection().execute(SHARDS, {"subdir_id": subdir_id}, execution_options=options)
        for some in found.partitions():
            rows: list[tuple[str, bytes, bytes | None]] = []
            for data, said in some:
                exports = orjson.loads(said) if said else {}
                for one in foreign.decode(data):
                    seen.add(one.section)
                    if one.section != section:
                        continue
                    exported = ours.get(one.filename)
                    if exported is None and one.filename in exports:
                        exported = orjson.dumps(exports[one.filename])
                    rows.append((one.filename, foreign.as_json(one.record), exported))
            if rows:
                yield rows

    return parts


def document_of(sheet: StagedFile) -> Document:
    digest = sheet.finish()
    return digest.sha256, digest.size


class Pair:
    """A document being written, as it is and as one zstd frame: py-rattler stops reading after the first of several.

    Compressing, hashing and writing have a thread of their own, beside the one that reads rows.
    """

    def __init__(self, staging: StagingArea) -> None:
        with ExitStack() as stack:
            self._plain = stack.enter_context(staging.open(sys.maxsize, md5=False))
            self._packed = stack.enter_context(staging.open(sys.maxsize, md5=False))
            self._pool = stack.enter_context(ThreadPoolExecutor(1, "flat"))
            self._open = stack.pop_all()
        self._compressor = zstd.ZstdCompressor(FLAT_LEVEL)
        self._waiting: list[bytes] = []
        self._size = 0
        self._under_way: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def write(self, piece: bytes) -> None:
        self._waiting.append(piece)
        self._size += len(piece)
        if self._size >= PIECE:
            self._hand_over()

    def finish(self) -> tuple[StagedFile, StagedFile]:
        self._hand_over()
        self._settle()
        self._packed.write(self._compressor.flush())
        return self._plain, self._packed

    def _hand_over(self) -> None:
        data = b"".join(self._waiting)
        self._waiting, self._size = [], 0
        self._settle()  # one piece under way and one in the making are all the memory this takes
        self._under_way = self._pool.submit(self._put, data)

    def _settle(self) -> None:
        if self._under_way is not None:
            self._under_way.result()

    def _put(self, data: bytes) -> None:
        self._plain.write(data)
        if packed := self._compressor.compress(data):
            self._packed.write(packed)


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


def empty_documents(subdir: str, relations: repodata.Relations = repodata.NO_RELATIONS) -> dict[str, bytes]:
    """The flat documents of a subdir nothing was ever published to."""
    pieces = repodata.documents(subdir, lambda _: (), (), relations)
    plain, exports = (b"".join(parts) for parts in zip(*pieces, strict=True))
    return {
        REPODATA: plain,
        REPODATA_ZST: zstd.compress(plain, FLAT_LEVEL),
        RUN_EXPORTS: exports,
        RUN_EXPORTS_ZST: zstd.compress(exports, FLAT_LEVEL),
    }
