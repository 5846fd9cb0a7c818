"""The oracle of the kill tests: what clients sent and what they were told, kept on the clients' side.

Every call is noted before it is sent and again when its answer is there. A call without an answer may have happened or
not; everything that was answered must be so, after any number of kills.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from tests.crash.harness import GONE, Patient, Wire, eventually
from tests.support.builders import conda_package, tar_bz2_package, zstd
from tests.support.server import Server

CHANNEL = "lab"
SUBDIRS = ("noarch", "linux-64")
NAMES = tuple(f"pack{letter}" for letter in "abcdefghijkl")
VISIBLE_SECONDS = 30.0
UNKNOWN = frozenset(("going", "yanking", "unyanking"))
"""States of files that are there, and in the index or not."""


@dataclass
class File:
    """`state`: sent (no answer yet, or never), there (acknowledged), going (its delete has no answer), gone (its delete
    was acknowledged); likewise yanking and yanked, and unyanking, after which it is there again.
    """

    subdir: str
    filename: str
    data: bytes
    state: str = "sent"
    busy: bool = True
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        self.sha256 = hashlib.sha256(self.data).hexdigest()

    @property
    def path(self) -> str:
        return f"/{CHANNEL}/{self.subdir}/{self.filename}"


class Journal:
    """Shared by the clients of one test. `wrong` collects what no client may ever see."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.files: dict[tuple[str, str], File] = {}
        self.numbers = self.acknowledged = self.deleted = self.cut = self.reads = self.retried = 0
        self.yanked = self.unyanked = 0
        self.slowest = 0.0
        self.wrong: list[str] = []

    def new_file(self) -> File:
        with self.lock:
            self.numbers, choice = self.numbers + 1, self.random
            number = self.numbers
            name, subdir = choice.choice(NAMES), choice.choice(SUBDIRS)
            size = choice.choice((10, 10, 100, 2_000, 60_000, 400_000))
            content = choice.randbytes(size)
            package = tar_bz2_package if choice.random() < 0.1 else conda_package
        filename, data = package(name, f"1.{number}", subdir=subdir, files={f"share/{name}/x": content})
        file = File(subdir, filename, data)
        with self.lock:
            self.files[subdir, filename] = file
        return file

    def pick(self, state: str) -> File | None:
        """Some file in that state which no other client works on."""
        with self.lock:
            free = [file for file in self.files.values() if file.state == state and not file.busy]
            if not free:
                return None
            file = self.random.choice(free)
            file.busy = True
            return file

    def complain(self, what: str) -> None:
        with self.lock:
            self.wrong.append(what)

    def figures(self) -> dict[str, object]:
        unknown = sum(file.state in {"sent", *UNKNOWN} for file in self.files.values())
        return {
            "acknowledged": self.acknowledged,
            "deleted": self.deleted,
            "yanked": self.yanked,
            "unyanked": self.unyanked,
            "cut off": self.cut,
            "retried": self.retried,
            "without an answer": unknown,
            "reads checked": self.reads,
            "slowest index": round(self.slowest, 2),
        }


class Storm:
    """Clients that upload, delete and read until the server is gone."""

    def __init__(self, server: Server, journal: Journal, key: str, *, uploaders: int = 4, readers: int = 1) -> None:
        self._server, self._journal, self._key = server, journal, key
        self._stop = threading.Event()
        work = [self._upload] * uploaders + [self._read] * readers
        self._threads = [threading.Thread(target=self._run, args=(each,)) for each in work]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=90)
            assert not thread.is_alive()

    def _run(self, work) -> None:
        try:
            with Wire(self._server, self._key) as wire:
                while not self._stop.is_set():
                    work(wire)
        except GONE:
            return
        except Exception as error:
            self._journal.complain(f"a client failed: {error!r}")

    def _upload(self, wire: Wire) -> None:
        journal = self._journal
        with journal.lock:
            dice = journal.random.random()
        changes = (
            (0.10, "there", self._delete),
            (0.13, "yanked", self._delete),
            (0.22, "there", self._yank),
            (0.30, "yanked", self._unyank),
        )
        for below, state, change in changes:
            if dice < below and (file := journal.pick(state)) is not None:
                change(wire, file)
                return
        again = journal.pick("sent") if dice > 0.85 else None
        file = again or journal.new_file()
        try:
            status, answer = wire.put(CHANNEL, f"{file.subdir}/{file.filename}", file.data)
        except GONE:
            journal.cut += 1
            raise
        finally:
            file.busy = False
        if status not in ((200, 201) if again else (201,)) or answer["sha256"] != file.sha256:
            journal.complain(f"upload of {file.path}: {status} {answer}")
        else:
            file.state = "there"
            with journal.lock:
                journal.acknowledged += 1
                journal.retried += again is not None

    def _delete(self, wire: Wire, file: File) -> None:
        if self._change(wire, file, "DELETE", "", meanwhile="going", after="gone"):
            with self._journal.lock:
                self._journal.deleted += 1

    def _yank(self, wire: Wire, file: File) -> None:
        body = b'{"reason":"broken"}'
        if self._change(wire, file, "PUT", "/yank", body, meanwhile="yanking", after="yanked"):
            with self._journal.lock:
                self._journal.yanked += 1

    def _unyank(self, wire: Wire, file: File) -> None:
        if self._change(wire, file, "DELETE", "/yank", meanwhile="unyanking", after="there"):
            with self._journal.lock:
                self._journal.unyanked += 1

    def _change(
        self, wire: Wire, file: File, method: str, what: str, body: bytes | None = None, *, meanwhile: str, after: str
    ) -> bool:
        """Change a file that is there; whether the server says that it did."""
        journal = self._journal
        file.state = meanwhile
        headers = {} if body is None else {"Content-Type": "application/json"}
        path = f"/api/v1/channels/{CHANNEL}/artifacts/{file.subdir}/{file.filename}{what}"
        try:
            status, _, _ = wire.ask(method, path, body, headers)
        except GONE:
            journal.cut += 1
            file.busy = False
            raise
        if status != 204:
            journal.complain(f"{method} {path}: {status}")
        else:
            file.state = after
        file.busy = False
        return status == 204

    def _read(self, wire: Wire) -> None:
        """Whatever the index of this moment names can be fetched, and is what it says."""
        journal = self._journal
        with journal.lock:
            subdir = journal.random.choice(SUBDIRS)
        listed = list(flat(wire, subdir).items())
        with journal.lock:
            some = journal.random.sample(listed, min(8, len(listed)))
        for filename, sha256 in some:
            status, body = download(wire, f"/{CHANNEL}/{subdir}/{filename}")
            if status != 200 or hashlib.sha256(body).hexdigest() != sha256:
                journal.complain(f"the index names {subdir}/{filename}, fetched as {status} with {len(body)} bytes")
            journal.reads += 1


def download(wire: Wire, path: str) -> tuple[int, bytes]:
    """A file as clients fetch it: from the server, or from where it sends them."""
    status, headers, body = wire.ask("GET", path)
    if status == 307:
        to = urlsplit(headers["location"])
        store = http.client.HTTPConnection(to.hostname, to.port, timeout=60)
        try:
            store.request("GET", f"{to.path}?{to.query}")
            answer = store.getresponse()
            return answer.status, answer.read()
        finally:
            store.close()
    return status, body


def flat(wire: Wire, subdir: str) -> dict[str, str]:
    """What repodata.json lists: file name to sha256."""
    status, _, body = wire.ask("GET", f"/{CHANNEL}/{subdir}/repodata.json")
    assert status == 200, (status, body)
    document = json.loads(body)
    return {
        name: record["sha256"] for part in ("packages", "packages.conda") for name, record in document[part].items()
    }


class Shards:
    """Reads the sharded index, keeping every shard under its hash as clients do."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, str]] = {}

    def listed(self, wire: Wire, subdir: str) -> dict[str, str]:
        status, _, body = wire.ask("GET", f"/{CHANNEL}/{subdir}/repodata_shards.msgpack.zst")
        assert status == 200, (status, body)
        found: dict[str, str] = {}
        for digest in msgspec.msgpack.decode(zstd.decompress(body))["shards"].values():
            if digest.hex() not in self._kept:
                self._kept[digest.hex()] = self._read(wire, subdir, digest.hex())
            found |= self._kept[digest.hex()]
        return found

    def _read(self, wire: Wire, subdir: str, sha256: str) -> dict[str, str]:
        status, _, body = wire.ask("GET", f"/{CHANNEL}/{subdir}/shards/{sha256}.msgpack.zst")
        assert status == 200, f"the shard index names {sha256}, fetched as {status}"
        assert hashlib.sha256(body).hexdigest() == sha256
        document = msgspec.msgpack.decode(zstd.decompress(body))
        return {
            name: record["sha256"].hex()
            for part in ("packages", "packages.conda")
            for name, record in document[part].items()
        }


def check(server: Server, journal: Journal, shards: Shards, key: str, *, untouched: bool = False) -> None:
    """All that was ever acknowledged is so, on a server that was just started and that nobody has told anything.

    With `untouched` the index has to come up to date before any reader could cause it.
    """
    begun = time.monotonic()
    with Patient(server, key) as wire:
        if untouched:
            assert eventually(lambda: behind(wire) == 0, seconds=VISIBLE_SECONDS), "the index was left behind"
        wrongs = index_wrongs(wire, journal, shards)
        while wrongs and time.monotonic() - begun < VISIBLE_SECONDS:
            time.sleep(0.05)
            wrongs = index_wrongs(wire, journal, shards)
        assert not wrongs, f"after {VISIBLE_SECONDS:.0f} s the index is wrong: {wrongs[:5]}"
        journal.slowest = max(journal.slowest, time.monotonic() - begun)
        for file in journal.files.values():
            if file.state != "sent":
                status, body = download(wire, file.path)
                assert status == 200, f"{file.path} was acknowledged and answers {status}"
                assert body == file.data, f"{file.path} came back with other bytes"
    assert not journal.wrong, journal.wrong[:5]


def behind(wire: Wire) -> int:
    """How many subdirs the server says are not up to date."""
    body = wire.ask("GET", "/metrics")[2].decode()
    (line,) = (line for line in body.splitlines() if line.startswith("fairway_index_behind "))
    return int(float(line.split()[1]))


def index_wrongs(wire: Wire, journal: Journal, shards: Shards) -> list[str]:
    """Where both forms of the index differ from what clients were told."""
    wrongs = []
    for subdir in SUBDIRS:
        one, other = flat(wire, subdir), shards.listed(wire, subdir)
        if one != other:
            wrongs.append(f"{subdir}: flat and shards differ in {sorted(one.items() ^ other.items())[:3]}")
        known = {file.filename: file for file in journal.files.values() if file.subdir == subdir}
        wrongs += [f"{subdir}/{name} is listed, and nobody sent it" for name in one.keys() - known.keys()]
        for name, file in known.items():
            if file.state == "there" and name not in one:
                wrongs.append(f"{subdir}/{name} was acknowledged and is not listed")
            elif file.state in {"gone", "yanked"} and name in one:
                wrongs.append(f"{subdir}/{name} is {file.state} and is listed")
            elif one.get(name, file.sha256) != file.sha256:
                wrongs.append(f"{subdir}/{name} is listed with another sha256")
    return wrongs
