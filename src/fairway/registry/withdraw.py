"""Taking files out of the index, and putting them back.

A *deleted* file goes for good some days later; a *yanked* one stays for ever, because lock files name it, and nobody is
given it any more who does not ask for it by name. Both are listed under `removed`. Their records are kept (`Withheld`),
so that a file that comes back has the very bytes in the index that it had.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import cast

from sqlalchemy import ColumnElement, Table, insert, select, update
from sqlalchemy import delete as remove
from sqlalchemy.orm import Session

from fairway.conda.text import has_control
from fairway.db.models import ITS_RECORD, Artifact, Channel, Package, Record, Subdir, Withheld
from fairway.errors import Invalid, NotFound, QuotaExceeded
from fairway.registry import access, audit, index, listed, theirs
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.registry.admit import home_of
from fairway.registry.rows import Home

REASON_MAX = 500


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The subdir's change number that the flat documents have to reach; the shards are there."""

    subdir_id: int
    change: int


def delete(session: Session, actor: Actor, channel: str, subdir: str, filename: str, *, now: int) -> Withdrawn:
    """Take a file out of the index and list it under `removed`. Its bytes stay downloadable for some days, because lock
    files name it without ever asking the index; its name is never given to other bytes.

    Raises: as access.require does for DELETE; NotFound: no such file, or deleted already.
    """
    home = entered(session, actor, Action.DELETE, channel)
    artifact = one(session, home, subdir, filename, Artifact.deleted_at.is_(None))
    artifact.deleted_at = now
    count(session, home, artifact, -1)
    (change,) = take_out(session, [artifact], now=now)
    note(session, actor, "artifact.delete", subdir, artifact, now=now, sha256=artifact.sha256)
    return change


def undelete(
    session: Session, actor: Actor, channel: str, subdir: str, filename: str, *, now: int, keep_ms: int
) -> Withdrawn:
    """Put a file that was deleted within the last `keep_ms` back, yanked if it was.

    Its bytes were never let go of: a file refers to them until it is purged, and here it is locked and was not.

    Raises: as access.require does for DELETE; NotFound: no such file, or it is too late. QuotaExceeded.
    """
    home = entered(session, actor, Action.DELETE, channel)
    kept = select(Withheld.artifact_id)
    artifact = one(
        session,
        home,
        subdir,
        filename,
        Artifact.deleted_at >= now - keep_ms,
        Artifact.purged_at.is_(None),
        Artifact.id.in_(kept),
    )
    if home.quota is not None and home.size + artifact.size > home.quota:
        raise QuotaExceeded(
            f"The channel {channel} has no room for {artifact.size} more bytes: {home.size} of {home.quota} are used."
        )
    artifact.deleted_at = None
    count(session, home, artifact, 1)
    (change,) = put_back(session, [artifact], now=now)
    note(session, actor, "artifact.undelete", subdir, artifact, now=now, sha256=artifact.sha256)
    return change


def yank(
    session: Session, actor: Actor, channel: str, subdir: str, filename: str, reason: str, *, now: int
) -> Withdrawn:
    """Take a file out of the index for a reason, and leave it where it is. Of one that is yanked, change the reason.

    Raises: as access.require does for YANK; NotFound: no such file. Invalid: no reason, or one that is too long.
    """
    reason = checked_reason(reason)
    home = entered(session, actor, Action.YANK, channel)
    artifact = one(session, home, subdir, filename, Artifact.deleted_at.is_(None))
    (change,) = yank_all(session, actor, [(subdir, artifact)], reason, now=now)
    return change


def unyank(session: Session, actor: Actor, channel: str, subdir: str, filename: str, *, now: int) -> Withdrawn:
    """Put a yanked file back into the index. Raises: as access.require does for YANK; NotFound: none that is yanked."""
    home = entered(session, actor, Action.YANK, channel)
    artifact = one(session, home, subdir, filename, Artifact.deleted_at.is_(None), Artifact.yanked_at.is_not(None))
    (change,) = unyank_all(session, actor, [(subdir, artifact)], now=now)
    return change


def yank_version(
    session: Session, actor: Actor, channel: str, package: str, version: str, reason: str, *, now: int
) -> list[Withdrawn]:
    """Yank every file of a version, those that are yanked already for this reason now. Raises as `yank` does."""
    reason = checked_reason(reason)
    home = entered(session, actor, Action.YANK, channel)
    found = all_of(session, home, package, version, Artifact.deleted_at.is_(None))
    return yank_all(session, actor, found, reason, now=now)


def unyank_version(
    session: Session, actor: Actor, channel: str, package: str, version: str, *, now: int
) -> list[Withdrawn]:
    """Put every yanked file of a version back. Raises as `unyank` does."""
    home = entered(session, actor, Action.YANK, channel)
    found = all_of(session, home, package, version, Artifact.deleted_at.is_(None), Artifact.yanked_at.is_not(None))
    return unyank_all(session, actor, found, now=now)


def checked_reason(text: str) -> str:
    reason = " ".join(text.split())
    if not 1 <= len(reason) <= REASON_MAX or has_control(reason):
        raise Invalid(
            f"Say why in one line of 1 to {REASON_MAX} characters: people read it where the file was.",
            code="reason_invalid",
        )
    return reason


# --- which files ----------------------------------------------------------------------------------------------------


def entered(session: Session, actor: Actor, action: Action, channel: str) -> Home:
    """The channel, locked, if the actor may do this to it."""
    access.pass_gate(session, actor, action, channel)  # nobody else may make others wait
    home = home_of(session, channel)  # locked, in the order in which everybody locks
    access.pass_gate(session, actor, action, channel)
    if home is None:  # deleted since
        raise NotFound
    return home


def one(session: Session, home: Home, subdir: str, filename: str, *which: ColumnElement[bool]) -> Artifact:
    query = select(Artifact).join(Subdir, Subdir.id == Artifact.subdir_id).where(*which)
    query = query.where(Subdir.channel_id == home.gate.id, Subdir.name == subdir, Artifact.filename == filename)
    # the sweep purges without asking for the channel
    artifact = session.scalar(query.with_for_update(of=Artifact))
    if artifact is None:
        raise NotFound(f"There is no such file {subdir}/{filename} in {home.gate.name}.")
    return artifact


def all_of(
    session: Session, home: Home, package: str, version: str, *which: ColumnElement[bool]
) -> list[tuple[str, Artifact]]:
    query = (
        select(Subdir.name, Artifact)
        .join(Subdir, Subdir.id == Artifact.subdir_id)
        .join(Package, Package.id == Artifact.package_id)
        .where(Package.channel_id == home.gate.id, Package.name == package, Artifact.version == version, *which)
        .order_by(Artifact.id)
        .with_for_update(of=Artifact)
    )
    found = [(subdir, artifact) for subdir, artifact in session.execute(query)]
    if not found:
        raise NotFound(f"There is no such version {version} of {package} in {home.gate.name}.")
    return found


# --- what is done to them -------------------------------------------------------------------------------------------


def yank_all(
    session: Session, actor: Actor, found: Sequence[tuple[str, Artifact]], reason: str, *, now: int
) -> list[Withdrawn]:
    for subdir, artifact in found:
        artifact.yanked_at = artifact.yanked_at or now
        artifact.yank_reason = reason
        note(session, actor, "artifact.yank", subdir, artifact, now=now, reason=reason)
    return take_out(session, [artifact for _, artifact in found], now=now)


def unyank_all(session: Session, actor: Actor, found: Sequence[tuple[str, Artifact]], *, now: int) -> list[Withdrawn]:
    for subdir, artifact in found:
        note(session, actor, "artifact.unyank", subdir, artifact, now=now, reason=artifact.yank_reason)
        artifact.yanked_at = artifact.yank_reason = None
    return put_back(session, [artifact for _, artifact in found], now=now)


def take_out(session: Session, artifacts: Sequence[Artifact], *, now: int) -> list[Withdrawn]:
    """Keep the records of files that are no longer to be in the index, and have it made without them."""
    places = locked_places(session, artifacts)
    session.flush()
    ids = [artifact.id for artifact in artifacts]
    table = cast("Table", Withheld.__table__)
    source = select(Artifact.id, Record.record, Record.run_exports).join(Record, ITS_RECORD).where(Artifact.id.in_(ids))
    session.execute(insert(table).from_select(["artifact_id", "record", "run_exports"], source))
    for artifact in artifacts:
        session.execute(
            remove(Record).where(
                Record.subdir_id == artifact.subdir_id,
                Record.section == artifact.section,
                Record.name == artifact.name,
                Record.filename == artifact.filename,
            )
        )
    return changed(session, places, artifacts, now=now)


def put_back(session: Session, artifacts: Sequence[Artifact], *, now: int) -> list[Withdrawn]:
    """Put the records of those that belong into the index back, and have it made with them."""
    places = locked_places(session, artifacts)
    session.flush()
    ids = [artifact.id for artifact in artifacts if artifact.yanked_at is None and artifact.deleted_at is None]
    table = cast("Table", Record.__table__)
    source = (
        select(
            Artifact.subdir_id,
            Artifact.section,
            Artifact.name,
            Artifact.filename,
            Withheld.record,
            Withheld.run_exports,
        )
        .join(Artifact, Artifact.id == Withheld.artifact_id)
        .where(Withheld.artifact_id.in_(ids))
    )
    columns = ["subdir_id", "section", "name", "filename", "record", "run_exports"]
    session.execute(insert(table).from_select(columns, source))
    session.execute(remove(Withheld).where(Withheld.artifact_id.in_(ids)))
    return changed(session, places, artifacts, now=now)


def locked_places(session: Session, artifacts: Iterable[Artifact]) -> list[Subdir]:
    wanted = {artifact.subdir_id for artifact in artifacts}
    query = select(Subdir).where(Subdir.id.in_(wanted)).order_by(Subdir.id).with_for_update(key_share=True)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def changed(session: Session, places: Sequence[Subdir], artifacts: Sequence[Artifact], *, now: int) -> list[Withdrawn]:
    for place in places:
        place.changed += 1
    session.flush()
    for package_id in sorted({artifact.package_id for artifact in artifacts}):
        package = session.get_one(Package, package_id)
        if not package.live:
            package.summary = ""  # it was ours
        listed.again(session, package)
    channels = {artifact.channel_id for artifact in artifacts}
    session.execute(update(Channel).where(Channel.id.in_(channels)).values(updated_at=now))
    session.flush()
    for place in places:
        names = {artifact.name for artifact in artifacts if artifact.subdir_id == place.id}
        index.write_shards(session, place.id, place.changed, names, now=now, upstream=place.upstream)
    settle(session, {artifact.package_id for artifact in artifacts}, now=now)
    return [Withdrawn(place.id, place.changed) for place in places]


def settle(session: Session, package_ids: AbstractSet[int], *, now: int) -> None:
    """Whether the upstream's files of some names are shown may have changed with ours."""
    query = select(Package.channel_id, Package.name).where(Package.id.in_(package_ids), Package.remote > 0)
    for channel_id, name in session.execute(query).all():
        theirs.settle(session, channel_id, [name], now=now)


def count(session: Session, home: Home, artifact: Artifact, more: int) -> None:
    """Let a file count, or no longer (-1): to its package and its channel. With the last file the name is reserved."""
    package = session.get_one(Package, artifact.package_id)
    before = package.shown
    package.live += more
    if not package.live or package.live == more:  # the last file of ours is gone, or the first is back
        package.reserved = package.reserved or not package.live
        theirs.count(session, package, merge=listed.merges(session, home.gate.id))
    names = package.shown - before
    session.execute(
        update(Channel)
        .where(Channel.id == home.gate.id)
        .values(
            packages=Channel.packages + names,
            artifacts=Channel.artifacts + more,
            size=Channel.size + more * artifact.size,
        )
    )


def note(
    session: Session, actor: Actor, action: str, subdir: str, artifact: Artifact, *, now: int, **details: object
) -> None:
    audit.note(
        session,
        actor,
        action,
        f"{subdir}/{artifact.filename}",
        now=now,
        channel_id=artifact.channel_id,
        package_id=artifact.package_id,
        **details,
    )
