"""One large package, streamed: speed against hashing and writing alone, and whether memory stays constant."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from bench import packages
from bench.client import Connection, upload_target
from bench.context import Context, serving
from bench.measure import MB, Peak, clock, hash_and_write, median
from bench.report import Table, number, times

MEGABYTES = 500
BOUNDARY = b"----fairway-bench"


def put(connection: Connection, key: str, big: packages.Big, number_: int) -> tuple[int, bytes]:
    filename, head, tail = big.parts(number_)
    size = len(head) + big.size + len(tail)
    lines = f"PUT {upload_target('big', filename)} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {size}\r\n\r\n"
    return connection.send_file(lines.encode() + head, big.payload, tail)


def multipart(connection: Connection, key: str, big: packages.Big, number_: int) -> tuple[int, bytes]:
    filename, head, tail = big.parts(number_)
    begin = b'--%b\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n' % (
        BOUNDARY,
        filename.encode(),
    )
    end = b"\r\n--%b--\r\n" % BOUNDARY
    size = len(begin) + len(head) + big.size + len(tail) + len(end)
    lines = (
        f"POST /api/v1/upload/big HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {size}\r\n"
        f"content-type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n\r\n"
    )
    return connection.send_file(lines.encode() + begin + head, big.payload, tail + end)


WAYS = {"PUT": put, "multipart": multipart}


def run(context: Context) -> list[Table]:
    sizes: Sequence[int] = context.sizes or (MEGABYTES,)
    made = Table(
        "One large package, answered when durable and indexed",
        ("MB", "way", "MB/s", "CPU s per GB", "peak MB over idle", "of hashing", "of hashing + writing"),
    )
    rates: dict[str, list[float]] = defaultdict(list)
    for megabytes in sizes:
        context.say(f"making a package of {megabytes} MB")
        big = packages.big(context.work, megabytes * MB)
        rows: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        data, key = context.data({"big": 0})
        with serving(data) as (server, pid):
            for round_ in range(context.rounds):
                context.say(f"big, round {round_ + 1} of {context.rounds}")
                hashing, writing = hash_and_write(big.payload, context.work)
                rates["hashing"].append(big.size / MB / hashing)
                rates["both"].append(big.size / MB / (hashing + writing))
                for way, send in WAYS.items():
                    connection = Connection(server.port)
                    with Peak(pid) as peak, clock(pid) as spent:
                        started = time.perf_counter()
                        status, body = send(connection, key, big, 10 * round_ + len(way))
                        wall = time.perf_counter() - started
                    connection.close()
                    if status != 201:
                        raise RuntimeError(f"{status} {body!r}")
                    rows[way].append((big.size / MB / wall, spent.cpu / big.size * 1e9, peak.mb - peak.first))
        for way, values in rows.items():
            rate, cpu, grown = (median([one[i] for one in values]) for i in range(3))
            made.rows.append((
                str(megabytes), way, number(rate), number(cpu), number(grown), times(rate, median(rates["hashing"])),
                times(rate, median(rates["both"])),
            ))  # fmt: skip
    made.notes.append(
        f"Limits in the same run, one thread: sha256 and md5 {number(median(rates['hashing']))} MB/s, with writing and "
        f"fsync {number(median(rates['both']))} MB/s. Reading and checking the archive in the child is part of the answer."
    )
    return [made]
