"""What it costs the other writers when an upstream of many names goes, in a process of its own: `python -m bench.leaving NAMES`.

A channel with so many names of an upstream, on SQLite; then the upstream is taken away (`detach`), or the channel deleted and
swept (`bury`). For each: transactions, and CPU seconds of all of them and of the longest, in which nobody else could write.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy.orm import Session

from bench.load import make_admin, make_channel, open_fairway
from fairway import tasks
from fairway.app import Fairway
from fairway.conda.foreign import Written
from fairway.conda.record import Section
from fairway.db.engine import Database
from fairway.queue import worker
from fairway.registry import channels, upstreams
from fairway.registry.actor import CONSOLE
from fairway.registry.refresh import Refresh
from fairway.registry.sweep import sweep
from fairway.remote.channel import Kind, Reading
from fairway.remote.client import Validators

URL = "https://conda.example.org/many"
SUBDIR = "linux-64"


def record(number: int) -> dict[str, Any]:
    name = f"p{number:06}"
    needs = [f"p{number // 2:06} >=1", f"p{number // 3:06}", f"absent{number % 1000}"]
    return {
        "name": name, "version": "1.0", "build": "h0_0", "build_number": 0, "depends": needs, "size": 1000, "subdir": SUBDIR,
        "sha256": hashlib.sha256(name.encode()).digest(), "timestamp": 1_700_000_000_000,
    }  # fmt: skip


class Many:
    """An upstream that needs no network."""

    url = URL

    def __init__(self, count: int) -> None:
        self._count = count

    def look(self, _stack: ExitStack, _subdir: str, _kind: Kind | None, _known: Mapping[str, Validators]) -> Reading:
        def fetch(names: Sequence[str]) -> Iterator[tuple[str, list[Written]]]:
            for name in names:
                made = record(int(name[1:]))
                yield name, [Written(Section.PACKAGES_CONDA, f"{name}-1.0-h0_0.conda", made)]

        sources = {f"p{number:06}": hashlib.sha256(b"%d" % number).digest() for number in range(self._count)}
        return Reading(Kind.SHARDS, Validators(), f"{URL}/{SUBDIR}/", sources, fetch)

    def exports(self, *_: object) -> None: ...

    def about(self, *_: object) -> None: ...


@contextlib.contextmanager
def counted(database: Database) -> Iterator[list[float]]:
    """The CPU seconds of each transaction that writes meanwhile."""
    took: list[float] = []
    before = database.write

    @contextlib.contextmanager
    def write() -> Iterator[Session]:
        begun = time.thread_time()
        with before() as session:
            yield session
        took.append(time.thread_time() - begun)

    database.write = write  # type: ignore[method-assign]
    try:
        yield took
    finally:
        database.write = before  # type: ignore[method-assign]


def fill(app: Fairway, name: str, count: int) -> None:
    make_channel(app, name, "public")
    with app.database.write() as session:
        settings = upstreams.Settings(URL, subdirs=(SUBDIR,))
        view = upstreams.attach(session, CONSOLE, name, settings, now=app.now())
    upstream: Any = Many(count)
    done = Refresh(app.database, upstream, view.channel_id, app.now).run((SUBDIR,))
    if done.errors or done.records != count:
        raise RuntimeError(str(done))


def detach(app: Fairway) -> None:
    with app.database.write() as session:
        upstreams.detach(session, CONSOLE, "lab", now=app.now())
    worker.run_due(app.database, tasks.handlers(app), {}, clock=app.now)


def bury(app: Fairway) -> None:
    with app.database.write() as session:
        channels.delete_channel(session, CONSOLE, "lab", now=app.now())
    sweep(app.database, app.blobs, now=app.now() + 1_000, keep_ms=0)


def main() -> None:
    count = int(sys.argv[1])
    figures = {}
    for way in (detach, bury):
        with tempfile.TemporaryDirectory() as folder, open_fairway(Path(folder) / "data") as app:
            make_admin(app)
            fill(app, "lab", count)
            with counted(app.database) as took:
                way(app)
            figures[way.__name__] = SimpleNamespace(
                transactions=len(took), seconds=round(sum(took), 2), longest=round(max(took), 3)
            ).__dict__
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
