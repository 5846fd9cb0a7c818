"""Files of an upstream: what they are and where, and those that were fetched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

import orjson
from sqlalchemy import bindparam, delete, func, or_, select
from sqlalchemy.orm import Session

from fairway.blobs import keys
from fairway.blobs.staging import Digest, StagedFile
from fairway.blobs.store import BlobStore
from fairway.conda import foreign
from fairway.conda.foreign import Found
from fairway.db.engine import Database
from fairway.db.glance import Reads
from fairway.db.models import (
    Channel,
    ChannelDay,
    Copy,
    Package,
    PackageDay,
    Shard,
    ShardBytes,
    Subdir,
    Upstream,
    UpstreamName,
    UpstreamSubdir,
)
from fairway.db.upsert import upsert
from fairway.registry import sweep

NAMES_AT_ONCE = 100

HERE = (
    select(Copy.subdir_id, Copy.name, Copy.sha256, Copy.md5, Copy.size, Copy.indexed_at)
    .join(Subdir, Subdir.id == Copy.subdir_id)
    .join(Upstream, Upstream.channel_id == Subdir.channel_id)
    .where(
        Subdir.channel_id == bindparam("channel_id"),
        Subdir.name == bindparam("subdir"),
        Copy.filename == bindparam("filename"),
        Copy.fetched_at.is_not(None),
        or_(Copy.gone_at.is_(None), Upstream.keep),
    )
)
# only what clients see: a name that is hidden is not fetched either
SHOWN = (
    select(Subdir.id, Upstream.created_at, Upstream.mode, UpstreamSubdir.base_url, UpstreamName.urls, ShardBytes.data)
    .join(Shard, Shard.subdir_id == Subdir.id)
    .join(ShardBytes, (ShardBytes.subdir_id == Shard.subdir_id) & (ShardBytes.sha256 == Shard.sha256))
    .join(UpstreamName, (UpstreamName.subdir_id == Shard.subdir_id) & (UpstreamName.name == Shard.name))
    .join(UpstreamSubdir, UpstreamSubdir.subdir_id == Subdir.id)
    .join(Upstream, Upstream.channel_id == Subdir.channel_id)
    .where(
        Subdir.channel_id == bindparam("channel_id"),
        Subdir.name == bindparam("subdir"),
        Shard.name == bindparam("name"),
    )
)
PAGE = (
    select(UpstreamName.name, UpstreamName.urls, ShardBytes.data)
    .join(Shard, (Shard.subdir_id == UpstreamName.subdir_id) & (Shard.name == UpstreamName.name))
    .join(ShardBytes, (ShardBytes.subdir_id == Shard.subdir_id) & (ShardBytes.sha256 == UpstreamName.sha256))
    .where(
        UpstreamName.subdir_id == bindparam("subdir_id"),
        UpstreamName.name > bindparam("after"),
        Shard.sha256 == UpstreamName.sha256,  # what is hidden is not wanted
    )
    .order_by(UpstreamName.name)
    .limit(NAMES_AT_ONCE)
)


@dataclass(frozen=True, slots=True)
class Offer:
    """A file of an upstream. `url` is where to fetch it, none if it is here, and `since` the time since when the channel has
    that upstream; `mirrored` says that another process may be fetching it ahead. Hashes in lower-case hex (md5 "" if it is
    not known), size in bytes, times in ms.
    """

    channel_id: int
    subdir_id: int
    filename: str
    name: str
    sha256: str
    md5: str
    size: int
    indexed_at: int
    url: str | None
    since: int = 0
    mirrored: bool = False


def here(reads: Reads, channel_id: int, subdir: str, filename: str) -> Offer | None:
    """A file that was fetched, and may be served."""
    place = {"channel_id": channel_id, "subdir": subdir, "filename": filename}
    for subdir_id, name, sha256, md5, size, indexed_at in reads.execute(HERE, place):
        return Offer(channel_id, subdir_id, filename, name, sha256, md5, size, indexed_at, None)
    return None


def offered(reads: Reads, channel_id: int, subdir: str, filename: str) -> Offer | None:
    """A file that is in the index, and has to be fetched."""
    name = filename.rsplit("-", 2)[0]
    for subdir_id, since, mode, base_url, urls, data in reads.execute(
        SHOWN, {"channel_id": channel_id, "subdir": subdir, "name": name}
    ):
        others = orjson.loads(urls) if isinstance(urls, bytes) else urls or {}
        for one in foreign.decode(data):
            if one.filename == filename:
                mirrored = mode == "mirror"
                return offer_of(channel_id, subdir_id, name, base_url, others, one, since=since, mirrored=mirrored)
    return None


def missing(database: Database, channel_id: int) -> Iterator[Offer]:
    """The files of an upstream that are in the index and have not been fetched, the newest of a name last."""
    with database.read() as session:
        places = session.execute(
            select(Subdir.id, Upstream.created_at, UpstreamSubdir.base_url)
            .join(UpstreamSubdir, UpstreamSubdir.subdir_id == Subdir.id)
            .join(Upstream, Upstream.channel_id == Subdir.channel_id)
            .where(Subdir.channel_id == channel_id)
            .order_by(Subdir.id)
        ).all()
    for subdir_id, since, base_url in places:
        after = ""
        while True:
            with database.read() as session:
                rows = session.execute(PAGE, {"subdir_id": subdir_id, "after": after}).all()
                have = set(
                    session.scalars(
                        select(Copy.filename).where(
                            Copy.subdir_id == subdir_id,
                            Copy.name.in_([row.name for row in rows]),
                            Copy.fetched_at.is_not(None),
                        )
                    )
                )
            if not rows:
                break
            for name, urls, data in rows:
                for one in foreign.decode(data):
                    if one.filename not in have:
                        yield offer_of(
                            channel_id, subdir_id, name, base_url, urls or {}, one, since=since, mirrored=True
                        )
            after = rows[-1].name


def count_missing(database: Database, channel_id: int) -> int:
    """How many files of an upstream have not been fetched, about: those that were and have gone count for others."""
    with database.read() as session:
        here = select(Subdir.id).where(Subdir.channel_id == channel_id)
        records = session.scalar(select(func.sum(UpstreamName.records)).where(UpstreamName.subdir_id.in_(here))) or 0
        fetched = select(func.count()).where(
            Copy.subdir_id.in_(here), Copy.fetched_at.is_not(None), Copy.gone_at.is_(None)
        )
        return max(0, int(records) - (session.scalar(fetched) or 0))


def offer_of(
    channel_id: int,
    subdir_id: int,
    name: str,
    base_url: str,
    urls: Mapping[str, str],
    one: Found,
    *,
    since: int,
    mirrored: bool,
) -> Offer:
    md5 = one.record.get("md5")
    return Offer(
        channel_id=channel_id,
        subdir_id=subdir_id,
        filename=one.filename,
        name=name,
        sha256=one.sha256.hex(),
        md5=md5.hex() if md5 else "",
        size=one.record["size"],
        indexed_at=one.record.get("indexed_timestamp") or 0,
        url=urljoin(base_url, urls.get(one.filename) or one.filename),
        since=since,
        mirrored=mirrored,
    )


def keep(database: Database, blobs: BlobStore, offer: Offer, staged: StagedFile, digest: Digest, *, now: int) -> None:
    """Keep a file that was fetched and is known to be good. Raises: StorageFull, Unavailable."""
    key = keys.package(digest.sha256)
    sweep.reclaim(database, [key.path])
    blobs.put_file(key, staged.path)
    with database.write() as session:
        since = select(Upstream.created_at).where(Upstream.channel_id == offer.channel_id)
        if session.scalar(since.with_for_update(read=True, key_share=True)) != offer.since:
            return  # its channel went meanwhile, or has another upstream: the bytes are swept as what nobody knows
        row = {
            "subdir_id": offer.subdir_id,
            "filename": offer.filename,
            "name": offer.name,
            "sha256": digest.sha256,
            "md5": digest.md5 or offer.md5,
            "size": digest.size,
            "indexed_at": offer.indexed_at,
            "fetched_at": now,
            "gone_at": None,
            "claimed": None,
        }
        upsert(session, Copy, [row], key=["subdir_id", "filename"], replace=["fetched_at", "md5", "size"])
        sweep.keep(session, [key.path])


def forget(session: Session, subdir_id: int, *, now: int) -> None:
    """Let the files go that were fetched for a subdir, but for bytes that others have too."""
    hashes = set(session.scalars(select(Copy.sha256).where(Copy.subdir_id == subdir_id, Copy.fetched_at.is_not(None))))
    session.execute(delete(Copy).where(Copy.subdir_id == subdir_id))
    session.flush()
    sweep.retire_unused(session, hashes, now=now)


def add_downloads(session: Session, counts: Mapping[tuple[int, str, int], int]) -> None:
    """Of an upstream's files, by `(channel, package name, day)`: to the package and to the channel. In whose transaction
    the others are counted.
    """
    wanted = {(channel_id, name) for channel_id, name, _ in counts}
    homes = select(Channel.id).where(Channel.id.in_({channel_id for channel_id, _ in wanted}))
    homes = homes.where(Channel.deleted_at.is_(None)).order_by(Channel.id).with_for_update(key_share=True)
    open_ = set(session.scalars(homes))
    packages: dict[tuple[int, str], Package] = {}
    for channel_id in open_:
        names = {name for owner, name in wanted if owner == channel_id}
        found = select(Package).where(Package.channel_id == channel_id, Package.name.in_(names))
        packages |= {(channel_id, package.name): package for package in session.scalars(found)}
    days, channels = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    for (channel_id, name, day), count in sorted(counts.items()):
        package = packages.get((channel_id, name))
        if package is not None:
            days[package.id, day] += count
            channels[channel_id, day] += count
            package.downloads += count
    session.flush()
    for model, totals, owner in ((PackageDay, days, "package_id"), (ChannelDay, channels, "channel_id")):
        rows = [
            {owner: key, "day": day, "count": count, "remote": count} for (key, day), count in sorted(totals.items())
        ]
        upsert(session, model, rows, key=[owner, "day"], add=["count", "remote"])
