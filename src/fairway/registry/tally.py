"""What rows say of other rows: totals, what packages are listed with and what they need, downloads by day.

Whatever changes the one changes the other in the same transaction (docs/decisions/0033). Here all of it is counted anew, for
`fsck` to compare, and to mend what does not agree: a restored backup of part of the rows, an error of ours, a hand in the
database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson
from sqlalchemy import Table, delete, func, insert, select, update
from sqlalchemy.orm import Session

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
)
from fairway.registry import audit, channels, needs, sweep, withdraw
from fairway.registry.actor import CONSOLE
from fairway.registry.listed import bits_of

LIVE = Artifact.deleted_at.is_(None)
LISTED = LIVE & Artifact.yanked_at.is_(None)
"""A file that belongs into the index."""

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
    owned = select(Package.id, Package.channel_id, Channel.name, Package.name).join(Channel).where(HERE)
    places: dict[int, Drift] = {}
    for package_id, channel_id, channel, package in session.execute(owned):
        places[package_id] = Drift(channel_id, package_id, f"{channel}/{package}", "")
        names[channel_id] = channel
    for package_id, what in (
        *package_totals(session),
        *listings(session),
        *needed(session, places),
        *downloads(session),
    ):
        if place := places.get(package_id):
            yield Drift(place.channel_id, package_id, place.where, what)
    for channel_id in days_that_differ(session, ChannelDay.channel_id, Artifact.channel_id):
        if channel_id in names:
            yield Drift(channel_id, None, names[channel_id], "its downloads by day are not those of its files")


def channel_totals(session: Session) -> Iterator[Drift]:
    files = select(Artifact.channel_id, func.count(), func.sum(Artifact.size)).where(LIVE).group_by(Artifact.channel_id)
    totals = {channel_id: (count, int(size or 0)) for channel_id, count, size in session.execute(files)}
    counted = select(Artifact.channel_id, func.count(Artifact.package_id.distinct())).where(LIVE)
    packages = dict(session.execute(counted.group_by(Artifact.channel_id)).tuples().all())
    for channel in session.scalars(select(Channel).where(HERE)):
        wanted = totals.get(channel.id, (0, 0))
        if (channel.artifacts, channel.size) != wanted:
            what = f"its totals are {channel.artifacts} files, {channel.size} bytes instead of {wanted}"
            yield Drift(channel.id, None, channel.name, what)
        if channel.packages != packages.get(channel.id, 0):
            what = f"it counts {channel.packages} packages instead of {packages.get(channel.id, 0)}"
            yield Drift(channel.id, None, channel.name, what)


def package_totals(session: Session) -> Iterator[tuple[int, str]]:
    counted = select(Artifact.package_id, func.count()).where(LIVE).group_by(Artifact.package_id)
    files = dict(session.execute(counted).tuples().all())
    for package_id, live in session.execute(select(Package.id, Package.live)):
        if live != files.get(package_id, 0):
            yield package_id, f"it counts {live} files instead of {files.get(package_id, 0)}"


def listings(session: Session) -> Iterator[tuple[int, str]]:
    """What packages are listed with is that of their files in the index: the newest version, the platforms."""
    newest: dict[int, bytes] = {}
    places: dict[int, int] = {}
    query = (
        select(Artifact.package_id, Subdir.name, func.max(Artifact.version_key))
        .join(Subdir, Subdir.id == Artifact.subdir_id)
        .where(LISTED)
        .group_by(Artifact.package_id, Subdir.name)
    )
    for package_id, subdir, key in session.execute(query):
        newest[package_id] = max(newest.get(package_id, b""), bytes(key))
        places[package_id] = places.get(package_id, 0) | bits_of([subdir])
    packages = select(Package.id, Package.version, Package.version_key, Package.places)
    for package_id, version, key, bits in session.execute(packages):
        if bytes(key) != newest.get(package_id, b"") or bool(version) != (package_id in newest):
            yield package_id, f"its newest version is said to be {version or 'none'}, which is not so"
        if bits != places.get(package_id, 0):
            yield package_id, "the platforms it is listed for are not those of its files"


def needed(session: Session, package_ids: Iterable[int]) -> Iterator[tuple[int, str]]:
    """What packages are said to need is what the records of their newest version say."""
    query = select(Artifact.package_id, Record.record).join(Record, ITS_RECORD)
    query = query.join(Package, (Package.id == Artifact.package_id) & (Package.version_key == Artifact.version_key))
    for ids in sweep.batched(package_ids):
        said: dict[int, set[str]] = {}
        for package_id, record in session.execute(query.where(Artifact.package_id.in_(ids))):
            said.setdefault(package_id, set()).update(needs.names_in(orjson.loads(record)))
        kept: dict[int, set[str]] = {}
        for package_id, name in session.execute(select(Need.package_id, Need.name).where(Need.package_id.in_(ids))):
            kept.setdefault(package_id, set()).add(name)
        for package_id in ids:
            if said.get(package_id, set()) != kept.get(package_id, set()):
                yield package_id, "what it is said to need is not what its newest version needs"


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
    wrong = select(counted.c.owner).outerjoin(model, same).where(model.count.is_distinct_from(counted.c.count))
    extra = select(kept).outerjoin(counted, same).where(counted.c.owner.is_(None))
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
        withdraw.refresh_package(session, package_id)
        rewrite_days(session, PackageDay.package_id, Artifact.package_id, package_id)
        package.downloads = count_of(
            session, select(func.sum(PackageDay.count)).where(PackageDay.package_id == package_id)
        )
    mine = (Artifact.channel_id == channel_id, LIVE)
    rewrite_days(session, ChannelDay.channel_id, Artifact.channel_id, channel_id)
    totals: Mapping[str, int] = {
        "artifacts": count_of(session, select(func.count()).where(*mine)),
        "size": count_of(session, select(func.sum(Artifact.size)).where(*mine)),
        "packages": count_of(session, select(func.count(Artifact.package_id.distinct())).where(*mine)),
    }
    session.execute(update(Channel).where(Channel.id == channel_id).values(**totals))
    audit.note(session, CONSOLE, "channel.recount", channel.name, now=now, channel_id=channel_id, packages=len(wanted))


def count_of(session: Session, query: Any) -> int:
    return int(session.scalar(query) or 0)


def rewrite_days(session: Session, kept: Any, owner: Any, owner_id: int) -> None:
    table = cast("Table", kept.class_.__table__)
    session.execute(delete(table).where(kept == owner_id))
    session.execute(insert(table).from_select([kept.key, "day", "count"], by_day(owner).where(owner == owner_id)))
