"""Do rows, blobs and index agree? The oracle of crash tests, and an administrator's answer after a bad night.

It repairs nothing. What it finds it says, with what would mend it; `fairway reindex` rebuilds an index from its rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import msgspec
from sqlalchemy import func, or_, select

from fairway.blobs import keys
from fairway.blobs.keys import Key
from fairway.blobs.store import BlobStore
from fairway.conda.record import Section
from fairway.conda.repodata import key_of
from fairway.conda.shards import decompressed
from fairway.db.engine import Database
from fairway.db.models import Artifact, Channel, Package, Pointer, Record, Shard, ShardBytes, Subdir
from fairway.errors import BlobMissing
from fairway.registry import flat, sweep

BATCH = 1_000


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
    with database.read() as session:
        subdirs = session.execute(
            select(Subdir.id, Subdir.name, Channel.id, Channel.name)
            .join(Channel, Channel.id == Subdir.channel_id)
            .where(Channel.deleted_at.is_(None))
        ).all()
    for subdir_id, subdir, channel_id, channel in subdirs:
        yield from check_index(database, blobs, subdir_id, subdir, channel_id, f"{channel}/{subdir}")
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
            stat = blobs.stat(keys.package(sha256))
            if stat is None and deleted:
                yield Finding("note", where, "its bytes are missing; it was deleted and will be forgotten")
            elif stat is None:
                yield Finding("error", where, "its bytes are missing: restore them from a backup, or delete the file")
            elif stat.size != size:
                yield Finding("error", where, f"its bytes are {stat.size} long instead of {size}")
            elif deep and digest(blobs, keys.package(sha256)) != sha256:
                yield Finding("error", where, "its bytes are damaged: restore them from a backup")


def check_counts(database: Database) -> Iterator[Finding]:
    """The totals of channels and packages are those of their files."""
    live = Artifact.deleted_at.is_(None)
    with database.read() as session:
        totals = {
            channel: (files, int(size or 0))
            for channel, files, size in session.execute(
                select(Artifact.channel_id, func.count(), func.sum(Artifact.size))
                .where(live)
                .group_by(Artifact.channel_id)
            )
        }
        # a deleted channel is taken away piece by piece
        for channel in session.scalars(select(Channel).where(Channel.deleted_at.is_(None))):
            if (channel.artifacts, channel.size) != totals.get(channel.id, (0, 0)):
                yield Finding(
                    "error",
                    channel.name,
                    f"its totals are {channel.artifacts} files, {channel.size} bytes instead of {totals.get(channel.id, (0, 0))}",
                )
        packages = dict(
            session.execute(select(Artifact.package_id, func.count()).where(live).group_by(Artifact.package_id))
            .tuples()
            .all()
        )
        query = select(Package.id, Package.name, Package.live).join(Channel, Channel.id == Package.channel_id)
        for package_id, name, count in session.execute(query.where(Channel.deleted_at.is_(None))):
            if count != packages.get(package_id, 0):
                yield Finding("error", name, f"it counts {count} files instead of {packages.get(package_id, 0)}")


def check_records(database: Database) -> Iterator[Finding]:
    """Each live file has its record, and each record its live file."""
    live = Artifact.deleted_at.is_(None)
    together = (
        (Record.subdir_id == Artifact.subdir_id)
        & (Record.section == Artifact.section)
        & (Record.name == Artifact.name)
        & (Record.filename == Artifact.filename)
    )
    here = select(Subdir.id).join(Channel, Channel.id == Subdir.channel_id).where(Channel.deleted_at.is_(None))
    missing = select(Artifact.filename).outerjoin(Record, together).where(live, Record.filename.is_(None))
    missing = missing.where(Artifact.subdir_id.in_(here))
    extra = select(Record.filename).outerjoin(Artifact, together & live).where(Artifact.id.is_(None))
    extra = extra.where(Record.subdir_id.in_(here))
    with database.read() as session:
        for filename in session.scalars(missing):
            yield Finding("error", filename, "it has no record to be indexed")
        for filename in session.scalars(extra):
            yield Finding("error", filename, "it has a record, but is no file of its channel")


def check_index(
    database: Database, blobs: BlobStore, subdir_id: int, subdir: str, channel_id: int, where: str
) -> Iterator[Finding]:
    """What is published is there, is whole, and says what the rows say."""
    with database.read() as session:
        changed = session.scalar(select(Subdir.changed).where(Subdir.id == subdir_id)) or 0
        pointer = session.get(Pointer, subdir_id)
        records = {
            (section, key_of(filename, section)): json.loads(record)
            for section, filename, record in session.execute(
                select(Record.section, Record.filename, Record.record).where(Record.subdir_id == subdir_id)
            )
        }
        due = session.scalar(select(func.count()).where(Shard.subdir_id == subdir_id, Shard.due))
        found = session.execute(
            select(Shard.name, Shard.sha256, ShardBytes.data)
            .outerjoin(ShardBytes, (ShardBytes.subdir_id == Shard.subdir_id) & (ShardBytes.sha256 == Shard.sha256))
            .where(Shard.subdir_id == subdir_id, Shard.sha256.is_not(None))
        ).tuples()
        shards = list(found)
    if due or (changed and (pointer is None or pointer.shards_built == 0)):
        yield Finding("note", where, "its shards are behind its records; a running server brings them up to date")
    else:
        yield from check_shards(shards, records.keys(), where)
    if changed and (pointer is None or pointer.flat_built < changed):
        yield Finding("note", where, "its index is behind its rows; a running server brings it up to date")
    elif pointer is not None:
        yield from check_flat(blobs, channel_id, subdir, pointer, records, where)


def check_shards(
    shards: Iterable[tuple[str, bytes | None, bytes | None]], records: AbstractSet[tuple[int, str]], where: str
) -> Iterator[Finding]:
    """`shards`: name, hash, bytes."""
    seen: dict[tuple[int, str], object] = {}
    for name, sha256, data in shards:
        if data is None:
            yield Finding("error", where, f"the shard of {name} is missing: reindex it")
        elif hashlib.sha256(data).digest() != sha256:
            yield Finding("error", where, f"the shard of {name} is damaged: reindex it")
        else:
            seen |= shard_records(msgspec.msgpack.decode(decompressed(data)))
    if seen.keys() != records:
        yield Finding("error", where, "the shards do not hold the records of the rows: reindex it")


def check_flat(
    blobs: BlobStore,
    channel_id: int,
    subdir: str,
    pointer: Pointer,
    records: dict[tuple[int, str], object],
    where: str,
) -> Iterator[Finding]:
    plain = yield from whole(blobs, channel_id, subdir, pointer.flat, flat.REPODATA, where)
    packed = yield from whole(blobs, channel_id, subdir, pointer.flat, flat.REPODATA_ZST, where)
    if plain is not None:
        if packed is not None and decompressed(packed) != plain:
            yield Finding("error", where, "repodata.json.zst is not repodata.json: reindex it")
        if flat_records(json.loads(plain)) != records:
            yield Finding("error", where, "repodata.json does not say what the rows say: reindex it")
    for kind in (flat.RUN_EXPORTS, flat.RUN_EXPORTS_ZST):
        yield from whole(blobs, channel_id, subdir, pointer.flat, kind, where)


def whole(
    blobs: BlobStore, channel_id: int, subdir: str, documents: dict[str, list[object]] | None, kind: str, where: str
) -> Generator[Finding, None, bytes | None]:
    """The bytes of a published document, if they are what the pointer says. A generator's return value."""
    found = (documents or {}).get(kind)
    if found is None:
        yield Finding("error", where, f"no {kind} is published: reindex it")
        return None
    key = keys.document(channel_id, subdir, kind, str(found[0]))
    try:
        data = blobs.get(key)
    except BlobMissing:
        yield Finding("error", where, f"the published {kind} is missing: reindex it")
        return None
    if hashlib.sha256(data).hexdigest() != found[0] or len(data) != found[1]:
        yield Finding("error", where, f"the published {kind} is damaged: reindex it")
        return None
    return data


def flat_records(document: dict[str, dict[str, object]]) -> dict[tuple[int, str], object]:
    v3 = document.get("v3", {})
    sections = {
        Section.PACKAGES: document["packages"],
        Section.PACKAGES_CONDA: document["packages.conda"],
        Section.V3_TAR_BZ2: v3.get("tar.bz2", {}),
        Section.V3_CONDA: v3.get("conda", {}),
    }
    return {(int(section), key): record for section, entries in sections.items() for key, record in entries.items()}  # type: ignore[attr-defined]


def shard_records(document: dict[str, dict[str, object]]) -> dict[tuple[int, str], object]:
    return flat_records({"packages": {}, "packages.conda": {}, **document})


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


def digest(blobs: BlobStore, key: Key) -> str:
    sha256 = hashlib.sha256()
    for chunk in blobs.stream(key):
        sha256.update(chunk)
    return sha256.hexdigest()
