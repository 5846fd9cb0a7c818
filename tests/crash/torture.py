"""`./dev torture`: kill a real server again and again, at random and at named moments, and hold it to every promise.

Each cycle starts the server, lets clients upload, delete, reindex and read, kills it, and starts it again; then all that
was ever acknowledged has to be so (`journal.check`): downloadable with the same bytes, in both forms of the index within
30 seconds and without help, deleted files gone from it, and nothing listed that cannot be fetched. Every EPOCH cycles the
server is stopped and its rows, files and index compared by `fairway fsck --deep`, its totals and its audit counted, and
the next cycles begin with an empty folder, because everything is checked every time.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select

from fairway.db.models import Artifact, Audit
from tests.crash.harness import GONE, Quick, Wire, Zygote, errors, fsck, make_channel, opened
from tests.crash.journal import CHANNEL, Journal, Shards, Storm, check
from tests.crash.points import POINTS, VARIABLE

EPOCH = 25
READY = "it was ready"
LONGEST = 0.6  # seconds until a kill at random
PATIENCE = 2.5  # seconds until a named moment has come, or will not


@dataclass
class Tally:
    """What a run did. `points` counts the named moments at which a server died; `missed` says how cycles ended in which
    it did not.
    """

    points: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    slowest_start: float = 0.0
    slowest_index: float = 0.0

    def add(self, journal: Journal) -> None:
        for name, value in journal.figures().items():
            if isinstance(value, int):
                self.figures[name] += value
        self.slowest_index = max(self.slowest_index, journal.slowest)


class Torture:
    """Some cycles on one set-up. Raises AssertionError as soon as a promise is broken. `named` is how many of the kills
    are at named moments; 1 means all, and at the first hit.
    """

    def __init__(
        self, work: Path, seed: int, *, points: tuple[str, ...] = POINTS, cloud: bool = False, named: float = 0.6
    ) -> None:
        self.work, self.dice, self.cloud, self.named = work, random.Random(seed), cloud, named
        self.tally = Tally()
        self._points = points
        self._hits = work / "hits"

    def epoch(self, zygote: Zygote, number: int, count: int, env: dict[str, str]) -> None:
        """`count` cycles in a folder of their own, which is removed when all of it was as it should be."""
        data = self.work / f"data-{number}"
        journal, shards = Journal(self.dice.getrandbits(32)), Shards()
        with Quick(data, zygote=zygote, env=env) as server:
            key = make_channel(server, CHANNEL)
            server.kill()
            for _ in range(count):
                self._cycle(server, journal, shards, key)
            self._start(server)
            check(server, journal, shards, key, untouched=True)
            assert server.stop() == 0
            self._counted(server)
            found = errors(fsck(server))
            assert not found, f"fsck: {found[:5]}"
        self.tally.add(journal)
        shutil.rmtree(data)

    def _cycle(self, server: Quick, journal: Journal, shards: Shards, key: str) -> None:
        point = self._next_point() if self.dice.random() < self.named else None
        if point is not None:
            rare = point.startswith(("staging.clear", "reindex", "flat", "delete", "yank", "unyank", "withdraw"))
            most = 1 if self.named == 1 or point.startswith(("staging.clear", "reindex")) else 3 if rare else 12
            server.env[VARIABLE] = f"{point}:{self.dice.randint(1, most)}:{self._hits}"
        order = server.env.get(VARIABLE, "")
        said = ""
        try:
            server.launch()
            said = await_ready(server)
            if said == READY:
                self._storm(server, journal, key, point)
        finally:
            server.env.pop(VARIABLE, None)
        status = None if server.process is None else server.process.poll()
        server.kill()
        if point is not None and self._hit():
            self.tally.points[point] += 1
        elif point is not None:
            self.tally.missed.append(f"{order}: {said}, its status is {status}")
        self._start(server)
        check(server, journal, shards, key, untouched=self.dice.random() < 0.2)
        server.kill()
        self.tally.figures["cycles"] += 1
        self.tally.figures["kills"] += 2

    def _storm(self, server: Quick, journal: Journal, key: str, point: str | None) -> None:
        storm = Storm(server, journal, key)
        reindexing = threading.Thread(target=reindex, args=(server, key))
        storm.start()
        if point is None or point.startswith(("reindex", "index")):
            reindexing.start()
        if point is None:
            time.sleep(self.dice.uniform(0.02, LONGEST))
        else:
            deadline = time.monotonic() + PATIENCE
            while server.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
        server.kill()
        storm.join()
        if reindexing.ident is not None:
            reindexing.join()

    def _next_point(self) -> str:
        """One that was hit least often."""
        least = min(self.tally.points[point] for point in self._points)
        return self.dice.choice([point for point in self._points if self.tally.points[point] == least])

    def _hit(self) -> bool:
        found = self._hits.exists()
        self._hits.unlink(missing_ok=True)
        return found

    def _start(self, server: Quick) -> None:
        staging = server.data / "staging" if self.cloud else server.staging
        dead = set(staging.iterdir())
        begun = time.monotonic()
        server.start()
        self.tally.slowest_start = max(self.tally.slowest_start, time.monotonic() - begun)
        assert not dead & set(staging.iterdir()), "dead uploads are left in staging"

    def _counted(self, server: Quick) -> None:
        """A line of audit for each change, and none for what did not happen."""
        with opened(server) as app, app.database.read() as session:
            for action, rows in (
                ("artifact.publish", select(func.count()).select_from(Artifact)),
                ("artifact.delete", select(func.count()).where(Artifact.deleted_at.is_not(None))),
            ):
                lines = session.scalar(select(func.count()).where(Audit.action == action))
                assert lines == session.scalar(rows), f"{lines} lines of audit say {action}"
            yanked, unyanked = (
                session.scalar(select(func.count()).where(Audit.action == action))
                for action in ("artifact.yank", "artifact.unyank")
            )
            rows = session.scalar(select(func.count()).where(Artifact.yanked_at.is_not(None)))
            assert yanked - unyanked == rows, f"{rows} files are yanked, after {yanked} and {unyanked} lines of audit"


def await_ready(server: Quick) -> str:
    """`READY`, or what became of it: it may die while it starts."""
    try:
        server.wait_ready(seconds=30)
    except RuntimeError as error:
        return str(error)
    return READY


def reindex(server: Quick, key: str) -> None:
    with contextlib.suppress(*GONE), Wire(server, key) as wire:
        wire.ask("POST", f"/api/v1/reindex/{CHANNEL}")


@contextlib.contextmanager
def environment(database: str, store: str) -> Iterator[dict[str, str]]:
    """Settings for one epoch: a fresh database, a fresh bucket."""
    with contextlib.ExitStack() as stack:
        env = {}
        if database == "postgresql":
            from tests.support.postgres import fresh_database

            env["FAIRWAY_DATABASE_URL"] = stack.enter_context(fresh_database())
        if store == "s3":
            from tests.support.s3 import s3_server

            server = s3_server()
            env |= {"FAIRWAY_STORAGE_URL": f"s3://{server.fresh_bucket()}", **server.options}
        yield env


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev torture", description="Kill a server, again and again.")
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--store", choices=("local", "s3"), default="local")
    parser.add_argument("--seed", type=int, default=None, help="repeats the choices, though not the moments")
    parser.add_argument("--point", choices=POINTS, help="only this named moment, besides random ones")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    work = Path(tempfile.mkdtemp(prefix="fairway-torture-"))
    points = POINTS if options.point is None else (options.point,)
    torture = Torture(work, seed, points=points, cloud=options.store == "s3")
    began, left, number = time.monotonic(), options.cycles, 0
    print(f"seed {seed}", flush=True)
    try:
        with Zygote() as zygote:
            while left > 0:
                with environment(options.database, options.store) as env:
                    torture.epoch(zygote, number, min(EPOCH, left), env)
                left, number = left - EPOCH, number + 1
                done = torture.tally.figures
                rate = (time.monotonic() - began) / done["cycles"]
                print(
                    f"{done['cycles']} cycles, {done['acknowledged']} acknowledged, 0 lost, {rate:.2f} s each",
                    flush=True,
                )
    except AssertionError as broken:
        print(f"BROKEN: {broken}\nseed {seed}, epoch {number}; the folder is kept: {work}", file=sys.stderr)
        return 1
    summary(torture.tally, points)
    shutil.rmtree(work)
    return 0


def summary(tally: Tally, points: tuple[str, ...]) -> None:
    for name, value in sorted(tally.figures.items()):
        print(f"{name:20} {value}")
    print(
        f"{'lost':20} 0\n{'slowest start':20} {tally.slowest_start:.2f} s\n{'slowest index':20} {tally.slowest_index:.2f} s"
    )
    print("named moments at which it died: " + ", ".join(f"{point} {tally.points[point]}" for point in points))
    missed = [point for point in points if not tally.points[point]]
    print(f"never reached: {', '.join(missed) or 'none'}")
    for said in tally.missed if missed else ():
        print(f"missed: {said}")


if __name__ == "__main__":
    sys.exit(main())
