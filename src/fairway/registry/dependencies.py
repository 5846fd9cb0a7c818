"""What a version of a package asks for and where that is, and who asks for a package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from fairway.db.models import Artifact, Channel, Need, Package, Record, Subdir, Withheld
from fairway.errors import NotFound
from fairway.registry import access, listing, needs, source, suppliers
from fairway.registry.actor import Actor
from fairway.registry.listing import Head, PackageRow
from fairway.registry.packages import PackageHead, in_order
from fairway.registry.paging import Page, page
from fairway.registry.suppliers import Supplier

FILES_READ = 200
"""How many files of a version are read for what it depends on."""

TOGETHER = (
    (Record.subdir_id == Artifact.subdir_id)
    & (Record.section == Artifact.section)
    & (Record.name == Artifact.name)
    & (Record.filename == Artifact.filename)
)


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
    that it gives to what is built with it. `virtual` are those of the system (`__glibc`). `more` if there are more files
    than were read.
    """

    version: str
    platforms: tuple[str, ...]
    depends: tuple[Requirement, ...]
    constrains: tuple[Requirement, ...]
    virtual: tuple[Requirement, ...]
    run_exports: Mapping[str, tuple[Requirement, ...]] = field(default_factory=dict)
    more: bool = False


def dependencies(
    session: Session, actor: Actor, head: Head, package: PackageHead, version: str | None = None
) -> Dependencies:
    """What a version asks for, the newest unless another is named; yanked ones too. A statement, and what it takes to find
    who supplies it (`suppliers.suppliers`). Raises: NotFound.
    """
    version = version or package.version
    rows = files_of(session, package, version) or published(session, head, package, version)
    if not rows:
        raise NotFound(f"There is no version {version} of {package.name} in {head.name}.")
    found: dict[str, dict[str, set[str]]] = {}
    for subdir, said, gives in rows[:FILES_READ]:
        kinds = {"depends": said.get("depends"), "constrains": said.get("constrains"), **gives}
        for kind, specs in kinds.items():
            for spec in specs if isinstance(specs, list) else ():
                found.setdefault(kind, {}).setdefault(str(spec), set()).add(subdir)
    platforms = {subdir for subdir, _, _ in rows[:FILES_READ]}
    names = {spec: name_in(spec) for specs in found.values() for spec in specs}
    sought = {spec: name for spec, name in names.items() if not name.startswith("__")}
    supplied = suppliers.suppliers(session, actor, head, sought, platforms)

    def requirements(kind: str) -> tuple[Requirement, ...]:
        specs = sorted(found.get(kind, {}).items(), key=lambda one: (names[one[0]], one[0]))
        return tuple(
            Requirement(
                spec=spec,
                name=names[spec],
                platforms=() if where == platforms else in_order(where),
                supplier=supplied.get(spec),
            )
            for spec, where in specs
        )

    depends = requirements("depends")
    return Dependencies(
        version=version,
        platforms=in_order(platforms),
        depends=tuple(one for one in depends if not one.name.startswith("__")),
        constrains=requirements("constrains"),
        virtual=tuple(one for one in depends if one.name.startswith("__")),
        run_exports={kind: requirements(kind) for kind in sorted(found.keys() - {"depends", "constrains"})},
        more=len(rows) > FILES_READ,
    )


Said = tuple[str, Mapping[str, Any], Mapping[str, Any]]
"""A file's subdir, its record and its run exports."""


def files_of(session: Session, package: PackageHead, version: str) -> list[Said]:
    """What the files of a version say, a few more than are read. One statement."""
    record = func.coalesce(Record.record, Withheld.record)
    exports = case((Record.record.is_not(None), Record.run_exports), else_=Withheld.run_exports)
    query = (
        select(Subdir.name, record, exports)
        .select_from(Artifact)
        .join(Subdir, Subdir.id == Artifact.subdir_id)
        .outerjoin(Record, TOGETHER)
        .outerjoin(Withheld, Withheld.artifact_id == Artifact.id)
        .where(Artifact.package_id == package.id, Artifact.deleted_at.is_(None))
        .order_by(Artifact.version_key.desc(), Artifact.build_number.desc(), Artifact.id.desc())
        .limit(FILES_READ + 1)
    )
    if version:
        query = query.where(Artifact.version == version)
    rows = session.execute(query).all()
    return [(subdir, orjson.loads(data or b"{}"), orjson.loads(gives or b"{}")) for subdir, data, gives in rows]


def published(session: Session, head: Head, package: PackageHead, version: str) -> list[Said]:
    """The same of a package that an upstream has, whose records are nowhere but in the index."""
    found: list[Said] = []
    for subdir in package.platforms:
        records = source.records(session, head.id, subdir, package.name)
        found += [(subdir, one, one.get("run_exports") or {}) for one in records.values() if one["version"] == version]
        if len(found) > FILES_READ:
            break
    return found


def name_in(spec: str) -> str:
    """The name a match spec begins with; of what cannot be read, the text."""
    virtual = spec.lstrip().startswith("__")
    found = needs.NAME.match(spec.lstrip()[2:] if virtual else spec)
    return spec if found is None else "__" * virtual + found[1].lower()


def dependents(
    session: Session, actor: Actor, head: Head, name: str, *, cursor: str = "", limit: int = 50, now: int
) -> Page[PackageRow]:
    """The packages whose newest version depends on the package of this name, in every channel that the actor may read:
    those of this channel first, the others by channel. Two statements. Raises: Malformed (cursor).
    """
    other = case((Package.channel_id == head.id, 0), else_=1)
    query = (
        select(*listing.ROW, Channel.name.label("channel"), other.label("other"))
        .join(Need, Need.package_id == Package.id)
        .join(Channel, Channel.id == Package.channel_id)
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
    return Page([listing.package_row(row, row.channel, days) for row in rows], following, previous)


def count_dependents(session: Session, actor: Actor, name: str) -> int:
    """In every channel that the actor may read. One statement."""
    query = select(func.count()).select_from(Need).join(Package, Package.id == Need.package_id)
    query = query.where(Need.name == name, Package.version != "")
    return session.scalar(query.where((Package.channel_id + 0).in_(access.visible_to(actor)))) or 0
