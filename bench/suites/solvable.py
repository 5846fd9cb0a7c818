"""From the answer to an upload to a client that sees the package: py-rattler, its cache warm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench import packages
from bench.client import ROOT
from bench.context import Context, serving
from bench.measure import median
from bench.peers import nginx
from bench.report import Table, number, times
from bench.suites.index import rattler_folder

SIZES = (1_000, 10_000)
FIRST = 2_000_000
KINDS = ("sharded", "flat")


def watch(job: dict[str, Any]) -> None:
    """The client's process: publish one package, ask until it is there, print the milliseconds."""
    import asyncio
    import time

    from rattler import Gateway
    from rattler.repo_data.gateway import SourceConfig

    from bench.client import Connection, request, upload_target

    config = SourceConfig(sharded_enabled=job["kind"] == "sharded")
    gateway = Gateway(cache_dir=Path(job["cache"]), default_config=config)

    def publish(path: Path) -> None:
        if job.get("key"):
            target = upload_target(job["channel"], path.name)
            status, body = connection.ask(request("PUT", target, job["key"], path.read_bytes()))
            if status != 201:
                raise RuntimeError(f"{status} {body!r}")
            return
        place = Path(job["folder"]) / packages.SUBDIR / path.name
        place.write_bytes(path.read_bytes())
        subprocess.run(
            [sys.executable, "-m", "bench.rattler_index", job["folder"]],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    async def sees(path: Path) -> bool:
        gateway.clear_repodata_cache(job["url"])
        name = path.name.rsplit("-", 2)[0]
        found = await gateway.query([job["url"]], [packages.SUBDIR], [name], recursive=False)
        return any(record.file_name == path.name for records in found for record in records)

    async def loop() -> list[tuple[float, float]]:
        took = []
        for path in map(Path, job["files"]):
            await sees(path)
            begun = time.perf_counter()
            await asyncio.to_thread(publish, path)
            answered = time.perf_counter()
            while not await sees(path):  # noqa: ASYNC110 - there is no event: that is what is measured
                await asyncio.sleep(0.001)
            took.append((answered - begun, time.perf_counter() - answered))
        return took

    connection = Connection(job["port"])
    print(json.dumps(asyncio.run(loop())), flush=True)
    os._exit(0)  # py-rattler's threads may crash the interpreter's own end


def observed(job: dict[str, Any]) -> list[tuple[float, float]]:
    command = [sys.executable, "-m", "bench.suites.solvable"]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True)
    taken: list[tuple[float, float]] = json.loads(done.stdout)
    return taken


def run(context: Context) -> list[Table]:
    made = Table(
        "From answered upload to the package seen by py-rattler (warm cache, ms)",
        ("records", "documents", "Fairway: PUT", "Fairway: seen after", "copy + index_fs", "nginx: seen after", "sum ratio"),
    )  # fmt: skip
    start = FIRST
    for size in context.sizes or SIZES:
        channel = f"of-{size}"
        data, key = context.data({channel: size})
        folder = rattler_folder(context, size)
        subprocess.run(
            [sys.executable, "-m", "bench.rattler_index", folder], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
        took: dict[str, list[tuple[float, float]]] = defaultdict(list)
        with (
            serving(data, index_max_age="0") as (server, _),
            nginx(folder, context.folder("nginx"), changing=True) as peer,
        ):
            for round_ in range(context.rounds):
                for kind in KINDS:
                    files = [str(path) for path in packages.folder(context.work / "seen", 6, start)]
                    start += 6
                    job = {"kind": kind, "port": server.port, "key": key, "channel": channel, "files": files,
                           "url": f"{server.url}/{channel}", "cache": str(context.folder("cache"))}  # fmt: skip
                    took[kind] += observed(job)
                    if peer is None or (size > 2_000 and round_):
                        continue
                    job |= {"key": None, "port": peer.port, "url": peer.url, "folder": str(folder),
                            "files": files[:2], "cache": str(context.folder("cache"))}  # fmt: skip
                    took["nginx " + kind] += observed(job)
        for kind in KINDS:
            mine, theirs = took[kind], took["nginx " + kind]
            cells = [median([pair[i] for pair in pairs]) * 1000 for pairs in (mine, theirs) for i in (0, 1)]
            ratio = times(cells[2] + cells[3], cells[0] + cells[1])
            made.rows.append((f"{size:,}", kind, *map(number, cells), ratio))
    made.notes.append("`index_max_age` is 0 here: public channels let clients keep their index for a minute otherwise.")
    return [made]


if __name__ == "__main__":
    watch(json.load(sys.stdin))
