"""A channel of any size, straight into the rows; and what one more package costs in it.

`python -m bench.grow DATA COUNT 0` loads, `python -m bench.grow DATA COUNT REPEAT` measures; in processes of their own, so
that the memory of one is not that of the other.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Table, insert

from bench import clones, packages
from bench.load import make_admin, make_channel, open_fairway
from bench.rattler_index import high_water
from fairway.app import Fairway
from fairway.conda import record as records
from fairway.conda import version
from fairway.conda.names import SUBDIR_NUMBERS, Filename
from fairway.db.models import Artifact, Channel, Detail, Package, Record, Shard, Subdir
from fairway.registry import admit, flat, index
from fairway.registry.actor import CONSOLE
from fairway.registry.publish import Offer, Received, Submission, judge

CHANNEL = "grown"
AT_ONCE = 5_000
FRESH = 5_000_000  # numbers of packages that are in no stock


def table(model: Any) -> Table:
    return cast("Table", model.__table__)


def load(app: Fairway, count: int) -> int:
    """Give a new channel `count` records as one change; the subdir's id."""
    make_channel(app, CHANNEL, "public")
    now = app.now()
    ids: dict[str, int] = {}
    waiting: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    with app.database.write() as session:
        run = session.connection().execute
        home = session.query(Channel).filter_by(name=CHANNEL).one()
        subdir = Subdir(channel_id=home.id, name=packages.SUBDIR, changed=1)
        session.add(subdir)
        session.flush()

        def flush() -> None:
            for model in (Package, Shard, Artifact, Detail, Record):
                if rows := waiting.pop(model, None):
                    run(insert(table(model)), rows)

        size = 0
        for number, (filename, record) in enumerate(clones.records(count), 1):
            name, key = record["name"], version.sort_key(record["version"])
            if name not in ids:
                ids[name] = len(ids) + 1
                waiting[Package].append({
                    "id": ids[name], "channel_id": home.id, "name": name, "created_at": now, "updated_at": now, "live": 1,
                    "version": record["version"], "version_key": key, "summary": "", "licence": "",
                    "places": 1 << SUBDIR_NUMBERS[packages.SUBDIR],
                })  # fmt: skip
                waiting[Shard].append({"subdir_id": subdir.id, "name": name, "changed": 0, "due": True, "sha256": None})
            section = int(records.section_of(Filename.parse(filename).extension, needs_v3=False))
            waiting[Artifact].append({
                "id": number, "channel_id": home.id, "subdir_id": subdir.id, "package_id": ids[name],
                "filename": filename, "name": name, "version": record["version"], "version_key": key,
                "build": record["build"], "build_number": record["build_number"], "section": section,
                "sha256": record["sha256"], "md5": record["md5"], "size": record["size"], "indexed_at": now,
                "uploaded_by": None, "deleted_at": None, "purged_at": None,
            })  # fmt: skip
            waiting[Detail].append({
                "artifact_id": number, "about": {}, "paths": {"files": 1, "size": 1, "scripts": []}, "licences": [],
                "recipe": None, "warnings": [],
            })  # fmt: skip
            waiting[Record].append({
                "subdir_id": subdir.id, "section": section, "name": name, "filename": filename,
                "record": records.json_bytes({**record, "subdir": packages.SUBDIR, "indexed_timestamp": now}),
                "run_exports": None,
            })  # fmt: skip
            size += record["size"]
            if number % AT_ONCE == 0:
                flush()
        flush()
        home.packages, home.artifacts, home.size, home.updated_at = len(ids), count, size, now
        return subdir.id


def submissions(app: Fairway, count: int) -> list[Submission]:
    made = []
    for number in range(FRESH, FRESH + count):
        package = packages.package(number)
        with app.staging.open(1 << 30) as staged:
            staged.write(package.data)
            offer = Offer(CHANNEL, Filename.parse(package.filename))
            received: Received = judge(app.intake, staged, offer, now=app.now())
        made.append(Submission(received, CONSOLE, offer, app.now()))
    return made


def measure(app: Fairway, subdir: int, repeat: int) -> dict[str, list[dict[str, float]]]:
    """Seconds of wall and CPU of each kind of work, and the memory this process had taken by then in MB."""
    taken: dict[str, list[dict[str, float]]] = defaultdict(list)

    def timed(kind: str, work: Any, *arguments: Any, **options: Any) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        result = work(*arguments, **options)
        taken[kind].append({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "rss": high_water()})
        return result

    def publish(submission: Submission) -> None:
        with app.database.write() as session:
            (outcome,) = admit.publish(session, CHANNEL, [submission])
        assert not isinstance(outcome, Exception), outcome

    more = submissions(app, repeat + 1)
    timed("scratch shards", index.rebuild, app.database, subdir, now=app.now())
    timed("scratch shard index", app.shard_indexes.make, subdir)
    timed("scratch flat", flat.build_flat, app.database, app.blobs, app.staging, subdir, now=app.now())
    publish(more.pop())  # statements are made once
    app.shard_indexes.make(subdir)
    for submission in more:
        timed("+1 shards", publish, submission)
        timed("+1 shard index", app.shard_indexes.make, subdir)
        timed("+1 flat", flat.build_flat, app.database, app.blobs, app.staging, subdir, now=app.now())
    return taken


def main() -> None:
    data, count, repeat = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with open_fairway(data) as app:
        if not repeat:
            make_admin(app)
            print(load(app, count), flush=True)
            return
        with app.database.read() as session:
            subdir = session.query(Subdir.id).scalar()
        print(json.dumps(measure(app, subdir, repeat)), flush=True)


if __name__ == "__main__":
    main()
