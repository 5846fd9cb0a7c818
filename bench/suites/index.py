"""The index of a subdir: one package more, and everything from scratch. Against py-rattler's indexer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench import packages
from bench.client import ROOT
from bench.context import Context
from bench.measure import median
from bench.report import Table, number, times

SIZES = (1_000, 10_000)
FIRST = 3_000_000
Taken = dict[str, float]


def build(data: Path, channel: str, first: int, repeat: int) -> None:
    """In a child: builds through an open Fairway, timed; one JSON object of lists on stdout."""
    from sqlalchemy import delete, select

    from bench.load import fill, open_fairway
    from bench.rattler_index import high_water
    from fairway.db.models import Pointer, Subdir
    from fairway.registry import flat, index

    taken: dict[str, list[Taken]] = defaultdict(list)

    def timed(kind: str, work: Any) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        taken[kind].append({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "rss": high_water()})

    with open_fairway(data) as app:
        with app.database.read() as session:
            subdir = session.scalars(select(Subdir.id).limit(1)).one()

        def shards() -> None:
            index.rebuild(app.database, subdir, now=app.now())
            app.shard_indexes.make(subdir)

        def flat_documents() -> None:
            flat.build_flat(app.database, app.blobs, app.staging, subdir, now=app.now())

        with app.database.write() as session:
            session.execute(delete(Pointer))
            index.touch(session, subdir)
        timed("scratch shards", shards)
        timed("scratch flat", flat_documents)
        for number_ in range(repeat):
            fill(app, channel, first + number_, 1)
            timed("+1 shards", shards)
            timed("+1 flat", flat_documents)
    print(json.dumps(taken), flush=True)


def fairway_build(data: Path, channel: str, first: int, repeat: int) -> dict[str, list[Taken]]:
    command = [sys.executable, "-m", "bench.suites.index", str(data), channel, str(first), str(repeat)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    taken: dict[str, list[Taken]] = json.loads(done.stdout)
    return taken


def rattler_folder(context: Context, count: int, start: int = 0) -> Path:
    """A channel directory of hard links to the generated packages, without any index."""
    folder = context.folder("rattler")
    (folder / packages.SUBDIR).mkdir(parents=True)
    for path in packages.folder(context.work / f"packages-{count}", count, start):
        os.link(path, folder / packages.SUBDIR / path.name)
    return folder


def rattler_build(folder: Path) -> Taken:
    done = subprocess.run(
        [sys.executable, "-m", "bench.rattler_index", folder], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    taken: Taken = json.loads(done.stdout)
    return taken


def measure_size(context: Context, size: int) -> dict[str, list[Taken]]:
    channel = f"of-{size}"
    taken: dict[str, list[Taken]] = defaultdict(list)
    for round_ in range(context.rounds):
        context.say(f"index of {size:,}, round {round_ + 1} of {context.rounds}")
        data, _ = context.data({channel: size}, index=False)
        for kind, values in fairway_build(data, channel, FIRST + 100 * round_, 5).items():
            taken[kind] += values
        folder = rattler_folder(context, size)
        taken["rattler scratch"].append(rattler_build(folder))
        for path in packages.folder(context.work / "more", 1, FIRST + 10_000 + round_):
            os.link(path, folder / packages.SUBDIR / path.name)
        taken["rattler +1"].append(rattler_build(folder))
    return taken


def run(context: Context) -> list[Table]:
    made = Table(
        "Building the index (seconds of wall, in brackets of CPU)",
        ("records", "what", "shards", "flat", "all", "MB", "index_fs", "MB", "index_fs / all"),
    )
    for size in context.sizes or SIZES:
        taken = measure_size(context, size)
        for what in ("scratch", "+1"):
            parts = {kind: middle(taken[f"{what} {kind}"]) for kind in ("shards", "flat")}
            peer = middle(taken[f"rattler {what}"])
            wall, cpu = (sum(part[key] for part in parts.values()) for key in ("wall", "cpu"))
            made.rows.append((
                f"{size:,}", what, shown(parts["shards"]), shown(parts["flat"]), shown({"wall": wall, "cpu": cpu}),
                number(parts["flat"]["rss"]), shown(peer), number(peer["rss"]), times(peer["wall"], wall),
            ))  # fmt: skip
    made.notes.append(
        "Fairway builds from its rows and makes every object durable; index_fs reads the same packages as files (in "
        "scratch; for +1 it knows the others from its repodata) and syncs nothing. Both write shards, repodata.json and "
        ".zst; Fairway also run_exports.json and .zst. Bench `local` compares the whole way from files."
    )
    return [made]


def middle(values: list[Taken]) -> Taken:
    return {key: median([value[key] for value in values]) for key in ("wall", "cpu", "rss")}


def shown(taken: Taken) -> str:
    return f"{number(taken['wall'])} ({number(taken['cpu'])})"


if __name__ == "__main__":
    build(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
