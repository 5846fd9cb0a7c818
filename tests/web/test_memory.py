"""What strangers send must not stay in memory."""

import http.client
from contextlib import closing
from pathlib import Path

import pytest

TIMES = 400
LONG = "a" * 60_000  # a little less than what is let in at all
GROWTH = 8 << 20


def resident(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) << 10


@pytest.fixture
def asked(server):
    """Ask a real server, on one connection; `(status, bytes of memory)`."""
    server.make_channel("pub", "--public")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

    def ask(path: str = "/pub/noarch/repodata.json", **headers: str) -> tuple[int, int]:
        connection.request("HEAD", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        answer.read()
        return answer.status, resident(server.process.pid)

    yield ask
    connection.close()


@pytest.mark.parametrize(
    "request_of",
    [
        lambda one: {"Authorization": f"Bearer {one}"},
        lambda one: {"Authorization": f"Basic {one}"},
        lambda one: {"X_API_Key": one},
        lambda one: {"path": f"/t/{one}/pub/noarch/repodata.json"},
        lambda one: {"path": f"{'/' * len(one)}pub/noarch/repodata.json", "X_API_Key": one[:40]},
    ],
    ids=["bearer", "basic", "x-api-key", "path", "slashes"],
)
def test_long_keys_and_paths_leave_nothing(asked, request_of):
    for number in range(50):  # what a server needs to begin with
        status, before = asked(**request_of(f"{number}b{LONG}"))
        assert status == 200
    for number in range(TIMES):
        _, after = asked(**request_of(f"{number}{LONG}"))
    assert after - before < GROWTH


def test_headers_are_bounded(server):
    for size, wanted in ((60_000, 200), (70_000, 431)):
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
            connection.request("GET", "/health/live", headers={"X-Long": "a" * size})
            assert connection.getresponse().status == wanted
