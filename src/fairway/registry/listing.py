"""Listings: the channels somebody may see, the packages of one, what was published lately. Dataclasses, never rows.

A page of the site calls `enter` once, which asks who may, and hands the `Head` it gets to whatever else it shows: so
each page is a few statements, and none of these functions can be asked about a channel nobody was let into.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, and_, func, select, union_all
from sqlalchemy.orm import Session

from fairway.conda.names import NOARCH, SUBDIR_NUMBERS
from fairway.db.models import OWN, Channel, ChannelDay, Member, Package, PackageDay, Subdir, Upstream
from fairway.errors import FairwayError, NotFound
from fairway.registry import access
from fairway.registry.access import Action, Gate
from fairway.registry.actor import Actor, Role, Visibility
from fairway.registry.paging import Page, package_named, page
from fairway.registry.statistics import DAY_MS
from fairway.registry.upstreams import Beside

DAYS = 30
"""How many days a sparkline shows, today being the last."""

RECENT_CHANNELS = 12
NAMES_AT_ONCE = 20_000  # SQLite takes 32 766 values in a statement, PostgreSQL 65 535
NO_USER = 0


class Sort(StrEnum):
    NAME = "name"
    UPDATED = "updated"
    DOWNLOADS = "downloads"


@dataclass(frozen=True, slots=True)
class Head:
    """A channel that somebody was let into: what every page of it shows. Sizes in bytes, times in ms. `updated_at` is
    when its files last changed; `allowed` is what the actor may do; `role` none for who is no member.
    """

    id: int
    name: str
    visibility: Visibility
    description: str
    allow_v3: bool
    allow_overwrite: bool
    quota: int | None
    created_at: int
    updated_at: int
    packages: int
    artifacts: int
    size: int
    has_readme: bool
    has_logo: bool
    role: Role | None
    allowed: frozenset[Action]
    upstream: Beside | None = None

    def may(self, action: Action) -> bool:
        return action in self.allowed


@dataclass(frozen=True, slots=True)
class ChannelCard:
    """A channel as one of many. `recent` are its downloads on each of the last `DAYS` days, `downloads` their sum."""

    name: str
    visibility: Visibility
    description: str
    packages: int
    artifacts: int
    size: int
    updated_at: int
    has_logo: bool
    role: Role | None
    downloads: int
    recent: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PackageRow:
    """A package as one of many. `version` is its newest that is not yanked, "" if all are; `platforms` are the subdirs
    of its files in the index; `downloads` ever, `recent` on each of the last `DAYS` days; `files` counts yanked ones.
    `upstream` is what it comes from, none if files of ours are among it.
    """

    id: int
    channel: str
    name: str
    version: str
    summary: str
    licence: str
    files: int
    platforms: tuple[str, ...]
    updated_at: int
    downloads: int
    recent: tuple[int, ...]
    upstream: str | None = None


def enter(session: Session, actor: Actor, name: str, action: Action = Action.READ) -> Head:
    """The channel of that name, if the actor may do this to it; raises as `access.require` does. One statement.

    It takes longer for a channel that is there: whoever answers strangers asks `lookup.View.require` first.
    """
    mine = and_(Member.channel_id == Channel.id, Member.user_id == (actor.user_id or NO_USER))
    query = (
        select(
            Channel.id,
            Channel.name,
            Channel.visibility,
            Channel.description,
            Channel.allow_v3,
            Channel.allow_overwrite,
            Channel.quota,
            Channel.created_at,
            Channel.updated_at,
            Channel.packages,
            Channel.artifacts,
            Channel.size,
            (Channel.readme != "").label("has_readme"),
            Channel.logo.is_not(None).label("has_logo"),
            Member.role,
            Upstream.url,
            Upstream.merge,
            Upstream.good_at,
            Upstream.next_at,
            Upstream.error,
            Upstream.progress,
        )
        .outerjoin(Member, mine)
        .outerjoin(Upstream, Upstream.channel_id == Channel.id)
        .where(Channel.name == name, Channel.deleted_at.is_(None))
    )
    row = session.execute(query).one_or_none()
    if row is None:
        access.require(actor, action, None, None)
        raise NotFound
    role = None if row.role is None else Role.of(row.role)
    gate = Gate(row.id, row.name, Visibility(row.visibility), row.allow_overwrite)
    access.require(actor, action, gate, role)
    return Head(
        id=row.id,
        name=row.name,
        visibility=gate.visibility,
        description=row.description,
        allow_v3=row.allow_v3,
        allow_overwrite=row.allow_overwrite,
        quota=row.quota,
        created_at=row.created_at,
        updated_at=row.updated_at,
        packages=row.packages,
        artifacts=row.artifacts,
        size=row.size,
        has_readme=bool(row.has_readme),
        has_logo=bool(row.has_logo),
        role=role,
        allowed=frozenset(act for act in Action if permitted(actor, act, gate, role)),
        upstream=None if row.url is None else beside(row),
    )


def beside(row: Any) -> Beside:
    return Beside(row.url, row.good_at, row.next_at, row.error, row.progress, merge=row.merge)


def permitted(actor: Actor, action: Action, gate: Gate, role: Role | None) -> bool:
    try:
        access.require(actor, action, gate, role)
    except FairwayError:
        return False
    return True


# --- channels ------------------------------------------------------------------------------------------------------


class Which(StrEnum):
    MINE = "mine"  # where the actor is a member
    OTHERS = "others"  # that the actor may read and is no member of
    ALL = "all"


def cards(
    session: Session,
    actor: Actor,
    which: Which = Which.ALL,
    *,
    text: str = "",
    sort: Sort = Sort.NAME,
    cursor: str = "",
    limit: int = 24,
    now: int,
) -> Page[ChannelCard]:
    """The channels the actor may see, by name or latest change first. Two statements. Raises: Malformed (cursor)."""
    role = select(Member.role).where(Member.channel_id == Channel.id, Member.user_id == actor.user_id)
    mine = role.correlate(Channel).scalar_subquery() if actor.user_id is not None else None
    query = select(
        Channel.id,
        Channel.name,
        Channel.visibility,
        Channel.description,
        Channel.packages,
        Channel.artifacts,
        Channel.size,
        Channel.updated_at,
        Channel.logo.is_not(None).label("has_logo"),
        *([] if mine is None else [mine.label("role")]),
    ).where(Channel.id.in_(access.visible_to(actor)))
    if which is Which.MINE:
        if mine is None:
            return Page()
        query = query.where(mine.is_not(None))
    elif which is Which.OTHERS and mine is not None:
        query = query.where(mine.is_(None))
    if text:
        query = query.where(Channel.name.contains(text.strip().lower(), autoescape=True))
    updated = sort is Sort.UPDATED
    rows, following, previous = page(
        session,
        query,
        (Channel.updated_at, Channel.name) if updated else (Channel.name,),
        cursor=cursor,
        limit=limit,
        key=(lambda row: (row.updated_at, row.name)) if updated else (lambda row: (row.name,)),
        descending=updated,
    )
    days = channel_days(session, [row.id for row in rows], now=now)
    return Page([card(row, row.role if mine is not None else None, days[row.id]) for row in rows], following, previous)


def card(row: Any, role: str | None, days: tuple[int, ...]) -> ChannelCard:
    return ChannelCard(
        name=row.name,
        visibility=Visibility(row.visibility),
        description=row.description,
        packages=row.packages,
        artifacts=row.artifacts,
        size=row.size,
        updated_at=row.updated_at,
        has_logo=bool(row.has_logo),
        role=Role.of(role) if role else None,
        downloads=sum(days),
        recent=days,
    )


# --- packages ------------------------------------------------------------------------------------------------------

ROW = (
    Package.id,
    Package.name,
    Package.version,
    Package.summary,
    Package.licence,
    Package.live,
    Package.places,
    Package.updated_at,
    Package.downloads,
)


def packages(
    session: Session,
    head: Head,
    *,
    text: str = "",
    platform: str | None = None,
    sort: Sort = Sort.NAME,
    cursor: str = "",
    limit: int = 50,
    now: int,
) -> Page[PackageRow]:
    """The packages of a channel that have files: by name, or the latest or most downloaded first. `text` is in the
    name; `platform` keeps those with files for it, noarch ones among them. Two statements. Raises: Malformed (cursor).
    """
    query = select(*ROW).where(Package.channel_id == head.id, Package.shown)
    if text:
        query = query.where(Package.name.contains(text.strip().lower(), autoescape=True))
    if platform:
        query = query.where(on_platform(platform))
    return rows_page(session, query, head, sort, cursor=cursor, limit=limit, now=now)


def rows_page(
    session: Session, query: Select[*tuple[Any, ...]], head: Head, sort: Sort, *, cursor: str, limit: int, now: int
) -> Page[PackageRow]:
    """A page of packages of one channel, `ROW`s."""
    order, key = ORDERS[sort]
    rows, following, previous = page(
        session,
        query,
        order,
        cursor=cursor,
        limit=limit,
        key=key,
        descending=sort is not Sort.NAME,
        named=None if sort is Sort.NAME else package_named(head.id),
    )
    days = package_days(session, [row.id for row in rows], now=now)
    upstream = None if head.upstream is None else head.upstream.name
    return Page([package_row(row, head.name, days, upstream) for row in rows], following, previous)


# by id where many are alike, as those that nobody downloaded yet: the indexes end with it
ORDERS: Mapping[Sort, Any] = {
    Sort.NAME: ((Package.name,), lambda row: (row.name,)),
    Sort.UPDATED: ((Package.updated_at, Package.id), lambda row: (row.updated_at, row.name)),
    Sort.DOWNLOADS: ((Package.downloads, Package.id), lambda row: (row.downloads, row.name)),
}


def package_row(row: Any, channel: str, days: Mapping[int, tuple[int, ...]], upstream: str | None) -> PackageRow:
    return PackageRow(
        id=row.id,
        channel=channel,
        name=row.name,
        version=row.version,
        summary=row.summary,
        licence=row.licence,
        files=row.live,
        platforms=platforms_in(row.places),
        updated_at=row.updated_at,
        downloads=row.downloads,
        recent=days[row.id],
        upstream=None if row.live else upstream,
    )


def recently(session: Session, actor: Actor, *, limit: int = 12) -> list[PackageRow]:
    """What was published here last in the channels the actor may read, the latest first, without their downloads by
    day: what upstreams publish would leave room for nothing else. Two statements.

    Only the channels that changed last are looked into, each by its own index: what is in hidden ones costs nothing,
    and so cannot be seen in how long this takes.
    """
    latest = select(Channel.id, Channel.name).where(Channel.id.in_(access.visible_to(actor)), Channel.artifacts > 0)
    latest = latest.order_by(Channel.updated_at.desc(), Channel.id.desc()).limit(RECENT_CHANNELS)
    names = dict(session.execute(latest).tuples().all())
    if not names:
        return []
    order = (Package.updated_at.desc(), Package.id.desc())
    parts = [
        select(*ROW, Package.channel_id).where(Package.channel_id == channel_id, OWN)
        .order_by(*order).limit(limit).subquery().select()
        for channel_id in names
    ]  # fmt: skip
    found = list(session.execute(parts[0] if len(parts) == 1 else union_all(*parts)))
    rows = sorted(found, key=lambda row: (row.updated_at, row.id), reverse=True)[:limit]
    none: dict[int, tuple[int, ...]] = {row.id: () for row in rows}  # their downloads are not shown
    return [package_row(row, names[row.channel_id], none, None) for row in rows]


def subdirs(session: Session, head: Head) -> tuple[str, ...]:
    """The platforms of a channel, `noarch` first. One statement."""
    query = select(Subdir.name).where(Subdir.channel_id == head.id, Subdir.changed > 0)
    return tuple(sorted(session.scalars(query), key=lambda name: (name != NOARCH, name)))


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Downloads of a channel on each of the last days, today being the last, and ever; its most downloaded packages;
    and how many packages there are for each platform.
    """

    first_day: int  # days since 1970-01-01
    days: tuple[int, ...]
    total: int
    most: tuple[PackageRow, ...]
    platforms: Mapping[str, int]


def statistics(session: Session, head: Head, *, days: int = 90, most: int = 10, now: int) -> ChannelStatistics:
    """Five statements."""
    series = channel_days(session, [head.id], now=now, days=days)[head.id]
    total = session.scalar(select(func.sum(ChannelDay.count)).where(ChannelDay.channel_id == head.id))
    top = packages(session, head, sort=Sort.DOWNLOADS, limit=most, now=now)
    alike = select(Package.places, func.count()).where(Package.channel_id == head.id, Package.places != 0)
    platforms: dict[str, int] = {}
    for places, count in session.execute(alike.group_by(Package.places)):
        for platform in platforms_in(places):
            platforms[platform] = platforms.get(platform, 0) + int(count)
    return ChannelStatistics(
        first_day=now // DAY_MS - days + 1,
        days=series,
        total=int(total or 0),
        most=tuple(row for row in top.items if row.downloads),
        platforms=dict(sorted(platforms.items(), key=lambda one: (-one[1], one[0]))),
    )


# --- small things --------------------------------------------------------------------------------------------------


def on_platform(platform: str) -> Any:
    """Whether a package has something that installs there; nothing has on a platform nobody knows."""
    bits = 1 << SUBDIR_NUMBERS[NOARCH] | 1 << SUBDIR_NUMBERS[platform] if platform in SUBDIR_NUMBERS else 0
    return Package.places.bitwise_and(bits) != 0


def platforms_in(places: int) -> tuple[str, ...]:
    """The subdirs of `Package.places`, `noarch` first, then by name."""
    names = (name for name, number in SUBDIR_NUMBERS.items() if places >> number & 1)
    return tuple(sorted(names, key=lambda name: (name != NOARCH, name)))


def package_days(session: Session, ids: Sequence[int], *, now: int, days: int = DAYS) -> dict[int, tuple[int, ...]]:
    """Downloads of packages on each of the last days, today being the last: `{package id: counts}`. One statement."""
    return counted(session, PackageDay.package_id, PackageDay.day, PackageDay.count, ids, now=now, days=days)


def channel_days(session: Session, ids: Sequence[int], *, now: int, days: int = DAYS) -> dict[int, tuple[int, ...]]:
    """The same of channels."""
    return counted(session, ChannelDay.channel_id, ChannelDay.day, ChannelDay.count, ids, now=now, days=days)


def counted(
    session: Session, owner: Any, day: Any, count: Any, ids: Iterable[int], *, now: int, days: int
) -> dict[int, tuple[int, ...]]:
    wanted = list(ids)
    first = now // DAY_MS - days + 1
    found = {one: [0] * days for one in wanted}
    if wanted:
        query = select(owner, day, count).where(owner.in_(wanted), day.between(first, first + days - 1))
        for one, at, number in session.execute(query):
            found[one][at - first] = number
    return {one: tuple(counts) for one, counts in found.items()}


def packages_of(session: Session, channel_id: int, names: Iterable[str]) -> dict[str, str]:
    """Those of some names that have files in a channel, with their newest version: `{name: version}`. One statement,
    unless these are very many.
    """
    wanted = sorted(set(names))
    found: dict[str, str] = {}
    for begin in range(0, len(wanted), NAMES_AT_ONCE):
        some = wanted[begin : begin + NAMES_AT_ONCE]
        query = select(Package.name, Package.version).where(
            Package.channel_id == channel_id, Package.shown, Package.name.in_(some)
        )
        found |= dict(session.execute(query).tuples().all())
    return found
