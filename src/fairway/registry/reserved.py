"""Names of ours of which no file is left, and which stay ours: kept from the upstream until somebody releases them.

Else whoever deletes the last file of a private name would hand it to whoever registers that name upstream, and machines
that ask for it would install theirs (dependency confusion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session

from fairway.db.models import Artifact, Channel, Package, Upstream
from fairway.errors import NotFound
from fairway.registry import access, audit, listed, theirs, upstreams
from fairway.registry.access import Action
from fairway.registry.actor import Actor

MOST = 1_000
RISK = (
    "From then on whatever the upstream has of this name, now or later, is served here: whoever can publish there can put a "
    "package of this name onto machines that still ask for yours (dependency confusion)."
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A name that is kept from the upstream, which has so many `records` of it; `deleted_at` is when the last file of ours
    went (ms).
    """

    name: str
    records: int
    deleted_at: int


def names(session: Session, actor: Actor, channel: str) -> list[Kept]:
    """Those of a channel by name, the first of them; none where there is no upstream, or names are merged. Raises as
    access.require does for RELEASE.
    """
    home = access.channel_for(session, actor, Action.RELEASE, channel)
    return kept(session, home.id, None)


def one(session: Session, channel_id: int, name: str) -> Kept | None:
    """A name, if it is kept. Who may know of it the caller asks."""
    return next(iter(kept(session, channel_id, [name])), None)


def kept(session: Session, channel_id: int, some: Sequence[str] | None) -> list[Kept]:
    hides = exists().where(Upstream.channel_id == Package.channel_id, ~Upstream.merge)
    query = (
        select(Package.name, func.max(Artifact.deleted_at))
        .join(Artifact, Artifact.package_id == Package.id)
        .where(Package.channel_id == channel_id, Package.reserved, Package.live == 0, hides)
        .group_by(Package.name)
        .order_by(Package.name)
        .limit(MOST)
    )
    if some is not None:
        query = query.where(Package.name.in_(some))
    found = dict(session.execute(query).tuples().all())
    records = theirs.records_of(session, channel_id, found)
    return [Kept(name, records.get(name, 0), deleted_at or 0) for name, deleted_at in found.items()]


def release(session: Session, actor: Actor, channel: str, name: str, *, now: int) -> Kept:
    """Let a name be the upstream's. Raises as access.require does for RELEASE; NotFound: it is not kept."""
    home = access.channel_for(session, actor, Action.RELEASE, channel)
    upstreams.hold(session, home.id)
    found = one(session, home.id, name)
    if found is None:
        raise NotFound(f"{home.name} keeps no name {name[:80]} from its upstream.")
    query = select(Package).where(Package.channel_id == home.id, Package.name == name)
    package = session.scalars(query.execution_options(populate_existing=True)).one()
    package.reserved = False
    theirs.count(session, package, merge=False)
    more = int(package.shown)
    session.execute(update(Channel).where(Channel.id == home.id).values(packages=Channel.packages + more))
    session.flush()
    theirs.settle(session, home.id, [name], now=now)
    listed.again(session, package)
    audit.note(
        session, actor, "name.release", name, now=now, channel_id=home.id, package_id=package.id, records=found.records
    )
    return found
