"""Finding packages. The database fetches candidates, one ranking in Python orders them, alike on every database.

Every query goes through `access.visible_to`: what somebody may not read is neither shown nor counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from fairway.db.models import Artifact, Channel, Download, Package, Subdir
from fairway.errors import Malformed
from fairway.registry import access
from fairway.registry.actor import Actor

CANDIDATES = 1_000
WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Hit:
    channel: str
    name: str
    version: str
    summary: str
    downloads: int


def search(
    session: Session,
    actor: Actor,
    text: str,
    *,
    channel: str | None = None,
    platform: str | None = None,
    limit: int = 25,
    cursor: str = "",
) -> tuple[list[Hit], str | None]:
    """The best matches, and the cursor of the next page if there is one. Raises: Malformed: a cursor we never gave."""
    wanted = text.strip().lower()
    if cursor and not cursor.isdecimal():
        raise Malformed("The cursor is not one this server gave.", code="cursor_invalid")
    begin = int(cursor or 0)
    if not wanted or (channel is not None and not access.readable(session, actor, channel)):
        # not asked of a channel that is hidden: the more it holds, the longer that would take
        return [], None
    downloads = (
        select(func.coalesce(func.sum(Download.count), 0))
        .join(Artifact, Artifact.id == Download.artifact_id)
        .where(Artifact.package_id == Package.id)
        .correlate(Package)
        .scalar_subquery()
    )
    query = (
        select(Channel.name, Package.name, Package.version, Package.summary, downloads)
        .join(Channel, Channel.id == Package.channel_id)
        .where(Package.live > 0, Package.channel_id.in_(access.visible_to(actor)))
        .where(or_(contains(Package.name, wanted), contains(func.lower(Package.summary), wanted)))
        .order_by((Package.name == wanted).desc(), func.length(Package.name), Package.name, Channel.name)
        .limit(CANDIDATES)
    )
    if channel is not None:
        query = query.where(Channel.name == channel)
    if platform is not None:
        there = select(Artifact.package_id).join(Subdir, Subdir.id == Artifact.subdir_id)
        query = query.where(
            Package.id.in_(there.where(Subdir.name.in_([platform, "noarch"]), Artifact.deleted_at.is_(None)))
        )
    hits = sorted((Hit(*row) for row in session.execute(query)), key=lambda hit: rank(wanted, hit))
    page = hits[begin : begin + limit]
    return page, str(begin + limit) if len(hits) > begin + limit else None


def rank(wanted: str, hit: Hit) -> tuple[int, int, str, str]:
    """Exact > prefix > word > substring of the name > the summary; then downloads, then the name."""
    name = hit.name
    if name == wanted:
        place = 0
    elif name.startswith(wanted):
        place = 1
    elif wanted in WORD.findall(name):
        place = 2
    elif wanted in name:
        place = 3
    else:
        place = 4
    return place, -hit.downloads, name, hit.channel


def contains(column: ColumnElement[str] | object, text: str) -> ColumnElement[bool]:
    """`column` holds `text` as it is: its % and _ are no wildcards."""
    return column.contains(text, autoescape=True)  # type: ignore[union-attr]
