"""What a channel has from its upstream, by name: whether it is shown, and what comes of it for packages.

Names of ours win over the upstream's, in every subdir (`index.write_shards`). So a name of ours that appears or goes
hides or shows more than the subdir its file is in. A name of which the last file of ours is deleted is *reserved*: it stays
ours until somebody releases it (`registry.reserved`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from fairway.conda.foreign import Found
from fairway.db.models import Artifact, Channel, Package, Shard, ShardBytes, Subdir, Upstream, UpstreamName
from fairway.registry import index, listed, needs, sweep
from fairway.registry.listed import Newest

RETIRED_AT_ONCE = 500
SECONDS_MOST = 100_000_000_000  # as ms it was in 1973, as seconds it will be in 5138

RESERVED = and_(
    Package.reserved, Package.live == 0, ~exists().where(Upstream.channel_id == Package.channel_id, Upstream.merge)
)
"""Whether nothing of a package is there, and what the upstream has of the name is kept from everybody."""


def settle(session: Session, channel_id: int, names: Sequence[str], *, now: int) -> None:
    """Show or hide what the upstream has of names of which files of ours have appeared or gone. The caller holds the
    channel's row.
    """
    for some in sweep.batched(names):
        query = select(UpstreamName.subdir_id, UpstreamName.name).join(Subdir, Subdir.id == UpstreamName.subdir_id)
        query = query.where(Subdir.channel_id == channel_id, UpstreamName.name.in_(some))
        # What is pending may have been shown as it was before: it has to go at once, and not when a refresh is done, which
        # an upstream can put off for ever. What never was shown is not begun with here.
        shown = exists().where(
            Shard.subdir_id == UpstreamName.subdir_id, Shard.name == UpstreamName.name, Shard.sha256.is_not(None)
        )
        query = query.where(or_(~UpstreamName.pending, shown))
        mine: dict[int, list[str]] = {}
        for subdir_id, name in session.execute(query):
            mine.setdefault(subdir_id, []).append(name)
        for subdir_id in sorted(mine):
            place = session.get_one(Subdir, subdir_id, with_for_update={"key_share": True}, populate_existing=True)
            place.changed += 1
            session.flush()
            index.write_shards(session, place.id, place.changed, mine[subdir_id], now=now, upstream=True)


def relist(
    session: Session,
    channel_id: int,
    subdir: str,
    read: Mapping[str, Sequence[Found]],
    before: Mapping[str, Mapping[str, Found]],
    *,
    now: int,
) -> None:
    """What packages are listed with and what they need, after the upstream's records of some names in a subdir have
    changed from `before`. Packages that nobody knew get their row. The caller holds the channel's row.
    """
    known = packages_of(session, channel_id, read, now=now)
    counts = records_of(session, channel_id, read)
    merge = listed.merges(session, channel_id)
    needed: dict[str, dict[int, set[str]]] = {"exactly": {}, "also": {}}
    again: list[Package] = []
    shown = 0
    for name, found in read.items():
        if name not in known:
            continue  # nothing of it can be used
        package = known[name]
        shown -= package.shown
        hidden = not merge and (package.live > 0 or package.reserved)
        package.remote = 0 if hidden and not package.live else counts.get(name, 0)
        shown += package.shown
        if hidden:
            continue
        newest = listed.newest_of(found)
        if lost(package, before.get(name, {}).values(), newest):
            again.append(package)
        if newest is None:
            continue
        package.places |= listed.bits_of([subdir])
        package.updated_at = max(package.updated_at, *(made_at(one.record, now) for one in found))
        if newest.key > package.version_key:
            needed["exactly"][package.id] = set(newest.needs)
        elif newest.key == package.version_key:
            needed["also"][package.id] = set(newest.needs)
        if newest.key > package.version_key or (newest.key == package.version_key and not package.live):
            package.version, package.version_key, package.licence = newest.version, newest.key, newest.licence
    if shown:
        session.execute(update(Channel).where(Channel.id == channel_id).values(packages=Channel.packages + shown))
    session.flush()
    needs.write(session, **needed)
    for package in again:
        listed.again(session, package)


def lost(package: Package, before: Iterable[Found], newest: Newest | None) -> bool:
    """Whether something a package is listed with may have been of records that are here no more: then all others have to
    be read, those of other subdirs too.
    """
    if newest is not None and newest.key > package.version_key:
        return False
    old = listed.newest_of(before)
    if old is None or newest is None:
        return old is not None
    return old.key == package.version_key and (newest.key < old.key or not old.needs <= newest.needs)


def packages_of(
    session: Session, channel_id: int, read: Mapping[str, Sequence[Found]], *, now: int
) -> dict[str, Package]:
    """The packages of these names, with a row for those that had none and have records."""
    known: dict[str, Package] = {}
    for some in sweep.batched(read):
        rows = select(Package).where(Package.channel_id == channel_id, Package.name.in_(some))
        known |= {package.name: package for package in session.scalars(rows)}
    fresh = [fresh_package(channel_id, name, now) for name, found in read.items() if found and name not in known]
    session.add_all(fresh)
    session.flush()
    return known | {package.name: package for package in fresh}


def records_of(session: Session, channel_id: int, names: Iterable[str]) -> dict[str, int]:
    """How many records the upstream has of some names, in all subdirs."""
    counts: dict[str, int] = {}
    for some in sweep.batched(names):
        count = (
            select(UpstreamName.name, func.sum(UpstreamName.records))
            .join(Subdir, Subdir.id == UpstreamName.subdir_id)
            .where(Subdir.channel_id == channel_id, UpstreamName.name.in_(some))
            .group_by(UpstreamName.name)
        )
        counts |= {name: int(total) for name, total in session.execute(count)}
    return counts


def count(session: Session, package: Package, *, merge: bool) -> None:
    """Bring `Package.remote` to what the upstream has; of a reserved name nothing, unless names are merged."""
    kept = package.reserved and not package.live and not merge
    package.remote = 0 if kept else records_of(session, package.channel_id, [package.name]).get(package.name, 0)


def settle_all(session: Session, channel_id: int, *, now: int) -> None:
    """Names that are, or were, ours and are the upstream's are shown another way from now on: whether they are merged has
    changed.
    """
    merge = listed.merges(session, channel_id)
    both = or_(and_(Package.live > 0, Package.remote > 0), and_(Package.live == 0, Package.reserved))
    packages = list(session.scalars(select(Package).where(Package.channel_id == channel_id, both)))
    shown = 0
    for package in packages:
        shown -= package.shown
        count(session, package, merge=merge)
        shown += package.shown
    session.execute(update(Channel).where(Channel.id == channel_id).values(packages=Channel.packages + shown))
    session.flush()
    settle(session, channel_id, [package.name for package in packages], now=now)
    for package in packages:
        listed.again(session, package)


def made_at(record: Mapping[str, Any], now: int) -> int:
    """When a file of an upstream came to be (ms), and not after `now`: when it was built, if its record says so and that was
    before it was seen; else when it was first seen. Some builders write `timestamp` in seconds.
    """
    seen = min(int(record["indexed_timestamp"]), now)
    built = record.get("timestamp")
    if type(built) is not int or built <= 0:
        return seen
    return min(seen, built * 1000 if built < SECONDS_MOST else built)


def fresh_package(channel_id: int, name: str, now: int) -> Package:
    return Package(
        channel_id=channel_id, name=name, created_at=now, updated_at=0, live=0, remote=0, places=0, downloads=0,
        version="", version_key=b"", summary="", licence="",
    )  # fmt: skip


def forget(session: Session, channel_id: int) -> None:
    """Let go of the packages that only the upstream has, and list the others with what is ours again. One whose files
    are all deleted stays: they may come back, and their names are never given to other bytes. Names that were released to
    this upstream were so to no other.
    """
    ours = exists().where(Artifact.package_id == Package.id)
    mine = Package.channel_id == channel_id
    session.execute(delete(Package).where(mine, ~ours), execution_options={"synchronize_session": False})
    bare = update(Package).where(mine, Package.live == 0, ~Package.reserved).values(reserved=True)
    session.execute(bare, execution_options={"synchronize_session": False})
    session.flush()
    session.expire_all()
    for package in session.scalars(select(Package).where(mine, Package.remote > 0)).all():
        package.remote = 0
        listed.again(session, package)


def retire_hidden(session: Session, place: int, hashes: Iterable[bytes], *, now: int) -> None:
    """Let shards go that nobody is shown; one that is shown goes when another is."""
    for some in batched_bytes(hashes):
        shown = exists().where(Shard.subdir_id == place, Shard.sha256 == ShardBytes.sha256)
        session.execute(
            update(ShardBytes)
            .where(ShardBytes.subdir_id == place, ShardBytes.sha256.in_(some), ~shown)
            .values(retired_at=now)
            .execution_options(synchronize_session=False)
        )


def batched_bytes(values: Iterable[bytes]) -> Iterable[list[bytes]]:
    found = list(values)
    return [found[at : at + RETIRED_AT_ONCE] for at in range(0, len(found), RETIRED_AT_ONCE)]


def write_exports(session: Session, place: int, exports: Mapping[str, bytes]) -> None:
    """What each name exports, as a document of the upstream says now."""
    query = select(UpstreamName.name, UpstreamName.exports).where(UpstreamName.subdir_id == place)
    for name, before in session.execute(query).all():
        if exports.get(name) != before:
            session.execute(
                update(UpstreamName)
                .where(UpstreamName.subdir_id == place, UpstreamName.name == name)
                .values(exports=exports.get(name))
                .execution_options(synchronize_session=False)
            )
