"""The line of each request: no key, wherever it stood in the path, and nothing a terminal would act upon."""

import socket

import pytest

from fairway.registry.tokens import new_secret

WRONG_PLACES = (
    "/t/{}/pub/noarch/repodata.json",
    "//t/{}/pub/noarch/repodata.json",
    "/./t/{}/pub/noarch/repodata.json",
    "/t//{}/pub/noarch/repodata.json",
    "/pub/t/{}/noarch/repodata.json",
    "/conda/t/{}/pub/noarch/repodata.json",
    "/T/{}/pub",
    "/pub/{}",
    "/api/v1/channels/{}",
    "/get/%74/{}/pub/",
    "/" * 600 + "t/{}/pub",
)
TYPED = "/t/not-a-key-but-a-secret/t/my-password/pub/noarch/repodata.json"
ESCAPES = "/a%1b%5d0;evil%07%c2%9b31m/%e2%80%aex%0d%0aforged"


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_key_and_no_escape_gets_into_the_log(serve, form):
    key = new_secret()
    server = serve(env={"FAIRWAY_LOG_FORMAT": form})
    paths = [*(path.format(key) for path in WRONG_PLACES), TYPED, ESCAPES]
    for path in paths:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 ")
    server.stop()
    logged = server.log.read_bytes()
    lines = [line for line in logged.splitlines() if b"request_id" in line and b"/health/" not in line]
    assert len(lines) == len(paths)
    for secret in (key, "not-a-key-but-a-secret", "my-password"):
        assert secret.encode() not in logged
    text = logged.decode().replace("\n", "")
    assert text.isprintable()
    assert "x1b]0;evil" in text
