"""One package, as its pages show it. Each function is one to three statements; `head` says that the actor was let in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from fairway.conda.names import NOARCH
from fairway.db.models import (
    Artifact,
    Audit,
    Detail,
    Download,
    Package,
    PackageDay,
    Subdir,
    User,
)
from fairway.errors import NotFound
from fairway.registry import listing, statistics
from fairway.registry.browse import FileView
from fairway.registry.listing import Head
from fairway.registry.paging import Page, event_named, file_named, page
from fairway.registry.statistics import DAY_MS

LINKS = {
    "home": ("home", "url"),
    "documentation": ("doc_url",),
    "source": ("dev_url", "repository", "dev_source_url"),
    "doc_source": ("doc_source_url",),
    "source_archive": ("source_url",),
}
"""What a link is for, and the keys of about.json that may have it."""


@dataclass(frozen=True, slots=True)
class PackageHead:
    """What every page of a package shows. `version` is the newest that is not yanked ("" if all are), and what follows
    is said by it. `files` are the channel's own, `remote` those its upstream has of that name. `links` maps home, documentation, source, doc_source and source_archive to http(s) addresses.
    """

    id: int
    name: str
    version: str
    summary: str
    description: str
    licence: str
    licence_family: str
    platforms: tuple[str, ...]
    files: int
    downloads: int
    created_at: int
    updated_at: int
    links: Mapping[str, str]
    remote: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """The files of one version for one platform: how many there are in the index, yanked, and deleted."""

    files: int = 0
    yanked: int = 0
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version: `cells` by platform. `yanked` if it has files and all of them are; `deleted` if all are gone."""

    version: str
    published_at: int
    size: int
    downloads: int
    cells: Mapping[str, Cell]
    yank_reason: str | None

    @property
    def files(self) -> int:
        return sum(cell.files for cell in self.cells.values())

    @property
    def yanked(self) -> bool:
        return not self.files and any(cell.yanked for cell in self.cells.values())

    @property
    def deleted(self) -> bool:
        return not self.files and not self.yanked


@dataclass(frozen=True, slots=True)
class Matrix:
    """Versions by platforms, the newest version first."""

    platforms: tuple[str, ...]
    versions: Page[VersionRow]


@dataclass(frozen=True, slots=True)
class About:
    """What a file says of itself, all of it written by strangers."""

    about: Mapping[str, Any]
    recipe: str | None
    licences: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VersionDownloads:
    version: str
    downloads: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Downloads: `days` of each of the last days, today being the last; by version and by platform in that time, the
    most first.
    """

    first_day: int  # days since 1970-01-01
    days: tuple[int, ...]
    versions: tuple[VersionDownloads, ...]
    platforms: Mapping[str, int]
    total: int


@dataclass(frozen=True, slots=True)
class Event:
    """A line of a package's history: who (a name, or "console") did what to which file, and when."""

    id: int
    at: int
    actor: str
    action: str
    subject: str
    details: Mapping[str, Any]


def show(session: Session, head: Head, name: str) -> PackageHead:
    """Two statements. Raises: NotFound: no such package, or nothing of it is left."""
    package = session.scalar(select(Package).where(Package.channel_id == head.id, Package.name == name))
    if package is None or not package.shown:
        raise NotFound(f"There is no package {name} in {head.name}.")
    # of the newest version; if everything is yanked, of the newest there is
    newest = (
        select(Detail.about)
        .join(Artifact, Artifact.id == Detail.artifact_id)
        .where(Artifact.package_id == package.id, Artifact.deleted_at.is_(None))
        .order_by(Artifact.yanked_at.is_not(None), Artifact.version_key.desc(), Artifact.indexed_at.desc())
        .limit(1)
    )
    about = session.scalar(newest) or {}
    return PackageHead(
        id=package.id,
        name=package.name,
        version=package.version,
        summary=package.summary or text_of(about, "summary"),
        description=text_of(about, "description"),
        licence=package.licence or text_of(about, "license"),
        licence_family=text_of(about, "license_family"),
        platforms=listing.platforms_in(package.places),
        files=package.live,
        downloads=package.downloads,
        created_at=package.created_at,
        updated_at=package.updated_at,
        links=links_of(about),
        remote=package.remote,
    )


def text_of(about: Mapping[str, Any], key: str) -> str:
    value = about.get(key)
    return value if isinstance(value, str) else ""


def links_of(about: Mapping[str, Any]) -> dict[str, str]:
    """The http and https addresses in an about.json."""
    found: dict[str, str] = {}
    for purpose, keys in LINKS.items():
        for key in keys:
            value = about.get(key)
            first = next((one for one in value if isinstance(one, str)), "") if isinstance(value, list) else value
            if isinstance(first, str) and is_link(first):
                found.setdefault(purpose, first.strip())
    return found


def is_link(text: str) -> bool:
    """Whether this may be shown as a link: a whole http or https address."""
    text = text.strip()
    if len(text) > 2_000 or any(sign.isspace() or not sign.isprintable() for sign in text):
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False


# --- versions and files --------------------------------------------------------------------------------------------


def versions(session: Session, package: PackageHead) -> dict[str, str | None]:
    """Every version with live files, newest first, and why it is yanked, if every file of it is. One statement."""
    yanked = func.count(Artifact.yanked_at) == func.count()
    query = (
        select(Artifact.version, case((yanked, func.max(Artifact.yank_reason))))
        .where(Artifact.package_id == package.id, Artifact.deleted_at.is_(None))
        .group_by(Artifact.version_key, Artifact.version)
        .order_by(Artifact.version_key.desc(), Artifact.version.desc())
    )
    return {version: reason for version, reason in session.execute(query)}  # noqa: C416 - a row is no pair


def matrix(session: Session, package: PackageHead, *, cursor: str = "", limit: int = 50) -> Matrix:
    """The versions of a package, some at a time, and where there are files of them. Deleted ones are in it as long as
    their bytes are. Three statements. Raises: Malformed (cursor).
    """
    mine = (Artifact.package_id == package.id, Artifact.purged_at.is_(None))
    query = (
        select(
            Artifact.version_key,
            Artifact.version,
            func.min(Artifact.indexed_at).label("published_at"),
            func.sum(case((Artifact.deleted_at.is_(None), Artifact.size), else_=0)).label("size"),
            func.max(Artifact.yank_reason).label("reason"),
        )
        .where(*mine)
        .group_by(Artifact.version_key, Artifact.version)
    )
    rows, following, previous = page(
        session,
        query,
        (Artifact.version_key, Artifact.version),
        cursor=cursor,
        limit=limit,
        key=lambda row: (bytes(row.version_key), row.version),
        descending=True,
    )
    wanted = [row.version for row in rows]
    cells: dict[str, dict[str, Cell]] = {version: {} for version in wanted}
    if wanted:
        live = Artifact.deleted_at.is_(None)
        count = (
            select(
                Artifact.version,
                Subdir.name,
                func.sum(case((live & Artifact.yanked_at.is_(None), 1), else_=0)),
                func.sum(case((live & Artifact.yanked_at.is_not(None), 1), else_=0)),
                func.sum(case((live, 0), else_=1)),
            )
            .join(Subdir, Subdir.id == Artifact.subdir_id)
            .where(*mine, Artifact.version.in_(wanted))
            .group_by(Artifact.version, Subdir.name)
        )
        for version, subdir, files, yanked, deleted in session.execute(count):
            cells[version][subdir] = Cell(int(files), int(yanked), int(deleted))
    downloads = downloads_by_version(session, package.id, wanted)
    items = [
        VersionRow(
            version=row.version,
            published_at=row.published_at,
            size=int(row.size or 0),
            downloads=downloads.get(row.version, 0),
            cells=cells[row.version],
            yank_reason=row.reason,
        )
        for row in rows
    ]
    platforms = {subdir for row in items for subdir in row.cells} | set(package.platforms)
    return Matrix(in_order(platforms), Page(items, following, previous))


def in_order(platforms: Iterable[str]) -> tuple[str, ...]:
    """`noarch` first, then by name."""
    return tuple(sorted(platforms, key=lambda name: (name != NOARCH, name)))


def downloads_by_version(session: Session, package_id: int, wanted: Sequence[str]) -> dict[str, int]:
    if not wanted:
        return {}
    query = (
        select(Artifact.version, func.sum(Download.count))
        .join(Download, Download.artifact_id == Artifact.id)
        .where(Artifact.package_id == package_id, Artifact.version.in_(wanted))
        .group_by(Artifact.version)
    )
    return {version: int(total) for version, total in session.execute(query)}


def files(
    session: Session,
    package: PackageHead,
    *,
    version: str | None = None,
    subdir: str | None = None,
    deleted: bool = True,
    cursor: str = "",
    limit: int = 50,
) -> Page[FileView]:
    """The files of a package, newest version first; with `deleted` also those whose bytes are still there. Two
    statements. Raises: Malformed (cursor).
    """
    query = (
        select(*FILE)
        .join(Subdir, Subdir.id == Artifact.subdir_id)
        .outerjoin(User, User.id == Artifact.uploaded_by)
        .where(Artifact.package_id == package.id, Artifact.purged_at.is_(None))
    )
    if not deleted:
        query = query.where(Artifact.deleted_at.is_(None))
    if version is not None:
        query = query.where(Artifact.version == version)
    if subdir is not None:
        query = query.where(Subdir.name == subdir)
    rows, following, previous = page(
        session,
        query,
        (Artifact.version_key, Artifact.build_number, Artifact.id),
        cursor=cursor,
        limit=limit,
        key=lambda row: (bytes(row.version_key), row.build_number, row.subdir, row.filename),
        descending=True,
        named=file_named(Artifact.package_id, package.id),
    )
    downloads = statistics.downloads_of(session, [row.id for row in rows])
    return Page([file_view(row, downloads.get(row.id, 0)) for row in rows], following, previous)


FILE = (
    Artifact.id,
    Subdir.name.label("subdir"),
    Artifact.filename,
    Artifact.name,
    Artifact.version,
    Artifact.version_key,
    Artifact.build,
    Artifact.build_number,
    Artifact.sha256,
    Artifact.md5,
    Artifact.size,
    Artifact.indexed_at,
    User.name.label("uploader"),
    Artifact.yanked_at,
    Artifact.yank_reason,
    Artifact.deleted_at,
)


def file_view(row: Any, downloads: int) -> FileView:
    return FileView(
        id=row.id,
        subdir=row.subdir,
        filename=row.filename,
        name=row.name,
        version=row.version,
        build=row.build,
        build_number=row.build_number,
        sha256=row.sha256,
        md5=row.md5,
        size=row.size,
        indexed_timestamp=row.indexed_at,
        uploaded_by=row.uploader,
        yanked_at=row.yanked_at,
        yank_reason=row.yank_reason,
        deleted_at=row.deleted_at,
        downloads=downloads,
    )


def one_file(session: Session, package: PackageHead, subdir: str, filename: str) -> FileView:
    """Two statements. Raises: NotFound."""
    query = (
        select(*FILE)
        .join(Subdir, Subdir.id == Artifact.subdir_id)
        .outerjoin(User, User.id == Artifact.uploaded_by)
        .where(Artifact.package_id == package.id, Subdir.name == subdir, Artifact.filename == filename)
        .where(Artifact.purged_at.is_(None))
    )
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"There is no file {subdir}/{filename} of {package.name}.")
    return file_view(row, statistics.downloads_of(session, [row.id]).get(row.id, 0))


# --- what is in it --------------------------------------------------------------------------------------------------


def about(session: Session, file: FileView) -> About:
    """One statement."""
    query = select(Detail.about, Detail.recipe, Detail.licences, Detail.warnings).where(Detail.artifact_id == file.id)
    row = session.execute(query).one_or_none()
    if row is None:
        return About({}, None, (), ())
    licences = tuple((str(name), str(text)) for name, text in row.licences or ())
    return About(row.about or {}, row.recipe, licences, tuple(map(str, row.warnings or ())))


# --- numbers and history --------------------------------------------------------------------------------------------


def show_statistics(session: Session, package: PackageHead, *, days: int = 90, now: int) -> Statistics:
    """Two statements."""
    first = now // DAY_MS - days + 1
    series = listing.counted(
        session, PackageDay.package_id, PackageDay.day, PackageDay.count, [package.id], now=now, days=days
    )[package.id]
    query = (
        select(Artifact.version, Subdir.name, func.sum(Download.count))
        .join(Download, Download.artifact_id == Artifact.id)
        .join(Subdir, Subdir.id == Artifact.subdir_id)
        .where(Artifact.package_id == package.id, Download.day >= first)
        .group_by(Artifact.version, Subdir.name)
    )
    by_version: dict[str, int] = {}
    by_platform: dict[str, int] = {}
    for version, subdir, total in session.execute(query):
        by_version[version] = by_version.get(version, 0) + int(total)
        by_platform[subdir] = by_platform.get(subdir, 0) + int(total)
    most = sorted(by_version.items(), key=lambda one: (-one[1], one[0]))
    return Statistics(
        first_day=first,
        days=series,
        versions=tuple(VersionDownloads(*one) for one in most),
        platforms=dict(sorted(by_platform.items(), key=lambda one: (-one[1], one[0]))),
        total=package.downloads,
    )


def history(session: Session, package: PackageHead, *, cursor: str = "", limit: int = 50) -> Page[Event]:
    """What was done to the files of a package, the latest first. One statement. Raises: Malformed (cursor)."""
    query = select(Audit.id, Audit.at, Audit.actor, Audit.action, Audit.subject, Audit.details)
    rows, following, previous = page(
        session,
        query.where(Audit.package_id == package.id),
        (Audit.id,),
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.at, row.action, row.subject),
        descending=True,
        named=event_named(Audit.package_id, package.id),
    )
    events = [Event(row.id, row.at, row.actor, row.action, row.subject, row.details or {}) for row in rows]
    return Page(events, following, previous)
