"""Records as rows, without the packages: a channel of any size in a moment. What clients read of it is made of them by the
same functions as ever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select

from fairway.app import Fairway
from fairway.conda import record as records
from fairway.conda import version
from fairway.conda.names import SUBDIR_NUMBERS, Filename
from fairway.db.models import Channel, Package, Record, Subdir
from fairway.registry import index, needs

NOW = 1_790_000_000_000

Records = Mapping[str, Mapping[str, Any]]
"""Records by their file names."""


def made(name: str, value: str = "1.0", depends: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """A record of linux-64."""
    return {
        "name": name, "version": value, "build": "0", "build_number": 0, "subdir": "linux-64", "depends": depends or [],
        "size": 1000, "sha256": "0" * 64, "md5": "0" * 32, **more,
    }  # fmt: skip


def named(*several: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{one['name']}-{one['version']}-{one['build']}.conda": one for one in several}


def load(app: Fairway, channel: str, subdir: str, found: Records, *, now: int = NOW) -> None:
    """Give a channel these records too, as one change."""
    with app.database.write() as session:
        home = session.scalars(select(Channel).where(Channel.name == channel)).one()
        place = session.scalars(select(Subdir).filter_by(channel_id=home.id, name=subdir)).one_or_none()
        if place is None:
            place = Subdir(channel_id=home.id, name=subdir, changed=0, upstream=False)
            session.add(place)
            session.flush()
        place.changed += 1
        packages = {one.name: one for one in session.scalars(select(Package).filter_by(channel_id=home.id))}
        wanted: dict[str, set[str]] = defaultdict(set)
        for filename, record in found.items():
            name = record["name"]
            package = packages.get(name)
            if package is None:
                package = packages[name] = Package(
                    channel_id=home.id, name=name, created_at=now, updated_at=now, live=0, places=0, version="",
                    version_key=b"",
                )  # fmt: skip
                session.add(package)
            package.live += 1
            package.places |= 1 << SUBDIR_NUMBERS[subdir]
            key = version.sort_key(record["version"])
            if key > package.version_key:
                package.version, package.version_key = record["version"], key
                wanted[name] = needs.names_in(record)
            section = records.section_of(Filename.parse(filename).extension, needs_v3=records.needs_v3(dict(record)))
            session.add(
                Record(
                    subdir_id=place.id, section=int(section), name=name, filename=filename,
                    record=records.json_bytes(dict(record)), run_exports=None,
                )
            )  # fmt: skip
        session.flush()
        needs.write(session, exactly={packages[name].id: names for name, names in wanted.items()})
        assert (
            index.write_shards(session, place.id, place.changed, {r["name"] for r in found.values()}, now=now) == set()
        )
        home.packages = session.scalar(select(func.count()).select_from(Package).filter_by(channel_id=home.id)) or 0
        home.artifacts += len(found)
