"""JSON bodies: nobody unknown gets one read, and nobody one without end."""

import asyncio
import json
import resource
import socket

import pytest

from fairway.web.api import bodies
from fairway.web.app import create
from tests.support.site import bearer
from tests.web.dialects import Request, ask_slowly
from tests.web.slowly import HastyLoop

MEBIBYTE = {"type": "http.request", "body": b" " * (1 << 20), "more_body": True}
WRITES = [
    ("POST", "/api/v1/channels"),
    ("PATCH", "/api/v1/channels/lab"),
    ("PUT", "/api/v1/channels/lab/members/admin"),
]
BAD_KEY = "fwy-u-" + "0" * 38


def ask(site, method, path, key, pieces, *, drop=b"", **headers):
    """The status, the code, and how many of the pieces were left unread."""
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    asked = Request(method, path, sent | (bearer(key) if key else {}), b"")
    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        status, _, body = runner.run(ask_slowly(create(site.app, background=False), asked, pieces, drop=drop))
    return status, json.loads(body)["code"], len(pieces)


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    ("key", "code"), [(None, "auth_required"), ("nonsense", "token_invalid"), (BAD_KEY, "token_invalid")]
)
def test_nothing_is_read_from_somebody_unknown(site, method, path, key, code):
    site.channel("lab", "public")
    assert ask(site, method, path, key, [MEBIBYTE] * 3) == (401, code, 3)


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_body_that_is_announced_too_large_is_not_read(site, method, path):
    site.channel("lab")
    key = site.key(scope="admin")
    for announced in (str((1 << 20) + 1), "9" * 30):
        found = ask(site, method, path, key, [MEBIBYTE] * 3, Content_Length=announced)
        assert found == (413, "file_too_large", 3)


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_body_that_grows_too_large_is_read_no_further(site, method, path):
    site.channel("lab")
    assert ask(site, method, path, site.key(scope="admin"), [MEBIBYTE] * 9) == (413, "file_too_large", 7)


@pytest.mark.parametrize("drop", [b"", b" "], ids=["idle", "dripping"])
def test_a_body_that_does_not_end_is_given_up(site, drop):
    begun = {"type": "http.request", "body": b'{"name":', "more_body": True}
    found = ask(site, "POST", "/api/v1/channels", site.key(scope="admin"), [begun], drop=drop)
    assert found == (400, "upload_timeout", 0)


def test_a_body_that_is_cut_off_is_refused(site):
    begun = {"type": "http.request", "body": b'{"name":', "more_body": True}
    pieces = [begun, {"type": "http.disconnect"}]
    assert ask(site, "POST", "/api/v1/channels", site.key(scope="admin"), pieces) == (400, "body_length", 0)


def test_a_body_in_pieces_is_read_whole(site):
    whole = json.dumps({"name": "pieces", "description": "ä" * 900}).encode()
    pieces = [
        {"type": "http.request", "body": whole[at : at + 7], "more_body": at + 7 < len(whole)}
        for at in range(0, len(whole), 7)
    ]
    asked = Request("POST", "/api/v1/channels", bearer(site.key(scope="admin")), b"")
    asked.headers["Content-Type"] = "application/json"
    status, _, _ = asyncio.run(ask_slowly(create(site.app, background=False), asked, pieces))
    assert status == 201
    assert site.get("/api/v1/channels/pieces", site.key()).json()["description"] == "ä" * 900


def test_a_body_of_the_largest_size_is_read(site):
    body = b'{"name": "large"}'.ljust(bodies.LARGEST)
    headers = bearer(site.key(scope="admin")) | {"Content-Type": "application/json"}
    assert site.client.post("/api/v1/channels", content=body, headers=headers).status_code == 201


def test_many_half_requests_keep_nobody_out(server):
    """More than the 1024 connections that granian takes unless it is told otherwise."""
    begun = (
        b"POST /api/v1/channels HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
    )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))  # our ends of them need some too
    waiting = []
    try:
        for _ in range(1100):
            waiting.append(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            waiting[-1].sendall(begun)
        assert all(one.recv(12) == b"HTTP/1.1 401" for one in waiting)
        assert server.get("/health/live").status_code == 200
    finally:
        for one in waiting:
            one.close()
