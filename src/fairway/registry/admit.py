"""May received files have the places they were sent for? Everything that is decided before their rows are written.

Any number of files for one channel come in together: those who upload at the same time share a transaction
(`registry.committer`), and what a transaction costs is paid once. Statements are made once and kept, because making a
statement costs several times what running it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from fairway.conda import version
from fairway.db import quick
from fairway.db.models import Artifact, Channel, Pointer, Subdir
from fairway.db.upsert import insert_missing
from fairway.errors import ArtifactExists, FairwayError, FeatureOff, NotAllowed, QuotaExceeded
from fairway.registry import access, rows, sessions, sweep
from fairway.registry.access import Action, Gate
from fairway.registry.actor import Actor, Role, Visibility
from fairway.registry.publish import Published, Submission
from fairway.registry.rows import Home, Old, Place, Writing, outcome

Outcome = Published | FairwayError

# Whoever changes a channel's files locks its row first, then subdirs in the order of their numbers: so change numbers
# are commit order, totals are exact, and no two wait for each other. NO KEY UPDATE: rows that only name the channel may
# still be written meanwhile.
CHANNEL = (
    select(
        Channel.id,
        Channel.name,
        Channel.visibility,
        Channel.allow_overwrite,
        Channel.allow_v3,
        Channel.quota,
        Channel.size,
    )
    .where(Channel.name == bindparam("name"), Channel.deleted_at.is_(None))
    .with_for_update(key_share=True)
)
SUBDIRS = (
    select(Subdir.name, Subdir.id, Subdir.changed, Pointer.shards_built)
    .outerjoin(Pointer, Pointer.subdir_id == Subdir.id)
    .where(Subdir.channel_id == bindparam("channel_id"), Subdir.name.in_(bindparam("names", expanding=True)))
    .order_by(Subdir.id)
    .with_for_update(of=Subdir, key_share=True)
)
OLD = select(
    Artifact.filename,
    Artifact.id,
    Artifact.name,
    Artifact.section,
    Artifact.sha256,
    Artifact.size,
    Artifact.indexed_at,
    Artifact.yanked_at,
    Artifact.deleted_at,
    Artifact.purged_at,
).where(Artifact.subdir_id == bindparam("subdir_id"), Artifact.filename.in_(bindparam("names", expanding=True)))


def publish(session: Session, channel: str, submissions: Sequence[Submission]) -> list[Outcome]:
    """Give received packages their places in a channel: every row and every shard, in the caller's transaction. What
    became of each, in order: a refusal is an answer of its own and keeps no other file out.

    No two submissions may be for the same place. Authorises again, on what the files turned out to be. The refusals:
        NotFound, NotAllowed, AuthRequired, TokenInvalid: as access.require has them.
        FeatureOff: it needs v3 records and the channel has them off.
        ArtifactExists: the name is taken, or was (`filename_retired`). QuotaExceeded: no room in the channel.
    """
    outcomes: dict[int, Outcome] = {}
    home = home_of(session, channel)
    admitted: list[int] = []
    callers: dict[Actor, Caller] = {}
    submissions = list(submissions)
    for number, submission in enumerate(submissions):
        try:
            submissions[number] = authorise(session, home, submission, callers)
        except FairwayError as refusal:
            outcomes[number] = refusal
        else:
            admitted.append(number)
    if home is not None and admitted:
        places = places_for(session, home.gate.id, {submissions[number].place[0] for number in admitted})
        olds = olds_of(session, places, [submissions[number].place for number in admitted])
        writings = []
        for number in admitted:
            submission = submissions[number]
            subdir, filename = submission.place
            writing = Writing(
                number,
                submission,
                places[subdir],
                olds.get((subdir, filename)),
                version.sort_key(submission.received.facts.version),
            )
            try:
                unchanged = admit(session, home, writing)
            except FairwayError as refusal:
                outcomes[number] = refusal
                continue
            if unchanged is None:
                writings.append(writing)
            else:
                outcomes[number] = unchanged
        if writings:
            make_places(session, home.gate.id, {writing.submission.place[0]: writing.place for writing in writings})
            outcomes |= rows.write(session, home, writings)
    return [outcomes[number] for number in range(len(submissions))]


def home_of(session: Session, channel: str) -> Home | None:
    """The channel, locked until the transaction ends."""
    for channel_id, name, visibility, allow_overwrite, allow_v3, quota, size in quick.of(session).execute(
        CHANNEL, {"name": channel}
    ):
        return Home(Gate(channel_id, name, Visibility(visibility), allow_overwrite), allow_v3, quota, size)
    return None


@dataclass(frozen=True, slots=True)
class Caller:
    """An uploader as of this transaction."""

    actor: Actor
    role: Role | None


def authorise(session: Session, home: Home | None, submission: Submission, callers: dict[Actor, Caller]) -> Submission:
    """The submission of somebody who may still upload here; raises as access.require does. `callers` is what was looked
    up before.
    """
    gate = None if home is None else home.gate
    caller = callers.get(submission.actor)
    if caller is None:
        reads = quick.of(session)
        actor = sessions.still(reads, submission.actor, now=submission.now)
        role = None if gate is None else access.role_in(reads, actor, gate.id)
        caller = callers[submission.actor] = Caller(actor, role)
    access.require(caller.actor, Action.UPLOAD, gate, caller.role)
    facts = submission.received.facts
    if home is not None and facts.needs_v3 and not home.allow_v3:
        raise FeatureOff(
            f"{facts.filename} needs v3 records (conditional dependencies, extras or flags), which the channel "
            f"{home.gate.name} does not allow; its owner can switch them on in the channel's settings."
        )
    return submission if caller.actor is submission.actor else replace(submission, actor=caller.actor)


def places_for(session: Session, channel_id: int, names: Iterable[str]) -> dict[str, Place]:
    """The rows of some subdirs, locked; a place without a row for what is not there yet."""
    wanted = sorted(names)
    rows = quick.of(session).execute(SUBDIRS, {"channel_id": channel_id, "names": wanted})
    found = {name: Place(*rest) for name, *rest in rows}
    return {name: found.get(name) or Place(None, 0, None) for name in wanted}


def make_places(session: Session, channel_id: int, places: Mapping[str, Place]) -> None:
    """Give the places that have no row theirs: only now, because a subdir whose every file was refused would be one
    without an index.
    """
    missing = sorted(name for name, place in places.items() if place.row is None)
    for name in missing:
        values = {"channel_id": channel_id, "name": name, "changed": 0}
        insert_missing(session, Subdir, values, key=["channel_id", "name"])
    for name, made in places_for(session, channel_id, missing).items() if missing else ():
        places[name].row, places[name].changed, places[name].built = made.row, made.changed, made.built


def olds_of(
    session: Session, places: Mapping[str, Place], wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Old]:
    """The rows that have these places already: `{(subdir, file name): row}`."""
    found: dict[tuple[str, str], Old] = {}
    for subdir, place in places.items():
        if place.row is None:
            continue
        for names in sweep.batched(filename for at, filename in wanted if at == subdir):
            rows = quick.of(session).execute(OLD, {"subdir_id": place.id, "names": names})
            found |= {(subdir, old.filename): old for old in (Old(*row) for row in rows)}
    return found


def admit(session: Session, home: Home, writing: Writing) -> Published | None:
    """Whether the file may come in; the outcome if it is there already. Counts it against the channel.

    Raises: ArtifactExists, NotAllowed, QuotaExceeded.
    """
    old, offer, digest = writing.old, writing.submission.offer, writing.received.digest
    if old is not None:
        same = old.deleted_at is None and old.sha256 == digest.sha256
        if same and (offer.same_is_fine or offer.force):
            return outcome(
                home,
                writing,
                indexed_at=old.indexed_at,
                change=writing.place.changed,
                created=False,
                indexed=old.yanked_at is None,
            )
        may_replace(session, home.gate, writing, old)
    grow = digest.size - (old.size if old is not None and writing.frees else 0)
    if home.quota is not None and home.size + home.grown + grow > home.quota:
        raise QuotaExceeded(
            f"The channel {home.gate.name} has no room for {grow} more bytes: {home.size + home.grown} of {home.quota} "
            "are used."
        )
    home.grown += grow
    home.files += not writing.frees
    return None


def may_replace(session: Session, gate: Gate, writing: Writing, old: Old) -> None:
    """Pass if the file may take the place of the one that has its name. Raises: ArtifactExists, NotAllowed."""
    force = writing.submission.offer.force
    where = f"{old.filename} in {gate.name}"
    if not force or not gate.allow_overwrite:
        policy = " and this channel does not allow overwriting" if force else ""
        if old.deleted_at is not None:
            raise ArtifactExists(
                f"{where} was deleted{policy or ', and a name is not given to other bytes'}: publish a new build number.",
                code="filename_retired",
            )
        same = "with the same bytes" if old.sha256 == writing.received.digest.sha256 else "with other bytes"
        raise ArtifactExists(f"{where} already exists {same}{policy}: publish a new build number.")
    actor = writing.submission.actor
    try:
        access.require(actor, Action.OVERWRITE, gate, access.role_in(quick.of(session), actor, gate.id))
    except NotAllowed as refused:
        raise NotAllowed(f"{where} already exists. {refused.detail}") from None
