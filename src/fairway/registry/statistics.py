"""Downloads, counted in memory and added up in batches: a download must not become a write."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from typing import cast

from sqlalchemy import Table, bindparam, func, select, update
from sqlalchemy.orm import Session

from fairway.db import quick
from fairway.db.engine import Database
from fairway.db.models import Artifact, Channel, ChannelDay, Download, Package, PackageDay
from fairway.db.upsert import upsert
from fairway.registry import copies, sessions, tokens
from fairway.registry.actor import Actor

DAY_MS = 86_400_000
BATCH = 500
REMEMBERED = 50_000
Day = tuple[int, int]  # what was downloaded, and when in days

GROW = (
    update(cast("Table", Package.__table__))
    .where(Package.id == bindparam("package"))
    .values(downloads=Package.downloads + bindparam("more"))
)


class Counts:
    """What has been seen since the last flush: downloads by artifact and day, and when each API key and each session was
    last used.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._downloads: Counter[tuple[int, int]] = Counter()
        self._copies: Counter[tuple[int, str, int]] = Counter()  # of an upstream's files: channel, package, day
        # a key's id, or a session's below zero
        self._used: dict[int, int] = {}
        self._written: dict[int, int] = {}

    def download(self, artifact_id: int, *, now: int) -> None:
        with self._lock:
            self._downloads[artifact_id, now // DAY_MS] += 1

    def copied(self, channel_id: int, name: str, *, now: int) -> None:
        """A file of an upstream was downloaded."""
        with self._lock:
            self._copies[channel_id, name, now // DAY_MS] += 1

    def used(self, actor: Actor, *, now: int) -> None:
        """Somebody asked for something, with whatever they asked with."""
        which = actor.token_id or -(actor.session_id or 0)
        if not which or now - self._written.get(which, 0) < tokens.USED_EVERY_MS:
            return
        with self._lock:
            self._used[which] = now

    def flush(self, database: Database) -> int:
        """Add everything up, some in each transaction; how many rows that was. Nothing is lost or counted twice if one
        fails: what was written is taken out, what was not is kept.
        """
        with self._lock:
            downloads, theirs, used = self._downloads, self._copies, self._used
            self._downloads, self._copies, self._used = Counter(), Counter(), {}
        total = len(downloads) + len(theirs) + len(used)
        try:
            while downloads or theirs or used:
                # after an outage there may be very many: more than a statement takes
                counts = dict(islice(downloads.items(), BATCH))
                others = dict(islice(theirs.items(), BATCH))
                times = dict(islice(used.items(), BATCH))
                with database.write() as session:
                    add_downloads(session, counts)
                    copies.add_downloads(session, others)
                    tokens.mark_used(session, {which: at for which, at in times.items() if which > 0})
                    sessions.mark_seen(session, {-which: at for which, at in times.items() if which < 0})
                self._remember(times)
                for place in counts:
                    del downloads[place]
                for one in others:
                    del theirs[one]
                for which in times:
                    del used[which]
        except BaseException:
            with self._lock:
                self._downloads.update(downloads)
                self._copies.update(theirs)
                self._used = {**used, **self._used}
            raise
        return total

    def _remember(self, times: Mapping[int, int]) -> None:
        self._written.update(times)
        if len(self._written) > REMEMBERED:
            latest = max(self._written.values())
            self._written = {which: at for which, at in self._written.items() if latest - at < tokens.USED_EVERY_MS}


def add_downloads(session: Session, counts: Mapping[tuple[int, int], int]) -> None:
    """At most `BATCH` at once: to the file, to its package and to its channel."""
    # a file may have been swept since, or its channel be on its way out
    wanted = {artifact_id for artifact_id, _ in counts}
    query = select(Artifact.id, Artifact.package_id, Artifact.channel_id).where(Artifact.id.in_(wanted))
    there = {artifact_id: (package_id, channel_id) for artifact_id, package_id, channel_id in session.execute(query)}
    # uploads change packages too, holding their channel
    homes = select(Channel.id).where(Channel.id.in_({channel_id for _, channel_id in there.values()}))
    homes = homes.where(Channel.deleted_at.is_(None)).order_by(Channel.id).with_for_update(key_share=True)
    open_ = set(session.scalars(homes))
    files, packages, channels, totals = [], Counter[Day](), Counter[Day](), Counter[int]()
    for (artifact_id, day), count in sorted(counts.items()):
        package_id, channel_id = there.get(artifact_id, (0, 0))
        if channel_id in open_:
            files.append({"artifact_id": artifact_id, "day": day, "count": count})
            packages[package_id, day] += count
            channels[channel_id, day] += count
            totals[package_id] += count
    upsert(session, Download, files, key=["artifact_id", "day"], add=["count"])
    for model, days, name in ((PackageDay, packages, "package_id"), (ChannelDay, channels, "channel_id")):
        rows = [{name: owner, "day": day, "count": count, "remote": 0} for (owner, day), count in sorted(days.items())]
        upsert(session, model, rows, key=[name, "day"], add=["count"])
    quick.of(session).each(GROW, [{"package": owner, "more": count} for owner, count in sorted(totals.items())])


def downloads_of(session: Session, artifact_ids: list[int]) -> dict[int, int]:
    """All downloads ever, by artifact."""
    query = select(Download.artifact_id, func.sum(Download.count)).where(Download.artifact_id.in_(artifact_ids))
    return {artifact_id: int(total) for artifact_id, total in session.execute(query.group_by(Download.artifact_id))}


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Downloads of a channel: `days` of each of the last days, today being the last; the packages with most, with how
    many.
    """

    first_day: int  # days since 1970-01-01
    days: tuple[int, ...]
    packages: tuple[tuple[str, int], ...]


def of_channel(session: Session, channel_id: int, *, days: int, most: int, now: int) -> ChannelStatistics:
    """Two statements."""
    first = now // DAY_MS - days + 1
    series = [0] * days
    query = select(ChannelDay.day, ChannelDay.count).where(ChannelDay.channel_id == channel_id)
    for day, count in session.execute(query.where(ChannelDay.day.between(first, first + days - 1))):
        series[day - first] = count
    total = func.sum(PackageDay.count).label("total")
    top = (
        select(Package.name, total)
        .join(PackageDay, PackageDay.package_id == Package.id)
        .where(Package.channel_id == channel_id, Package.shown, PackageDay.day >= first)
        .group_by(Package.id, Package.name)
        .order_by(total.desc(), Package.name)
        .limit(most)
    )
    packages = tuple((name, int(count)) for name, count in session.execute(top))
    return ChannelStatistics(first, tuple(series), packages)


def date_of(day: int) -> str:
    """A day since 1970, as people and ISO 8601 write it."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()
