"""How long it takes to read a large channel elsewhere, and to follow it."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from bench import clones, peers
from bench.client import ROOT
from bench.context import Context
from bench.measure import MB
from bench.report import Table, number, times
from bench.upstreams import SUBDIR
from tests.support.server import free_port

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SIZES = (100_000, 500_000)
CHANGED = 200
MAKE = ROOT.parent / "shared" / "bench" / "make_repodata.py"
ZST_LEVEL = 3
SHARD_INDEX = "repodata_shards.msgpack.zst"

Records = dict[str, dict[str, Any]]


def run(context: Context) -> list[Table]:
    first = Table(
        "The first reading of an upstream with one subdir",
        ("records", "names", "read from", "MB over the wire", "seconds", "of them CPU", "peak MB",
         "CPU s to unpack and parse alone", "our CPU is", "CPU s of the flat documents", "peak MB with them"),
    )  # fmt: skip
    later = Table(
        f"The next reading, {CHANGED} names of it changed, and none",
        (
            "records",
            "read from",
            f"{CHANGED} changed: seconds",
            "of them CPU",
            "peak MB",
            "none changed: seconds",
            "of them CPU",
        ),
    )
    for size in context.sizes or SIZES:
        root = context.folder(f"upstream-{size}")
        records = make(context, root, size)
        for kind in ("repodata.json.zst", "shards"):
            context.say(f"upstream of {size:,} records, {kind}")
            write(root / SUBDIR, records, kind)
            with static(root, context.folder("nginx")) as url:
                data = context.folder("data")
                alone = parsed(root / SUBDIR, kind)
                new = measured(data, url)
                context.say(f"{new}")
                unchanged = measured(data, url)
                fresh = with_news(records)
                write(root / SUBDIR, fresh, kind)
                changed = measured(data, url)
                assert changed["names"] == CHANGED, changed
            shutil.rmtree(data)
            wire = sum(path.stat().st_size for path in served(root / SUBDIR, kind)) / MB
            first.rows.append((
                f"{size:,}", number(new["names"]), kind, number(wire), number(new["wall"]), number(new["cpu"]),
                number(new["mb"]), number(alone), times(new["cpu"], alone), number(new["flat_cpu"]), number(new["all_mb"]),
            ))  # fmt: skip
            later.rows.append((
                f"{size:,}", kind, number(changed["wall"]), number(changed["cpu"]), number(changed["mb"]),
                number(unchanged["wall"]), number(unchanged["cpu"]),
            ))  # fmt: skip
        shutil.rmtree(root)
    first.notes.append(
        "Seconds until everything of it is shown (wall, on the machine as it was). Alone: one process that unpacks and parses "
        "the same bytes into Python objects with msgspec, and does nothing else. The flat documents are ours, made afterwards "
        "in the same process; clients that read shards do not wait for them."
    )
    return [first, later]


def make(context: Context, root: Path, count: int) -> Records:
    """So many records, real ones multiplied where the shared tool is there."""
    if not MAKE.is_file():
        return dict(clones.records(count))
    env = context.work / "make-repodata"
    if not env.exists():
        context.say("setting up make_repodata.py")
        venv.create(env, with_pip=True)
        subprocess.run([env / "bin" / "python", "-m", "pip", "install", "-q", "zstandard"], check=True)
    context.say(f"making {count:,} records")
    subprocess.run([env / "bin" / "python", MAKE, "--out", root, "--n", str(count), "--subdir", SUBDIR], check=True)
    document = msgspec.json.decode((root / SUBDIR / "repodata.json").read_bytes())
    shutil.rmtree(root)
    return {**document["packages"], **document["packages.conda"]}


def write(folder: Path, records: Records, kind: str) -> None:
    """The documents of a subdir, as one kind of server has them."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "shards":
        write_shards(folder, records)
        return
    sections: dict[str, Records] = {"packages": {}, "packages.conda": {}}
    for filename, record in records.items():
        sections["packages.conda" if filename.endswith(".conda") else "packages"][filename] = record
    document = {"info": {"subdir": SUBDIR}, **sections, "removed": [], "repodata_version": 1}
    (folder / kind).write_bytes(zstd.compress(msgspec.json.encode(document), ZST_LEVEL))


def write_shards(folder: Path, records: Records) -> None:
    (folder / "shards").mkdir(exist_ok=True)
    (folder / "repodata.json.zst").unlink(missing_ok=True)
    by_name: dict[str, dict[str, Records]] = {}
    for filename, record in records.items():
        shard = by_name.setdefault(record["name"], {"packages": {}, "packages.conda": {}})
        digests = {key: bytes.fromhex(record[key]) for key in ("md5", "sha256")}
        shard["packages.conda" if filename.endswith(".conda") else "packages"][filename] = {**record, **digests}
    hashes: dict[str, bytes] = {}
    for name, shard in by_name.items():
        data = zstd.compress(msgspec.msgpack.encode(shard), ZST_LEVEL)
        hashes[name] = hashlib.sha256(data).digest()
        path = folder / "shards" / f"{hashes[name].hex()}.msgpack.zst"
        if not path.exists():
            path.write_bytes(data)
    info = {"base_url": "./", "shards_base_url": "./shards/", "subdir": SUBDIR}
    index = msgspec.msgpack.encode({"version": 1, "info": info, "shards": hashes})
    (folder / SHARD_INDEX).write_bytes(zstd.compress(index, ZST_LEVEL))


def served(folder: Path, kind: str) -> list[Path]:
    return [folder / SHARD_INDEX, *(folder / "shards").iterdir()] if kind == "shards" else [folder / kind]


def with_news(records: Records) -> Records:
    """One more build of some of the names."""
    dice = random.Random(2)
    one_of = {record["name"]: record for record in records.values()}
    fresh: dict[str, dict[str, Any]] = {}
    for name in dice.sample(sorted(one_of), CHANGED):
        record = {**one_of[name], "build": f"hnew_{dice.getrandbits(28):07x}_0", "sha256": dice.randbytes(32).hex()}
        fresh[f"{name}-{record['version']}-{record['build']}.conda"] = record
    return {**records, **fresh}


@contextmanager
def static(root: Path, folder: Path) -> Iterator[str]:
    """A plain server of files on the loopback: nginx where it is, else Python's."""
    with peers.nginx(root, folder, changing=True) as peer:
        if peer is not None:
            yield peer.url
            return
    port = free_port()
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "http.server",
        str(port),
        "--bind",
        "127.0.0.1",
        "--directory",
        root,
    ]
    with peers.running(command, port, quiet=True) as peer:
        yield peer.url


def measured(data: Path, url: str) -> dict[str, float]:
    """One refresh, in a process of its own."""
    command = [sys.executable, "-m", "bench.upstreams", str(data), url]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def parsed(folder: Path, kind: str) -> float:
    """CPU seconds to unpack and parse what is served, and no more."""
    decode = msgspec.msgpack.decode if kind == "shards" else msgspec.json.decode
    started = time.process_time()
    for path in served(folder, kind):
        decode(zstd.decompress(path.read_bytes()))
    return time.process_time() - started
