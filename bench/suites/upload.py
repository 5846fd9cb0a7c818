"""Small packages over HTTP, answered once they are durable and in the shard index."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import measure, packages
from bench.client import Client, Load, upload_target
from bench.context import Context, serving, settle
from bench.measure import clock, median, percentile
from bench.peers import floor
from bench.report import Table, number, times
from tests.support.server import Server

SIZES = (0, 1_000, 10_000)
CLIENTS = (1, 8)
FIRST = 1_000_000  # numbers of packages that no stock has
AT_MOST = {1: 600, 8: 1_600}


@dataclass(slots=True)
class Series:
    """The rounds of one line of the table."""

    loads: list[Load] = field(default_factory=list)

    def rate(self) -> float:
        return median([load.rate for load in self.loads])

    def ms(self, percent: float) -> float:
        """A percentile over the requests of all rounds."""
        return percentile([took for load in self.loads for took in load.took], percent) * 1000

    def cpu_ms(self) -> float:
        return median([load.cpu / len(load.took) * 1000 for load in self.loads])


class Uploads:
    """Package files that nobody has sent yet."""

    def __init__(self, where: Path) -> None:
        self._where, self._next = where, FIRST

    def job(self, port: int, key: str, channel: str, clients: int, seconds: float) -> dict[str, Any]:
        count = int(min(AT_MOST[clients], AT_MOST[clients] * seconds / 4))
        paths = packages.folder(self._where, count, self._next)
        self._next += count
        items = [{"method": "PUT", "target": upload_target(channel, path.name), "file": str(path)} for path in paths]
        return {"port": port, "key": key, "seconds": seconds, "clients": [items[i::clients] for i in range(clients)]}


def measured(job: dict[str, Any], pid: int) -> Load:
    client = Client(job)
    with clock(pid) as spent:
        load = client.go()
    load.cpu = spent.cpu
    return load


def run(context: Context) -> list[Table]:
    sizes = context.sizes or SIZES
    channels = {
        f"of-{size}-{round_}": size for size in sizes for round_ in ([0] if size else range(context.rounds * 2))
    }
    data, key = context.data(channels)
    uploads = Uploads(context.folder("uploads"))
    series: dict[tuple[str, int], Series] = defaultdict(Series)
    limits: dict[str, list[float]] = defaultdict(list)
    with serving(data) as (server, pid), floor(context.work) as bare, measure.Peak(pid) as peak:
        warm_up(context, server, pid, key, uploads, f"of-{sizes[-1]}-0")
        for round_ in range(context.rounds):
            context.say(f"upload, round {round_ + 1} of {context.rounds}")
            body = packages.package(round_).data
            limits["file"].append(measure.fsync_renames(context.folder("fsync"), body, seconds=0.5))
            limits["commit"].append(measure.sqlite_commits(context.folder("sqlite"), seconds=0.5))
            for clients in CLIENTS:
                job = uploads.job(bare.port, key, "floor", clients, 1.0)
                series["floor", clients].loads.append(measured(job | {"again": True}, bare.pid))
                for size in sizes:
                    channel = f"of-{size}-{0 if size else round_ * 2 + CLIENTS.index(clients)}"
                    job = uploads.job(server.port, key, channel, clients, context.seconds)
                    series[str(size), clients].loads.append(measured(job, pid))
                    settle(server)
    return [table(sizes, series, limits, peak.mb)]


def warm_up(context: Context, server: Server, pid: int, key: str, uploads: Uploads, channel: str) -> None:
    context.say("warming up")
    measured(uploads.job(server.port, key, channel, 8, 1.0), pid)
    settle(server)


def table(sizes: Any, series: dict[tuple[str, int], Series], limits: dict[str, list[float]], peak: float) -> Table:
    made = Table(
        "Uploads of 3.5 kB packages by PUT, answered when durable and indexed",
        ("records before", "clients", "uploads/s", "p50 ms", "p99 ms", "server CPU ms", "of echo", "of file limit"),
    )
    file = median(limits["file"])
    for clients in CLIENTS:
        bare = series["floor", clients]
        made.rows.append((
            "bare granian: echo", str(clients), number(bare.rate()), number(bare.ms(50)), number(bare.ms(99)),
            number(bare.cpu_ms()), "1", "",
        ))  # fmt: skip
        for size in sizes:
            mine = series[str(size), clients]
            made.rows.append((
                f"{size:,}", str(clients), number(mine.rate()), number(mine.ms(50)), number(mine.ms(99)),
                number(mine.cpu_ms()), times(mine.rate(), bare.rate()), times(mine.rate(), file),
            ))  # fmt: skip
    made.notes.append(
        f"Limits in the same run, one thread: {number(file)} files/s written, fsynced, renamed and their folder "
        f"fsynced; {number(median(limits['commit']))} SQLite commits/s (WAL, FULL). Peak memory of the server: "
        f"{number(peak)} MB. The flat documents are rebuilt in the background meanwhile; their CPU is counted."
    )
    return made
