"""A folder of packages into a channel with `fairway upload --local`, against py-rattler's indexer over the folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from bench import measure, packages
from bench.context import Context
from bench.measure import Peak, clock, median
from bench.report import Table, number, times
from bench.suites.index import Taken, rattler_build, rattler_folder, shown
from tests.support.server import FAIRWAY

SIZES = (1_000, 10_000)
AT_MOST = 120.0  # seconds; a size that would take longer is left out


def run(context: Context) -> list[Table]:
    made = Table(
        "From a folder of packages to a published channel (seconds of wall, in brackets of CPU)",
        ("packages", "upload --local", "packages/s", "MB", "index_fs", "MB", "local / index_fs"),
    )
    each = 0.0
    for size in context.sizes or SIZES:
        if not context.sizes and each * size > AT_MOST:
            made.rows.append(
                (f"{size:,}", "-", "-", "-", *shown_peer(rattler_build(rattler_folder(context, size))), "-")
            )
            made.notes.append(f"{size:,} packages were left out: at this speed they take {each * size:.0f} s.")
            continue
        rounds = context.rounds if size <= 2_000 else 1
        taken: dict[str, list[Taken]] = defaultdict(list)
        for round_ in range(rounds):
            context.say(f"local, {size:,} packages, round {round_ + 1} of {rounds}")
            taken["fairway"].append(upload_local(context, size))
            taken["rattler"].append(rattler_build(rattler_folder(context, size)))
        mine, peer = (
            {key: median([one[key] for one in taken[who]]) for key in ("wall", "cpu", "rss")}
            for who in ("fairway", "rattler")
        )
        each = mine["wall"] / size
        made.rows.append((
            f"{size:,}", shown(mine), number(size / mine["wall"]), number(mine["rss"]), shown(peer), number(peer["rss"]),
            times(mine["wall"], peer["wall"]),
        ))  # fmt: skip
    made.notes.append(
        "Fairway copies, hashes, checks and indexes every package, durable four hundred at a time, and writes rows, shards "
        "and flat documents. index_fs reads the packages where they are, and syncs nothing."
    )
    return [made]


def shown_peer(peer: Taken) -> tuple[str, str]:
    return shown(peer), number(peer["rss"])


def upload_local(context: Context, size: int) -> Taken:
    data, _ = context.data({"local": 0})
    folder = context.work / f"packages-{size}"
    packages.folder(folder, size)
    env = {name: value for name, value in os.environ.items() if not name.startswith("FAIRWAY_")}
    command: list[str | Path] = [FAIRWAY, "upload", "local", "--local", "--data", data, folder]
    # a shell in between, so that the CPU of the whole tree can still be read when it has ended
    process = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; print(subprocess.run(sys.argv[1:], stdout=2).returncode); sys.stdin.read()",
         *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)  # fmt: skip
    assert process.stdin
    assert process.stdout
    started = time.perf_counter()
    try:
        with clock(process.pid) as spent, Peak(process.pid) as peak:
            status = int(process.stdout.readline())
            wall = time.perf_counter() - started
    finally:
        process.stdin.close()
        for pid in reversed(measure.tree(process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        process.wait()
    if status:
        raise RuntimeError(f"fairway upload --local ended with {status}")
    return {"wall": wall, "cpu": spent.cpu, "rss": peak.mb}
