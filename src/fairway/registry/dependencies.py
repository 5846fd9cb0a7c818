"""What a version of a package asks for and where that is, and who asks for a package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session, aliased

from fairway.db.models import ITS_RECORD, Artifact, Channel, Need, Package, Record, Subdir, Upstream, Withheld
from fairway.errors import NotFound
from fairway.registry import access, listing, needs, source, suppliers, upstreams
from fairway.registry.actor import Actor
from fairway.registry.listing import Head, PackageRow
from fairway.registry.packages import PackageHead, in_order
from fairway.registry.paging import Page, page
from fairway.registry.relating import Placed
from fairway.registry.suppliers import Having, Supplier

FILES_READ = 200
"""How many files of a version are read for what it depends on, at most."""

BYTES_READ = 1 << 20
"""After so many bytes of their records, no more files are read: each may have 64 KiB."""

SPECS_SHOWN = 500
"""How many specs of a kind are shown."""

AT_ONCE = 4  # records that are fetched together


@dataclass(frozen=True, slots=True)
class Requirement:
    """A match spec of a version. `platforms` says which of its subdirs have it; empty: all. No `supplier` if no channel has
    the name that the one who asks may read.
    """

    spec: str
    name: str
    platforms: tuple[str, ...]
    supplier: Supplier | None


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What a version asks for. `run_exports` maps weak, strong, weak_constrains, strong_constrains and noarch to specs
    that it gives to what is built with it. `virtual` are those of the system (`__glibc`). `left_out` says of how many specs
    of a kind there are more than are shown; `more` if there are more files than were read.
    """

    version: str
    platforms: tuple[str, ...]
    depends: tuple[Requirement, ...]
    constrains: tuple[Requirement, ...]
    virtual: tuple[Requirement, ...]
    run_exports: Mapping[str, tuple[Requirement, ...]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    more: bool = False


@dataclass(slots=True)
class Said:
    """What the files of a version say: `{kind: {spec: subdirs}}`."""

    version: str = ""
    platforms: set[str] = field(default_factory=set)
    specs: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    files: int = 0
    size: int = 0

    def add(self, subdir: str, said: Mapping[str, Any], exports: Mapping[str, Any]) -> None:
        kinds = {"depends": said.get("depends"), "constrains": said.get("constrains"), **exports}
        for kind, specs in kinds.items():
            for spec in specs if isinstance(specs, list) else ():
                # virtual ones are shown by themselves
                shown = "virtual" if kind == "depends" and str(spec).lstrip().startswith("__") else kind
                self.specs.setdefault(shown, {}).setdefault(str(spec), set()).add(subdir)
        self.platforms.add(subdir)
        self.files += 1


def dependencies(
    session: Session, actor: Actor, head: Head, package: PackageHead, version: str | None = None
) -> Dependencies:
    """What a version asks for, yanked ones too: the newest unless another is named, of those in the index if there are
    any. Two statements, and what it takes to find who supplies it (`suppliers.suppliers`). Raises: NotFound.
    """
    wanted = version or package.version
    said, more = said_by(session, package, wanted)
    if not said.files:
        said, more = published(session, head, package, wanted)
    if not said.files:
        raise NotFound(f"There is no version {wanted} of {package.name} in {head.name}.")
    names = {spec: name_in(spec) for specs in said.specs.values() for spec in specs}
    shown, left_out = {}, {}
    for kind, specs in said.specs.items():
        shown[kind] = sorted(specs, key=lambda spec: (names[spec], spec))[:SPECS_SHOWN]
        if len(specs) > SPECS_SHOWN:
            left_out[kind] = len(specs) - SPECS_SHOWN
    sought = {spec: names[spec] for specs in shown.values() for spec in specs if not names[spec].startswith("__")}
    supplied = suppliers.suppliers(session, actor, head, sought, said.platforms)
    found = {
        kind: tuple(
            Requirement(
                spec=spec,
                name=names[spec],
                platforms=() if where[spec] == said.platforms else in_order(where[spec]),
                supplier=supplied.get(spec),
            )
            for spec in specs
        )
        for kind, specs in shown.items()
        for where in (said.specs[kind],)
    }
    return Dependencies(
        version=said.version,
        platforms=in_order(said.platforms),
        depends=found.pop("depends", ()),
        constrains=found.pop("constrains", ()),
        virtual=found.pop("virtual", ()),
        run_exports=dict(sorted(found.items())),
        left_out=left_out,
        more=more,
    )


def said_by(session: Session, package: PackageHead, version: str) -> tuple[Said, bool]:
    """What the files of a version say, as far as they are read, and whether there are more; with no version the newest."""
    mine = (Artifact.package_id == package.id, Artifact.deleted_at.is_(None))
    other = aliased(Artifact)
    newest = select(func.max(other.version_key)).where(other.package_id == package.id, other.deleted_at.is_(None))
    wanted = Artifact.version == version if version else Artifact.version_key == newest.scalar_subquery()
    # chosen without their records: these would be sorted too
    chosen = (
        select(Artifact.id)
        .where(*mine, wanted)
        .order_by(Artifact.build_number.desc(), Artifact.id.desc())
        .limit(FILES_READ + 1)
        .subquery()
    )
    query = (
        select(
            Artifact.version,
            Subdir.name,
            func.coalesce(Record.record, Withheld.record, b"{}"),
            func.coalesce(case((Record.record.is_not(None), Record.run_exports), else_=Withheld.run_exports), b"{}"),
        )
        .select_from(chosen)
        .join(Artifact, Artifact.id == chosen.c.id)
        .join(Subdir, Subdir.id == Artifact.subdir_id)
        .outerjoin(Record, ITS_RECORD)
        .outerjoin(Withheld, Withheld.artifact_id == Artifact.id)
    )
    said = Said()
    with session.execute(query.execution_options(yield_per=AT_ONCE, stream_results=True)) as rows:
        for found, subdir, record, exports in rows:
            if said.files == FILES_READ or said.size > BYTES_READ:
                return said, True
            said.version = found
            said.add(subdir, orjson.loads(record), orjson.loads(exports))
            said.size += len(record) + len(exports)
    return said, False


def published(session: Session, head: Head, package: PackageHead, version: str) -> tuple[Said, bool]:
    """The same of a package that an upstream has, whose records are nowhere but in the index."""
    said = Said(version)
    for subdir in package.platforms:
        for record in source.records(session, head.id, subdir, package.name).values():
            if record["version"] == version:
                if said.files == FILES_READ:
                    return said, True
                said.add(subdir, record, record.get("run_exports") or {})
    return said, False


def name_in(spec: str) -> str:
    """The name a match spec begins with; of what cannot be read, the text."""
    virtual = spec.lstrip().startswith("__")
    found = needs.NAME.match(spec.lstrip()[2:] if virtual else spec)
    return spec if found is None else "__" * virtual + found[1].lower()


def needed(
    session: Session, actor: Actor, package: PackageHead, placed: Sequence[Placed], *, limit: int
) -> list[tuple[str, Having | None]]:
    """The names that the newest version depends on, and the channel each comes from; `placed` as `relating.order` gives
    them. Two statements.
    """
    query = (
        select(Need.name)
        .where(Need.package_id == package.id, ~Need.name.startswith("__", autoescape=True))
        .order_by(Need.name)
        .limit(limit)
    )
    names = list(session.scalars(query))
    found = suppliers.those_that_have(session, actor, names, placed, package.platforms) if names else {}
    return [(name, found.get(name)) for name in names]


def dependents(
    session: Session, actor: Actor, head: Head, name: str, *, cursor: str = "", limit: int = 50, now: int
) -> Page[PackageRow]:
    """The packages whose newest version depends on the package of this name, in every channel that the actor may read:
    those of this channel first, the others by channel. Two statements. Raises: Malformed (cursor).
    """
    other = case((Package.channel_id == head.id, 0), else_=1)
    query = (
        select(*listing.ROW, Channel.name.label("channel"), other.label("other"), Upstream.url)
        .join(Need, Need.package_id == Package.id)
        .join(Channel, Channel.id == Package.channel_id)
        .outerjoin(Upstream, Upstream.channel_id == Channel.id)
        .where(Need.name == name, Package.version != "", (Package.channel_id + 0).in_(access.visible_to(actor)))
    )
    rows, following, previous = page(
        session,
        query,
        (other, Channel.name, Package.name),
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.other, row.channel, row.name),
    )
    days = listing.package_days(session, [row.id for row in rows], now=now)
    shown = [listing.package_row(row, row.channel, days, upstreams.called(row.url)) for row in rows]
    return Page(shown, following, previous)


def count_dependents(session: Session, actor: Actor, name: str) -> int:
    """In every channel that the actor may read. One statement."""
    query = select(func.count()).select_from(Need).join(Package, Package.id == Need.package_id)
    query = query.where(Need.name == name, Package.version != "")
    return session.scalar(query.where((Package.channel_id + 0).in_(access.visible_to(actor)))) or 0
