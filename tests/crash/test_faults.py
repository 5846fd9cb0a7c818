"""A real server whose disk, database or store fails, and clients that break off: a clear answer, reading goes on, and
nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from fairway.db.models import Artifact, Channel, Package, Record
from tests.conftest import FULL
from tests.crash.harness import GONE, Quick, Wire, errors, eventually, fsck, make_channel, opened, together
from tests.crash.journal import download
from tests.support.builders import conda_package
from tests.support.postgres import binaries, fresh_database, start
from tests.support.s3 import own_s3_server
from tests.support.servers import Missing, remove_tree, stop
from tests.web.dialects import DIALECTS, Refusal, Request, refusal, request

MEBI = 1 << 20
LIMITED = "import os, resource, sys; n = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (n, n)); os.execv(sys.argv[2], sys.argv[2:])"
ROWS = (Artifact, Package, Record)
full_run = pytest.mark.skipif(not FULL, reason="PostgreSQL and S3 are for the full run (FAIRWAY_TEST_FULL=1)")


def big(name: str, size: int) -> tuple[str, bytes]:
    """A package of about `size` bytes."""
    return conda_package(name, files={"share/data": random.Random(name).randbytes(size)})


class Lab:
    """A server with a public channel in which one file is published."""

    def __init__(self, server: Quick) -> None:
        self.server = server
        self.key = make_channel(server, "lab", "public")
        self.there = conda_package("there")
        assert self.send("put", self.there)[0] == 201
        self.readable()
        self.before = self.state()

    def send(self, dialect: str, package: tuple[str, bytes], **options: str) -> tuple[int, dict[str, str], bytes]:
        return self.ask(request(dialect, "lab", package, self.key, **options))

    def ask(self, asked: Request) -> tuple[int, dict[str, str], bytes]:
        with Wire(self.server, seconds=150) as wire:
            status, headers, body = wire.ask(asked.method, asked.path, asked.body, asked.headers)
        return status, {name.lower(): value for name, value in headers.items()}, body

    def refused(self, dialect: str, package: tuple[str, bytes]) -> Refusal:
        return refusal(dialect, *self.send(dialect, package))

    def state(self) -> dict[str, object]:
        with opened(self.server) as app, app.database.read() as session:
            found: dict[str, object] = {
                table.__tablename__: session.scalar(select(func.count()).select_from(table)) for table in ROWS
            }
            found["counters"] = [tuple(row) for row in session.execute(select(Channel.artifacts, Channel.size))]
            found["staged"] = [path.name for path in app.staging.folder.iterdir()]
        return found

    def readable(self) -> None:
        """What was published before can be read, and the index names it."""
        filename, data = self.there
        with Wire(self.server) as wire:
            assert download(wire, f"/lab/noarch/{filename}") == (200, data)
            status, _, body = wire.ask("GET", "/lab/noarch/repodata.json")
            assert (status, filename.encode() in body) == (200, True)

    def unchanged(self) -> None:
        assert eventually(lambda: self.state() == self.before, seconds=15), (self.state(), self.before)
        self.readable()


@pytest.fixture
def start_lab(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    with contextlib.ExitStack() as stack:

        def begin(**options: object) -> Lab:
            return Lab(stack.enter_context(Quick(tmp_path / "server", **options)))  # type: ignore[arg-type]

        yield begin


# --- a full disk ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of its own, small; called again it gets another size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def size(text: str) -> Path:
        options = f"size={text},mode=0700" + (",remount" if folder.is_mount() else "")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "fairway-test", folder], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()[-200:]}")
        return folder

    if os.geteuid():
        pytest.skip("only root can mount a small file system; the limit on file sizes is tested instead")
    yield size
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(lab: Lab, dialects: tuple[str, ...] = DIALECTS) -> None:
    """Upload until there is no room, in each dialect; everything is either stored or refused as a whole."""
    stored = []
    for number in range(60):
        package = big(f"fill{number}", 300_000)
        status, headers, body = lab.send(dialects[number % len(dialects)], package)
        if status != 201:
            break
        stored.append(package)
    assert 2 <= len(stored) < 50
    assert refusal(dialects[number % len(dialects)], status, headers, body).code == "storage_full"
    for dialect in dialects:
        found = lab.refused(dialect, big("more", 400_000))
        assert (found.status, found.code) == (507, "storage_full")
        assert found.sentence.startswith("The disk of this server is full; nothing was stored.")
    with Wire(lab.server) as wire:
        for filename, data in stored:
            status, _, body = wire.ask("GET", f"/lab/noarch/{filename}")
            assert (status, body) == (200, data)
    lab.readable()


def recovered(lab: Lab) -> None:
    """With room again, the next upload succeeds, soon and without a restart."""
    begun = time.monotonic()
    package = big("later", 400_000)
    assert eventually(lambda: lab.send("put", package)[0] == 201, seconds=5, pause=0.2)
    assert time.monotonic() - begun < 10
    with Wire(lab.server) as wire:
        assert eventually(
            lambda: package[0].encode() in wire.ask("GET", "/lab/noarch/repodata.json")[2], seconds=30, pause=0.2
        )
    lab.readable()
    assert not lab.state()["staged"]
    assert not errors(found := fsck(lab.server)), found


def test_a_full_storage_folder_is_507_until_there_is_room(start_lab, small_disk):
    storage = small_disk("3m")
    lab = start_lab(env={"FAIRWAY_STORAGE_URL": f"file://{storage}", "FAIRWAY_DISK_RESERVE": "0"})
    fill(lab)
    before = lab.state()
    assert lab.refused("put", big("again", 400_000)).code == "storage_full"
    assert lab.state() == before
    assert not before["staged"]
    small_disk("8m")
    recovered(lab)


def test_a_full_data_folder_is_507_until_there_is_room(start_lab, small_disk, tmp_path):
    """The database is on the full disk too."""
    (tmp_path / "server").symlink_to(small_disk("6m"))
    lab = start_lab(env={"FAIRWAY_DISK_RESERVE": "0"})
    fill(lab)
    small_disk("16m")
    recovered(lab)


def test_a_reserve_is_kept_for_deleting_and_uploads_are_refused_unread(start_lab, small_disk):
    """Where the announced bytes do not fit beside the reserve, none of them is waited for."""
    storage = small_disk("20m")
    lab = start_lab(env={"FAIRWAY_STORAGE_URL": f"file://{storage}", "FAIRWAY_DISK_RESERVE": str(10 * MEBI)})
    package = conda_package("small")
    for dialect in DIALECTS:
        asked = request(dialect, "lab", package, lab.key)
        head = [f"{asked.method} {asked.path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {15 * MEBI}"]
        head += [f"{name}: {value}" for name, value in asked.headers.items()]
        with socket.create_connection(("127.0.0.1", lab.server.port), timeout=60) as client:
            client.sendall("\r\n".join([*head, "Connection: close", "", ""]).encode())
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100).startswith(b"HTTP/1.1 507 ")
    assert lab.send("put", package)[0] == 201
    (storage / "something-else").write_bytes(bytes(12 * MEBI))
    for dialect in DIALECTS:
        assert lab.refused(dialect, conda_package("other")).code == "storage_full"
    lab.readable()
    with Wire(lab.server, lab.key) as wire:
        assert wire.ask("DELETE", f"/api/v1/channels/lab/artifacts/noarch/{package[0]}")[0] == 204
    (storage / "something-else").unlink()
    assert lab.send("put", conda_package("other"))[0] == 201


def test_a_file_larger_than_the_system_allows_is_507(start_lab):
    lab = start_lab(prefix=(sys.executable, "-c", LIMITED, 6 * MEBI))
    for dialect in DIALECTS:
        found = lab.refused(dialect, big("large", 7 * MEBI))
        assert (found.status, found.code) == (507, "storage_full")
    lab.unchanged()
    assert lab.send("put", big("small", MEBI))[0] == 201


# --- the database --------------------------------------------------------------------------------------------------


def test_a_database_that_stays_locked_is_503(start_lab):
    """Another process writes for longer than writers wait, three of them at once."""
    lab = start_lab()
    package = conda_package("demo")
    other = sqlite3.connect(lab.server.data / "fairway.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        for found in together(lambda number: lab.refused(DIALECTS[number], package), len(DIALECTS)):
            assert (found.status, found.code) == (503, "busy")
            assert found.sentence.endswith("nothing was changed. Try again in a moment.")
        assert 2 < time.monotonic() - begun < 20
        lab.readable()
    finally:
        other.execute("ROLLBACK")
        other.close()
    lab.unchanged()
    assert lab.send("put", package)[0] == 201
    assert not fsck(lab.server)


@full_run
def test_a_database_that_refuses_connections_is_503(start_lab, postgres_template):
    """An administrator locks everybody out, and cuts every connection; later lets them in again."""
    import psycopg

    with fresh_database(postgres_template) as url:
        lab = start_lab(env={"FAIRWAY_DATABASE_URL": url})
        name, maintenance = url.rpartition("/")[2], f"{url.rpartition('/')[0]}/postgres"
        with psycopg.connect(maintenance, autocommit=True) as admin:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            for dialect in DIALECTS:
                found = lab.refused(dialect, conda_package("demo"))
                assert (found.status, found.code) == (503, "busy")
            unready(lab)
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        assert eventually(lambda: lab.send("put", conda_package("demo"))[0] == 201, seconds=10, pause=0.2)
        lab.readable()
        assert not fsck(lab.server)


@full_run
def test_cut_database_connections_are_made_anew(start_lab, postgres_template):
    import psycopg

    with fresh_database(postgres_template) as url:
        lab = start_lab(env={"FAIRWAY_DATABASE_URL": url})
        for number in range(5):
            with psycopg.connect(url, autocommit=True) as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            assert lab.send("put", conda_package(f"demo{number}"))[0] == 201
            lab.readable()


@full_run
def test_a_database_that_is_gone_is_503(start_lab):
    """A PostgreSQL of its own, killed."""
    try:
        own = start(binaries()[0], fsync=False)
    except (Missing, IndexError) as reason:
        pytest.skip(f"no PostgreSQL: {reason}")
    try:
        lab = start_lab(env={"FAIRWAY_DATABASE_URL": own["url"]})
        stop(own["pids"])
        for dialect in DIALECTS:
            found = lab.refused(dialect, conda_package("demo"))
            assert (found.status, found.code) == (503, "busy")
        unready(lab)
        assert not list((lab.server.staging).iterdir())
    finally:
        stop(own["pids"])
        for folder in own["folders"]:
            remove_tree(Path(folder))


def unready(lab: Lab) -> None:
    """A proxy learns that it should send nobody here; that the process lives is another question."""
    with Wire(lab.server) as wire:
        assert wire.ask("GET", "/health/ready")[0] == 503
        assert wire.ask("GET", "/health/live")[0] == 200
        status, headers, _ = wire.ask("GET", "/lab/noarch/repodata.json")
        assert status in {200, 503}
        assert status == 200 or headers["retry-after"]


# --- the store -----------------------------------------------------------------------------------------------------


@full_run
def test_an_object_store_that_hangs_and_dies(start_lab):
    try:
        with own_s3_server() as s3:
            lab = start_lab(env={"FAIRWAY_STORAGE_URL": f"s3://{s3.fresh_bucket()}", **s3.options})
            index_readable(lab)
            s3.pause()
            begun = time.monotonic()
            with contextlib.suppress(*GONE), Wire(lab.server, lab.key, seconds=5) as wire:
                wire.put("lab", *conda_package("hung"))
            index_readable(lab)
            s3.resume()
            assert time.monotonic() - begun < 30
            assert eventually(lambda: lab.send("put", conda_package("hung"))[0] in {200, 201}, seconds=30)
            assert eventually(lambda: b"hung" in index_readable(lab), seconds=30)
            before = lab.state()
            s3.kill()
            for dialect in DIALECTS:
                found = lab.refused(dialect, conda_package("demo"))
                assert (found.status, found.code) == (503, "busy")
                assert (
                    found.sentence == "The object store does not answer as it should right now. Try again in a moment."
                )
            index_readable(lab)
            assert eventually(lambda: lab.state() == before, seconds=10)
    except Missing as reason:
        pytest.skip(f"no S3 server: {reason}")


def index_readable(lab: Lab) -> bytes:
    """What was read once is answered from memory, whatever the store does. The flat index."""
    with Wire(lab.server, seconds=5) as wire:
        for name in ("repodata_shards.msgpack.zst", "repodata.json"):
            status, _, body = wire.ask("GET", f"/lab/noarch/{name}")
            assert (status, len(body) > 50) == (200, True)
    return body


# --- the body ------------------------------------------------------------------------------------------------------


def test_a_body_beyond_the_limit_is_413(start_lab):
    lab = start_lab(env={"FAIRWAY_MAX_FILE_SIZE": "100000"})
    package, larger = big("large", 200_000), big("larger", 3 * MEBI)
    for dialect in DIALECTS:
        announced = lab.refused(dialect, package)
        assert (announced.status, announced.code) == (413, "file_too_large")
        assert "which is the limit here" in announced.sentence
        much = lab.refused(dialect, larger)  # by its announcement alone
        assert (much.status, much.code) == (413, "file_too_large")
        asked = request(dialect, "lab", package, lab.key)
        pieces = iter([asked.body[at : at + 7_000] for at in range(0, len(asked.body), 7_000)])
        chunked = lab.ask(Request(asked.method, asked.path, asked.headers, pieces))  # type: ignore[arg-type]
        assert refusal(dialect, *chunked) == announced
    lab.unchanged()
    assert lab.send("put", big("small", 50_000))[0] == 201


def test_a_client_that_goes_away_leaves_nothing(start_lab):
    lab = start_lab()
    for dialect in DIALECTS:
        asked = request(dialect, "lab", big("demo", 3 * MEBI), lab.key)
        head = [f"{asked.method} {asked.path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(asked.body)}"]
        head += [f"{name}: {value}" for name, value in asked.headers.items()]
        started = "\r\n".join([*head, "", ""]).encode()
        for sent in (0, 1, 100_000, 2 * MEBI, len(asked.body) - 1):
            with socket.create_connection(("127.0.0.1", lab.server.port), timeout=10) as client:
                client.sendall(started + asked.body[:sent])
                time.sleep(0.1)
    lab.unchanged()
    assert lab.ask(asked)[0] == 201
    assert not fsck(lab.server)
