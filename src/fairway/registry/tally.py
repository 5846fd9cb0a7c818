"""What rows say of other rows: totals, what packages are listed with and what they need, what channels want, downloads by day.

Whatever changes the one changes the other in the same transaction (docs/decisions/0033). Here all of it is counted anew, for
`fsck` to compare, and to mend what does not agree: a restored backup of part of the rows, an error of ours, a hand in the
database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

import orjson
from sqlalchemy import Table, and_, case, delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import Session, aliased

from fairway.db.models import (
    ITS_RECORD,
    Artifact,
    Channel,
    ChannelDay,
    Download,
    Need,
    Package,
    PackageDay,
    Record,
    Subdir,
    Upstream,
    UpstreamName,
    UpstreamSubdir,
    Want,
)
from fairway.db.upsert import upsert
from fairway.registry import audit, channels, listed, sweep, theirs
from fairway.registry.actor import CONSOLE
from fairway.registry.needs import names_in

LIVE = Artifact.deleted_at.is_(None)
LISTED = LIVE & Artifact.yanked_at.is_(None)
"""A file that belongs into the index."""

RECORDS = (
    select(func.sum(UpstreamName.records))
    .join(Subdir, Subdir.id == UpstreamName.subdir_id)
    .where(Subdir.channel_id == Package.channel_id, UpstreamName.name == Package.name)
)
"""How many records an upstream has of a package."""

HAS_FILES = exists().where(Artifact.package_id == Package.id, LIVE)
IS_THERE = exists().where(
    UpstreamName.subdir_id == Subdir.id,
    Subdir.channel_id == Package.channel_id,
    UpstreamName.name == Package.name,
    UpstreamName.records > 0,
)
SHOWN = and_(IS_THERE, ~theirs.RESERVED)

PACKAGES = select(
    Package.id, Package.channel_id, Package.name, Package.live, Package.remote, Package.places, Package.version,
    Package.version_key,
)  # fmt: skip

HERE = Channel.deleted_at.is_(None)
"""A deleted channel is taken away piece by piece: nothing has to agree there."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Something that is not as it would be counted, of a channel or of one of its packages (`package_id`)."""

    channel_id: int
    package_id: int | None
    where: str  # the channel, or "channel/package"
    what: str


def drifted(session: Session) -> Iterator[Drift]:
    """Everything that does not agree, in the session's one snapshot."""
    names: dict[int, str] = {}
    yield from channel_totals(session)
    yield from upstream_totals(session)
    owned = select(Package.id, Package.channel_id, Channel.name, Package.name).join(Channel).where(HERE)
    places: dict[int, Drift] = {}
    for package_id, channel_id, channel, package in session.execute(owned):
        places[package_id] = Drift(channel_id, package_id, f"{channel}/{package}", "")
        names[channel_id] = channel
    for package_id, what in chain(package_totals(session), listings(session, places), downloads(session)):
        if place := places.get(package_id):
            yield Drift(place.channel_id, package_id, place.where, what)
    for channel_id in days_that_differ(session, ChannelDay.channel_id, Artifact.channel_id):
        if channel_id in names:
            yield Drift(channel_id, None, names[channel_id], "its downloads by day are not those of its files")
    yield from wanted(session)


def channel_totals(session: Session) -> Iterator[Drift]:
    files = select(Artifact.channel_id, func.count(), func.sum(Artifact.size)).where(LIVE).group_by(Artifact.channel_id)
    totals = {channel_id: (count, int(size or 0)) for channel_id, count, size in session.execute(files)}
    counted = select(Package.channel_id, func.count()).where(or_(HAS_FILES, SHOWN)).group_by(Package.channel_id)
    packages = dict(session.execute(counted).tuples().all())
    for channel in session.scalars(select(Channel).where(HERE)):
        wanted = totals.get(channel.id, (0, 0))
        if (channel.artifacts, channel.size) != wanted:
            what = f"its totals are {channel.artifacts} files, {channel.size} bytes instead of {wanted}"
            yield Drift(channel.id, None, channel.name, what)
        if channel.packages != packages.get(channel.id, 0):
            what = f"it counts {channel.packages} packages instead of {packages.get(channel.id, 0)}"
            yield Drift(channel.id, None, channel.name, what)


def upstream_totals(session: Session) -> Iterator[Drift]:
    """Of a subdir that is being read they follow at the end."""
    counted = (
        select(
            UpstreamName.subdir_id,
            func.sum(UpstreamName.records).label("records"),
            func.sum(UpstreamName.size).label("size"),
            func.count().filter(UpstreamName.pending).label("pending"),
        )
        .group_by(UpstreamName.subdir_id)
        .subquery()
    )
    query = (
        select(
            Channel.id, Channel.name, Subdir.name, Subdir.upstream, UpstreamSubdir.records, UpstreamSubdir.size, counted
        )
        .join(Subdir, Subdir.channel_id == Channel.id)
        .outerjoin(UpstreamSubdir, UpstreamSubdir.subdir_id == Subdir.id)
        .outerjoin(counted, counted.c.subdir_id == Subdir.id)
        .where(HERE, func.coalesce(counted.c.pending, 0) == 0)
        .order_by(Subdir.id)
    )
    for channel_id, channel, subdir, marked, records, size, names, total, bytes_, _ in session.execute(query):
        if names is not None and not marked:
            yield Drift(channel_id, None, f"{channel}/{subdir}", "it has names of an upstream, and is not marked so")
        if records is not None and (records, size) != (int(total or 0), int(bytes_ or 0)):
            what = f"the upstream's totals are {records} files, {size} bytes instead of {total or 0}, {bytes_ or 0}"
            yield Drift(channel_id, None, f"{channel}/{subdir}", what)


def package_totals(session: Session) -> Iterator[tuple[int, str]]:
    counted = select(Artifact.package_id, func.count()).where(LIVE).group_by(Artifact.package_id)
    files = dict(session.execute(counted).tuples().all())
    for package_id, live in session.execute(select(Package.id, Package.live)):
        if live != files.get(package_id, 0):
            yield package_id, f"it counts {live} files instead of {files.get(package_id, 0)}"
    there = RECORDS.scalar_subquery()
    there_is = case((theirs.RESERVED, 0), else_=func.coalesce(there, 0))
    wrong = select(Package.id, Package.remote, there_is).where(Package.remote != there_is)
    for package_id, remote, records in session.execute(wrong):
        yield package_id, f"it counts {remote} files of the upstream instead of {records}"


@dataclass(slots=True)
class Facts:
    """What a package would be listed with."""

    key: bytes = b""
    places: int = 0
    needs: set[str] = field(default_factory=set)

    def add(self, key: bytes, places: int, names: Iterable[str]) -> None:
        self.places |= places
        if key > self.key:
            self.key, self.needs = key, set(names)
        elif key == self.key:
            self.needs |= set(names)


def listings(session: Session, places: Mapping[int, Drift]) -> Iterator[tuple[int, str]]:
    """What packages are listed with is that of what is in the index of them: the newest version, the platforms, what this
    version needs. Some packages at a time: an upstream may have hundreds of thousands.
    """
    merging = set(session.scalars(select(Upstream.channel_id).where(Upstream.merge)))
    kept = select(Need.package_id, Need.name)
    for ids in sweep.batched(places):
        packages = session.execute(PACKAGES.where(Package.id.in_(ids))).all()
        facts = ours(session, ids)
        others: dict[int, dict[str, int]] = {}
        for row in packages:
            facts.setdefault(row.id, Facts())
            if row.remote and (not row.live or row.channel_id in merging):
                others.setdefault(row.channel_id, {})[row.name] = row.id
        for channel_id, names in others.items():
            for name, newest, bits in listed.theirs(session, channel_id, list(names)):
                facts[names[name]].add(newest.key, bits, newest.needs)
        needs: dict[int, set[str]] = {}
        for package_id, name in session.execute(kept.where(Need.package_id.in_(ids))):
            needs.setdefault(package_id, set()).add(name)
        for row in packages:
            wanted = facts[row.id]
            if bytes(row.version_key) != wanted.key or bool(row.version) != bool(wanted.key):
                yield row.id, f"its newest version is said to be {row.version or 'none'}, which is not so"
            if row.places != wanted.places:
                yield row.id, "the platforms it is listed for are not those of its files"
            if needs.get(row.id, set()) != wanted.needs:
                yield row.id, "what it is said to need is not what its newest version needs"


def ours(session: Session, ids: Sequence[int]) -> dict[int, Facts]:
    """What some packages would be listed with if there were only our files."""
    facts: dict[int, Facts] = {}
    grouped = (
        select(Artifact.package_id, Subdir.name, func.max(Artifact.version_key))
        .join(Subdir, Subdir.id == Artifact.subdir_id)
        .where(LISTED, Artifact.package_id.in_(ids))
        .group_by(Artifact.package_id, Subdir.name)
    )
    for package_id, subdir, key in session.execute(grouped):
        facts.setdefault(package_id, Facts()).add(bytes(key), listed.bits_of([subdir]), ())
    newest = select(Artifact.package_id, Artifact.version_key, Record.record).join(Record, ITS_RECORD)
    newest = newest.join(Package, (Package.id == Artifact.package_id) & (Package.version_key == Artifact.version_key))
    for package_id, key, record in session.execute(newest.where(Artifact.package_id.in_(ids))):
        mine = facts.setdefault(package_id, Facts())
        if bytes(key) == mine.key:
            mine.needs |= names_in(orjson.loads(record))
    return facts


def wanted(session: Session) -> Iterator[Drift]:
    """What channels want is what their packages need, and whether they have that."""
    said = select(Want.channel_id, Want.name, Want.packages, Want.here).subquery()
    counted = counted_wants().subquery()
    same = (said.c.channel_id == counted.c.channel_id) & (said.c.name == counted.c.name)
    differs = or_(said.c.packages.is_distinct_from(counted.c.packages), said.c.here.is_distinct_from(counted.c.here))
    wrong = select(counted.c.channel_id).outerjoin(said, same).where(differs)
    extra = select(said.c.channel_id).outerjoin(counted, same).where(counted.c.channel_id.is_(None))
    owners = {*session.scalars(wrong), *session.scalars(extra)}
    for channel in session.scalars(select(Channel).where(HERE, Channel.id.in_(owners)).order_by(Channel.id)):
        yield Drift(channel.id, None, channel.name, "what it is said to want is not what its packages need")


def counted_wants() -> Any:
    """For each channel the names that its packages need, how many need each, and whether it has it (migration 0006)."""
    other = aliased(Package)
    here = exists().where(other.channel_id == Package.channel_id, other.name == Need.name, other.version != "")
    query = select(Package.channel_id, Need.name, func.count().label("packages"), here.label("here"))
    return query.join(Need, Need.package_id == Package.id).group_by(Package.channel_id, Need.name)


def downloads(session: Session) -> Iterator[tuple[int, str]]:
    for package_id in days_that_differ(session, PackageDay.package_id, Artifact.package_id):
        yield package_id, "its downloads by day are not those of its files"
    total = select(func.coalesce(func.sum(PackageDay.count), 0)).where(PackageDay.package_id == Package.id)
    wrong = select(Package.id, Package.downloads).where(Package.downloads != total.scalar_subquery())
    for package_id, count in session.execute(wrong):
        yield package_id, f"it counts {count} downloads, which are not those of its days"


def by_day(owner: Any) -> Any:
    """The downloads of files, added up: `owner`, day, count."""
    query = select(owner.label("owner"), Download.day, func.sum(Download.count).label("count"))
    return query.join(Artifact, Artifact.id == Download.artifact_id).group_by(owner, Download.day)


def days_that_differ(session: Session, kept: Any, owner: Any) -> list[int]:
    """The owners of whom a day is missing, too many, or another. The database compares: there are many days."""
    model = kept.class_
    counted = by_day(owner).subquery()
    same = (kept == counted.c.owner) & (model.day == counted.c.day)
    files = model.count - model.remote
    wrong = select(counted.c.owner).outerjoin(model, same).where(files.is_distinct_from(counted.c.count))
    extra = select(kept).outerjoin(counted, same).where(counted.c.owner.is_(None), files != 0)
    return sorted({*session.scalars(wrong), *session.scalars(extra)})


# --- mending ---------------------------------------------------------------------------------------------------------


def recount(session: Session, channel_id: int, package_ids: Iterable[int], *, now: int) -> None:
    """Write what is counted, of a channel and of some of its packages."""
    channels.hold(session, channel_id)  # nobody uploads or counts downloads meanwhile
    channel = session.get_one(Channel, channel_id, populate_existing=True)
    wanted = sorted(package_ids)
    for package_id in wanted:
        package = session.get_one(Package, package_id)
        package.live = count_of(session, select(func.count()).where(Artifact.package_id == package_id, LIVE))
        theirs.count(session, package, merge=listed.merges(session, channel_id))
        listed.again(session, package)
        rewrite_days(session, PackageDay.package_id, Artifact.package_id, package_id)
        package.downloads = count_of(
            session, select(func.sum(PackageDay.count)).where(PackageDay.package_id == package_id)
        )
    session.flush()
    mine = (Artifact.channel_id == channel_id, LIVE)
    rewrite_days(session, ChannelDay.channel_id, Artifact.channel_id, channel_id)
    totals: Mapping[str, int] = {
        "artifacts": count_of(session, select(func.count()).where(*mine)),
        "size": count_of(session, select(func.sum(Artifact.size)).where(*mine)),
        "packages": count_of(
            session, select(func.count()).where(Package.channel_id == channel_id, or_(HAS_FILES, SHOWN))
        ),
    }
    session.execute(update(Channel).where(Channel.id == channel_id).values(**totals))
    recount_upstream(session, channel_id)
    session.execute(delete(Want).where(Want.channel_id == channel_id))
    table = cast("Table", Want.__table__)
    session.execute(
        insert(table).from_select(
            ["channel_id", "name", "packages", "here"], counted_wants().where(Package.channel_id == channel_id)
        )
    )
    audit.note(session, CONSOLE, "channel.recount", channel.name, now=now, channel_id=channel_id, packages=len(wanted))


def recount_upstream(session: Session, channel_id: int) -> None:
    here = select(Subdir.id).where(Subdir.channel_id == channel_id)
    has = exists().where(UpstreamName.subdir_id == Subdir.id)
    session.execute(update(Subdir).where(Subdir.id.in_(here), has).values(upstream=True))
    mine = UpstreamName.subdir_id == UpstreamSubdir.subdir_id
    totals = {
        "records": select(func.coalesce(func.sum(UpstreamName.records), 0)).where(mine).scalar_subquery(),
        "size": select(func.coalesce(func.sum(UpstreamName.size), 0)).where(mine).scalar_subquery(),
    }
    session.execute(
        update(UpstreamSubdir).where(UpstreamSubdir.subdir_id.in_(here)).values(**totals),
        execution_options={"synchronize_session": False},
    )


def count_of(session: Session, query: Any) -> int:
    return int(session.scalar(query) or 0)


def rewrite_days(session: Session, kept: Any, owner: Any, owner_id: int) -> None:
    """Count those of files anew; how many were of an upstream's is written nowhere else, and stays."""
    model = kept.class_
    table = cast("Table", model.__table__)
    session.execute(update(table).where(kept == owner_id).values(count=model.remote))
    counted = [
        {kept.key: key, "day": day, "count": count, "remote": 0}
        for key, day, count in session.execute(by_day(owner).where(owner == owner_id))
    ]
    upsert(session, model, counted, key=[kept.key, "day"], add=["count"])
    session.execute(delete(table).where(kept == owner_id, model.count <= 0))
