"""Do rows, blobs and index agree? The oracle of crash tests, and an administrator's answer after a bad night.

It repairs nothing. What it finds it says, with what would mend it; `fairway reindex` rebuilds an index from its rows, and
`tally` counts anew what is counted.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from sqlalchemy import and_, exists, false, func, or_, select
from sqlalchemy.orm import Session

from fairway.blobs import keys
from fairway.blobs.keys import Key
from fairway.blobs.store import BlobStore
from fairway.conda.record import Section
from fairway.conda.repodata import key_of
from fairway.conda.shards import decompressed
from fairway.db.engine import Database
from fairway.db.models import (
    ITS_RECORD,
    Artifact,
    Channel,
    Package,
    Pointer,
    Record,
    Shard,
    ShardBytes,
    Subdir,
    Upstream,
    UpstreamName,
    Withheld,
)
from fairway.errors import BlobMissing, Invalid
from fairway.registry import flat, holding, index, sweep, tally
from fairway.registry.tally import LISTED

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BATCH = 1_000
NAMES = 100
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not agree. `harm` is "error" for what breaks a client, "note" for what only takes room."""

    harm: str
    where: str
    what: str


def check(database: Database, blobs: BlobStore, *, deep: bool = False) -> Iterator[Finding]:
    """Compare everything. `deep` also reads every file and compares its sha256."""
    yield from check_files(database, blobs, deep=deep)
    yield from check_counts(database)
    yield from check_records(database)
    for damage in holding.damages(database, blobs, deep=deep):
        yield Finding(damage.harm, damage.where, damage.what)
    with database.read() as session:
        subdirs = session.execute(
            select(Subdir.id, Subdir.name, Channel.name)
            .join(Channel, Channel.id == Subdir.channel_id)
            .where(Channel.deleted_at.is_(None))
        ).all()
    for subdir_id, subdir, channel in subdirs:
        yield from check_index(database, blobs, subdir_id, f"{channel}/{subdir}")
    yield from check_strangers(database, blobs)


def check_files(database: Database, blobs: BlobStore, *, deep: bool) -> Iterator[Finding]:
    """Every file that can be downloaded has its bytes."""
    last = 0
    while True:
        with database.read() as session:
            rows = session.execute(
                select(
                    Artifact.id,
                    Artifact.sha256,
                    Artifact.size,
                    Artifact.filename,
                    or_(Artifact.deleted_at.is_not(None), Channel.deleted_at.is_not(None)),
                    Subdir.name,
                    Channel.name,
                )
                .join(Subdir, Subdir.id == Artifact.subdir_id)
                .join(Channel, Channel.id == Artifact.channel_id)
                .where(Artifact.id > last, Artifact.purged_at.is_(None))
                .order_by(Artifact.id)
                .limit(BATCH)
            ).all()
        if not rows:
            return
        for artifact_id, sha256, size, filename, deleted, subdir, channel in rows:
            last = artifact_id
            where = f"{channel}/{subdir}/{filename}"
            wrong = holding.wrong_bytes(blobs, keys.package(sha256), size, deep=deep)
            if wrong == holding.MISSING and deleted:
                yield Finding("note", where, f"{wrong}; it was deleted and will be forgotten")
            elif wrong == holding.MISSING:
                yield Finding("error", where, f"{wrong}: restore them from a backup, or delete the file")
            elif wrong is not None:
                yield Finding("error", where, f"{wrong}: restore them from a backup")


def check_counts(database: Database) -> Iterator[Finding]:
    """Totals, and what packages are listed with, are those of the files."""
    with database.read() as session:
        for drift in tally.drifted(session):
            yield Finding("error", drift.where, drift.what)


def check_records(database: Database) -> Iterator[Finding]:
    """Each file that belongs into the index has its record there, and each record its file; each yanked one has its
    record kept, for when it comes back.
    """
    here = select(Subdir.id).join(Channel, Channel.id == Subdir.channel_id).where(Channel.deleted_at.is_(None))
    missing = select(Artifact.filename).outerjoin(Record, ITS_RECORD).where(LISTED, Record.filename.is_(None))
    missing = missing.where(Artifact.subdir_id.in_(here))
    extra = select(Record.filename).outerjoin(Artifact, ITS_RECORD & LISTED).where(Artifact.id.is_(None))
    extra = extra.where(Record.subdir_id.in_(here))
    kept = select(Withheld.artifact_id)
    yanked = (Artifact.yanked_at.is_not(None), Artifact.deleted_at.is_(None), Artifact.subdir_id.in_(here))
    lost = select(Artifact.filename).where(*yanked, Artifact.id.not_in(kept))
    twice = select(Artifact.filename).where(LISTED, Artifact.subdir_id.in_(here), Artifact.id.in_(kept))
    with database.read() as session:
        for filename in session.scalars(missing):
            yield Finding("error", filename, "it has no record to be indexed")
        for filename in session.scalars(extra):
            yield Finding("error", filename, "it has a record, but is no file of its channel")
        for filename in session.scalars(lost):
            yield Finding("error", filename, "it was yanked, and its record was not kept: it cannot come back")
        for filename in session.scalars(twice):
            yield Finding("error", filename, "it is in the index, and its record is kept as if it were not")


def check_index(database: Database, blobs: BlobStore, subdir_id: int, where: str) -> Iterator[Finding]:
    """What is published is there, is whole, and says what the rows say. In memory there is some of it at a time: a subdir
    may have a million records.
    """
    built = None
    broken: list[Finding] = []
    with database.read() as session:
        state = flat.state_of(session, subdir_id)
        changed = 0 if state is None else state.changed
        pointer = session.get(Pointer, subdir_id)
        due = session.scalar(select(func.count()).where(Shard.subdir_id == subdir_id, Shard.due))
        late = due or (changed and (pointer is None or pointer.shards_built == 0))
        if not late:
            broken = list(check_shards(session, subdir_id, where))
        if state is not None and pointer is not None and pointer.flat_built >= changed:
            with suppress(Invalid):  # a damaged shard is found elsewhere
                built = build(session, state)
    if late:
        yield Finding("note", where, "its shards are behind its records; a running server brings them up to date")
    yield from broken
    if changed and (pointer is None or pointer.flat_built < changed):
        yield Finding("note", where, "its index is behind its rows; a running server brings it up to date")
    elif state is not None and pointer is not None:
        yield from check_flat(database, blobs, Place(state, where), pointer.flat or {}, built)


@dataclass(frozen=True, slots=True)
class Place:
    """A subdir as it was found, and how people call it."""

    state: flat.State
    where: str

    def key(self, kind: str, sha256: str) -> Key:
        return keys.document(self.state.channel_id, self.state.subdir, kind, sha256)


class Listed(msgspec.Struct):
    """The records of a repodata.json or of a shard, each as the bytes it has there: a tenth of what it takes as objects."""

    packages: dict[str, msgspec.Raw]
    conda: dict[str, msgspec.Raw] = msgspec.field(name="packages.conda")
    v3: dict[str, dict[str, msgspec.Raw]] = {}

    def sections(self) -> dict[Section, dict[str, msgspec.Raw]]:
        return {
            Section.PACKAGES: self.packages,
            Section.PACKAGES_CONDA: self.conda,
            Section.V3_TAR_BZ2: self.v3.get("tar.bz2", {}),
            Section.V3_CONDA: self.v3.get("conda", {}),
        }


def check_shards(session: Session, subdir_id: int, where: str) -> Iterator[Finding]:
    """Each name has its shard, and each shard the records of its name; some names at a time. Of an upstream's names that
    are being read nothing is expected yet.
    """
    same = (ShardBytes.subdir_id == Shard.subdir_id) & (ShardBytes.sha256 == Shard.sha256)
    query = select(Shard.name, Shard.sha256, ShardBytes.data).outerjoin(ShardBytes, same)
    query = query.where(Shard.subdir_id == subdir_id, Shard.sha256.is_not(None)).order_by(Shard.name).limit(NAMES)
    last, agree = "", True
    while shards := session.execute(query.where(Shard.name > last)).tuples().all():
        last = shards[-1][0]
        wanted = keys_of(session, subdir_id, [name for name, _, _ in shards])
        theirs = theirs_of(session, subdir_id, [name for name, _, _ in shards])
        for name, sha256, data in shards:
            mine, other = wanted.get(name, set()), theirs.get(name)
            if data is None:
                yield Finding("error", where, f"the shard of {name} is missing: reindex it")
            elif hashlib.sha256(data).digest() != sha256:
                yield Finding("error", where, f"the shard of {name} is damaged: reindex it")
            if other is not None and other.pending:
                continue
            if other is not None and other.alone:
                agree = agree and sha256 == other.sha256
                continue
            if other is not None and other.mixed:
                with suppress(Invalid):  # a damaged one is found elsewhere
                    found = index.beside(session, subdir_id, name, other.sha256)
                    mine |= {(one.section, key_of(one.filename, one.section)) for one in found}
            agree = agree and data is not None and keys_in(data) == mine
    if not agree or lacking(session, subdir_id):
        yield Finding("error", where, "the shards do not hold the records of the rows: reindex it")


def lacking(session: Session, subdir_id: int) -> bool:
    """Whether a name that is shown has no shard at all."""
    has_one = exists().where(Shard.subdir_id == subdir_id, Shard.name == Record.name, Shard.sha256.is_not(None))
    if session.scalar(select(Record.name).where(Record.subdir_id == subdir_id, ~has_one).limit(1)):
        return True
    has_one = exists().where(Shard.subdir_id == subdir_id, Shard.name == UpstreamName.name, Shard.sha256.is_not(None))
    query = THEIRS.where(UpstreamName.subdir_id == subdir_id, ~UpstreamName.pending, ALONE)
    return session.execute(query.where(~has_one).limit(1)).first() is not None


ALONE = and_(
    func.coalesce(Package.live, 0) == 0, or_(Upstream.merge, func.coalesce(Package.reserved, false()).is_(false()))
)
# of the names of an upstream: whether nothing of ours hides it, and whether it is shown beside ours
THEIRS = (
    select(
        UpstreamName.name,
        UpstreamName.sha256,
        UpstreamName.pending,
        ALONE,
        and_(Upstream.merge, Package.live > 0),
    )
    .join(Subdir, Subdir.id == UpstreamName.subdir_id)
    .join(Upstream, Upstream.channel_id == Subdir.channel_id)
    .outerjoin(Package, (Package.channel_id == Subdir.channel_id) & (Package.name == UpstreamName.name))
    .where(UpstreamName.records > 0)
)


class Theirs(NamedTuple):
    """What an upstream has of a name: shown as it is, or mixed with what is ours."""

    sha256: bytes
    pending: bool
    alone: bool
    mixed: bool


def theirs_of(session: Session, subdir_id: int, names: Sequence[str]) -> dict[str, Theirs]:
    query = THEIRS.where(UpstreamName.subdir_id == subdir_id, UpstreamName.name.in_(names))
    return {
        name: Theirs(sha256, pending, alone, bool(mixed))
        for name, sha256, pending, alone, mixed in session.execute(query)
    }


def keys_in(data: bytes) -> set[tuple[int, str]]:
    """What a shard lists; nothing if it cannot be read."""
    try:
        sections = msgspec.msgpack.decode(decompressed(data), type=Listed).sections()
    except (msgspec.MsgspecError, zstd.ZstdError, EOFError):
        return set()
    return {(int(section), key) for section, entries in sections.items() for key in entries}


def keys_of(session: Session, subdir_id: int, names: Sequence[str]) -> dict[str, set[tuple[int, str]]]:
    """What the shards of some names should list."""
    query = select(Record.name, Record.section, Record.filename)
    # naming the sections lets each name be a range of the primary key
    query = query.where(Record.subdir_id == subdir_id, Record.section.in_([*Section]), Record.name.in_(names))
    found: dict[str, set[tuple[int, str]]] = {}
    for name, section, filename in session.execute(query):
        found.setdefault(name, set()).add((section, key_of(filename, section)))
    return found


def build(session: Session, state: flat.State) -> str:
    """The hash of the repodata.json that these rows make, which is made and not kept."""
    sha256 = hashlib.sha256()
    for piece, _ in flat.pieces(session, state):
        sha256.update(piece)
    return sha256.hexdigest()


def check_flat(
    database: Database, blobs: BlobStore, place: Place, documents: Mapping[str, flat.Document], built: str | None
) -> Iterator[Finding]:
    """`built`: the hash that repodata.json has if the version of Fairway that wrote it writes the same bytes as this one."""
    unpacked = Unpacked()
    plain = yield from whole(blobs, place, documents, flat.REPODATA)
    packed = yield from whole(blobs, place, documents, flat.REPODATA_ZST, also=unpacked.update)
    if plain:
        sha256 = documents[flat.REPODATA][0]
        if packed and unpacked.sha256() != sha256:
            yield Finding("error", place.where, "repodata.json.zst is not repodata.json: reindex it")
        if sha256 != built and not says_the_same(database, blobs, place, sha256):
            yield Finding("error", place.where, "repodata.json does not say what the rows say: reindex it")
    for kind in (flat.RUN_EXPORTS, flat.RUN_EXPORTS_ZST):
        yield from whole(blobs, place, documents, kind)


def says_the_same(database: Database, blobs: BlobStore, place: Place, sha256: str) -> bool:
    """Whether a repodata.json has the records of the rows, in whatever words; true if the rows have changed meanwhile."""
    body = blobs.get(place.key(flat.REPODATA, sha256))
    try:
        sections = msgspec.json.decode(body, type=Listed).sections()
    except msgspec.MsgspecError:
        return False
    with suppress(Invalid), database.read() as session:
        now = flat.state_of(session, place.state.subdir_id)
        if now is None or now.changed != place.state.changed:
            return True
        parts = flat.parts(session, now)
        for section, entries in sections.items():
            for rows in parts(section):
                for filename, record, _ in rows:
                    found = entries.pop(key_of(filename, section), None)
                    if found is None or (bytes(found) != record and json.loads(bytes(found)) != json.loads(record)):
                        return False
        return not any(sections.values())
    return False


def whole(
    blobs: BlobStore,
    place: Place,
    documents: Mapping[str, flat.Document],
    kind: str,
    *,
    also: Callable[[bytes], object] = len,
) -> Generator[Finding, None, bool]:
    """Whether a published document is what the pointer says; its bytes are given to `also` on the way."""
    found = documents.get(kind)
    if found is None:
        yield Finding("error", place.where, f"no {kind} is published: reindex it")
        return False
    sha256, size = hashlib.sha256(), 0
    try:
        for chunk in blobs.stream(place.key(kind, found[0])):
            sha256.update(chunk)
            size += len(chunk)
            also(chunk)
    except BlobMissing:
        yield Finding("error", place.where, f"the published {kind} is missing: reindex it")
        return False
    if (sha256.hexdigest(), size) != (found[0], found[1]):
        yield Finding("error", place.where, f"the published {kind} is damaged: reindex it")
        return False
    return True


class Unpacked:
    """The hash of what a zstd frame holds, a piece at a time."""

    def __init__(self) -> None:
        self._decompressor = zstd.ZstdDecompressor()
        self._sha256 = hashlib.sha256()
        self._broken = False

    def update(self, data: bytes) -> None:
        try:
            # at the end of the frame as well: another one behind it is an error here, since py-rattler would not read it
            while not self._broken and (data or not (self._decompressor.needs_input or self._decompressor.eof)):
                self._sha256.update(self._decompressor.decompress(data, PIECE))
                data = b""
            self._broken = self._broken or bool(self._decompressor.unused_data)
        except (zstd.ZstdError, EOFError):
            self._broken = True

    def sha256(self) -> str | None:
        """None if it is no whole frame."""
        return self._sha256.hexdigest() if self._decompressor.eof and not self._broken else None


def check_strangers(database: Database, blobs: BlobStore) -> Iterator[Finding]:
    """Objects nothing refers to: harmless leftovers of a crash, or something that is not ours. Never removed here."""
    ours: list[int] = []
    others: list[str] = []
    for found in sweep.unknown(database, blobs):
        if found.ours:
            ours.append(found.entry.size)
        else:
            others.append(found.entry.path)
    if ours:
        yield Finding(
            "note",
            "storage",
            f"{len(ours)} objects ({sum(ours)} bytes) belong to no file and no index: leftovers of a crash, or on their way "
            "in right now; 'fairway sweep --unknown' lets go of old ones",
        )
    if others:
        yield Finding("note", "storage", f"{len(others)} objects are not Fairway's, such as {others[0]}")
