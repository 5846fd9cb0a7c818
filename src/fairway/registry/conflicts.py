"""Files of which an upstream claims another hash than the first, which is the one we serve; and believing it after all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from fairway.conda import foreign, shards
from fairway.db.models import Channel, Copy, Package, ShardBytes, Subdir, UpstreamName
from fairway.db.upsert import upsert
from fairway.errors import NotFound
from fairway.registry import access, audit, index, listed, sweep, tally, theirs, upstreams
from fairway.registry.access import Action
from fairway.registry.actor import Actor

MOST = 1_000


@dataclass(frozen=True, slots=True)
class Conflict:
    """`sha256` is the first, `claimed` what the upstream says now; `fetched` whether we have the first file."""

    subdir: str
    filename: str
    name: str
    sha256: str
    claimed: str
    fetched: bool


def found(session: Session, actor: Actor, channel: str, *, limit: int = MOST) -> Sequence[Conflict]:
    """By platform and name, the first of them. Raises as access.require does for MANAGE."""
    home = access.channel_for(session, actor, Action.MANAGE, channel)
    query = (
        select(Subdir.name, Copy.filename, Copy.name, Copy.sha256, Copy.claimed, Copy.fetched_at.is_not(None))
        .join(Subdir, Subdir.id == Copy.subdir_id)
        .where(Subdir.channel_id == home.id, Copy.claimed.is_not(None))
        .order_by(Subdir.name, Copy.filename)
        .limit(limit)
    )
    return [
        Conflict(subdir, filename, name, sha256, claimed or "", bool(fetched))
        for subdir, filename, name, sha256, claimed, fetched in session.execute(query)
    ]


def accept(session: Session, actor: Actor, channel: str, subdir: str, filename: str, *, now: int) -> Conflict:
    """Take the bytes that the upstream has of a file now for the right ones: ours go, and its record leaves the index
    until the next refresh, which is asked for, brings the new one.

    Raises as access.require does for MANAGE; NotFound: the upstream claims nothing else of this file.
    """
    home = access.channel_for(session, actor, Action.MANAGE, channel)
    upstreams.hold(session, home.id)
    place = session.scalar(
        select(Subdir)
        .where(Subdir.channel_id == home.id, Subdir.name == subdir)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    copy = None
    if place is not None:
        query = select(Copy).where(Copy.subdir_id == place.id, Copy.filename == filename, Copy.claimed.is_not(None))
        copy = session.scalar(query.with_for_update())
    if place is None or copy is None or copy.claimed is None:
        raise NotFound(f"The upstream of {home.name} claims no other hash of {subdir}/{filename}.")
    done = Conflict(subdir, filename, copy.name, copy.sha256, copy.claimed, copy.fetched_at is not None)
    copy.sha256, copy.claimed, copy.md5, copy.size = copy.claimed, None, "", 0
    copy.indexed_at, copy.fetched_at, copy.gone_at = now, None, None
    session.flush()
    if done.fetched:
        sweep.retire_unused(session, {done.sha256}, now=now)
    leave_out(session, home, place, copy.name, filename, now=now)
    upstreams.read_anew(session, home.id)
    upstreams.look_now(session, home.id, now=now)
    audit.note(
        session, actor, "upstream.accept", f"{subdir}/{filename}", now=now, channel_id=home.id,
        sha256=[done.sha256, done.claimed],
    )  # fmt: skip
    return done


def leave_out(session: Session, home: Channel, place: Subdir, name: str, filename: str, *, now: int) -> None:
    """Take a file out of what we have of an upstream's name, which is read again whether it has changed or not."""
    row = session.get(UpstreamName, (place.id, name), with_for_update=True)
    if row is None:
        return
    row.source = b""
    data = session.scalar(
        select(ShardBytes.data).where(ShardBytes.subdir_id == place.id, ShardBytes.sha256 == row.sha256)
    )
    before = [] if data is None else foreign.decode(data)
    left = [one for one in before if one.filename != filename]
    if len(left) == len(before):
        return
    old, body = row.sha256, foreign.encode(left) if left else b""
    row.sha256 = shards.sha256(body) if left else b""
    row.records, row.size = len(left), sum(one.record["size"] for one in left)
    if left:
        values = {"subdir_id": place.id, "sha256": row.sha256, "retired_at": None, "data": body}
        upsert(session, ShardBytes, [values], key=["subdir_id", "sha256"], replace=["retired_at"])
    place.changed += 1
    session.flush()
    tally.recount_upstream(session, home.id)
    package = session.scalars(select(Package).where(Package.channel_id == home.id, Package.name == name)).one()
    theirs.count(session, package, merge=listed.merges(session, home.id))
    session.flush()
    if not row.pending:
        index.write_shards(session, place.id, place.changed, [name], now=now, upstream=True)
    theirs.retire_hidden(session, place.id, [old], now=now)
    listed.again(session, package)
    shown = select(func.count()).where(Package.channel_id == home.id, Package.shown).scalar_subquery()
    session.execute(update(Channel).where(Channel.id == home.id).values(packages=shown, updated_at=now))
