"""Many connections at once, each reading one thing after the other: no error, and what memory that takes."""

from __future__ import annotations

from bench import packages
from bench.client import Connection, request, upload_target
from bench.context import Context, serving
from bench.measure import Peak, clock, median, rss, tree
from bench.peers import Fetched, fetch_all
from bench.report import Table, number
from bench.suites.get import shards

RECORDS = 10_000
UPLOADED = 20
CONNECTIONS = (32, 256, 1_000)


def run(context: Context) -> list[Table]:
    made = Table(
        f"Mixed reads of a channel of {RECORDS:,} by many connections at once",
        ("connections", "req/s", "p50 ms", "p99 ms", "errors", "CPU us", "MB before", "MB at most"),
    )
    data, key = context.data({"open": RECORDS})
    with serving(data, searches_per_minute="0") as (server, pid):
        connection = Connection(server.port)
        base = f"/open/{packages.SUBDIR}"
        files = []
        for number_ in range(UPLOADED):
            package = packages.package(10_000_000 + number_)
            target = upload_target("open", package.filename)
            status, body = connection.ask(request("PUT", target, key, package.data))
            if status != 201:
                raise RuntimeError(f"{status} {body!r}")
            files.append(f"{base}/{package.filename}")
        connection.close()
        secret = {"Authorization": f"Bearer {key}"}
        targets: list[tuple[str, dict[str, str]]] = [(path, {}) for path in shards(server, "open")[:200]]
        targets += [(path, secret) for path in files]
        for name in ("repodata.json.zst", "repodata_shards.msgpack.zst", "run_exports.json.zst"):
            etag = server.get(f"{base}/{name}").headers["etag"]
            targets += [(f"{base}/{name}", {}), *[(f"{base}/{name}", {"If-None-Match": etag})] * 10]
        targets += [("/api/v1/search?q=python", {}), ("/health/live", {}), ("/open/channeldata.json", {})]
        fetch_all(server.port, targets, connections=8, seconds=2)
        for count in CONNECTIONS:
            context.say(f"crowd, {count} connections")
            before = rss(tree(pid))
            rounds: list[tuple[Fetched, float]] = []
            with Peak(pid) as peak:
                for _ in range(context.rounds):
                    with clock(pid) as spent:
                        fetched = fetch_all(server.port, targets, connections=count, seconds=context.seconds)
                    rounds.append((fetched, spent.cpu))
            rate, p50, p99 = (median([getattr(one, what) for one, _ in rounds]) for what in ("rate", "p50", "p99"))
            cpu = median([cpu / one.count * 1e6 for one, cpu in rounds])
            made.rows.append((
                str(count), number(rate), number(p50 * 1000), number(p99 * 1000), "0", number(cpu), number(before),
                number(peak.mb),
            ))  # fmt: skip
    made.notes.append(
        "Of each 256 requests some 200 are for shards, 20 for packages with a key, 30 answered 304, the rest whole index "
        "documents, a search and others. Any error, status of 400 and more, or timeout ends the bench."
    )
    return [made]
