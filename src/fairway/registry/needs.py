"""Which packages a package's newest version depends on, so that pages can say who depends on one. By name alone: what
of it a solver would take is for the solver to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import orjson
from sqlalchemy import ARRAY, BigInteger, String, Table, bindparam, delete, func, insert, select
from sqlalchemy.orm import Session

from fairway.conda import spec
from fairway.db import quick
from fairway.db.models import ITS_RECORD, Artifact, Need, Package, Record
from fairway.registry import sweep

NAME = spec.NAME

TABLE = cast("Table", Need.__table__)
HAVE = select(Need.package_id, Need.name).where(Need.package_id.in_(bindparam("ids", expanding=True)))
ADD = insert(TABLE)
ADD_ALL = insert(TABLE).from_select(
    ["package_id", "name"],
    select(
        func.unnest(bindparam("ids", type_=ARRAY(BigInteger))), func.unnest(bindparam("names", type_=ARRAY(String)))
    ),
)
NEWEST = (
    select(Record.record)
    .select_from(Artifact)
    .join(Package, (Package.id == Artifact.package_id) & (Package.version_key == Artifact.version_key))
    .join(Record, ITS_RECORD)
    .where(Artifact.package_id == bindparam("package"))
)
DROP = delete(TABLE).where(TABLE.c.package_id == bindparam("owner"), TABLE.c.name == bindparam("needed"))


def names_in(record: Mapping[str, Any]) -> set[str]:
    """The names in a record's `depends`."""
    found = (NAME.match(text) for text in record.get("depends") or () if isinstance(text, str))
    return {match[1].lower() for match in found if match}


def write(
    session: Session,
    *,
    fresh: Mapping[int, Iterable[str]] | None = None,
    exactly: Mapping[int, set[str]] | None = None,
    also: Mapping[int, set[str]] | None = None,
) -> None:
    """The needs of packages, by their ids: of `fresh` ones, which have none; all that others have from now on; what is
    added to what they have. What is so already, as nearly always, is only looked at.
    """
    run = quick.of(session)
    exactly, also = exactly or {}, also or {}
    add = [
        {"package_id": package_id, "name": name}
        for package_id, names in (fresh or {}).items()
        for name in sorted(names)
    ]
    have: dict[int, set[str]] = {}
    for ids in sweep.batched([*exactly, *also]):
        for package_id, name in run.execute(HAVE, {"ids": ids}):
            have.setdefault(package_id, set()).add(name)
    drop = []
    for package_id, names in [*exactly.items(), *also.items()]:
        before = have.get(package_id, set())
        add += [{"package_id": package_id, "name": name} for name in sorted(names - before)]
        if package_id in exactly:
            drop += [{"owner": package_id, "needed": name} for name in sorted(before - names)]
    run.each(DROP, drop)
    if session.get_bind().dialect.name == "sqlite":
        run.each(ADD, add)
    elif add:
        # at once: triggers count what channels want with every statement (migration 0006)
        session.execute(ADD_ALL, {"ids": [row["package_id"] for row in add], "names": [row["name"] for row in add]})


def of_newest(session: Session, package_id: int) -> set[str]:
    """What the newest version of a package needs, off the records of our files."""
    records = quick.of(session).execute(NEWEST, {"package": package_id})
    return set().union(*(names_in(orjson.loads(record)) for (record,) in records))
