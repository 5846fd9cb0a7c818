"""An HTTP proxy in front of an object store that fails as stores do, at chosen requests."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

RESET = struct.pack("ii", 1, 0)
KINDS = ("reset", "503", "half", "unheard", "slow down")
"""reset: before it was heard; 503: in a store's words; half: half of the answer; unheard: it was done, and the answer is
lost; "slow down": an S3 error whose status says nothing is wrong with the server.
"""

Plan = Callable[[int, str, str], str]
"""From a request's number, method and path to one of `KINDS`, or "" to let it pass."""


class Faulty:
    """Listens on `port`; `plan` may be replaced at any time. `count` is how many requests came since `begin`."""

    def __init__(self, endpoint: str) -> None:
        self._to = urlsplit(endpoint)
        self._lock = threading.Lock()
        self.count = 0
        self.plan: Plan = nothing
        faulty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    super().handle_one_request()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

            def answer(self) -> None:
                faulty._handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 - the names http.server looks for

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def begin(self, plan: Plan) -> None:
        with self._lock:
            self.count, self.plan = 0, plan

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.count += 1
            kind = self.plan(self.count, request.command, request.path)
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        if kind == "reset":
            self._reset(request)
            return
        if kind in {"503", "slow down"}:
            self._refuse(request, kind)
            return
        status, headers, data = self._forward(request, body)
        if kind == "unheard":
            self._reset(request)
            return
        request.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                request.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length", str(len(data)))
        request.send_header("Content-Length", length if request.command == "HEAD" else str(len(data)))
        request.end_headers()
        if kind == "half":
            request.wfile.write(data[: len(data) // 2])
            request.wfile.flush()
            self._reset(request)
            return
        request.wfile.write(data)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self._to.hostname or "", self._to.port, timeout=30)
        try:
            # the Host that was signed is ours
            connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _refuse(self, request: BaseHTTPRequestHandler, kind: str) -> None:
        code = "ServiceUnavailable" if kind == "503" else "SlowDown"
        data = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Reduce your rate.</Message></Error>".encode()
        request.send_response_only(503)
        request.send_header("Content-Type", "application/xml")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)

    def _reset(self, request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        request.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def nothing(_: int, __: str, ___: str) -> str:
    return ""
