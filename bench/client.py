"""The load, in a process of its own: `python -m bench.client`, one JSON line on stdin, one on stdout.

Each client is a thread with one keep-alive connection and plain sockets, so that little of what is measured is its own.
It says "ready" when the bodies are in memory, and begins at the next line on stdin.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Connection:
    """HTTP/1.1 on one socket: as much of it as our servers need."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def ask(self, request: bytes) -> tuple[int, bytes]:
        self._socket.sendall(request)
        return self.answer()

    def answer(self) -> tuple[int, bytes]:
        data = self._rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._some()
        status = int(data[9:12])
        length = 0
        for line in data[:end].lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        if status == 304:
            length = 0
        body = data[end + 4 :]
        while len(body) < length:
            body += self._some()
        self._rest = body[length:]
        return status, body[:length]

    def _some(self) -> bytes:
        part = self._socket.recv(1 << 20)
        if not part:
            raise ConnectionError("the server closed the connection")
        return part

    def send_file(self, head: bytes, path: Path, tail: bytes) -> tuple[int, bytes]:
        """A request whose body lies in a file."""
        self._socket.sendall(head)
        with path.open("rb") as file:
            self._socket.sendfile(file)
        self._socket.sendall(tail)
        return self.answer()

    def close(self) -> None:
        self._socket.close()


def request(method: str, target: str, key: str | None, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if key:
        lines.append(f"authorization: Bearer {key}")
    if body or method in {"PUT", "POST"}:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def upload_target(channel: str, filename: str) -> str:
    return f"/api/v1/channels/{channel}/artifacts/{filename}"


def work(
    port: int,
    requests: Sequence[bytes],
    until: float,
    again: bool,
    took: list[float],
    errors: list[str],
    pace: float = 0.0,
) -> None:
    """`pace` is the time from one request to the next, in seconds; 0 for as fast as answers come."""
    connection = Connection(port)
    position = 0
    while requests and time.perf_counter() < until:
        started = time.perf_counter()
        status, body = connection.ask(requests[position])
        took.append(time.perf_counter() - started)
        if (rest := started + pace - time.perf_counter()) > 0:
            time.sleep(rest)
        if status not in {200, 201, 304}:
            errors.append(f"{status} {body[:300].decode(errors='replace')}")
            break
        position += 1
        if position == len(requests):
            if not again:
                break
            position = 0
    connection.close()


def main() -> None:
    job = json.loads(sys.stdin.readline())
    bodies = [
        [request(item["method"], item["target"], job.get("key"), Path(item["file"]).read_bytes() if item.get("file")
                 else b"", **item.get("headers", {})) for item in items]
        for items in job["clients"]
    ]  # fmt: skip
    print("ready", flush=True)
    sys.stdin.readline()
    took: list[list[float]] = [[] for _ in bodies]
    errors: list[str] = []
    started = time.perf_counter()
    until = started + job["seconds"]
    threads = [
        threading.Thread(target=work, args=(job["port"], requests, until, job.get("again", False), mine, errors, pace))
        for requests, mine, pace in zip(bodies, took, job.get("paces") or [0.0] * len(bodies), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - started
    print(json.dumps({"wall": wall, "each": took, "errors": errors}), flush=True)


@dataclass(slots=True)
class Load:
    """What a round of requests came to: `each` client's times, in seconds."""

    wall: float
    each: list[list[float]]
    cpu: float = 0.0

    @property
    def took(self) -> list[float]:
        return [one for mine in self.each for one in mine]

    @property
    def rate(self) -> float:
        return len(self.took) / self.wall


class Client:
    """The parent's side: `start` prepares, `go` runs it and returns what came of it."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.client"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._say(json.dumps(job))
        if self._hear() != "ready":
            raise RuntimeError("the client did not start")

    def _say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def go(self) -> Load:
        self._say("go")
        result = json.loads(self._hear())
        self._process.wait()
        if result["errors"]:
            raise RuntimeError(f"the server refused: {result['errors'][0]}")
        return Load(result["wall"], result["each"])


if __name__ == "__main__":
    main()
