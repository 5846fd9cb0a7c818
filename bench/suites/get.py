"""Downloads: a shard, a 304, a 50 MB package. Against nginx and a bare ASGI application, the same bytes."""

from __future__ import annotations

import shutil
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import msgspec

from bench import packages
from bench.client import Connection, request, upload_target
from bench.context import Context, serving
from bench.measure import MB, Peak, clock, median
from bench.peers import Fetched, fetch, floor, nginx
from bench.report import Table, number, times
from tests.support.server import Server

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RECORDS = 1_000
SHARD_BYTES = 2_000
BIG = 50 * MB


@dataclass(frozen=True, slots=True)
class Target:
    """One server's address of the same thing."""

    who: str
    pid: int
    port: int
    path: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Round:
    fetched: Fetched
    cpu: float


Rounds = dict[tuple[str, int], list[Round]]


def run(context: Context) -> list[Table]:
    data, key = context.data({"open": RECORDS})
    closed, closed_key = context.data({"closed": RECORDS}, visibility="private")
    root = context.folder("static")
    root.mkdir()
    with ExitStack() as stack:
        server, pid = stack.enter_context(serving(data))
        private, private_pid = stack.enter_context(serving(closed))
        nginx_peer = stack.enter_context(nginx(root, context.folder("nginx")))
        bare = stack.enter_context(floor(root))
        peak = stack.enter_context(Peak(pid))
        big = upload_big(context, server, key)
        save(server, f"/open/{packages.SUBDIR}/{big}", root / "big")
        shard = pick_shard(server, "open")
        save(server, shard, root / "shard")
        document = f"/open/{packages.SUBDIR}/repodata.json.zst"
        etag = save(server, document, root / "document")
        secret = (("Authorization", f"Bearer {closed_key}"),)
        small = [Target("Fairway, public", pid, server.port, shard),
                 Target("Fairway, private", private_pid, private.port, pick_shard(private, "closed", closed_key), secret),
                 Target("granian, bare ASGI", bare.pid, bare.port, "/shard")]  # fmt: skip
        unchanged = [Target("Fairway", pid, server.port, document, (("If-None-Match", etag),))]
        large = [Target("Fairway", pid, server.port, f"/open/{packages.SUBDIR}/{big}"),
                 Target("granian, bare ASGI", bare.pid, bare.port, "/big")]  # fmt: skip
        if nginx_peer:
            theirs = httpx.get(f"{nginx_peer.url}/document").headers["etag"]
            small.insert(0, Target("nginx", nginx_peer.pid, nginx_peer.port, "/shard"))
            unchanged.insert(
                0, Target("nginx", nginx_peer.pid, nginx_peer.port, "/document", (("If-None-Match", theirs),))
            )
            large.insert(0, Target("nginx", nginx_peer.pid, nginx_peer.port, "/big"))
        shard_size = (root / "shard").stat().st_size
        made = [
            requests_table(f"GET of a shard, {shard_size:,} bytes", rounds(context, small, (1, 16)), "nginx"),
            requests_table("304 to If-None-Match on repodata.json.zst", rounds(context, unchanged, (1, 16)), "nginx"),
            bytes_table("Download of a 50 MB package", rounds(context, large, (1, 8)), (root / "big").stat().st_size),
        ]
    made[-1].notes.append(
        f"Peak memory of Fairway over all of this: {number(peak.mb)} MB, at its start {number(peak.first)} MB."
    )
    return made


def rounds(context: Context, targets: list[Target], connections: tuple[int, ...]) -> Rounds:
    """Every target in turn, again and again."""
    taken: Rounds = defaultdict(list)
    for target in targets:  # fill what each server keeps in memory
        fetch(target.port, target.path, connections=1, seconds=1, headers=dict(target.headers))
    for round_ in range(context.rounds):
        context.say(f"get {targets[0].path}, round {round_ + 1} of {context.rounds}")
        for count in connections:
            for target in targets:
                with clock(target.pid) as spent:
                    fetched = fetch(
                        target.port,
                        target.path,
                        connections=count,
                        seconds=context.seconds,
                        headers=dict(target.headers),
                    )
                taken[target.who, count].append(Round(fetched, spent.cpu))
    return taken


def middle(rounds_: list[Round], what: Callable[[Round], float]) -> float:
    return median([what(one) for one in rounds_])


def requests_table(title: str, taken: Rounds, peer: str) -> Table:
    made = Table(title, ("server", "connections", "req/s", "p50 ms", "p99 ms", "CPU us", f"CPU to {peer}"))
    for (who, count), values in sorted(taken.items(), key=lambda item: item[0][1]):
        cpu = middle(values, lambda one: one.cpu / one.fetched.count * 1e6)
        theirs = taken.get((peer, count), [])
        other = middle(theirs, lambda one: one.cpu / one.fetched.count * 1e6) if theirs else 0.0
        made.rows.append((
            who, str(count), number(middle(values, lambda one: one.fetched.rate)),
            number(middle(values, lambda one: one.fetched.p50 * 1000)),
            number(middle(values, lambda one: one.fetched.p99 * 1000)), number(cpu), times(cpu, other),
        ))  # fmt: skip
    return made


def bytes_table(title: str, taken: Rounds, size: int) -> Table:
    made = Table(title, ("server", "connections", "MB/s", "CPU s per GB", "rate to nginx"))
    for (who, count), values in sorted(taken.items(), key=lambda item: item[0][1]):
        rate = middle(values, lambda one: one.fetched.rate * size / MB)
        theirs = taken.get(("nginx", count), [])
        other = middle(theirs, lambda one: one.fetched.rate * size / MB) if theirs else 0.0
        cpu = middle(values, lambda one: one.cpu / (one.fetched.count * size / 1e9))
        made.rows.append((who, str(count), number(rate), number(cpu), times(rate, other)))
    return made


def save(server: Server, path: str, to: Path) -> str:
    """Fetch something into a file for the peers; its ETag."""
    with httpx.stream("GET", f"{server.url}{path}", timeout=60) as answer, to.open("wb") as file:
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            file.write(piece)
        return str(answer.headers["etag"])


def pick_shard(server: Server, channel: str, key: str | None = None) -> str:
    """The path of a shard of about 2 kB."""
    base = f"/{channel}/{packages.SUBDIR}"
    index = msgspec.msgpack.decode(zstd.decompress(server.get(f"{base}/repodata_shards.msgpack.zst", key).content))
    best, distance = "", sys.maxsize
    for name in sorted(index["shards"])[:400]:
        path = f"{base}/shards/{index['shards'][name].hex()}.msgpack.zst"
        size = len(server.get(path, key).content)
        if abs(size - SHARD_BYTES) < distance:
            best, distance = path, abs(size - SHARD_BYTES)
        if distance < 150:
            break
    return best


def upload_big(context: Context, server: Server, key: str) -> str:
    big = packages.big(context.work, BIG)
    filename, head, tail = big.parts(1)
    whole = context.work / filename
    with whole.open("wb") as file, big.payload.open("rb") as payload:
        file.write(head)
        shutil.copyfileobj(payload, file)
        file.write(tail)
    connection = Connection(server.port)
    status, body = connection.ask(request("PUT", upload_target("open", filename), key, whole.read_bytes()))
    connection.close()
    if status != 201:
        raise RuntimeError(f"{status} {body!r}")
    return filename
