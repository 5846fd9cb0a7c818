"""A 50 MB package, from memory the kernel already has. Against nginx and a bare ASGI application, the same bytes."""

from __future__ import annotations

import shutil
from contextlib import ExitStack

from bench import packages
from bench.client import Connection, request, upload_target
from bench.context import Context, serving
from bench.measure import MB, Peak
from bench.peers import floor, nginx
from bench.report import Table, number, times
from bench.suites.get import Rounds, Target, middle, rounds, save
from tests.support.server import Server

BIG = 50 * MB
CONNECTIONS = (1, 8)


def run(context: Context) -> list[Table]:
    data, key = context.data({"open": 0})
    root = context.folder("static")
    root.mkdir()
    with ExitStack() as stack:
        server, pid = stack.enter_context(serving(data))
        nginx_peer = stack.enter_context(nginx(root, context.folder("nginx")))
        bare = stack.enter_context(floor(root))
        peak = stack.enter_context(Peak(pid))
        path = f"/open/{packages.SUBDIR}/{upload_big(context, server, key)}"
        save(server, path, root / "big")
        targets = [Target("Fairway", pid, server.port, path),
                   Target("granian, bare ASGI", bare.pid, bare.port, "/big")]  # fmt: skip
        if nginx_peer:
            targets.append(Target("nginx", nginx_peer.pid, nginx_peer.port, "/big"))
        made = table(rounds(context, targets, CONNECTIONS), (root / "big").stat().st_size)
    made.notes.append(f"Peak memory of Fairway: {number(peak.mb)} MB, at its start {number(peak.first)} MB.")
    return [made]


def table(taken: Rounds, size: int) -> Table:
    made = Table("Download of a 50 MB package", ("server", "connections", "MB/s", "CPU s per GB", "rate to nginx"))
    for (who, count), values in sorted(taken.items(), key=lambda item: item[0][1]):
        rate = middle(values, lambda one: one.fetched.rate * size / MB)
        theirs = taken.get(("nginx", count), [])
        other = middle(theirs, lambda one: one.fetched.rate * size / MB) if theirs else 0.0
        cpu = middle(values, lambda one: one.cpu / (one.fetched.count * size / 1e9))
        made.rows.append((who, str(count), number(rate), number(cpu), times(rate, other)))
    return made


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
