"""The servers of the tests do what their tests rely on."""

import os
import signal
import subprocess
import sys
import time
import urllib.error

import pytest

from tests.support import postgres, s3
from tests.support.servers import ROOT, Missing, Shared, launch, started_at, stop

DEMO = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.support import servers
servers.CACHE = Path(sys.argv[2])
def start(folder):
    return {"pids": [servers.launch(["sleep", "60"], folder / "log")]}
shared = servers.Shared("demo", start)
print(shared.acquire()["pids"][0], flush=True)
sys.stdin.readline()
shared.release()
"""


@pytest.fixture
def user(tmp_path):
    """Starts processes that use one shared server (a `sleep`); each says which process the server is."""
    begun = []

    def start():
        command = [sys.executable, "-c", DEMO, ROOT, tmp_path]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        begun.append(child)
        return child, int(child.stdout.readline())

    yield start
    for child in begun:
        child.kill()
        child.communicate()


def leave(child):
    child.communicate("\n")
    assert child.returncode == 0


def test_a_shared_server_lives_as_long_as_its_last_user(user):
    first, pid = user()
    second, same = user()
    assert pid == same
    leave(first)
    assert started_at(pid)
    leave(second)
    assert not started_at(pid)


def test_what_a_killed_run_left_is_replaced(user):
    child, pid = user()
    child.kill()
    child.wait()
    assert started_at(pid)
    child, other = user()
    assert other != pid
    assert not started_at(pid)
    leave(child)
    assert not started_at(other)


def test_a_server_nobody_uses_is_cleared_on_request(user, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.support.servers.CACHE", tmp_path)
    child, pid = user()
    shared = Shared("demo", lambda folder: {"pids": []})
    assert shared.clear_if_unused() is False
    assert started_at(pid)
    child.kill()
    child.wait()
    assert shared.clear_if_unused() is True
    assert not started_at(pid)


def test_stop_ends_a_paused_process(tmp_path):
    pid = launch(["sleep", "60"], tmp_path / "log")
    os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    stop([pid])
    assert not started_at(pid)
    assert time.monotonic() - begin < 5


@pytest.mark.xdist_group("s3")
def test_a_group_of_tests_stays_together(request):
    """xdist does it by a suffix of the id. A pytest it does not fit makes every process open a browser, in silence."""
    if os.environ.get("PYTEST_XDIST_WORKER") is None:
        pytest.skip("one process has them all")
    assert request.node.nodeid.endswith("@s3")


@pytest.mark.xdist_group("s3")
def test_s3_checks_signatures_and_keeps_buckets_apart():
    try:
        server = s3.s3_server()
    except Missing as reason:
        pytest.skip(str(reason))
    one, two = server.fresh_bucket(), server.fresh_bucket()
    server.request("PUT", one, "a", b"x")
    assert server.request("GET", one, "a") == b"x"
    for bucket, path in ((two, "a"), (one, "b")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            server.request("GET", bucket, path)
        assert caught.value.code == 404
        caught.value.close()
    wrong = s3.S3Server(server.endpoint, server.access_key, "wrong")
    with pytest.raises(urllib.error.HTTPError) as caught:
        wrong.request("GET", one, "a")
    assert caught.value.code == 403
    caught.value.close()
    assert server.secret_key not in repr(server)


def query(url, text):
    from psycopg import connect

    with connect(url, autocommit=True) as connection:
        cursor = connection.execute(text)
        return cursor.fetchone()[0] if cursor.description else None


@pytest.fixture
def database():
    try:
        with postgres.fresh_database() as url:
            yield url
    except Missing as reason:
        pytest.skip(str(reason))


def test_each_database_is_fresh_and_goes_away(database):
    assert database.startswith("postgresql://")
    query(database, "CREATE TABLE t AS SELECT 7 AS n")
    query(database, "CREATE EXTENSION pg_trgm")
    assert query(database, "SELECT lower('ÄÖ')") == "äö"
    with postgres.fresh_database(template=database) as copy:
        assert copy != database
        assert query(copy, "SELECT n FROM t") == 7
    with postgres.fresh_database() as empty:
        assert query(empty, "SELECT count(*) FROM pg_tables WHERE tablename = 't'") == 0
        name = empty.rpartition("/")[2]
    assert query(database, f"SELECT count(*) FROM pg_database WHERE datname = '{name}'") == 0


def test_ordinary_tests_do_without_fsync(database):
    if "FAIRWAY_TEST_DATABASE_URL" in os.environ:
        pytest.skip("the server of FAIRWAY_TEST_DATABASE_URL is set up by others")
    assert query(database, "SHOW fsync") == "off"


@pytest.mark.parametrize("programs", postgres.binaries(), ids=str)
def test_every_postgresql_of_this_machine_can_be_used(programs):
    state = postgres.start(programs, fsync=True)
    try:
        assert query(state["url"], "SHOW fsync") == "on"
        assert query(state["url"], "SELECT current_user") == "fairway"
    finally:
        stop(state["pids"], signal.SIGINT)
        for folder in state["folders"]:
            postgres.remove_tree(postgres.Path(folder))
    assert not any(started_at(pid) for pid in state["pids"])
