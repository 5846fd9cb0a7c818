"""Two web processes on PostgreSQL fetch an upstream's file once between them, also when the one that fetches is killed."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import FULL
from tests.crash.harness import GONE, Quick, eventually, together
from tests.support import misbehaving as bad
from tests.support.postgres import fresh_database
from tests.support.upstream import Upstream

pytestmark = pytest.mark.skipif(not FULL, reason="PostgreSQL is for the full run (FAIRWAY_TEST_FULL=1)")

BODY = random.Random(11).randbytes(6 << 20)
HALF = len(BODY) // 2
CLIENTS = 20
NAME = "big-1.0-h0_0.conda"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        upstream.add("big", data=BODY)
        upstream.publish()
        yield upstream


@pytest.fixture
def server(tmp_path: Path, postgres_template: str, upstream: Upstream) -> Iterator[Quick]:
    """A server of two processes with the channel `lab`, which has read the index of its upstream."""
    with fresh_database(postgres_template) as url:
        env = {"FAIRWAY_DATABASE_URL": url, "FAIRWAY_UPSTREAM_ALLOW": upstream.allow}
        with Quick(tmp_path / "server", env=env, arguments=("--workers", "2")) as server:
            server.make_admin()
            server.make_channel("lab", "--public", "--upstream", upstream.url)
            assert eventually(lambda: NAME.encode() in index(server), seconds=60)
            yield server
            server.kill()  # a process that takes the place of a killed one may be starting, and is not asked to stop well


def index(server: Quick) -> bytes:
    with connected(server) as connection:
        connection.request("GET", "/lab/noarch/repodata.json")
        return connection.getresponse().read()


def got(server: Quick) -> bytes:
    """The file; nothing if the connection broke."""
    with connected(server) as connection, contextlib.suppress(*GONE):
        connection.request("GET", f"/lab/noarch/{NAME}")
        return connection.getresponse().read()
    return b""


def connected(server: Quick) -> contextlib.closing[http.client.HTTPConnection]:
    return contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60))


def web_processes(server: Quick) -> list[int]:
    """Those of granian, which listen; not the children that read packages."""
    assert server.process is not None
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == server.process.pid and fields[0] not in "ZX":
                found.append(int(stat.parent.name))
    return found


def holders(port: int, *, remote: bool, pids: list[int]) -> dict[int, int]:
    """How many open connections each process has that come to this port, or go to it."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "01" and int(fields[2 if remote else 1].rpartition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    counts = dict.fromkeys(pids, 0)
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                counts[pid] += str(fd.readlink()) in inodes
    return counts


def fetching(server: Quick, upstream: Upstream) -> int:
    """The process that has a connection to the upstream. The kernel's table may lack one while others come and go."""

    def found() -> list[int]:
        return [pid for pid, count in holders(upstream.port, remote=True, pids=web_processes(server)).items() if count]

    (holder,) = eventually(found, seconds=20)
    return holder


class Client:
    """One who has read the first bytes of the file, and waits before the rest."""

    def __init__(self, server: Quick, here: threading.Barrier, on: threading.Event) -> None:
        self._server, self._here, self._on = server, here, on

    def __call__(self, _: int) -> bytes | None:
        """The file; none if it broke off."""
        try:
            return self._read()
        except BaseException:
            self._here.abort()
            raise

    def _read(self) -> bytes | None:
        with connected(self._server) as connection:
            connection.request("GET", f"/lab/noarch/{NAME}")
            answer = connection.getresponse()
            while answer.status == 404:  # what this process knows of the index may be half a second old
                answer.read()
                connection.request("GET", f"/lab/noarch/{NAME}")
                answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            begin = answer.read(HALF // 2)
            self._here.wait(60)
            assert self._on.wait(60)
            try:
                return begin + answer.read()
            except GONE:
                return None


def all_here(here: threading.Barrier, work: threading.Thread, results: list[list[bytes | None]]) -> None:
    try:
        here.wait(60)
    except threading.BrokenBarrierError:
        work.join(60)
        raise AssertionError([one for one in results[0] if isinstance(one, AssertionError)]) from None


def test_twenty_clients_of_two_processes_get_it_by_one_fetch(server: Quick, upstream: Upstream) -> None:
    upstream.fault(f"*/{NAME}", bad.hangs(after=HALF))
    here, on = threading.Barrier(CLIENTS + 1), threading.Event()
    results: list[list[bytes | None]] = []
    work = threading.Thread(target=lambda: results.append(together(Client(server, here, on), CLIENTS)))
    work.start()
    all_here(here, work, results)  # each has a part, and the upstream has sent one half
    pids = web_processes(server)
    served = holders(server.port, remote=False, pids=pids)
    assert sorted(served.values())[-2] > 0, served
    assert not upstream.released.is_set()
    upstream.released.set()
    on.set()
    work.join(60)
    assert results == [[BODY] * CLIENTS]
    assert upstream.count(f"*/{NAME}") == 1
    assert eventually(lambda: got(server), seconds=60) == BODY
    assert upstream.count(f"*/{NAME}") == 1
    assert not [line for line in server.log_lines() if line.get("level") == "error"]


def test_a_fetch_goes_on_in_another_process_when_its_own_is_killed(server: Quick, upstream: Upstream) -> None:
    upstream.fault(f"*/{NAME}", bad.hangs(after=HALF), times=1)
    here, on = threading.Barrier(CLIENTS + 1), threading.Event()
    results: list[list[bytes | None]] = []
    work = threading.Thread(target=lambda: results.append(together(Client(server, here, on), CLIENTS)))
    work.start()
    all_here(here, work, results)
    pids = web_processes(server)
    holder = fetching(server, upstream)
    served = holders(server.port, remote=False, pids=pids)
    assert sum(served.values()) - served[holder] > 0, served
    os.kill(holder, signal.SIGKILL)
    on.set()
    work.join(120)
    (bodies,) = results
    # those of the killed process saw their connection break; all others have the file, half of it from each fetch
    assert bodies.count(BODY) == CLIENTS - served[holder]
    assert bodies.count(None) == served[holder]
    assert upstream.count(f"*/{NAME}") == 2
    assert eventually(lambda: got(server), seconds=60) == BODY
    assert upstream.count(f"*/{NAME}") == 2


def test_nobody_waits_longer_than_a_lease_for_a_killed_process(server: Quick, upstream: Upstream) -> None:
    """Nobody followed it; the next who asks is in the other process, or in the one that took its place."""
    upstream.fault(f"*/{NAME}", bad.hangs(after=HALF), times=1)
    with connected(server) as connection:
        connection.request("GET", f"/lab/noarch/{NAME}")
        answer = connection.getresponse()
        assert answer.read(1000) == BODY[:1000]
        holder = fetching(server, upstream)
        os.kill(holder, signal.SIGKILL)
    # the kernel may still have given the first connection to the one that was killed
    assert eventually(lambda: got(server), seconds=60) == BODY
    assert upstream.count(f"*/{NAME}") == 2
