"""A database that is locked for long, or cut off: uploads are refused within seconds, readers go on, all of it comes back.

Real servers in processes of their own; see tests/web/test_outage.py for what is answered from memory.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.conftest import FULL
from tests.crash.harness import Quick, Wire, errors, eventually, fsck, make_channel
from tests.crash.journal import download
from tests.support.builders import conda_package
from tests.support.postgres import fresh_database
from tests.support.wire import Wire as Cable

full_run = pytest.mark.skipif(not FULL, reason="PostgreSQL is for the full run (FAIRWAY_TEST_FULL=1)")
WRITERS = 24
SECONDS = 30.0  # far more than any answer may take, far less than for ever


class Lab:
    """A server with a public and a private channel, some files in each, never read before."""

    def __init__(self, server: Quick) -> None:
        self.server = server
        self.key = make_channel(server, "lab", "public")
        make_channel(server, "secret", "private")
        self.files = {channel: [conda_package(f"{channel}{n}") for n in range(6)] for channel in ("lab", "secret")}
        with self.wire() as wire:
            for channel, packages in self.files.items():
                for package in packages:
                    assert wire.put(channel, *package)[0] == 201
        assert eventually(lambda: not fsck(server), seconds=30)

    def wire(self, key: str | None = "") -> Wire:
        return Wire(self.server, self.key if key == "" else key, seconds=SECONDS)

    def upload(self, number: int) -> tuple[int, Any, dict[str, Any], float]:
        begun = time.monotonic()
        with self.wire() as wire:
            path = f"/api/v1/channels/lab/artifacts/new{number}-1.0-h0_0.conda"
            status, headers, body = wire.ask("PUT", path, conda_package(f"new{number}")[1])
        return status, headers["retry-after"], body, time.monotonic() - begun

    def read_all(self, channel: str = "lab", key: str | None = None) -> None:
        """Every file and every index."""
        with self.wire(key) as wire:
            for filename, data in self.files[channel]:
                assert download(wire, f"/{channel}/noarch/{filename}") == (200, data)
            for name in ("repodata.json", "repodata_shards.msgpack.zst", "run_exports.json.zst"):
                assert wire.ask("GET", f"/{channel}/noarch/{name}")[0] == 200

    def status(self, path: str) -> int:
        with self.wire(None) as wire:
            return wire.ask("GET", path)[0]

    def threads(self) -> int:
        assert self.server.process is not None
        lines = Path(f"/proc/{self.server.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Threads:"))

    def works(self, name: str) -> None:
        """Soon, without a restart; and nothing was written by those who were refused."""
        begun = time.monotonic()
        package = conda_package(name)

        def sent() -> bool:
            with self.wire() as wire:
                return wire.put("lab", *package)[0] in {200, 201}

        assert eventually(sent, seconds=10, pause=0.2)
        assert eventually(lambda: self.status("/none/noarch/repodata.json") == 401, seconds=10)  # not from memory
        assert time.monotonic() - begun < 15
        self.read_all()
        self.read_all("secret", self.key)
        assert eventually(lambda: self.status("/health/ready") == 200, seconds=10)
        assert not errors(found := fsck(self.server)), found
        assert not [line for line in self.server.log_lines() if line.get("status") == 500]


@contextlib.contextmanager
def uploading(lab: Lab) -> Iterator[list[Future[Any]]]:
    """Many uploads, on their way."""
    with ThreadPoolExecutor(WRITERS) as pool:
        yield [pool.submit(lab.upload, number) for number in range(WRITERS)]


def refused(uploads: list[Future[Any]]) -> None:
    for upload in uploads:
        status, retry_after, body, seconds = upload.result(timeout=SECONDS)
        assert (status, retry_after) == (503, "5"), body
        assert b"busy" in body
        assert seconds < SECONDS


def test_readers_go_on_while_another_process_writes_for_long_on_sqlite(tmp_path):
    with Quick(tmp_path / "server") as server:
        lab = Lab(server)
        other = sqlite3.connect(server.data / "fairway.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            with uploading(lab) as uploads:
                while not all(upload.done() for upload in uploads):
                    lab.read_all()
                    lab.read_all("secret", lab.key)
                    assert lab.status("/none/noarch/repodata.json") == 401
                    assert lab.status("/health/live") == 200
                refused(uploads)
        finally:
            other.execute("ROLLBACK")
            other.close()
        lab.works("later")
        assert not list(server.staging.iterdir())


@full_run
@pytest.mark.parametrize(
    "lock",
    ["SELECT * FROM channels WHERE name = 'lab' FOR UPDATE", "LOCK TABLE artifacts, records IN SHARE MODE"],
    ids=["row", "tables"],
)
def test_readers_go_on_while_somebody_holds_locks_on_postgresql(tmp_path, postgres_template, lock):
    import psycopg

    with (
        fresh_database(postgres_template) as url,
        Quick(tmp_path / "server", env={"FAIRWAY_DATABASE_URL": url}) as server,
    ):
        lab = Lab(server)
        with psycopg.connect(url) as other:
            other.execute(lock)
            with uploading(lab) as uploads:
                while not all(upload.done() for upload in uploads):
                    lab.read_all()
                    lab.read_all("secret", lab.key)
                    assert lab.status("/none/noarch/repodata.json") == 401
                    assert lab.status("/health/ready") == 200
                refused(uploads)
            other.rollback()
        lab.works("later")
        assert not list(server.staging.iterdir())


@pytest.fixture
def cabled(tmp_path: Path, postgres_template: str) -> Iterator[tuple[Lab, Cable]]:
    """A server whose PostgreSQL is at the end of a cable."""
    with fresh_database(postgres_template) as url:
        parts = urlsplit(url)
        with Scissors(parts.port or 5432) as cable:
            far = urlunsplit(parts._replace(netloc=f"{parts.netloc.rsplit(':', 1)[0]}:{cable.port}"))
            with Quick(tmp_path / "server", env={"FAIRWAY_DATABASE_URL": far}) as server:
                yield Lab(server), cable
                cable.mend()


class Scissors(Cable):
    """Also cuts a connection after what is sent on it holds `marked`, once that has been done: its answer is lost."""

    marked: bytes | None = None

    def _carry(self, one: Any, other: Any) -> None:
        to_server = other.getpeername()[1] == self._to
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                self._flows.wait()
                if not to_server and one in self._deaf:
                    break
                if to_server and self.marked is not None and self.marked in data:
                    self.marked = None
                    self._deaf.add(other)
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(2)

    def __init__(self, to: int) -> None:
        self._deaf: set[Any] = set()
        super().__init__(to)


@full_run
@pytest.mark.parametrize("how", ["cut", "silence"])
def test_uploads_are_refused_while_postgresql_is_away_and_go_on_once_it_is_back(cabled, how):
    lab, cable = cabled
    lab.read_all()
    threads = lab.threads()
    getattr(cable, how)()
    with uploading(lab) as uploads:
        refused(uploads)
    assert lab.status("/health/ready") == 503
    assert lab.status("/health/live") == 200
    lab.read_all()
    with uploading(lab) as uploads:
        refused(uploads)
    cable.mend()
    lab.works("later")
    assert eventually(lambda: lab.threads() <= threads + 40, seconds=10)  # those that wait for work, and no others


@full_run
def test_an_upload_whose_commit_was_done_and_not_heard_is_safe_to_send_again(cabled):
    lab, cable = cabled
    package = conda_package("unheard")
    cable.marked = b"COMMIT"
    with lab.wire() as wire:
        status, answer = wire.put("lab", *package)
        if status == 201:  # somebody else's commit was hit
            pytest.skip("another transaction of the background was cut instead")
        assert (status, answer["code"]) == (503, "busy")
        assert answer["detail"].startswith(
            "The database went away at the very end, so that nobody knows whether this was"
        )
        status, answer = wire.put("lab", *package)
        assert (status, answer["created"], answer["indexed"]) == (200, False, True)
    assert eventually(lambda: not fsck(lab.server), seconds=30)
    lab.works("later")
