"""Several processes on PostgreSQL and an object store; and that SQLite has one server only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.conftest import FULL
from tests.crash.harness import Quick, Wire, children, eventually, fsck, make_channel, running
from tests.crash.journal import behind, download
from tests.support.builders import conda_package
from tests.support.postgres import fresh_database
from tests.support.server import FAIRWAY

full_run = pytest.mark.skipif(not FULL, reason="PostgreSQL and S3 are for the full run (FAIRWAY_TEST_FULL=1)")


@pytest.fixture
def cloud(postgres_template, s3) -> Iterator[dict[str, str]]:
    """Settings of an empty database and an empty bucket."""
    with fresh_database(postgres_template) as url:
        yield {"FAIRWAY_DATABASE_URL": url, "FAIRWAY_STORAGE_URL": f"s3://{s3.fresh_bucket()}", **s3.options}


@contextlib.contextmanager
def worker(server: Quick) -> Iterator[subprocess.Popen[bytes]]:
    """A `fairway worker` with the settings of a server, and a data folder of its own."""
    log = server.log.with_name("worker.log")
    env = server.env | {"FAIRWAY_DATA": str(server.data.with_name("worker"))}
    with log.open("ab") as output:
        process = subprocess.Popen([FAIRWAY, "worker"], env=env, stdout=output, stderr=output, start_new_session=True)
    try:
        assert eventually(lambda: "worker.started" in log.read_text() or process.poll() is not None, seconds=30)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@full_run
def test_two_web_processes_and_a_worker(tmp_path, cloud, s3):
    with Quick(tmp_path / "server", env=cloud, arguments=("--workers", "2")) as server, worker(server) as publisher:
        key = make_channel(server, "lab", "private")
        packages = [conda_package(f"demo{number}") for number in range(12)]
        for package in packages:
            with Wire(server, key) as wire:  # a new connection each time, so that both processes take part
                status, answer = wire.put("lab", *package)
            assert (status, answer["indexed"]) == (201, True)
        with Wire(server, key) as wire:
            assert eventually(lambda: behind(wire) == 0, seconds=30), "nobody published the flat documents"
            for filename, data in packages:
                status, headers, body = wire.ask("GET", f"/lab/noarch/{filename}")
                to = urlsplit(headers["location"])
                assert (status, body, to.port) == (307, b"", urlsplit(s3.endpoint).port)
                assert headers["cache-control"] == "no-store"
                assert download(wire, f"/lab/noarch/{filename}") == (200, data)
        with Wire(server) as wire:
            for filename, data in packages:
                # a key in the path would be told to the store as the Referer, so these are streamed
                status, headers, body = wire.ask("GET", f"/t/{key}/lab/noarch/{filename}")
                assert (status, body, headers["location"]) == (200, data, None)
                assert wire.ask("GET", f"/lab/noarch/{filename}")[0] == 401
        assert not fsck(server)
        started = [pid for parent in (server.process.pid, publisher.pid) for pid in [parent, *children(parent)]]
        started += [pid for child in started for pid in children(child)]
        assert len(set(started)) >= 6  # the supervisor, two web processes, the worker, and those who read packages
        publisher.send_signal(signal.SIGTERM)
        assert publisher.wait(timeout=30) == 0
        assert server.stop() == 0
        assert eventually(lambda: not running(started), seconds=10), "processes were left behind"
    assert not [line for line in server.log_lines() if line.get("level") == "error"]
    assert "worker.stopped" in server.log.with_name("worker.log").read_text()


@full_run
def test_a_worker_publishes_what_a_killed_server_left(tmp_path, cloud):
    """The server dies right after it has acknowledged; the worker alone brings the index up to date."""
    with Quick(tmp_path / "server", env=cloud) as server, worker(server) as publisher:
        key = make_channel(server, "lab", "public")
        filename, data = conda_package("demo")
        with Wire(server, key) as wire:
            assert wire.put("lab", filename, data)[0] == 201
        server.kill()
        begun = time.monotonic()
        assert eventually(lambda: not fsck(server), seconds=40), "the worker did not take over"
        assert time.monotonic() - begun < 45
        server.start()
        with Wire(server) as wire:
            assert filename.encode() in wire.ask("GET", "/lab/noarch/repodata.json")[2]
        publisher.send_signal(signal.SIGTERM)
        assert publisher.wait(timeout=30) == 0


def refused_to_start(server: Quick, *arguments: str) -> str:
    """Start a server that must not start; its one sentence."""
    done = subprocess.run(
        [FAIRWAY, *arguments], env=server.env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def test_sqlite_has_one_web_process(tmp_path):
    said = refused_to_start(Quick(tmp_path / "server"), "serve", "--workers", "2")
    assert said == (
        "fairway: SQLite serves one web process. For --workers, use PostgreSQL: set "
        "FAIRWAY_DATABASE_URL=postgresql://..."
    )
    said = refused_to_start(Quick(tmp_path / "server"), "worker")
    assert said.startswith("fairway: On SQLite the server does this work itself; separate workers need PostgreSQL")


def test_sqlite_has_one_server(tmp_path):
    with Quick(tmp_path / "server") as server:
        key = make_channel(server, "lab", "public")
        said = refused_to_start(Quick(tmp_path / "server"), "serve")
        assert said.startswith(f"fairway: Another Fairway is serving the data folder {server.data}.")
        with Wire(server, key) as wire:
            assert wire.put("lab", *conda_package())[0] == 201
        server.kill()
        server.start()  # a killed server leaves no lock behind
        assert server.stop() == 0
