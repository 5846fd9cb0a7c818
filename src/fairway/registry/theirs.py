"""What a channel has from its upstream, by name: whether it is shown, and what packages are listed with.

Names of ours win over the upstream's, in every subdir (`index.write_shards`). So a name of ours that appears or goes
hides or shows more than the subdir its file is in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from fairway.conda import foreign, text
from fairway.conda import version as versions
from fairway.conda.foreign import Found
from fairway.conda.names import SUBDIR_NUMBERS
from fairway.db.models import Artifact, Package, Shard, ShardBytes, Subdir, Upstream, UpstreamName
from fairway.registry import index, needs, sweep
from fairway.registry.listed import SUMMARY_MAX

SECONDS_MOST = 100_000_000_000  # as ms it was in 1973, as seconds it will be in 5138


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest version among some records, and what it is listed with. `places` are the bits of `Package.places`."""

    version: str
    key: bytes
    licence: str
    needs: frozenset[str]


def newest_of(found: Iterable[Found]) -> Newest | None:
    """By conda's order; of several builds of a version, what they need together."""
    key, newest = b"", []
    for one in found:
        its = versions.sort_key(one.record["version"])
        if its > key:
            key, newest = its, [one]
        elif its == key:
            newest.append(one)
    if not newest:
        return None
    record = newest[-1].record
    wanted: set[str] = set().union(*(needs.names_in(one.record) for one in newest))
    licence = record.get("license")
    said = text.one_line(licence, SUMMARY_MAX) if isinstance(licence, str) else ""
    return Newest(record["version"], key, said, frozenset(wanted))


def merges(session: Session, channel_id: int) -> bool:
    """Whether names of ours hide nothing in this channel."""
    return bool(session.scalar(select(Upstream.merge).where(Upstream.channel_id == channel_id)))


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


def list_again(session: Session, package: Package) -> None:
    """Bring what a package is listed with to what the upstream has of it, where nothing of ours is in the index, or it
    may be newer.
    """
    query = (
        select(Subdir.name, ShardBytes.data)
        .join(UpstreamName, UpstreamName.subdir_id == Subdir.id)
        .join(ShardBytes, (ShardBytes.subdir_id == Subdir.id) & (ShardBytes.sha256 == UpstreamName.sha256))
        .where(Subdir.channel_id == package.channel_id, UpstreamName.name == package.name)
    )
    found: list[Found] = []
    for subdir, data in session.execute(query):
        here = foreign.decode(data)
        found += here
        if here:
            package.places |= 1 << SUBDIR_NUMBERS[subdir]
    newest = newest_of(found)
    if newest is not None and newest.key > package.version_key:
        package.version, package.version_key, package.licence = newest.version, newest.key, newest.licence
        session.flush()
        needs.write(session, exactly={package.id: set(newest.needs)})


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
    changed from `before`. Packages that nobody knew get their row.
    """
    known: dict[str, Package] = {}
    counts: dict[str, int] = {}
    for some in sweep.batched(read):
        rows = select(Package).where(Package.channel_id == channel_id, Package.name.in_(some))
        known |= {package.name: package for package in session.scalars(rows)}
        count = (
            select(UpstreamName.name, func.sum(UpstreamName.records))
            .join(Subdir, Subdir.id == UpstreamName.subdir_id)
            .where(Subdir.channel_id == channel_id, UpstreamName.name.in_(some))
            .group_by(UpstreamName.name)
        )
        counts |= {name: int(total) for name, total in session.execute(count)}
    fresh = [fresh_package(channel_id, name, now) for name, found in read.items() if found and name not in known]
    session.add_all(fresh)
    session.flush()
    known |= {package.name: package for package in fresh}
    merge = merges(session, channel_id)
    exactly: dict[int, set[str]] = {}
    again: list[Package] = []
    for name, found in read.items():
        if name not in known:
            continue  # nothing of it can be used
        package = known[name]
        package.remote = counts.get(name, 0)
        if package.live and not merge:
            continue
        newest = newest_of(found)
        if newest is None:
            again.append(package)
            continue
        package.places |= 1 << SUBDIR_NUMBERS[subdir]
        package.updated_at = max(package.updated_at, *(made_at(one.record) for one in found))
        if newest.key >= package.version_key:
            package.version, package.version_key, package.licence = newest.version, newest.key, newest.licence
            exactly[package.id] = set(newest.needs)
        elif (old := newest_of(before.get(name, {}).values())) is not None and old.key == package.version_key:
            again.append(package)  # the newest has gone from here, and may be nowhere else
    session.flush()
    needs.write(session, exactly=exactly)
    for package in again:
        package.version, package.version_key, package.licence, package.places = "", b"", "", 0
        list_again(session, package)


def made_at(record: Mapping[str, Any]) -> int:
    """When a file of an upstream came to be (ms): when it was built, if its record says so and that was before we saw it;
    else when it was first seen. Some builders write `timestamp` in seconds.
    """
    seen: int = record["indexed_timestamp"]
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
    are all deleted stays: they may come back, and their names are never given to other bytes.
    """
    from fairway.registry import withdraw  # noqa: PLC0415 - which needs this

    ours = exists().where(Artifact.package_id == Package.id)
    theirs_alone = delete(Package).where(Package.channel_id == channel_id, Package.remote > 0, ~ours)
    session.execute(theirs_alone, execution_options={"synchronize_session": False})
    both = list(session.scalars(select(Package.id).where(Package.channel_id == channel_id, Package.remote > 0)))
    session.execute(
        update(Package).where(Package.channel_id == channel_id).values(remote=0),
        execution_options={"synchronize_session": False},
    )
    session.expire_all()
    for package_id in both:
        withdraw.refresh_package(session, package_id)
