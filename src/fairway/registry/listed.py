"""What a package is listed with: columns of its row that are facts of its newest version, and what that needs.

They are of what clients see of the package: of our files in the index; of the upstream's records where nothing of ours is
there, or where names are merged. Of a version that both have, the facts are ours, and what it needs is what both need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from fairway.conda import foreign, text, version
from fairway.conda.foreign import Found
from fairway.conda.names import SUBDIR_NUMBERS
from fairway.db.models import ITS_RECORD, Artifact, Detail, Package, Record, ShardBytes, Subdir, Upstream, UpstreamName
from fairway.errors import Invalid
from fairway.registry import needs

SUMMARY_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest version among some records of an upstream, and what it is listed with."""

    version: str
    key: bytes
    licence: str
    needs: frozenset[str]


def bits_of(subdirs: Iterable[str]) -> int:
    """Subdirs as `Package.places` has them."""
    bits = 0
    for subdir in subdirs:
        bits |= 1 << SUBDIR_NUMBERS[subdir]
    return bits


def listed(about: Mapping[str, Any], record: Mapping[str, Any]) -> tuple[str, str]:
    """Summary and licence, as packages are listed with them."""
    summary = str(about.get("summary") or "")
    licence = str(record.get("license") or about.get("license") or "")
    return summary[:SUMMARY_MAX], licence[:SUMMARY_MAX]


def show_newest(package: Package, newest: str, *, about: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Make these the facts a package is listed with."""
    package.version, package.version_key = newest, version.sort_key(newest)
    package.summary, package.licence = listed(about, record)


def newest_of(found: Iterable[Found]) -> Newest | None:
    """By conda's order; of several builds of a version, what they need together."""
    key, newest = b"", []
    for one in found:
        its = version.sort_key(one.record["version"])
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


def theirs(session: Session, channel_id: int, names: Sequence[str]) -> Iterator[tuple[str, Newest, int]]:
    """What the upstream has of some names, hidden or not: each with its newest version and its platforms, as bits. Reads
    every record of them.
    """
    query = (
        select(UpstreamName.name, Subdir.name, ShardBytes.data)
        .join(Subdir, Subdir.id == UpstreamName.subdir_id)
        .join(ShardBytes, (ShardBytes.subdir_id == Subdir.id) & (ShardBytes.sha256 == UpstreamName.sha256))
        .where(Subdir.channel_id == channel_id, UpstreamName.name.in_(names), UpstreamName.records > 0)
        .order_by(UpstreamName.name)
    )
    name, found, bits = "", list[Found](), 0
    for this, subdir, data in session.execute(query):
        if this != name and (newest := newest_of(found)) is not None:
            yield name, newest, bits
        if this != name:
            name, found, bits = this, [], 0
        with suppress(Invalid):  # of a damaged shard nothing is known; fsck names it
            found += foreign.decode(data)
            bits |= bits_of([subdir])
    if (newest := newest_of(found)) is not None:
        yield name, newest, bits


def again(session: Session, package: Package) -> None:
    """Bring what a package is listed with, and what it needs, to what is in the index of it."""
    mine = (Artifact.package_id == package.id, Artifact.deleted_at.is_(None), Artifact.yanked_at.is_(None))
    places = select(Subdir.name).join(Artifact, Artifact.subdir_id == Subdir.id).where(*mine).distinct()
    package.places = bits_of(session.scalars(places))
    newest = session.execute(
        select(Artifact.version, Detail.about, Record.record)
        .join(Detail, Detail.artifact_id == Artifact.id)
        .join(Record, ITS_RECORD)
        .where(*mine)
        .order_by(Artifact.version_key.desc(), Artifact.indexed_at.desc(), Artifact.id.desc())
        .limit(1)
    ).one_or_none()
    if newest is None:
        package.version, package.version_key = "", b""
        if not package.live:
            package.licence = ""
        if not package.shown:  # what the upstream says of its packages is in none of their records
            package.summary = ""
    else:
        show_newest(package, newest.version, about=newest.about, record=orjson.loads(newest.record))
    session.flush()
    wanted = needs.of_newest(session, package.id)
    if package.remote and (not package.live or merges(session, package.channel_id)):
        for _, other, bits in theirs(session, package.channel_id, [package.name]):
            package.places |= bits
            if other.key > package.version_key:
                package.version, package.version_key, package.licence = other.version, other.key, other.licence
                wanted = set(other.needs)
            elif other.key == package.version_key:
                wanted |= other.needs
    session.flush()
    needs.write(session, exactly={package.id: wanted})


def needed(session: Session, package_id: int) -> set[str]:
    """What the newest version of a package needs, as far as that is known to be the newest."""
    wanted = needs.of_newest(session, package_id)
    row = select(Package.channel_id, Package.name, Package.live, Package.version_key)
    for channel_id, name, live, key in session.execute(row.where(Package.id == package_id, Package.remote > 0)):
        if not live or merges(session, channel_id):
            for _, other, _ in theirs(session, channel_id, [name]):
                wanted |= other.needs if other.key == key else set()
    return wanted
