"""Do we hold what rows say we have of upstreams: the shards made of their records, and the files that were fetched? And
letting go of what is damaged, so that it comes anew: shards with the next refresh, files when somebody asks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from fairway.blobs import keys
from fairway.blobs.keys import Key
from fairway.blobs.store import BlobStore
from fairway.conda import foreign
from fairway.conda.foreign import Found
from fairway.db.engine import Database
from fairway.db.models import Channel, Copy, ShardBytes, Subdir, Upstream, UpstreamName
from fairway.registry import theirs, upstreams

FILES_AT_ONCE = 1_000
NAMES_AT_ONCE = 100

MISSING = "its bytes are missing"
Kind = Literal["upstream", "name", "count", "retired", "copy"]


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is not as its row says. `number` is what `kind` speaks of: a channel whose upstream has gone, a
    subdir that has `name`, or a copy.
    """

    harm: Literal["error", "note"]
    where: str
    what: str
    channel_id: int
    kind: Kind
    number: int
    name: str = ""


def damages(database: Database, blobs: BlobStore, *, deep: bool) -> Iterator[Damage]:
    """All there are. `deep` also reads every file and compares its sha256."""
    yield from abandoned(database)
    with database.read() as session:
        places = session.execute(
            select(Subdir.id, Subdir.name, Channel.id, Channel.name)
            .join(Channel, Channel.id == Subdir.channel_id)
            .where(Channel.deleted_at.is_(None), exists().where(UpstreamName.subdir_id == Subdir.id))
            .order_by(Subdir.id)
        ).all()
    for subdir_id, subdir, channel_id, channel in places:
        for kind, name, what in names(database, subdir_id):
            yield Damage("error", f"{channel}/{subdir}", what, channel_id, kind, subdir_id, name)
    yield from files(database, blobs, deep=deep)


def abandoned(database: Database) -> Iterator[Damage]:
    """Channels that have names of an upstream, and no upstream."""
    query = select(Channel.id, Channel.name).where(Channel.deleted_at.is_(None)).order_by(Channel.id)
    query = query.where(~exists().where(Upstream.channel_id == Channel.id))
    has = exists().where(UpstreamName.subdir_id == Subdir.id, Subdir.channel_id == Channel.id)
    with database.read() as session:
        rows = session.execute(query.where(has)).all()
    for channel_id, channel in rows:
        yield Damage(
            "error", channel, "it has names of an upstream, and no upstream", channel_id, "upstream", channel_id
        )


def names(database: Database, subdir_id: int) -> Iterator[tuple[Kind, str, str]]:
    """The names of an upstream in a subdir whose shard is damaged, in words."""
    query = (
        select(UpstreamName, ShardBytes.data, ShardBytes.retired_at)
        .outerjoin(
            ShardBytes, (ShardBytes.subdir_id == UpstreamName.subdir_id) & (ShardBytes.sha256 == UpstreamName.sha256)
        )
        .where(UpstreamName.subdir_id == subdir_id, UpstreamName.records > 0)
        .order_by(UpstreamName.name)
        .limit(NAMES_AT_ONCE)
    )
    last = ""
    while True:
        with database.read() as session:
            rows = session.execute(query.where(UpstreamName.name > last)).all()
            first = hashes_of(session, subdir_id, [row.name for row, *_ in rows])
        if not rows:
            return
        last = rows[-1][0].name
        for row, data, retired_at in rows:
            found, wrong = read(row, data, first)
            if wrong is not None:
                yield "name", row.name, wrong
            elif counted(found) != (row.records, row.size):
                what = f"the upstream's shard of {row.name} does not hold {row.records} records of {row.size} bytes"
                yield "count", row.name, what
            elif retired_at is not None:
                yield "retired", row.name, f"the upstream's shard of {row.name} is about to be swept"


def hashes_of(session: Session, subdir_id: int, wanted: Sequence[str]) -> dict[str, str]:
    """The hash that each noted file of some names had first."""
    query = select(Copy.filename, Copy.sha256).where(Copy.subdir_id == subdir_id, Copy.name.in_(wanted))
    return dict(session.execute(query).tuples().all())


def read(row: UpstreamName, data: bytes | None, first: dict[str, str]) -> tuple[list[Found], str | None]:
    """The records of a shard, and what is wrong with them, in words."""
    if data is None:
        return [], f"the upstream's shard of {row.name} is missing"
    if hashlib.sha256(data).digest() != row.sha256:
        return [], f"the upstream's shard of {row.name} is damaged"
    found = foreign.decode(data)
    for one in found:
        if first.get(one.filename, one.sha256.hex()) != one.sha256.hex():
            return [], f"the upstream's record of {one.filename} is not of the bytes that were seen first"
    return found, None


def counted(found: Iterable[Found]) -> tuple[int, int]:
    """Records, and bytes of their files."""
    sizes = [one.record["size"] for one in found]
    return len(sizes), sum(sizes)


def files(database: Database, blobs: BlobStore, *, deep: bool) -> Iterator[Damage]:
    """The files of upstreams that were fetched, and have not the bytes they should have."""
    query = (
        select(Copy, Subdir.name, Channel.id, Channel.name, Channel.deleted_at)
        .join(Subdir, Subdir.id == Copy.subdir_id)
        .join(Channel, Channel.id == Subdir.channel_id)
        .where(Copy.fetched_at.is_not(None))
        .order_by(Copy.id)
        .limit(FILES_AT_ONCE)
    )
    last = 0
    while True:
        with database.read() as session:
            rows = session.execute(query.where(Copy.id > last)).all()
        if not rows:
            return
        last = rows[-1][0].id
        for copy, subdir, channel_id, channel, deleted_at in rows:
            wrong = wrong_bytes(blobs, keys.package(copy.sha256), copy.size, deep=deep)
            if wrong is not None:
                harm: Literal["error", "note"] = "error" if deleted_at is None else "note"
                where = f"{channel}/{subdir}/{copy.filename}"
                lost = "the upstream has it no more" if copy.gone_at is not None else "it can be fetched again"
                yield Damage(harm, where, f"{wrong}; {lost}", channel_id, "copy", copy.id)


def wrong_bytes(blobs: BlobStore, key: Key, size: int, *, deep: bool) -> str | None:
    """What is wrong with the bytes of a file, in words."""
    stat = blobs.stat(key)
    if stat is None:
        return MISSING
    if stat.size != size:
        return f"its bytes are {stat.size} long instead of {size}"
    return "its bytes are damaged" if deep and digest(blobs, key) != key.sha256 else None


def digest(blobs: BlobStore, key: Key) -> str:
    sha256 = hashlib.sha256()
    for chunk in blobs.stream(key):
        sha256.update(chunk)
    return sha256.hexdigest()


# --- mending ---------------------------------------------------------------------------------------------------------


def let_go(session: Session, damage: Damage, *, now: int) -> None:
    """Forget what is damaged, and have the upstream read anew where that brings it back. What packages are listed with
    and which shards are shown follows with a recount and a new index.
    """
    upstreams.hold(session, damage.channel_id)
    if damage.kind == "upstream":
        upstreams.drop(session, damage.channel_id, now=now)
    elif damage.kind == "copy":
        session.execute(update(Copy).where(Copy.id == damage.number).values(fetched_at=None))
    else:
        row = session.get(UpstreamName, (damage.number, damage.name))
        if row is not None and damage.kind == "retired":
            place = (ShardBytes.subdir_id == damage.number, ShardBytes.sha256 == row.sha256)
            session.execute(update(ShardBytes).where(*place).values(retired_at=None))
        elif row is not None and damage.kind == "count":
            data = session.scalar(
                select(ShardBytes.data).where(ShardBytes.subdir_id == row.subdir_id, ShardBytes.sha256 == row.sha256)
            )
            row.records, row.size = counted(foreign.decode(data or b""))
        elif row is not None:
            forget_name(session, row, now=now)
            upstreams.read_anew(session, damage.channel_id)
            upstreams.look_now(session, damage.channel_id, now=now)


def forget_name(session: Session, row: UpstreamName, *, now: int) -> None:
    held = session.scalar(
        select(ShardBytes).where(ShardBytes.subdir_id == row.subdir_id, ShardBytes.sha256 == row.sha256)
    )
    if held is not None and hashlib.sha256(held.data).digest() != held.sha256:
        session.delete(held)  # or the same bytes, when they come again, would be taken for here
    elif held is not None:
        theirs.retire_hidden(session, row.subdir_id, [row.sha256], now=now)
    session.delete(row)
    session.flush()
