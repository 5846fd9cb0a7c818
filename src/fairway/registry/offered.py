"""The files of a package that a channel has from its upstream, as pages show them: from our shards of it, and from what
was fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from fairway.conda import foreign
from fairway.conda import version as versions
from fairway.db.models import Copy, ShardBytes, Subdir, UpstreamName
from fairway.registry.packages import Cell, VersionRow


@dataclass(frozen=True, slots=True)
class Offered:
    """A file of the upstream. Hashes in lower-case hex (md5 "" if it says none), size in bytes, times in ms. `claimed` is
    another hash that the upstream says now; the first is served.
    """

    subdir: str
    filename: str
    version: str
    build: str
    build_number: int
    sha256: str
    md5: str
    size: int
    seen_at: int
    fetched_at: int | None
    claimed: str | None


def files(session: Session, channel_id: int, name: str) -> list[Offered]:
    """All of a package, the newest version first; also where names of ours hide them. Two statements."""
    theirs = (
        select(Subdir.name, ShardBytes.data)
        .join(UpstreamName, UpstreamName.subdir_id == Subdir.id)
        .join(ShardBytes, (ShardBytes.subdir_id == Subdir.id) & (ShardBytes.sha256 == UpstreamName.sha256))
        .where(Subdir.channel_id == channel_id, UpstreamName.name == name, ~UpstreamName.pending)
    )
    copies = (
        select(Subdir.name, Copy.filename, Copy.fetched_at, Copy.claimed)
        .join(Subdir, Subdir.id == Copy.subdir_id)
        .where(Subdir.channel_id == channel_id, Copy.name == name)
    )
    known = {(subdir, filename): (at, claimed) for subdir, filename, at, claimed in session.execute(copies)}
    found = []
    for subdir, data in session.execute(theirs):
        for one in foreign.decode(data):
            record = one.record
            fetched_at, claimed = known.get((subdir, one.filename), (None, None))
            md5 = record.get("md5")
            found.append(
                Offered(
                    subdir=subdir,
                    filename=one.filename,
                    version=record["version"],
                    build=record["build"],
                    build_number=record["build_number"],
                    sha256=one.sha256.hex(),
                    md5=md5.hex() if md5 else "",
                    size=record["size"],
                    seen_at=record["indexed_timestamp"],
                    fetched_at=fetched_at,
                    claimed=claimed,
                )
            )
    keys = {version: versions.sort_key(version) for version in {one.version for one in found}}
    found.sort(key=lambda one: (one.subdir, one.filename))
    return sorted(found, key=lambda one: (keys[one.version], one.build_number), reverse=True)


@dataclass(frozen=True, slots=True)
class Happened:
    """What became of an upstream's file, at a time (ms): it was fetched, or has gone there."""

    at: int
    what: str  # fetched, gone
    subdir: str
    filename: str


def history(session: Session, channel_id: int, name: str, *, limit: int) -> list[Happened]:
    """Of a package, the latest first, as far as it is known: of each file only the last of each. One statement."""
    query = (
        select(Subdir.name, Copy.filename, Copy.fetched_at, Copy.gone_at)
        .join(Subdir, Subdir.id == Copy.subdir_id)
        .where(Subdir.channel_id == channel_id, Copy.name == name)
    )
    found = [
        Happened(at, what, subdir, filename)
        for subdir, filename, fetched_at, gone_at in session.execute(query)
        for at, what in ((fetched_at, "fetched"), (gone_at, "gone"))
        if at is not None
    ]
    return sorted(found, key=lambda one: (one.at, one.subdir, one.filename), reverse=True)[:limit]


def in_versions(found: Sequence[Offered]) -> list[VersionRow]:
    """The same by version, in that order."""
    by_version: dict[str, list[Offered]] = {}
    for one in found:
        by_version.setdefault(one.version, []).append(one)
    return [
        VersionRow(
            version=version,
            published_at=min(one.seen_at for one in some),
            size=sum(one.size for one in some),
            downloads=0,
            cells=cells(one.subdir for one in some),
            yank_reason=None,
        )
        for version, some in by_version.items()
    ]


def cells(subdirs: Iterable[str]) -> dict[str, Cell]:
    counts: dict[str, int] = {}
    for subdir in subdirs:
        counts[subdir] = counts.get(subdir, 0) + 1
    return {subdir: Cell(count) for subdir, count in counts.items()}
