"""Small downloads: a shard, with and without a key, and a 304. Against nginx and a bare ASGI application, the same bytes."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import msgspec

from bench import packages
from bench.context import Context, serving
from bench.measure import Peak, clock, median
from bench.peers import Fetched, basic, fetch, floor, nginx
from bench.report import Table, number, times
from tests.support.server import Server

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RECORDS = 1_000
SHARD_BYTES = 2_000
CONNECTIONS = 32
WITH_PASSWORD = "nginx, basic auth"


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
    data, _ = context.data({"open": RECORDS})
    closed, key = context.data({"closed": RECORDS}, visibility="private")
    root = context.folder("static")
    (root / "closed").mkdir(parents=True)
    secret = (("Authorization", f"Bearer {key}"),)
    document = f"/{packages.SUBDIR}/repodata.json.zst"
    with ExitStack() as stack:
        server, pid = stack.enter_context(serving(data))
        private, private_pid = stack.enter_context(serving(closed))
        nginx_peer = stack.enter_context(nginx(root, context.folder("nginx")))
        bare = stack.enter_context(floor(root))
        peak = stack.enter_context(Peak(private_pid))
        shard, hidden = pick_shard(server, "open"), pick_shard(private, "closed", key)
        for path, to in ((shard, "shard"), (shard, "closed/shard"), (f"/open{document}", "document")):
            save(server, path, root / to)
        etag = (("If-None-Match", server.get(f"/open{document}").headers["etag"]),)
        hidden_etag = (("If-None-Match", private.get(f"/closed{document}", key).headers["etag"]),)
        small = [Target("Fairway, public", pid, server.port, shard),
                 Target("Fairway, private", private_pid, private.port, hidden, secret),
                 Target("granian, bare ASGI", bare.pid, bare.port, "/shard")]  # fmt: skip
        unchanged = [Target("Fairway, public", pid, server.port, f"/open{document}", etag),
                     Target("Fairway, private", private_pid, private.port, f"/closed{document}",
                            (*secret, *hidden_etag))]  # fmt: skip
        if nginx_peer:
            theirs = (("If-None-Match", httpx.get(f"{nginx_peer.url}/document").headers["etag"]),)
            small += [Target("nginx", nginx_peer.pid, nginx_peer.port, "/shard"),
                      Target(WITH_PASSWORD, nginx_peer.pid, nginx_peer.port, "/closed/shard", (basic(),))]  # fmt: skip
            unchanged.append(Target("nginx", nginx_peer.pid, nginx_peer.port, "/document", theirs))
        shard_size = (root / "shard").stat().st_size
        made = [
            requests_table(f"GET of a shard, {shard_size:,} bytes", rounds(context, small, (1, CONNECTIONS))),
            requests_table("304 to If-None-Match on repodata.json.zst", rounds(context, unchanged, (CONNECTIONS,))),
        ]
    made[-1].notes.append(
        f"The password of nginx is hashed as htpasswd does it by default. CPU is that of the server, for each request. "
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


def requests_table(title: str, taken: Rounds) -> Table:
    columns = ("server", "connections", "req/s", "p50 ms", "p99 ms", "CPU us", "to nginx", "to nginx with password")
    made = Table(title, columns)
    for (who, count), values in sorted(taken.items(), key=lambda item: item[0][1]):
        cpu = cpu_us(values)
        peers = [times(cpu, cpu_us(taken[peer, count])) if (peer, count) in taken else "-"
                 for peer in ("nginx", WITH_PASSWORD)]  # fmt: skip
        made.rows.append((
            who, str(count), number(middle(values, lambda one: one.fetched.rate)),
            number(middle(values, lambda one: one.fetched.p50 * 1000)),
            number(middle(values, lambda one: one.fetched.p99 * 1000)), number(cpu), *peers,
        ))  # fmt: skip
    return made


def cpu_us(values: list[Round]) -> float:
    return middle(values, lambda one: one.cpu / one.fetched.count * 1e6)


def save(server: Server, path: str, to: Path) -> str:
    """Fetch something into a file for the peers; its ETag."""
    with httpx.stream("GET", f"{server.url}{path}", timeout=60) as answer, to.open("wb") as file:
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            file.write(piece)
        return str(answer.headers["etag"])


def shards(server: Server, channel: str, key: str | None = None) -> list[str]:
    """The paths of a channel's shards, by name."""
    base = f"/{channel}/{packages.SUBDIR}"
    index = msgspec.msgpack.decode(zstd.decompress(server.get(f"{base}/repodata_shards.msgpack.zst", key).content))
    return [f"{base}/shards/{index['shards'][name].hex()}.msgpack.zst" for name in sorted(index["shards"])]


def pick_shard(server: Server, channel: str, key: str | None = None) -> str:
    """The path of a shard of about 2 kB."""
    best, distance = "", sys.maxsize
    for path in shards(server, channel, key)[:400]:
        size = len(server.get(path, key).content)
        if abs(size - SHARD_BYTES) < distance:
            best, distance = path, abs(size - SHARD_BYTES)
        if distance < 150:
            break
    return best
