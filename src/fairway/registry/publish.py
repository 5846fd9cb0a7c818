"""The only way an artifact comes in, whoever sends it and however.

`receive` takes bytes to a blob, `admit.publish` takes blobs to rows; `accept` is both, for one file. The order is the
proof that nothing acknowledged is lost: bytes first (durable under their hash), then one transaction with every row and
the shards made of them. A crash in between leaves an orphan blob, which harms nobody; never a row without bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from sqlalchemy import select

from fairway.blobs import keys
from fairway.blobs.staging import Digest, StagedFile
from fairway.blobs.store import BlobStore
from fairway.conda import attestation as attestations
from fairway.conda.artifact import Artifact as Facts
from fairway.conda.names import Filename
from fairway.db.engine import Database
from fairway.db.models import Artifact
from fairway.errors import FairwayError, Invalid, StorageFull, Unavailable
from fairway.registry import sweep
from fairway.registry.actor import Actor
from fairway.sandbox.pool import Reader

log = structlog.get_logger("fairway.publish")


@dataclass(frozen=True, slots=True)
class Received:
    """A package whose bytes are safe in the store: what it is, and the hashes and size of its bytes."""

    facts: Facts
    digest: Digest
    sidecar: bytes | None = None  # its attestations, as clients will fetch them

    def entry(self, *, now: int) -> dict[str, Any]:
        """The file's record with what only the server knows of it."""
        facts, digest = self.facts, self.digest
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
        if self.sidecar is not None:
            entry["attestations_sha256"] = hashlib.sha256(self.sidecar).hexdigest()
        return entry


@dataclass(frozen=True, slots=True)
class Published:
    """What became of an upload. `change` is the subdir's change number that the index has to reach; `created` is false
    when the very same file was there already; `indexed` says that the shards have it, which clients see from now on; `facts`
    are what was found in it.
    """

    channel: str
    subdir: str
    filename: str
    subdir_id: int
    change: int
    created: bool
    replaced: bool
    indexed: bool
    sha256: str
    size: int
    indexed_timestamp: int
    facts: Facts
    warnings: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()  # what it depends on and nobody has, in the channel or where its relations lead
    hides: int = 0  # records of the same name that the channel's upstream has, which no client is shown now


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


@dataclass(frozen=True, slots=True)
class Submission:
    """A received package on its way to its rows: who brought it, for what place, and when (ms)."""

    received: Received
    actor: Actor
    offer: Offer
    now: int

    @property
    def place(self) -> tuple[str, str]:
        """What it will be in its channel: subdir and file name."""
        return self.received.facts.subdir, self.received.facts.filename


class Brings(Protocol):
    """Whoever writes the rows of a submission. Raises what `admit.publish` refuses, StorageFull, Unavailable."""

    def __call__(self, submission: Submission, /) -> Published: ...


@dataclass(frozen=True, slots=True)
class Intake:
    """What bringing a file in needs of the server; `url` is its address, without a slash at the end."""

    database: Database
    blobs: BlobStore
    reader: Reader
    bring: Brings
    url: str


def accept(intake: Intake, actor: Actor, staged: StagedFile, offer: Offer, *, now: int) -> Published:
    """Bring one staged file in. Slow work comes first; the transaction at the end is short.

    Raises: as `receive` does, and what `admit.publish` refuses.
    """
    received = receive(intake, staged, offer, now=now)
    try:
        return intake.bring(Submission(received, actor, offer, now))
    except (Unavailable, StorageFull):
        raise  # the database cannot take anything now; a client that tries again brings the same bytes
    except FairwayError:
        abandon(intake.database, [received.digest], now=now)
        raise


def abandon(database: Database, digests: Iterable[Digest], *, now: int) -> None:
    """Let go of bytes that were stored before their publication was refused, unless a file is made of them: else a
    sender without room in its channel could fill the disk. If they cannot be let go of now, `fairway sweep --unknown`
    finds them: what became of the files stands.
    """
    left = sorted({digest.sha256 for digest in digests})
    if not left:
        return
    try:
        with database.write() as session:
            for sha256 in left:
                used = select(Artifact.id).where(Artifact.sha256 == sha256, Artifact.purged_at.is_(None)).limit(1)
                if session.scalar(used) is None:
                    sweep.retire(session, [keys.package(sha256).path], now=now)
    except (Unavailable, StorageFull) as error:
        log.warning("upload.abandon", error=error.detail, files=len(left))


def receive(intake: Intake, staged: StagedFile, offer: Offer, *, now: int) -> Received:
    """Check a staged file and put it into the store under its hash.

    Raises:
        Invalid: the declared sha256 is not that of the bytes.
        PackageRefused: the package breaks a rule. StorageFull, Unavailable: it could not be stored now.
    """
    received = judge(intake, staged, offer, now=now)
    key = keys.package(received.digest.sha256)
    sweep.reclaim(intake.database, [key.path])
    intake.blobs.put_file(key, staged.path)
    return received


def judge(intake: Intake, staged: StagedFile, offer: Offer, *, now: int) -> Received:
    """What a staged file is, if it may come in at all. Raises: Invalid, PackageRefused."""
    (outcome,) = judge_all(intake, [(staged, offer)], now=now)
    if isinstance(outcome, Received):
        return outcome
    raise outcome


def judge_all(
    intake: Intake, arrived: Sequence[tuple[StagedFile, Offer]], *, now: int
) -> list[Received | FairwayError | OSError]:
    """The same for some hundred files at most, read by one child in one go; what became of each. Raises: Unavailable."""
    outcomes: dict[int, Received | FairwayError | OSError] = {}
    announced: list[tuple[int, StagedFile, Offer, Digest]] = []
    for number, (staged, offer) in enumerate(arrived):
        try:
            announced.append((number, staged, offer, as_announced(staged, offer)))
        except Invalid as refusal:
            outcomes[number] = refusal
    wanted = [(staged.path, offer.filename, offer.subdir) for _, staged, offer, _ in announced]
    found = intake.reader.read_many(wanted, now_ms=now)
    for (number, _, offer, digest), facts in zip(announced, found, strict=True):
        if not isinstance(facts, Facts):
            outcomes[number] = facts
            continue
        try:
            outcomes[number] = Received(facts, digest, sidecar_of(intake, offer, digest))
        except FairwayError as refusal:
            outcomes[number] = refusal
    return [outcomes[number] for number in range(len(arrived))]


def as_announced(staged: StagedFile, offer: Offer) -> Digest:
    """Raises: Invalid: the declared sha256 is not that of the bytes."""
    digest = staged.finish()
    if offer.sha256 is not None and offer.sha256.lower() != digest.sha256:
        raise Invalid(
            f"The file arrived with the sha256 {digest.sha256}, but {offer.sha256.lower()[:64]} was announced: it was "
            "damaged on its way, or the announcement is of another file.",
            code="digest_mismatch",
        )
    return digest


def sidecar_of(intake: Intake, offer: Offer, digest: Digest) -> bytes | None:
    """The attestations that came with a file, as clients will fetch them. Raises: Invalid: they are of something else."""
    if offer.attestation is None:
        return None
    channel_url = f"{intake.url}/{offer.channel}"
    attestations.check(offer.attestation, filename=offer.filename.text, sha256=digest.sha256, channel_url=channel_url)
    return attestations.sidecar([offer.attestation])
