"""Channels elsewhere that channels of ours serve as well: which, how often they are looked at, and how that went."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from fairway.conda.choice import Choice, check_platforms
from fairway.conda.names import KNOWN_SUBDIRS
from fairway.db.models import (
    Channel,
    Copy,
    Package,
    Shard,
    ShardBytes,
    Subdir,
    Upstream,
    UpstreamName,
    UpstreamSubdir,
)
from fairway.errors import Invalid, NotFound, RateLimited
from fairway.queue import jobs
from fairway.registry import access, audit, circles, copies, index, theirs
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.remote.addresses import channel_address

REFRESH = "refresh"
"""The job that refreshes a channel; its key is the channel's number."""

EVERY_SECONDS = 1_800
EVERY_LEAST, EVERY_MOST = 60, 7 * 86_400
AGAIN_SECONDS = (60, 300, 900, 1_800)  # after failures in a row, but never later than usual
JITTER = 0.1  # of the time, so that many servers do not ask at once
PAUSE_MS = 10_000  # from the end of a look to when people may ask for the next
MAX_URL = 500

Mode = Literal["proxy", "mirror"]


@dataclass(frozen=True, slots=True)
class Preset:
    """A public channel that many build on."""

    name: str
    title: str
    url: str


PRESETS = (
    Preset("conda-forge", "Community packages for everything", "https://conda.anaconda.org/conda-forge"),
    Preset("bioconda", "Bioinformatics, built on conda-forge", "https://conda.anaconda.org/bioconda"),
    Preset("robostack", "ROS 2, built on conda-forge", "https://prefix.dev/robostack-jazzy"),
    Preset("pytorch", "PyTorch's own packages", "https://conda.anaconda.org/pytorch"),
    Preset("nvidia", "CUDA and what belongs to it", "https://conda.anaconda.org/nvidia"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What an owner chooses. `every` in seconds; `subdirs` none: whatever the upstream has; `credential` sealed, for the
    server of `url` alone.
    """

    url: str
    mode: Mode = "proxy"
    every: int = EVERY_SECONDS
    merge: bool = False
    keep: bool = True
    subdirs: tuple[str, ...] | None = None
    wanted: Mapping[str, Any] | None = None
    credential: bytes | None = None


@dataclass(frozen=True, slots=True)
class SubdirView:
    """What there is of a subdir; sizes in bytes, times in ms."""

    name: str
    kind: str
    records: int
    size: int
    dropped: int
    checked_at: int
    good_at: int
    error: str | None


@dataclass(frozen=True, slots=True)
class UpstreamView:
    """An upstream as people see it: no credential, only whether there is one. `good_at` is what we serve of; 0: nothing
    yet. `progress` of a refresh that is under way: `{phase, subdir, done, total}`.
    """

    channel_id: int
    url: str
    mode: str
    every: int
    merge: bool
    keep: bool
    subdirs: tuple[str, ...] | None
    wanted: Mapping[str, Any] | None
    has_credential: bool
    created_at: int
    checked_at: int
    good_at: int
    next_at: int
    failures: int
    error: str | None
    progress: Mapping[str, Any] | None
    places: tuple[SubdirView, ...]
    kept_files: int
    kept_bytes: int
    conflicts: int

    @property
    def records(self) -> int:
        return sum(place.records for place in self.places)

    @property
    def name(self) -> str:
        return name_of(self.url)


@dataclass(frozen=True, slots=True)
class Beside:
    """The upstream of a channel, as every page of it shows it. Times in ms; `good_at` 0: nothing of it is here yet.
    `progress` as in `UpstreamView`.
    """

    url: str
    good_at: int
    next_at: int
    error: str | None
    progress: Mapping[str, Any] | None
    merge: bool

    @property
    def name(self) -> str:
        return name_of(self.url)


def checked(settings: Settings) -> Settings:
    """The same with its address as it is kept. Raises: Invalid, RemoteRefused."""
    if len(settings.url) > MAX_URL:
        raise Invalid(f"An upstream's address has at most {MAX_URL} characters.", code="upstream_invalid")
    url = channel_address(settings.url.strip())
    if url.rpartition("/")[2] in KNOWN_SUBDIRS:
        raise Invalid(
            "That is the address of one platform; the upstream is the channel, one level above.",
            code="upstream_invalid",
        )
    if not EVERY_LEAST <= settings.every <= EVERY_MOST:
        raise Invalid(
            f"An upstream is looked at every {EVERY_LEAST} seconds to every {EVERY_MOST // 86_400} days.",
            code="upstream_invalid",
        )
    check_platforms(settings.subdirs or ())
    if settings.mode not in ("proxy", "mirror"):
        raise Invalid("An upstream is a proxy or a mirror.", code="upstream_invalid")
    if settings.wanted is not None:
        Choice.parse(settings.wanted)
    return replace(settings, url=url)


def name_of(url: str) -> str:
    """What people call the channel at an address: the preset's name, or the address's last part."""
    preset = next((one.name for one in PRESETS if one.url == url), None)
    return preset or url.rpartition("/")[2] or url


def called(url: str | None) -> str | None:
    """The same, of a channel that may have no upstream."""
    return None if url is None else name_of(url)


def attach(
    session: Session, actor: Actor, channel: str, settings: Settings, *, forget: bool = False, site: str = "", now: int
) -> UpstreamView:
    """Let a channel serve an upstream, or change how. With another address, what was of the first goes. Without a
    credential, that of the same address stays, unless it is to `forget` it. `site` is where this server is. Raises as
    access.require does for MANAGE; Invalid.
    """
    home = access.channel_for(session, actor, Action.MANAGE, channel)
    hold(session, home.id)
    settings = checked(settings)
    circles.require_none(session, actor, home.name, settings.url, site=site)
    row = session.get(Upstream, home.id, with_for_update=True)
    before = None if row is None else row.url
    if row is not None and row.url != settings.url:
        detach(session, actor, channel, now=now)
        row = None
    if row is None:
        row = Upstream(channel_id=home.id, created_at=now, checked_at=0, good_at=0, next_at=0, failures=0)
        session.add(row)
    merged = row.merge
    row.url, row.mode, row.every = settings.url, settings.mode, settings.every
    row.merge, row.keep = settings.merge, settings.keep
    row.subdirs = None if settings.subdirs is None else sorted(settings.subdirs)
    wanted = None if settings.wanted is None else dict(settings.wanted)
    if row.wanted != wanted:
        read_anew(session, home.id)
    row.wanted = wanted
    if forget or settings.credential is not None or before != settings.url:
        row.credential = settings.credential
    row.next_at = now
    session.flush()
    if merged is not None and merged != settings.merge:
        theirs.settle_all(session, home.id, now=now)
    look_now(session, home.id, now=now)
    audit.note(
        session, actor, "channel.upstream", home.name, now=now, channel_id=home.id,
        url=[before, settings.url], mode=settings.mode, merge=settings.merge,
    )  # fmt: skip
    return show_of(session, home.id)


def hold(session: Session, channel_id: int) -> None:
    """Whoever publishes or refreshes waits until what is served of an upstream has changed as a whole."""
    session.execute(select(Channel.id).where(Channel.id == channel_id).with_for_update(key_share=True))


def read_anew(session: Session, channel_id: int) -> None:
    """Have the next refresh read all of an upstream's index, changed or not: another part of it is wanted."""
    here = select(Subdir.id).where(Subdir.channel_id == channel_id)
    session.execute(
        update(UpstreamSubdir)
        .where(UpstreamSubdir.subdir_id.in_(here))
        .values(validators={})
        .execution_options(synchronize_session=False)
    )


def detach(session: Session, actor: Actor, channel: str, *, now: int) -> None:
    """Let a channel serve only what is its own. What it had of the upstream leaves the index; files that were fetched go
    with the next sweep. Raises as access.require does for MANAGE; NotFound: it has none.
    """
    home = access.channel_for(session, actor, Action.MANAGE, channel)
    hold(session, home.id)
    row = session.get(Upstream, home.id, with_for_update=True)
    if row is None:
        raise NotFound(f"The channel {home.name} has no upstream.")
    audit.note(session, actor, "channel.upstream", home.name, now=now, channel_id=home.id, url=[row.url, None])
    drop(session, home.id, now=now)


def drop(session: Session, channel_id: int, *, now: int) -> None:
    """Forget the upstream of a channel that the caller holds, and all that is there of it."""
    has = or_(Subdir.upstream, exists().where(UpstreamName.subdir_id == Subdir.id))  # or its first read was broken off
    query = select(Subdir).where(Subdir.channel_id == channel_id, has).order_by(Subdir.id)
    for place in session.scalars(query).all():
        session.refresh(place, with_for_update={"key_share": True})
        names = list(session.scalars(select(UpstreamName.name).where(UpstreamName.subdir_id == place.id)))
        hashes = select(UpstreamName.sha256).where(UpstreamName.subdir_id == place.id)
        shown = select(Shard.sha256).where(Shard.subdir_id == place.id, Shard.sha256.is_not(None))
        session.execute(
            update(ShardBytes)
            .where(ShardBytes.subdir_id == place.id, ShardBytes.sha256.in_(hashes), ShardBytes.sha256.not_in(shown))
            .values(retired_at=now)
            .execution_options(synchronize_session=False)
        )
        session.execute(delete(UpstreamName).where(UpstreamName.subdir_id == place.id))
        session.execute(delete(UpstreamSubdir).where(UpstreamSubdir.subdir_id == place.id))
        copies.forget(session, place.id, now=now)
        place.upstream = False
        place.changed += 1
        session.flush()
        index.write_shards(session, place.id, place.changed, names, now=now)
    theirs.forget(session, channel_id)
    count = select(func.count()).where(Package.channel_id == channel_id, Package.shown).scalar_subquery()
    session.execute(update(Channel).where(Channel.id == channel_id).values(packages=count, updated_at=now))
    session.execute(delete(Upstream).where(Upstream.channel_id == channel_id))
    session.flush()


def show(session: Session, actor: Actor, channel: str) -> UpstreamView | None:
    """None if the channel has no upstream. Raises as access.require does for READ."""
    home = access.channel_for(session, actor, Action.READ, channel)
    return None if session.get(Upstream, home.id) is None else show_of(session, home.id)


def show_of(session: Session, channel_id: int) -> UpstreamView:
    """Who may see it the caller asks."""
    row = session.get_one(Upstream, channel_id)
    query = (
        select(UpstreamSubdir, Subdir.name)
        .join(Subdir, Subdir.id == UpstreamSubdir.subdir_id)
        .where(Subdir.channel_id == channel_id)
        .order_by(Subdir.name)
    )
    places = tuple(
        SubdirView(name, at.kind, at.records, at.size, at.dropped, at.checked_at, at.good_at, at.error)
        for at, name in session.execute(query)
    )
    kept = (
        select(
            func.count(Copy.fetched_at),
            func.sum(Copy.size).filter(Copy.fetched_at.is_not(None)),
            func.count(Copy.claimed),
        )
        .join(Subdir, Subdir.id == Copy.subdir_id)
        .where(Subdir.channel_id == channel_id)
    )
    files, size, conflicts = session.execute(kept).one()
    return UpstreamView(
        channel_id=channel_id,
        url=row.url,
        mode=row.mode,
        every=row.every,
        merge=row.merge,
        keep=row.keep,
        subdirs=None if row.subdirs is None else tuple(row.subdirs),
        wanted=row.wanted,
        has_credential=row.credential is not None,
        created_at=row.created_at,
        checked_at=row.checked_at,
        good_at=row.good_at,
        next_at=row.next_at,
        failures=row.failures,
        error=row.error,
        progress=row.progress,
        places=places,
        kept_files=files,
        kept_bytes=int(size or 0),
        conflicts=conflicts,
    )


def beside(session: Session, channel_id: int) -> str | None:
    """What people call a channel's upstream; none if it has none. Who may see it the caller asks."""
    return called(session.scalar(select(Upstream.url).where(Upstream.channel_id == channel_id)))


def refresh_soon(session: Session, actor: Actor, channel: str, *, now: int) -> UpstreamView:
    """Have an upstream looked at now; where somebody does already, nothing more. Raises as access.require does for REINDEX;
    NotFound; RateLimited: it was looked at a moment ago.
    """
    home = access.channel_for(session, actor, Action.REINDEX, channel)
    row = session.get(Upstream, home.id)
    if row is None:
        raise NotFound(f"The channel {home.name} has no upstream.")
    if row.progress is not None:
        return show_of(session, home.id)
    if 0 <= (since := now - row.checked_at) < PAUSE_MS:
        wait = math.ceil((PAUSE_MS - since) / 1_000)
        raise RateLimited(f"It was looked at a moment ago; wait {wait} seconds.", seconds=wait)
    look_now(session, home.id, now=now)
    return show_of(session, home.id)


def look_now(session: Session, channel_id: int, *, now: int) -> None:
    """Have an upstream looked at as soon as somebody can."""
    session.execute(update(Upstream).where(Upstream.channel_id == channel_id).values(next_at=now))
    jobs.enqueue(session, REFRESH, key=str(channel_id), run_at=now)
    jobs.hasten(session, REFRESH, key=str(channel_id), run_at=now)


def next_after(row: Upstream, *, now: int, chance: Callable[[], float] = random.random) -> int:
    """When an upstream is looked at again (ms)."""
    seconds = float(row.every)
    if row.failures:
        seconds = min(seconds, AGAIN_SECONDS[min(row.failures, len(AGAIN_SECONDS)) - 1])
    return now + int(1_000 * seconds * (1 + JITTER * (2 * chance() - 1)))


def plan(
    session: Session, channel_id: int, *, now: int, died: bool, due: int | None = None, begun: int = 0
) -> int | None:
    """When an upstream is looked at again (ms), after a refresh that `begun` then and ended, or `died`; none if it is no
    more. Who has asked for another since, when it was `due`, is not made to wait.
    """
    row = session.get(Upstream, channel_id, with_for_update=True)
    if row is None:
        return None
    if due is not None and row.next_at != due:
        return row.next_at
    if died or row.checked_at < begun:  # also one that failed over what nobody thought of said nothing of it
        row.failures, row.checked_at, row.progress = row.failures + 1, now, None
        row.error = "The refresh was broken off before its end; it goes on from there."
    row.next_at = next_after(row, now=now)
    return row.next_at


def ages(session: Session) -> Sequence[tuple[int, int, int]]:
    """Each channel with an upstream: its number, since when it is as it is served (ms; if nothing of it is here yet, since
    when it is waited for), and how many looks have failed in a row.
    """
    since = func.coalesce(func.nullif(Upstream.good_at, 0), Upstream.created_at)
    query = select(Upstream.channel_id, since, Upstream.failures).join(Channel, Channel.id == Upstream.channel_id)
    return session.execute(query.where(Channel.deleted_at.is_(None)).order_by(Upstream.channel_id)).tuples().all()


def tell_files(session: Session, channel_id: int, files: int, total: int, size: int) -> None:
    """How far a mirror is."""
    progress = {"phase": "files", "subdir": "", "done": files, "total": total, "bytes": size}
    session.execute(update(Upstream).where(Upstream.channel_id == channel_id).values(progress=progress))


def failed(session: Session, channel_id: int, error: str, *, now: int) -> None:
    """An upstream could not even be asked."""
    row = session.get(Upstream, channel_id, with_for_update=True)
    if row is not None:
        row.checked_at, row.error, row.progress, row.failures = now, error, None, row.failures + 1


def fetched(session: Session, channel_id: int, *, failed: int, error: str | None) -> None:
    """A mirror has fetched what it could."""
    row = session.get(Upstream, channel_id, with_for_update=True)
    if row is not None:
        row.progress = None
        if failed and row.error is None:
            row.error = f"{failed} files could not be fetched: {error}"
            row.failures += 1


def go_on(session: Session, channel_id: int, *, now: int) -> None:
    """A mirror has more to fetch: it is due again, behind those that have waited longer."""
    session.execute(update(Upstream).where(Upstream.channel_id == channel_id).values(next_at=now))


def due_at(session: Session, channel_id: int) -> int | None:
    """When a refresh was to begin (ms)."""
    return session.scalar(select(Upstream.next_at).where(Upstream.channel_id == channel_id))


def channels_with(session: Session) -> Sequence[int]:
    """The channels that have an upstream and are not deleted."""
    query = select(Upstream.channel_id).join(Channel, Channel.id == Upstream.channel_id)
    return list(session.scalars(query.where(Channel.deleted_at.is_(None)).order_by(Upstream.channel_id)))
