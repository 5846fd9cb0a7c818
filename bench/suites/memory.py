"""The memory of a server: at its start, after uploads, with a channel of some size."""

from __future__ import annotations

import httpx2 as httpx

from bench import packages
from bench.context import Context, serving, settle
from bench.measure import Peak, rss, tree
from bench.report import Table, number
from bench.suites.upload import Uploads, measured

SIZES = (10_000,)
UPLOADS = 1_000


def run(context: Context) -> list[Table]:
    made = Table("Memory of the server (MB)", ("when", "server process", "whole tree", "peak of the tree so far"))

    def note(when: str, pid: int, peak: Peak) -> None:
        made.rows.append((when, number(rss([pid])), number(rss(tree(pid))), number(peak.mb)))

    data, key = context.data({"small": 0})
    with serving(data) as (server, pid), Peak(pid) as peak:
        note("at the start", pid, peak)
        uploads = Uploads(context.folder("uploads"))
        sent = 0
        while sent < UPLOADS:
            sent += len(measured(uploads.job(server.port, key, "small", 8, 4.0), pid).took)
        settle(server)
        note(f"after {sent:,} uploads", pid, peak)
    for size in context.sizes or SIZES:
        data, key = context.data({f"of-{size}": size})
        with serving(data) as (server, pid), Peak(pid) as peak:
            note(f"channel of {size:,}, at the start", pid, peak)
            measured(Uploads(context.folder("uploads")).job(server.port, key, f"of-{size}", 1, 2.0), pid)
            settle(server)
            note(f"channel of {size:,}, after some uploads", pid, peak)
            for name in ("repodata.json", "repodata.json.zst", "repodata_shards.msgpack.zst"):
                httpx.get(f"{server.url}/of-{size}/{packages.SUBDIR}/{name}", timeout=60).raise_for_status()
            note(f"channel of {size:,}, after reading its index", pid, peak)
    return [made]
