"""Taking files back."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from fairway.db.models import Artifact, Channel, Detail, Package, Record, Subdir
from fairway.errors import NotFound
from fairway.registry import access, audit, index
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.registry.admit import home_of
from fairway.registry.rows import show_newest, withdraw_record


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
    access.pass_gate(session, actor, Action.DELETE, channel)  # nobody else may make others wait
    home_of(session, channel)  # locked, in the order in which everybody locks
    home = access.channel_for(session, actor, Action.DELETE, channel)
    place = session.scalar(
        select(Subdir).where(Subdir.channel_id == home.id, Subdir.name == subdir).with_for_update(key_share=True)
    )
    if place is None:
        raise NotFound(f"There is no file {subdir}/{filename} in {channel}.")
    artifact = session.scalar(
        select(Artifact).where(
            Artifact.subdir_id == place.id, Artifact.filename == filename, Artifact.deleted_at.is_(None)
        )
    )
    if artifact is None:
        raise NotFound(f"There is no file {subdir}/{filename} in {channel}.")
    place.changed += 1
    withdraw_record(session, place.id, artifact.section, artifact.name, artifact.filename)
    artifact.deleted_at = now
    session.execute(
        update(Channel)
        .where(Channel.id == home.id)
        .values(artifacts=Channel.artifacts - 1, size=Channel.size - artifact.size)
    )
    session.flush()
    refresh_package(session, artifact.package_id, now=now)
    index.write_shards(session, place.id, place.changed, [artifact.name], now=now)
    audit.note(
        session, actor, "artifact.delete", f"{subdir}/{filename}", now=now, channel_id=home.id, sha256=artifact.sha256
    )
    return Withdrawn(place.id, place.changed)


def refresh_package(session: Session, package_id: int, *, now: int) -> None:
    """Bring a package's listed facts back to the newest file that is still there."""
    package = session.get_one(Package, package_id)
    package.live -= 1
    package.updated_at = now
    newest = session.execute(
        select(Artifact.version, Detail.about, Record.record)
        .join(Detail, Detail.artifact_id == Artifact.id)
        .join(
            Record,
            (Record.subdir_id == Artifact.subdir_id)
            & (Record.section == Artifact.section)
            & (Record.name == Artifact.name)
            & (Record.filename == Artifact.filename),
        )
        .where(Artifact.package_id == package_id, Artifact.deleted_at.is_(None))
        .order_by(Artifact.version_key.desc(), Artifact.indexed_at.desc())
        .limit(1)
    ).one_or_none()
    if newest is None:
        package.version, package.version_key, package.summary, package.licence = "", b"", "", ""
    else:
        show_newest(package, newest.version, about=newest.about, record=orjson.loads(newest.record))
