"""What a channel holds, as pages and the API show it. Dataclasses, never rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fairway.conda.channeldata import Newest, channeldata
from fairway.db.models import ITS_RECORD, Artifact, Channel, Detail, Package, Record, Subdir, User
from fairway.errors import NotFound
from fairway.registry import access, statistics, upstreams
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.registry.paging import Page


@dataclass(frozen=True, slots=True)
class PackageView:
    """A package of a channel, with the facts of its newest version. Times in ms. `upstream` is what it comes from, none if
    files of ours are among it.
    """

    name: str
    version: str
    summary: str
    licence: str
    files: int
    updated_at: int
    upstream: str | None


@dataclass(frozen=True, slots=True)
class FileView:
    """A file of a package. `size` in bytes, times in ms. `yanked_at` marks one that left the index and stays, for a
    reason; `deleted_at` one that goes some days later.
    """

    id: int
    subdir: str
    filename: str
    name: str
    version: str
    build: str
    build_number: int
    sha256: str
    md5: str
    size: int
    indexed_timestamp: int
    uploaded_by: str | None
    yanked_at: int | None
    yank_reason: str | None
    deleted_at: int | None
    downloads: int = 0

    @property
    def listed(self) -> bool:
        """Whether it is in the index."""
        return self.yanked_at is None and self.deleted_at is None


def list_packages(session: Session, actor: Actor, channel: str, *, after: str, limit: int) -> Page[PackageView]:
    """A channel's packages by name, those with files. Raises as access.require does for READ."""
    home = access.channel_for(session, actor, Action.READ, channel)
    query = (
        select(Package)
        .where(Package.channel_id == home.id, Package.shown, Package.name > after)
        .order_by(Package.name)
        .limit(limit + 1)
    )
    rows = list(session.scalars(query))
    upstream = upstreams.beside(session, home.id)
    items = [_package(row, upstream) for row in rows[:limit]]
    return Page(items, items[-1].name if len(rows) > limit else None)


def package_files(session: Session, actor: Actor, channel: str, name: str) -> tuple[PackageView, list[FileView]]:
    """A package and its files, newest version first. Raises as access.require does for READ; NotFound."""
    home = access.channel_for(session, actor, Action.READ, channel)
    package = session.scalar(select(Package).where(Package.channel_id == home.id, Package.name == name))
    if package is None:
        raise NotFound(f"There is no package {name} in {channel}.")
    order = (Artifact.version_key.desc(), Artifact.build_number.desc(), Artifact.filename)
    upstream = upstreams.beside(session, home.id)
    return _package(package, upstream), _files(session, Artifact.package_id == package.id, order=order)


def one_file(session: Session, actor: Actor, channel: str, subdir: str, filename: str) -> FileView:
    """Raises as access.require does for READ; NotFound."""
    home = access.channel_for(session, actor, Action.READ, channel)
    place = select(Subdir.id).where(Subdir.channel_id == home.id, Subdir.name == subdir).scalar_subquery()
    found = _files(session, (Artifact.subdir_id == place) & (Artifact.filename == filename))
    if not found:
        raise NotFound(f"There is no file {subdir}/{filename} in {channel}.")
    return found[0]


def channel_data(session: Session, channel_id: int) -> bytes:
    """The channel's channeldata.json (CEP 38)."""
    where: dict[str, set[str]] = {}
    places = select(Artifact.name, Subdir.name).join(Subdir, Subdir.id == Artifact.subdir_id)
    for name, subdir in session.execute(
        places.where(
            Artifact.channel_id == channel_id, Artifact.deleted_at.is_(None), Artifact.yanked_at.is_(None)
        ).distinct()
    ):
        where.setdefault(name, set()).add(subdir)
    newest = (
        select(Package.name, Package.version, Detail.about, Record.record, Record.run_exports)
        .join(Artifact, (Artifact.package_id == Package.id) & (Artifact.version_key == Package.version_key))
        .join(Detail, Detail.artifact_id == Artifact.id)
        .join(Record, ITS_RECORD)
        .where(Package.channel_id == channel_id, Artifact.deleted_at.is_(None))
        .order_by(Package.name, Artifact.build_number, Artifact.indexed_at, Artifact.id)
    )
    # several builds of the newest version: the last one stands for it
    found = {row.name: row for row in session.execute(newest)}
    subdirs = {subdir for places_of in where.values() for subdir in places_of} | {"noarch"}
    return channeldata(subdirs, (_newest(row, where[name]) for name, row in found.items()))


def _newest(row: Any, subdirs: set[str]) -> Newest:
    name, version, about, record, exports = row
    timestamp = orjson.loads(record).get("timestamp")
    return Newest(
        name=name,
        version=version,
        about=about,
        subdirs=sorted(subdirs),
        timestamp=timestamp if isinstance(timestamp, int) else None,
        run_exports=orjson.loads(exports) if exports else {},
    )


def channel_counts(session: Session, channel: Channel | int) -> dict[str, int]:
    """Live packages and live files of a channel."""
    channel_id = channel if isinstance(channel, int) else channel.id
    packages = select(func.count()).where(Package.channel_id == channel_id, Package.shown)
    files = select(func.count()).where(Artifact.channel_id == channel_id, Artifact.deleted_at.is_(None))
    return {"packages": session.scalar(packages) or 0, "files": session.scalar(files) or 0}


def _package(row: Package, upstream: str | None) -> PackageView:
    theirs = None if row.live else upstream
    return PackageView(row.name, row.version, row.summary, row.licence, row.live, row.updated_at, theirs)


def _files(session: Session, condition: object, *, order: tuple[object, ...] = ()) -> list[FileView]:
    query = (
        select(Artifact, Subdir.name, User.name)
        .join(Subdir, Subdir.id == Artifact.subdir_id)
        .outerjoin(User, User.id == Artifact.uploaded_by)
        .where(condition, Artifact.purged_at.is_(None))  # type: ignore[arg-type]
        .order_by(*order)  # type: ignore[arg-type]
    )
    rows = session.execute(query).all()
    downloads = statistics.downloads_of(session, [artifact.id for artifact, _, _ in rows])
    return [
        FileView(
            id=artifact.id,
            subdir=subdir,
            filename=artifact.filename,
            name=artifact.name,
            version=artifact.version,
            build=artifact.build,
            build_number=artifact.build_number,
            sha256=artifact.sha256,
            md5=artifact.md5,
            size=artifact.size,
            indexed_timestamp=artifact.indexed_at,
            uploaded_by=uploader,
            yanked_at=artifact.yanked_at,
            yank_reason=artifact.yank_reason,
            deleted_at=artifact.deleted_at,
            downloads=downloads.get(artifact.id, 0),
        )
        for artifact, subdir, uploader in rows
    ]
