"""What a version of a package asks for, and who asks for a package; by name, in one channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from fairway.db.models import Artifact, Need, Package, Record, Subdir, Withheld
from fairway.errors import NotFound
from fairway.registry import listing, needs
from fairway.registry.listing import Head, PackageRow, Sort
from fairway.registry.packages import PackageHead, in_order
from fairway.registry.paging import Page

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
    """A match spec of a version. `platforms` says which of its subdirs have it; empty: all. `here` if this channel has
    a package of that name, and `newest` which version of it.
    """

    spec: str
    name: str
    platforms: tuple[str, ...]
    here: bool
    newest: str


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


def dependencies(session: Session, head: Head, package: PackageHead, version: str | None = None) -> Dependencies:
    """What a version asks for, the newest unless another is named; yanked ones too. Two statements. Raises: NotFound."""
    version = version or package.version
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
    if not rows:
        raise NotFound(f"There is no version {version} of {package.name} in {head.name}.")
    found: dict[str, dict[str, set[str]]] = {}
    for subdir, data, exported in rows[:FILES_READ]:
        said = orjson.loads(data or b"{}")
        gives = orjson.loads(exported or b"{}")
        kinds = {"depends": said.get("depends"), "constrains": said.get("constrains"), **gives}
        for kind, specs in kinds.items():
            for spec in specs if isinstance(specs, list) else ():
                found.setdefault(kind, {}).setdefault(str(spec), set()).add(subdir)
    platforms = {subdir for subdir, _, _ in rows[:FILES_READ]}
    names = {spec: name_in(spec) for specs in found.values() for spec in specs}
    here = listing.packages_of(session, head.id, names.values())

    def requirements(kind: str) -> tuple[Requirement, ...]:
        specs = sorted(found.get(kind, {}).items(), key=lambda one: (names[one[0]], one[0]))
        return tuple(
            Requirement(
                spec=spec,
                name=names[spec],
                platforms=() if where == platforms else in_order(where),
                here=names[spec] in here,
                newest=here.get(names[spec], ""),
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


def name_in(spec: str) -> str:
    """The name a match spec begins with; of what cannot be read, the text."""
    virtual = spec.lstrip().startswith("__")
    found = needs.NAME.match(spec.lstrip()[2:] if virtual else spec)
    return spec if found is None else "__" * virtual + found[1].lower()


def dependents(
    session: Session, head: Head, name: str, *, sort: Sort = Sort.NAME, cursor: str = "", limit: int = 50, now: int
) -> Page[PackageRow]:
    """The packages of this channel whose newest version depends on the package of this name. Two statements. Raises:
    Malformed (cursor).
    """
    query = (
        select(*listing.ROW)
        .join(Need, Need.package_id == Package.id)
        .where(Need.name == name, Package.channel_id == head.id, Package.live > 0)
    )
    return listing.rows_page(session, query, head, sort, cursor=cursor, limit=limit, now=now)


def count_dependents(session: Session, head: Head, name: str) -> int:
    """One statement."""
    query = select(func.count()).select_from(Need).join(Package, Package.id == Need.package_id)
    return session.scalar(query.where(Need.name == name, Package.channel_id == head.id, Package.live > 0)) or 0
