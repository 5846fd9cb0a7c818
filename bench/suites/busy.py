"""What others wait for while packages come in and indexes are built."""

from __future__ import annotations

import threading
from collections import defaultdict

from bench import packages
from bench.client import Client, Load
from bench.context import Context, serving, settle
from bench.measure import percentile
from bench.report import Table, number
from bench.suites.get import shards
from bench.suites.upload import Uploads, measured

RECORDS = 10_000
UPLOADERS = (0, 1, 8)
PACE = 0.02
RARELY = 0.1  # a search costs milliseconds: at the pace of the others it alone would fill a core


def run(context: Context) -> list[Table]:
    data, key = context.data({"busy": RECORDS, "calm": 1_000})
    uploads = Uploads(context.folder("uploads"))
    took: dict[tuple[int, str], list[float]] = defaultdict(list)
    rates: dict[int, list[float]] = defaultdict(list)
    with serving(data, searches_per_minute="0") as (server, pid):
        calm, busy = (f"/{name}/{packages.SUBDIR}" for name in ("calm", "busy"))
        asked = {
            "shard of the channel": shards(server, "busy")[7],
            "shard of another": shards(server, "calm")[7],
            "shard index of the channel": f"{busy}/repodata_shards.msgpack.zst",
            "repodata.json.zst of another": f"{calm}/repodata.json.zst",
            "search": "/api/v1/search?q=python",
            "health": "/health/live",
        }
        job = {
            "port": server.port, "key": key, "seconds": context.seconds, "again": True,
            "paces": [RARELY if what == "search" else PACE for what in asked],
            "clients": [[{"method": "GET", "target": target}] for target in asked.values()],
        }  # fmt: skip
        Client(job | {"seconds": 1.0}).go()
        for round_ in range(context.rounds):
            context.say(f"busy, round {round_ + 1} of {context.rounds}")
            for count in UPLOADERS:
                load = beside(
                    job,
                    uploads.job(server.port, key, "busy", count, context.seconds) if count else None,
                    pid,
                    rates[count],
                )
                for what, times_ in zip(asked, load.each, strict=True):
                    took[count, what] += times_
                settle(server)
    made = Table(
        f"Answers while packages are uploaded to a channel of {RECORDS:,} and its index is built",
        ("request", "uploading clients", "uploads/s", "p50 ms", "p99 ms", "slowest ms", "requests"),
    )
    for (count, what), times_ in took.items():
        rate = sum(rates[count]) / len(rates[count]) if rates[count] else 0.0
        made.rows.append((
            what, str(count), number(rate), number(percentile(times_, 50) * 1000), number(percentile(times_, 99) * 1000),
            number(max(times_) * 1000), str(len(times_)),
        ))  # fmt: skip
    made.notes.append(
        f"Each kind is asked for every {PACE * 1000:.0f} ms (a search every {RARELY * 1000:.0f}) on a connection of its "
        "own, with a key; all in one process, beside the uploading one and the server, on the cores there are."
    )
    return [made]


def beside(job: dict[str, object], uploading: dict[str, object] | None, pid: int, rates: list[float]) -> Load:
    """The requests of `job`, while the other goes on."""

    def upload() -> None:
        if uploading is not None:
            rates.append(measured(uploading, pid).rate)

    client = Client(job)
    thread = threading.Thread(target=upload)
    thread.start()
    load = client.go()
    thread.join()
    return load
