"""A channel becomes private, or a key is revoked, while many read: each answer is wholly one or the other, and nobody who
asks after the change was answered is answered as before.

Readers and whoever changes something are processes and servers of their own. Where several processes serve, what another
one changed is known half a second later at most (docs/explanation/how-private-channels-answer.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fairway.db.engine import STALE_SECONDS
from fairway.registry import tokens
from fairway.registry.actor import CONSOLE, Scope
from tests.conftest import FULL, ROUNDS
from tests.crash.harness import Quick, Wire, eventually, fsck, make_channel, opened, together
from tests.support.builders import conda_package
from tests.support.postgres import fresh_database
from tests.support.server import FAIRWAY

KINDS = ["one server", "two processes", "two servers"]
READERS = 6
MARGIN = 0.5  # what a request may spend between our clock and the server's look at the stamp


@dataclass(frozen=True)
class Seen:
    begun: float
    status: int
    sha256: str


class Stage:
    """One server on SQLite, two processes of one server, or two servers, on PostgreSQL."""

    def __init__(self, servers: list[Quick], stale: float) -> None:
        self.servers, self.stale = servers, stale
        self.key = make_channel(servers[0], "lab", "public")
        self.filename, data = conda_package("demo")
        with self.wire(0, self.key) as wire:
            assert wire.put("lab", self.filename, data)[0] == 201
        assert eventually(lambda: not fsck(servers[0]), seconds=30)
        self.paths = [f"/lab/noarch/{name}" for name in ("repodata.json", "repodata_shards.msgpack.zst", self.filename)]
        self.wanted = {path: self.read(path, self.key).sha256 for path in self.paths}

    def wire(self, number: int, key: str | None) -> Wire:
        return Wire(self.servers[number % len(self.servers)], key)

    def read(self, path: str, key: str | None, number: int = 0) -> Seen:
        begun = time.monotonic()
        with self.wire(number, key) as wire:  # a new connection: any of the processes may answer
            status, _, body = wire.ask("GET", path)
        return Seen(begun, status, hashlib.sha256(body).hexdigest())

    def new_key(self, scope: Scope) -> tuple[int, str]:
        with opened(self.servers[0]) as app, app.database.write() as session:
            secret = tokens.create_token(session, CONSOLE, user="admin", name="x", scope=scope, now=app.now())
        with opened(self.servers[0]) as app, app.database.read() as session:
            return max(view.id for view in tokens.list_tokens(session)), secret

    def cli(self, *arguments: str) -> None:
        """The command line, a process of its own beside the servers."""
        self.servers[0].cli(*arguments)

    @contextlib.contextmanager
    def reading(self, key: str | None) -> Iterator[dict[str, list[Seen]]]:
        """Many readers, until the block ends; what they saw."""
        stop = threading.Event()
        seen: dict[str, list[Seen]] = {path: [] for path in self.paths}
        failures: list[BaseException] = []

        def read(number: int) -> None:
            try:
                while not stop.is_set():
                    for path in self.paths:
                        seen[path].append(self.read(path, key, number))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            stop.set()
            for thread in threads:
                thread.join(timeout=60)
        assert not failures, failures[0]

    def wholly(self, seen: dict[str, list[Seen]], *, other: set[int]) -> None:
        """Every answer was the file, or a refusal, and no third thing."""
        for path, answers in seen.items():
            for answer in answers:
                assert answer.status in {200, *other}
                assert (answer.status == 200) == (answer.sha256 == self.wanted[path])


@pytest.fixture(scope="module", params=KINDS if FULL else KINDS[:1])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("access")
    with contextlib.ExitStack() as stack:
        env: dict[str, str] = {}
        if request.param != "one server":
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres_template")))
            env = {"FAIRWAY_DATABASE_URL": url, "FAIRWAY_STORAGE_URL": f"file://{folder / 'blobs'}"}
        arguments = ("--workers", "2") if request.param == "two processes" else ()
        count = 2 if request.param == "two servers" else 1
        servers = [Quick(folder / f"server{number}", env=env, arguments=arguments) for number in range(count)]
        stale = 0.0 if request.param == "one server" else STALE_SECONDS
        yield Stage([stack.enter_context(server) for server in servers], stale)
        assert not [line for server in servers for line in server.log_lines() if line.get("status") == 500]


def count(seen: dict[str, list[Seen]]) -> int:
    return min(map(len, seen.values()))


def more(seen: dict[str, list[Seen]]) -> None:
    """Let every path be read a few times more."""
    least = count(seen) + READERS
    assert eventually(lambda: count(seen) >= least, seconds=60, pause=0.01)


def test_a_channel_that_becomes_private_while_it_is_read(stage):
    _, admin = stage.new_key(Scope.ADMIN)

    def change(visibility: str, number: int) -> float:
        if number % 2:
            stage.cli("channel", "set", "lab", f"--{visibility}")
        else:
            with stage.wire(number, admin) as wire:
                body = json.dumps({"visibility": visibility})
                assert wire.ask("PATCH", "/api/v1/channels/lab", body, {"Content-Type": "application/json"})[0] == 200
        return time.monotonic()

    for number in range(2 * ROUNDS):
        with stage.reading(None) as seen:
            more(seen)
            hidden_at = change("private", number)
            time.sleep(stage.stale + MARGIN)
            more(seen)
            asked = time.monotonic()
            shown_at = change("public", number)
            time.sleep(stage.stale + MARGIN)
            more(seen)
        stage.wholly(seen, other={401})
        for answers in seen.values():
            late = [a for a in answers if a.status == 200 and hidden_at + stage.stale + MARGIN < a.begun < asked - 1]
            assert not late, f"{len(late)} answers after it was private"
            assert {a.status for a in answers if a.begun > shown_at + stage.stale + MARGIN} == {200}
            assert {a.status for a in answers} == {200, 401}


def test_a_key_that_is_revoked_while_it_reads_and_uploads(stage):
    stage.cli("channel", "set", "lab", "--private")
    try:
        for number in range(2):
            token_id, key = stage.new_key(Scope.UPLOAD)
            stop, sent = threading.Event(), []

            def upload(number: int = number, key: str = key, stop: threading.Event = stop, sent: list = sent) -> None:
                turn = 0
                while not stop.is_set():
                    turn += 1
                    filename, data = conda_package(f"revoked{number}", f"1.{turn}")
                    begun = time.monotonic()
                    with stage.wire(turn, key) as wire:
                        sent.append((begun, filename, wire.put("lab", filename, data)[0]))

            thread = threading.Thread(target=upload)
            with stage.reading(key) as seen:
                thread.start()
                more(seen)
                stage.cli("token", "revoke", str(token_id))
                revoked = time.monotonic() + stage.stale + MARGIN
                time.sleep(stage.stale + MARGIN)
                more(seen)
                stop.set()
                thread.join(timeout=60)
            for answers in seen.values():
                assert {a.status for a in answers} == {200, 401}
                assert {a.status for a in answers if a.begun > revoked} == {401}
            assert {status for _, _, status in sent} <= {201, 401}
            assert {status for begun, _, status in sent if begun > revoked} <= {401}
            for _, filename, status in sent:  # what was acknowledged is there, and nothing else
                assert stage.read(f"/lab/noarch/{filename}", stage.key).status == (200 if status == 201 else 404)
    finally:
        stage.cli("channel", "set", "lab", "--public")


CLIENT = """
import http.client, json, sys
port, key, channel, filename, path = sys.argv[1:]
sys.stdin.readline()
connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
connection.request("PUT", f"/api/v1/channels/{channel}/artifacts/{filename}", open(path, "rb"), {"Authorization": f"Bearer {key}"})
print(connection.getresponse().status)
"""


def test_one_name_from_programs_the_command_line_and_both_ways_at_once(stage, tmp_path):
    """Real processes, each with other bytes: two clients over HTTP, and `fairway upload --local` beside the server."""
    for number in range(2 * ROUNDS):
        name = f"contested{number}"
        packages = [conda_package(name, files={"x": b"%d" % place}) for place in range(4)]
        paths = []
        for place, (filename, data) in enumerate(packages):
            (tmp_path / f"{number}-{place}").mkdir()
            paths.append(tmp_path / f"{number}-{place}" / filename)
            paths[-1].write_bytes(data)
        filename = packages[0][0]

        def client(place: int, paths: list[Path] = paths, filename: str = filename) -> int:
            server = stage.servers[place % len(stage.servers)]
            if place < 2:
                arguments = [str(server.port), stage.key, "lab", filename, str(paths[place])]
                done = subprocess.run(
                    [sys.executable, "-c", CLIENT, *arguments], input="\n", capture_output=True, text=True, check=True
                )
                return int(done.stdout)
            command = [FAIRWAY, "upload", "lab", str(paths[place]), "--local"]
            done = subprocess.run(command, env=server.env, capture_output=True, text=True, check=False)
            assert done.returncode in {0, 1}, done.stderr
            return 201 if done.returncode == 0 else 409

        results = together(client, 4)
        assert sorted(results) == [201, 409, 409, 409], results
        won = hashlib.sha256(packages[results.index(201)][1]).hexdigest()

        def settled(filename: str = filename, won: str = won) -> bool:
            return all(stage.read(f"/lab/noarch/{filename}", stage.key, n).sha256 == won for n in range(4))

        assert eventually(settled, seconds=10)
    assert eventually(lambda: not [f for f in fsck(stage.servers[0]) if f["where"] != "storage"], seconds=30)
