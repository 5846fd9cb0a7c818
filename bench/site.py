"""A channel as large as pages have to bear, brought in by the rows of real uploads: `python -m bench.site DATA COUNT`."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sqlalchemy import func

from bench import packages
from bench.load import make_admin, make_channel, open_fairway
from fairway.app import Fairway
from fairway.blobs.staging import Digest
from fairway.conda import listing
from fairway.conda import record as records
from fairway.conda.artifact import Contents, PathsSummary
from fairway.conda.names import Filename
from fairway.db.models import Artifact, Package
from fairway.registry import admit, sessions, statistics
from fairway.registry.actor import CONSOLE
from fairway.registry.publish import Offer, Received, Submission

CHANNEL = "large"
NAMES = 5_500  # of which some are the same, and some never come
TOGETHER = 2_000
DOWNLOADED = 30_000  # files, each on some days


def submissions(app: Fairway, count: int) -> Iterator[Submission]:
    """What reading the archives would have given, without the archives."""
    packages.NAMES = NAMES
    kept = listing.packed([("site-packages/module.py", 2100, "hardlink")])
    for number in range(count):
        made = packages.package(number)
        filename = Filename.parse(made.filename)
        paths = PathsSummary(files=1, size=2100, listing=kept)
        contents = Contents(index=dict(made.index), about=made.about, run_exports={}, paths=paths)
        facts = records.artifact_of(contents, filename, subdir=None, now_ms=None)
        digest = Digest(sha256=made.sha256, md5=made.md5, size=len(made.data))
        offer = Offer(CHANNEL, filename, same_is_fine=True)
        yield Submission(Received(facts, digest), CONSOLE, offer, app.now())


def load(app: Fairway, count: int) -> None:
    make_channel(app, CHANNEL, "public")
    coming = submissions(app, count)
    while batch := list(islice(coming, TOGETHER)):
        # two for one place have to be seen one after the other
        once = {submission.place: submission for submission in batch}
        with app.database.write() as session:
            admit.publish(session, CHANNEL, list(once.values()))
    rng = random.Random(1)
    today = app.now() // statistics.DAY_MS
    with app.database.read() as session:
        ids = [row.id for row in session.query(Artifact.id)]
    counts = {
        (artifact_id, today - rng.randrange(365)): rng.randint(1, 50)
        for artifact_id in sorted(rng.sample(ids, min(DOWNLOADED, len(ids))))
        for _ in range(3)
    }
    rows = iter(sorted(counts.items()))
    while some := dict(islice(rows, statistics.BATCH)):
        with app.database.write() as session:
            statistics.add_downloads(session, some)


def main() -> None:
    data, count = Path(sys.argv[1]), int(sys.argv[2])
    with open_fairway(data) as app:
        make_admin(app)
        load(app, count)
        with app.database.write() as session:
            secret = sessions.start(session, 1, name="admin", address="127.0.0.1", agent="bench", now=app.now())
        with app.database.read() as session:
            most = session.query(Artifact.name).group_by(Artifact.name).order_by(func.count().desc(), Artifact.name)
            names = session.query(Package.id).count()
            print(json.dumps({"secret": secret, "package": most.limit(1).scalar(), "packages": names}), flush=True)


if __name__ == "__main__":
    main()
