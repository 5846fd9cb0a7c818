"""The only way an artifact comes in, whoever sends it and however.

`receive` takes bytes to a blob, `publish` takes a blob to rows; `accept` is both, for one file. The order is the proof
that nothing acknowledged is lost: bytes first (durable under their hash), then one transaction with every row, then the
index. A crash in between leaves an orphan blob, which harms nobody; never a row without bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session

from fairway.blobs import keys
from fairway.blobs.staging import Digest, StagedFile
from fairway.blobs.store import BlobStore
from fairway.conda import attestation as attestations
from fairway.conda import record as records
from fairway.conda import version
from fairway.conda.artifact import Artifact as Facts
from fairway.conda.names import Filename
from fairway.db.engine import Database
from fairway.db.models import Artifact, Attestation, Channel, Detail, Package, Record, Shard, Subdir
from fairway.db.upsert import insert_missing, upsert
from fairway.errors import (
    ArtifactExists,
    FairwayError,
    FeatureOff,
    Invalid,
    NotAllowed,
    QuotaExceeded,
    StorageFull,
    Unavailable,
)
from fairway.registry import access, audit, sweep
from fairway.registry.access import Action
from fairway.registry.actor import Actor
from fairway.sandbox.pool import Reader

SUMMARY_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Received:
    """A package whose bytes are safe in the store: what it is, and the hashes and size of its bytes."""

    facts: Facts
    digest: Digest
    sidecar: bytes | None = None  # its attestations, as clients will fetch them


@dataclass(frozen=True, slots=True)
class Published:
    """What became of an upload. `change` is the subdir's change number that the index has to reach; `created` is false
    when the very same file was there already.
    """

    channel: str
    subdir: str
    filename: str
    subdir_id: int
    change: int
    created: bool
    replaced: bool
    sha256: str
    size: int
    indexed_timestamp: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Intake:
    """What bringing a file in needs of the server; `url` is its address, without a slash at the end."""

    database: Database
    blobs: BlobStore
    reader: Reader
    url: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What a sender asks for: a place in a channel for the file of this name.

    `subdir` is where the sender wants it, if the request says; `sha256` what the sender declares, in hex, if anything;
    `attestation` a Sigstore bundle that must fit the file and the channel. `same_is_fine` answers identical bytes under
    a name that exists as success instead of `ArtifactExists`.
    """

    channel: str
    filename: Filename
    subdir: str | None = None
    sha256: str | None = None
    attestation: bytes | None = None
    force: bool = False
    same_is_fine: bool = False


def accept(intake: Intake, actor: Actor, staged: StagedFile, offer: Offer, *, now: int) -> Published:
    """Bring one staged file in. Slow work comes first; the transaction at the end is short.

    Raises: as `receive` and `publish` do.
    """
    received = receive(intake, staged, offer, now=now)
    try:
        with intake.database.write() as session:
            return publish(
                session,
                received,
                actor=actor,
                channel=offer.channel,
                force=offer.force,
                same_is_fine=offer.same_is_fine,
                now=now,
            )
    except (Unavailable, StorageFull):
        raise  # the database cannot take anything now; a client that tries again brings the same bytes
    except FairwayError:
        abandon(intake.database, received.digest, now=now)
        raise


def abandon(database: Database, digest: Digest, *, now: int) -> None:
    """Let go of bytes that were stored before their publication was refused, unless a file is made of them: else a
    sender without room in its channel could fill the disk.
    """
    used = select(Artifact.id).where(Artifact.sha256 == digest.sha256, Artifact.purged_at.is_(None)).limit(1)
    with database.write() as session:
        if session.scalar(used) is None:
            sweep.retire(session, [keys.package(digest.sha256).path], now=now)


def receive(intake: Intake, staged: StagedFile, offer: Offer, *, now: int) -> Received:
    """Check a staged file and put it into the store under its hash.

    Raises:
        Invalid: the declared sha256 is not that of the bytes.
        PackageRefused: the package breaks a rule. StorageFull, Unavailable: it could not be stored now.
    """
    digest = staged.finish()
    if offer.sha256 is not None and offer.sha256.lower() != digest.sha256:
        raise Invalid(
            f"The file arrived with the sha256 {digest.sha256}, but {offer.sha256.lower()[:64]} was announced: it was "
            "damaged on its way, or the announcement is of another file.",
            code="digest_mismatch",
        )
    facts = intake.reader.read(staged.path, offer.filename, subdir=offer.subdir, now_ms=now)
    sidecar = None
    if offer.attestation is not None:
        channel_url = f"{intake.url}/{offer.channel}"
        attestations.check(
            offer.attestation, filename=offer.filename.text, sha256=digest.sha256, channel_url=channel_url
        )
        sidecar = attestations.sidecar([offer.attestation])
    key = keys.package(digest.sha256)
    sweep.reclaim(intake.database, [key.path])
    intake.blobs.put_file(key, staged.path)
    return Received(facts, digest, sidecar)


def publish(
    session: Session,
    received: Received,
    *,
    actor: Actor,
    channel: str,
    force: bool = False,
    same_is_fine: bool = False,
    now: int,
) -> Published:
    """Give a received package its place in a channel: every row, in the caller's transaction.

    Authorises again, on what the file turned out to be. Raises:
        NotFound, NotAllowed: as access.require does. FeatureOff: it needs v3 records and the channel has them off.
        ArtifactExists: the name is taken, or was (`filename_retired`). QuotaExceeded: no room in the channel.
    """
    facts, digest = received.facts, received.digest
    home = access.channel_for(session, actor, Action.UPLOAD, channel)
    if facts.needs_v3 and not home.allow_v3:
        raise FeatureOff(
            f"{facts.filename} needs v3 records (conditional dependencies, extras or flags), which the channel {channel} "
            "does not allow; its owner can switch them on in the channel's settings."
        )
    subdir = subdir_for_change(session, home.id, facts.subdir)
    old = session.scalar(
        select(Artifact).where(Artifact.subdir_id == subdir.id, Artifact.filename == facts.filename).limit(1)
    )
    if old is not None:
        same = old.deleted_at is None and old.sha256 == digest.sha256
        if same and (same_is_fine or force):
            return outcome(received, home, subdir, old, created=False, replaced=False)
        may_replace(session, actor, home, old, digest, force=force)
    subdir.changed += 1
    freed = old.size if old is not None and old.deleted_at is None else 0
    take_room(session, home, grow=digest.size - freed, files=0 if freed else 1)
    package = package_for(session, home.id, facts, now=now, new_file=not freed)
    row = write_rows(session, received, old, home=home, subdir=subdir, package=package, actor=actor, now=now)
    audit.note(
        session,
        actor,
        "artifact.replace" if old is not None else "artifact.publish",
        f"{facts.subdir}/{facts.filename}",
        now=now,
        channel_id=home.id,
        sha256=digest.sha256,
        size=digest.size,
    )
    return outcome(received, home, subdir, row, created=True, replaced=old is not None)


def subdir_for_change(session: Session, channel_id: int, name: str) -> Subdir:
    """The subdir's row, locked: whoever changes a subdir waits here, so change numbers are commit order."""
    query = select(Subdir).where(Subdir.channel_id == channel_id, Subdir.name == name).with_for_update()
    subdir = session.scalar(query)
    if subdir is None:
        values = {"channel_id": channel_id, "name": name, "changed": 0}
        insert_missing(session, Subdir, values, key=["channel_id", "name"])
        subdir = session.scalars(query).one()
    return subdir


def may_replace(
    session: Session, actor: Actor, channel: Channel, old: Artifact, digest: Digest, *, force: bool
) -> None:
    """Pass if the file may take the place of `old`, which has its name. Raises: ArtifactExists, NotAllowed."""
    where = f"{old.filename} in {channel.name}"
    if not force or not channel.allow_overwrite:
        policy = " and this channel does not allow overwriting" if force else ""
        if old.deleted_at is not None:
            raise ArtifactExists(
                f"{where} was deleted{policy or ', and a name is not given to other bytes'}: publish a new build number.",
                code="filename_retired",
            )
        same = "with the same bytes" if old.sha256 == digest.sha256 else "with other bytes"
        raise ArtifactExists(f"{where} already exists {same}{policy}: publish a new build number.")
    gate = access.gate_of(channel)
    role = access.role_in(session, actor, channel.id)
    try:
        access.require(actor, Action.OVERWRITE, gate, role)
    except NotAllowed as refused:
        raise NotAllowed(f"{where} already exists. {refused.detail}") from None


def take_room(session: Session, channel: Channel, *, grow: int, files: int) -> None:
    """Count the file against its channel, if there is room. Raises: QuotaExceeded."""
    room = (Channel.quota.is_(None)) | (Channel.size + grow <= Channel.quota)
    done = session.execute(
        update(Channel)
        .where(Channel.id == channel.id, room)
        .values(artifacts=Channel.artifacts + files, size=Channel.size + grow)
        .execution_options(synchronize_session=False)
    )
    if done.rowcount == 0:  # type: ignore[attr-defined]
        raise QuotaExceeded(
            f"The channel {channel.name} has no room for {grow} more bytes: {channel.size} of {channel.quota} are used."
        )


def package_for(session: Session, channel_id: int, facts: Facts, *, now: int, new_file: bool) -> Package:
    """The package's row, made if need be, and brought up to date with this file if no newer version is there."""
    query = select(Package).where(Package.channel_id == channel_id, Package.name == facts.name)
    package = session.scalar(query.with_for_update())
    if package is None:
        values = {
            "channel_id": channel_id,
            "name": facts.name,
            "created_at": now,
            "updated_at": now,
            "live": 0,
            "version": "",
            "version_key": b"",
            "summary": "",
            "licence": "",
        }
        insert_missing(session, Package, values, key=["channel_id", "name"])
        package = session.scalars(query.with_for_update()).one()
    if version.sort_key(facts.version) >= package.version_key:
        show_newest(package, facts.version, about=facts.about, record=facts.record)
    package.live += int(new_file)
    package.updated_at = now
    return package


def show_newest(package: Package, newest: str, *, about: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Make these the facts a package is listed with."""
    package.version, package.version_key = newest, version.sort_key(newest)
    package.summary = str(about.get("summary") or "")[:SUMMARY_MAX]
    package.licence = str(record.get("license") or about.get("license") or "")[:SUMMARY_MAX]


def write_rows(
    session: Session,
    received: Received,
    old: Artifact | None,
    *,
    home: Channel,
    subdir: Subdir,
    package: Package,
    actor: Actor,
    now: int,
) -> Artifact:
    facts, digest = received.facts, received.digest
    if old is not None:
        withdraw_record(session, old)
        retire_bytes(session, old, now=now)
    row = old or Artifact(channel_id=home.id, subdir_id=subdir.id, package_id=package.id, filename=facts.filename)
    row.name, row.version, row.version_key = facts.name, facts.version, version.sort_key(facts.version)
    row.build, row.build_number = facts.build, facts.build_number
    row.section = int(records.section_of(Filename.parse(facts.filename).extension, facts.needs_v3))
    row.sha256, row.md5, row.size = digest.sha256, digest.md5, digest.size
    row.indexed_at, row.uploaded_by, row.deleted_at, row.purged_at = now, actor.user_id, None, None
    session.add(row)
    session.flush()
    if old is not None:
        for kind in (Detail, Attestation):
            session.execute(delete(kind).where(kind.artifact_id == row.id))
    session.add(
        Detail(
            artifact_id=row.id,
            about=facts.about,
            paths={"files": facts.paths.files, "size": facts.paths.size, "scripts": facts.paths.scripts},
            licences=facts.licences,
            recipe=facts.recipe,
            warnings=facts.warnings,
        )
    )
    entry = entry_of(received, now=now)
    if received.sidecar is not None:
        session.add(Attestation(artifact_id=row.id, sidecar=received.sidecar, sha256=str(entry["attestations_sha256"])))
    session.add(
        Record(
            subdir_id=subdir.id,
            section=row.section,
            name=facts.name,
            filename=facts.filename,
            record=records.json_bytes(entry),
            run_exports=records.json_bytes(facts.run_exports) if facts.run_exports else None,
        )
    )
    mark_name(session, subdir, facts.name)
    sweep.keep(session, [keys.package(digest.sha256).path])
    return row


def entry_of(received: Received, *, now: int) -> dict[str, Any]:
    """A file's record with what only the server knows of it."""
    facts, digest = received.facts, received.digest
    entry: dict[str, Any] = {
        **facts.record,
        "md5": digest.md5,
        "sha256": digest.sha256,
        "size": digest.size,
        "indexed_timestamp": now,
    }
    if facts.run_exports or facts.needs_v3:
        # CEP 21, in both projections as rattler's indexer has it: builders need not ask for run_exports.json, where v3
        # records have no place, so that a missing field there would mean downloading the package to see
        entry["run_exports"] = facts.run_exports
    if received.sidecar is not None:
        entry["attestations_sha256"] = hashlib.sha256(received.sidecar).hexdigest()
    return entry


def mark_name(session: Session, subdir: Subdir, name: str) -> None:
    """Say that this package's shard has to be built anew, as part of the subdir's present change."""
    values = {"subdir_id": subdir.id, "name": name, "changed": subdir.changed, "sha256": None}
    upsert(session, Shard, [values], key=["subdir_id", "name"], replace=["changed"])


def withdraw_record(session: Session, artifact: Artifact) -> None:
    """Take a file's record out of what will be indexed."""
    place = (artifact.subdir_id, artifact.section, artifact.name, artifact.filename)
    if (record := session.get(Record, place)) is not None:
        session.delete(record)
        session.flush()


def retire_bytes(session: Session, artifact: Artifact, *, now: int) -> None:
    """The artifact is about to be made of other bytes: let the old ones go if no other file is made of them."""
    other = exists().where(Artifact.sha256 == artifact.sha256, Artifact.id != artifact.id, Artifact.purged_at.is_(None))
    if artifact.purged_at is None and not session.scalar(select(other)):
        sweep.retire(session, [keys.package(artifact.sha256).path], now=now)


def outcome(
    received: Received, channel: Channel, subdir: Subdir, row: Artifact, *, created: bool, replaced: bool
) -> Published:
    return Published(
        channel=channel.name,
        subdir=subdir.name,
        filename=row.filename,
        subdir_id=subdir.id,
        change=subdir.changed,
        created=created,
        replaced=replaced,
        sha256=row.sha256,
        size=row.size,
        indexed_timestamp=row.indexed_at,
        warnings=received.facts.warnings,
    )
