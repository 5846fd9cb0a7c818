"""The rows of published files: the only place that writes them. Whether they may be written is `registry.admit`'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from sqlalchemy import Table, bindparam, delete, exists, insert, select, update
from sqlalchemy.orm import Session

from fairway.blobs import keys
from fairway.conda import record as records
from fairway.db import quick
from fairway.db.models import Artifact, Attestation, Base, Channel, Detail, Package, Record, Subdir, Withheld
from fairway.registry import audit, index, needs, relations, sweep, theirs
from fairway.registry.access import Gate
from fairway.registry.listed import bits_of, listed, merges, needed
from fairway.registry.publish import Published, Received, Submission


def table(model: type[Base]) -> Table:
    return cast("Table", model.__table__)


BUMP = update(table(Subdir)).where(Subdir.id == bindparam("subdir_id")).values(changed=bindparam("change"))
GROW = (
    update(table(Channel))
    .where(Channel.id == bindparam("channel_id"))
    .values(
        packages=Channel.packages + bindparam("names"),
        artifacts=Channel.artifacts + bindparam("files"),
        size=Channel.size + bindparam("bytes"),
        updated_at=bindparam("now"),
    )
)
KNOWN = (Package.name, Package.id, Package.version_key, Package.live, Package.remote, Package.reserved)
PACKAGES = select(*KNOWN).where(
    Package.channel_id == bindparam("channel_id"), Package.name.in_(bindparam("names", expanding=True))
)
NEW_PACKAGES = insert(table(Package)).returning(table(Package).c.name, table(Package).c.id)
COUNT_PACKAGE = (
    update(table(Package))
    .where(Package.id == bindparam("package_id"))
    .values(
        live=Package.live + bindparam("files"),
        places=Package.places.bitwise_or(bindparam("bits")),
        updated_at=bindparam("now"),
    )
)
SHOW_PACKAGE = COUNT_PACKAGE.values(
    version=bindparam("shown"),
    version_key=bindparam("shown_key"),
    summary=bindparam("about"),
    licence=bindparam("terms"),
)
TAKE_PACKAGE = SHOW_PACKAGE.values(places=bindparam("bits"))
NEW_ARTIFACTS = insert(table(Artifact)).returning(
    table(Artifact).c.subdir_id, table(Artifact).c.filename, table(Artifact).c.id
)
NEW_DETAILS = insert(table(Detail))
NEW_RECORDS = insert(table(Record))
NEW_ATTESTATIONS = insert(table(Attestation))


@dataclass(slots=True)
class Home:
    """The channel that is being published to, locked."""

    gate: Gate
    allow_v3: bool
    quota: int | None
    size: int
    files: int = 0  # how many this transaction adds
    grown: int = 0  # and how many bytes
    packages: int = 0  # and how many names that had no files
    taken: list[str] = field(default_factory=list)  # names that only the upstream had until now
    hides: dict[str, int] = field(default_factory=dict)  # records of the upstream that names of ours keep from clients


@dataclass(slots=True)
class Place:
    """A subdir that is being published to, locked once it has a row."""

    row: int | None
    changed: int
    built: int | None
    upstream: bool

    @property
    def id(self) -> int:
        if self.row is None:
            raise AssertionError("a subdir was not made before files were put there")
        return self.row


class Old(NamedTuple):
    """A file that has, or had, a name that is being published to."""

    filename: str
    id: int
    name: str
    section: int
    sha256: str
    size: int
    indexed_at: int
    yanked_at: int | None
    deleted_at: int | None
    purged_at: int | None


@dataclass(slots=True)
class Writing:
    """One file that may come in, and what its rows need."""

    number: int
    submission: Submission
    place: Place
    old: Old | None  # the row its name has already
    key: bytes  # the version, as conda orders it

    @property
    def received(self) -> Received:
        return self.submission.received

    @property
    def at(self) -> int:
        """When the file counts as published (ms): a clock that was set back makes nothing older than it was."""
        return max(self.submission.now, self.old.indexed_at if self.old is not None else 0)

    @property
    def frees(self) -> bool:
        """Whether the file takes the place of one that counts."""
        return self.old is not None and self.old.deleted_at is None


def write(session: Session, home: Home, writings: Sequence[Writing]) -> dict[int, Published]:
    """Every row of files that may come in; `{submission's number: outcome}`."""
    run = quick.of(session)
    touched: dict[str, list[Writing]] = {}
    for writing in writings:
        touched.setdefault(writing.submission.place[0], []).append(writing)
    for mine in touched.values():
        mine[0].place.changed += 1  # the place is shared
    run.each(BUMP, [{"subdir_id": mine[0].place.id, "change": mine[0].place.changed} for mine in touched.values()])
    packages = write_packages(session, home, writings)
    run.execute(
        GROW,
        {
            "channel_id": home.gate.id,
            "names": home.packages,
            "files": home.files,
            "bytes": home.grown,
            "now": max(writing.submission.now for writing in writings),
        },
    )
    ids = write_artifacts(session, home.gate.id, packages, writings)
    write_contents(session, ids, writings)
    replaced = {packages[writing.received.facts.name] for writing in writings if writing.old is not None}
    needs.write(session, exactly={package_id: needed(session, package_id) for package_id in replaced})
    sweep.keep(session, [keys.package(writing.received.digest.sha256).path for writing in writings])
    audit.notes(session, [line(home.gate.id, packages, writing) for writing in writings])
    lacking = relations.lacking_for(session, home.gate.id, {one.number: one.received.facts.record for one in writings})
    outcomes: dict[int, Published] = {}
    for mine in touched.values():
        place = mine[0].place
        names = {writing.received.facts.name for writing in mine}
        now = max(writing.submission.now for writing in mine)
        failed = index.write_shards(
            session, place.id, place.changed, names, now=now, built=place.built, upstream=place.upstream
        )
        for writing in mine:
            outcomes[writing.number] = outcome(
                home,
                writing,
                indexed_at=writing.at,
                change=place.changed,
                created=True,
                indexed=writing.received.facts.name not in failed,
                unmet=lacking[writing.number],
                hides=home.hides.get(writing.received.facts.name, 0),
            )
    if home.taken:
        theirs.settle(session, home.gate.id, home.taken, now=max(writing.submission.now for writing in writings))
    return outcomes


class Known(NamedTuple):
    """A package that has a row."""

    id: int
    version_key: bytes
    live: int
    remote: int
    reserved: bool


def write_packages(session: Session, home: Home, writings: Sequence[Writing]) -> dict[str, int]:
    """The packages' rows, made if need be and brought up to date, if no newer version is there; `{name: id}`."""
    run = quick.of(session)
    mine: dict[str, list[Writing]] = {}
    for writing in writings:
        mine.setdefault(writing.received.facts.name, []).append(writing)
    found: dict[str, Known] = {}
    for names in sweep.batched(mine):
        rows = run.execute(PACKAGES, {"channel_id": home.gate.id, "names": names})
        found |= {name: Known(*rest) for name, *rest in rows}
    dark = {name: known for name, known in found.items() if not known.live and not known.remote}
    found |= brought_back(session, home.gate.id, {name: known for name, known in dark.items() if known.reserved})
    both = {name: known.remote for name, known in found.items() if known.remote}
    if both and not merges(session, home.gate.id):
        home.hides = both
    fresh, shown, counted, taken = [], [], [], []
    for name, files in mine.items():
        newest = max(reversed(files), key=lambda writing: writing.key)  # of several builds the last
        facts = newest.received.facts
        summary, licence = listed(facts.about, facts.record)
        known = found.get(name)
        live = sum(not writing.frees for writing in files)
        count = {
            "files": live,
            "bits": bits_of(writing.submission.place[0] for writing in files),
            "now": max(writing.submission.now for writing in files),
        }
        home.packages += known is None or (name in dark and live > 0)
        show = {"shown": facts.version, "shown_key": newest.key, "about": summary, "terms": licence}
        if known is None:
            fresh.append(fresh_row(home.gate.id, name, newest, count, summary, licence))
        elif name in home.hides and known.live == 0:
            home.taken.append(name)
            taken.append({"package_id": known.id, **count, **show})
        elif newest.key >= known.version_key:
            shown.append({"package_id": known.id, **count, **show})
        else:
            counted.append({"package_id": known.id, **count})
    if shown:
        run.each(SHOW_PACKAGE, shown)
    if taken:
        run.each(TAKE_PACKAGE, taken)
    if counted:
        run.each(COUNT_PACKAGE, counted)
    ids = {name: known.id for name, known in found.items()}
    if fresh:
        ids |= dict(run.each(NEW_PACKAGES, fresh))
    write_needs(session, ids, found, mine, taken=home.taken)
    return ids


def brought_back(session: Session, channel_id: int, kept: Mapping[str, Known]) -> dict[str, Known]:
    """Reserved names that get files again: what the upstream has of them is hidden from now on, and counts as that."""
    counts = theirs.records_of(session, channel_id, kept)
    for name, remote in counts.items():
        session.execute(update(table(Package)).where(Package.id == kept[name].id).values(remote=remote))
    return {name: kept[name]._replace(remote=remote) for name, remote in counts.items()}


def fresh_row(channel_id: int, name: str, newest: Writing, count: Mapping[str, int], summary: str, licence: str) -> Any:
    return {
        "channel_id": channel_id,
        "name": name,
        "created_at": count["now"],
        "updated_at": count["now"],
        "live": count["files"],
        "remote": 0,
        "reserved": False,
        "places": count["bits"],
        "downloads": 0,
        "version": newest.received.facts.version,
        "version_key": newest.key,
        "summary": summary,
        "licence": licence,
    }


def write_needs(
    session: Session,
    ids: Mapping[str, int],
    found: Mapping[str, Known],
    mine: Mapping[str, Sequence[Writing]],
    *,
    taken: Sequence[str],
) -> None:
    """What the newest versions depend on: all their files together."""
    kinds: dict[str, dict[int, set[str]]] = {"fresh": {}, "exactly": {}, "also": {}}
    for name, files in mine.items():
        key = max(writing.key for writing in files)
        known = found.get(name)
        if name in taken:
            kinds["exactly"][ids[name]] = set().union(
                *(needs.names_in(writing.received.facts.record) for writing in files if writing.key == key)
            )
            continue
        if known is not None and key < known.version_key:
            continue
        kind = "fresh" if known is None else "also" if key == known.version_key else "exactly"
        newest = [writing.received.facts.record for writing in files if writing.key == key]
        kinds[kind][ids[name]] = set().union(*map(needs.names_in, newest))
    needs.write(session, **kinds)


def write_artifacts(
    session: Session, channel_id: int, packages: Mapping[str, int], writings: Sequence[Writing]
) -> dict[int, int]:
    """The files' rows; `{submission's number: artifact id}`."""
    run = quick.of(session)
    ids: dict[int, int] = {}
    fresh: dict[tuple[int, str], tuple[int, dict[str, Any]]] = {}
    for writing in writings:
        facts, digest = writing.received.facts, writing.received.digest
        values = {
            "channel_id": channel_id,
            "subdir_id": writing.place.id,
            "package_id": packages[facts.name],
            "filename": facts.filename,
            "name": facts.name,
            "version": facts.version,
            "version_key": writing.key,
            "build": facts.build,
            "build_number": facts.build_number,
            "section": section_of(writing),
            "sha256": digest.sha256,
            "md5": digest.md5,
            "size": digest.size,
            "indexed_at": writing.at,
            "uploaded_by": writing.submission.actor.user_id,
            "yanked_at": None,
            "yank_reason": None,
            "deleted_at": None,
            "purged_at": None,
        }
        if writing.old is None:
            fresh[writing.place.id, facts.filename] = (writing.number, values)
            continue
        ids[writing.number] = writing.old.id
        make_way(session, writing, writing.old)
        session.execute(update(table(Artifact)).where(Artifact.id == writing.old.id).values(values))
    if fresh:
        rows = run.each(NEW_ARTIFACTS, [values for _, values in fresh.values()])
        ids |= {fresh[subdir_id, filename][0]: artifact_id for subdir_id, filename, artifact_id in rows}
    return ids


def section_of(writing: Writing) -> int:
    extension = writing.submission.offer.filename.extension
    return int(records.section_of(extension, writing.received.facts.needs_v3))


def make_way(session: Session, writing: Writing, old: Old) -> None:
    """The file is about to be made of other bytes: take away what was known of it, and let the old bytes go if no other
    file is made of them.
    """
    withdraw_record(session, writing.place.id, old.section, old.name, old.filename)
    other = exists().where(Artifact.sha256 == old.sha256, Artifact.id != old.id, Artifact.purged_at.is_(None))
    if old.purged_at is None and not session.scalar(select(other)):
        sweep.retire(session, [keys.package(old.sha256).path], now=writing.submission.now)
    for kind in (Detail, Attestation, Withheld):
        session.execute(delete(kind).where(kind.artifact_id == old.id))


def withdraw_record(session: Session, subdir_id: int, section: int, name: str, filename: str) -> None:
    """Take a file's record out of what will be indexed."""
    session.execute(
        delete(Record).where(
            Record.subdir_id == subdir_id, Record.section == section, Record.name == name, Record.filename == filename
        )
    )


def write_contents(session: Session, ids: Mapping[int, int], writings: Sequence[Writing]) -> None:
    """What is known of the files' insides: their records, which are indexed, and the rest, which pages show."""
    details, entries, attested = [], [], []
    for writing in writings:
        facts = writing.received.facts
        artifact_id = ids[writing.number]
        entry = writing.received.entry(now=writing.at)
        details.append(
            {
                "artifact_id": artifact_id,
                "about": facts.about,
                "paths": {"files": facts.paths.files, "size": facts.paths.size, "scripts": facts.paths.scripts},
                "licences": facts.licences,
                "recipe": facts.recipe,
                "warnings": facts.warnings,
                "listing": facts.paths.listing or None,
            }
        )
        entries.append(
            {
                "subdir_id": writing.place.id,
                "section": section_of(writing),
                "name": facts.name,
                "filename": facts.filename,
                "record": records.json_bytes(entry),
                "run_exports": records.json_bytes(facts.run_exports) if facts.run_exports else None,
            }
        )
        if writing.received.sidecar is not None:
            attested.append(
                {
                    "artifact_id": artifact_id,
                    "sidecar": writing.received.sidecar,
                    "sha256": str(entry["attestations_sha256"]),
                }
            )
    run = quick.of(session)
    run.each(NEW_DETAILS, details)
    run.each(NEW_RECORDS, entries)
    run.each(NEW_ATTESTATIONS, attested)


def line(channel_id: int, packages: Mapping[str, int], writing: Writing) -> dict[str, Any]:
    """What the audit says of a file that came in."""
    subdir, filename = writing.submission.place
    digest = writing.received.digest
    return audit.line(
        writing.submission.actor,
        "artifact.publish" if writing.old is None else "artifact.replace",
        f"{subdir}/{filename}",
        now=writing.submission.now,
        channel_id=channel_id,
        package_id=packages[writing.received.facts.name],
        sha256=digest.sha256,
        size=digest.size,
    )


def outcome(
    home: Home, writing: Writing, *, indexed_at: int, change: int, created: bool, indexed: bool = True,
    unmet: tuple[str, ...] = (), hides: int = 0,
) -> Published:  # fmt: skip
    subdir, filename = writing.submission.place
    facts, digest = writing.received.facts, writing.received.digest
    return Published(
        channel=home.gate.name,
        subdir=subdir,
        filename=filename,
        subdir_id=writing.place.id,
        change=change,
        created=created,
        replaced=created and writing.old is not None,
        indexed=indexed,
        sha256=digest.sha256,
        size=digest.size,
        indexed_timestamp=indexed_at,
        facts=facts,
        warnings=facts.warnings,
        unmet=unmet,
        hides=hides,
    )
