"""A data folder with channels of any size, quickly: `python -m bench.load DATA`, with what is wanted as JSON on stdin.

Rows are inserted as publishing writes them, many in one transaction, and without the package files' bytes (an index
build never looks at them); the index is then built by the server's own functions.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from bench import packages
from fairway import logs
from fairway.app import Fairway
from fairway.conda import record as records
from fairway.conda import version
from fairway.conda.artifact import Contents, PathsSummary
from fairway.conda.names import SUBDIR_NUMBERS, Filename
from fairway.db.models import Artifact, Channel, Detail, Package, Record, Shard, Subdir
from fairway.registry import accounts, channels, tokens
from fairway.registry.actor import CONSOLE, Scope, Visibility
from fairway.settings import load as load_settings


def open_fairway(data: Path) -> Fairway:
    logs.configure("json", "warning")
    return Fairway(load_settings({"data": data}, {}))


def make_admin(app: Fairway) -> str:
    """An administrator, and a key of theirs."""
    with app.database.write() as session:
        accounts.create_user(session, CONSOLE, "admin", email="admin@example.org", password_hash=None, is_admin=True,
                             now=app.now())  # fmt: skip
        return tokens.create_token(
            session, CONSOLE, user="admin", name="bench", scope=Scope.of("upload"), now=app.now()
        )


def make_channel(app: Fairway, name: str, visibility: str) -> None:
    with app.database.write() as session:
        channels.create_channel(session, CONSOLE, name, owner="admin", visibility=Visibility(visibility), now=app.now())


def fill(app: Fairway, channel: str, start: int, count: int) -> int:
    """Give a channel the packages `start` to `start + count` as one change; the subdir's id."""
    with app.database.write() as session:
        home = session.query(Channel).filter_by(name=channel).one()
        subdir = session.query(Subdir).filter_by(channel_id=home.id, name=packages.SUBDIR).one_or_none()
        if subdir is None:
            subdir = Subdir(channel_id=home.id, name=packages.SUBDIR, changed=0)
            session.add(subdir)
            session.flush()
        subdir.changed += 1
        known = {row.name: row.id for row in session.query(Package).filter_by(channel_id=home.id)}
        next_id = (session.query(Artifact.id).order_by(Artifact.id.desc()).limit(1).scalar() or 0) + 1
        shards = {row.name: row for row in session.query(Shard).filter_by(subdir_id=subdir.id)}
        for numbers in batched_range(start, count, 1_000):
            rows: dict[Any, list[dict[str, Any]]] = {Artifact: [], Detail: [], Record: []}
            for number in numbers:
                made = packages.package(number)
                name = made.index["name"]
                if name not in known:
                    known[name] = new_package(session, home.id, made, app.now())
                if name in shards:
                    shards[name].due = True
                else:
                    shards[name] = Shard(subdir_id=subdir.id, name=name, changed=0, due=True, sha256=None)
                    session.add(shards[name])
                for model, row in rows_of(made, home.id, subdir.id, known[name], next_id, app.now()).items():
                    rows[model].append(row)
                home.artifacts, home.size = home.artifacts + 1, home.size + len(made.data)
                next_id += 1
            session.flush()
            for model, values in rows.items():
                session.execute(insert(model), values)
        home.packages, home.updated_at = len(known), app.now()
        return subdir.id


def batched_range(start: int, count: int, size: int) -> list[range]:
    return [range(begin, min(begin + size, start + count)) for begin in range(start, start + count, size)]


def new_package(session: Any, channel_id: int, made: packages.Package, now: int) -> int:
    row = Package(
        channel_id=channel_id, name=made.index["name"], created_at=now, updated_at=now, live=1,
        version=made.index["version"], version_key=version.sort_key(made.index["version"]),
        summary=made.about["summary"], licence=made.index["license"], places=1 << SUBDIR_NUMBERS[packages.SUBDIR],
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def rows_of(
    made: packages.Package, channel_id: int, subdir_id: int, package_id: int, artifact_id: int, now: int
) -> dict[Any, dict[str, Any]]:
    """The rows of one file, as registry.publish writes them."""
    filename = Filename.parse(made.filename)
    contents = Contents(
        index=dict(made.index), about=made.about, run_exports={}, paths=PathsSummary(files=1, size=2100)
    )
    facts = records.artifact_of(contents, filename, subdir=None, now_ms=None)
    section = int(records.section_of(filename.extension, facts.needs_v3))
    hashes = {"md5": made.md5, "sha256": made.sha256, "size": len(made.data)}
    artifact = {
        "id": artifact_id, "channel_id": channel_id, "subdir_id": subdir_id, "package_id": package_id,
        "filename": facts.filename, "name": facts.name, "version": facts.version,
        "version_key": version.sort_key(facts.version), "build": facts.build, "build_number": facts.build_number,
        "section": section, **hashes, "indexed_at": now, "uploaded_by": None, "deleted_at": None, "purged_at": None,
    }  # fmt: skip
    detail = {"artifact_id": artifact_id, "about": facts.about, "paths": {"files": 1, "size": 2100, "scripts": []},
              "licences": [], "recipe": None, "warnings": []}  # fmt: skip
    entry = records.json_bytes({**facts.record, **hashes, "indexed_timestamp": now})
    record = {"subdir_id": subdir_id, "section": section, "name": facts.name, "filename": facts.filename,
              "record": entry, "run_exports": None}  # fmt: skip
    return {Artifact: artifact, Detail: detail, Record: record}


def main() -> None:
    wanted = json.load(sys.stdin)
    with open_fairway(Path(sys.argv[1])) as app:
        key = make_admin(app)
        for channel in wanted["channels"]:
            make_channel(app, channel["name"], channel["visibility"])
            if channel["records"]:
                fill(app, channel["name"], channel.get("start", 0), channel["records"])
        if wanted.get("index", True):
            app.publisher.catch_up()
    print(json.dumps({"key": key}))


if __name__ == "__main__":
    main()
