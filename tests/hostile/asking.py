"""A real server with real reading children, what it has been left with, and the ways to send it something hostile."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx

from fairway.blobs.local import STAGING
from tests.support.server import Server
from tests.web.dialects import BOUNDARY

MAX_FILE_SIZE = 24 << 20
CHANNEL = "open"
TABLES = ("artifacts", "attestations", "details", "packages", "records")
Answer = tuple[int, str]  # status, and code; "" for success


@dataclass
class Lab:
    """`key` may upload and delete. `cpu` has the most processor seconds one request cost a reading child."""

    server: Server
    key: str
    cpu: float = 0.0
    peak: int = 0
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        self.client = httpx.Client(base_url=self.server.url, headers=headers, timeout=180)

    def send(self, method: str, path: str, **options: Any) -> Answer:
        before = self.children()
        answer = self.client.request(method, path, **options)
        for child, spent in self.children().items():
            self.cpu = max(self.cpu, spent - before.get(child, spent))
        return told(answer)

    def put(self, filename: str, data: bytes, subdir: str | None = None, **params: str) -> Answer:
        place = filename if subdir is None else f"{subdir}/{filename}"
        return self.send("PUT", f"/api/v1/channels/{CHANNEL}/artifacts/{place}", content=data, params=params)

    def form(self, body: bytes, content_type: str = f"multipart/form-data; boundary={BOUNDARY}") -> Answer:
        return self.send("POST", f"/api/v1/upload/{CHANNEL}", content=body, headers={"Content-Type": content_type})

    def raw(self, head: Mapping[str, str], body: bytes, *, reset: bool = False, path: str = "") -> Answer | None:
        """What a client sends that breaks off. None if no answer is waited for: the connection is cut."""
        path = path or f"/api/v1/channels/{CHANNEL}/artifacts/cut-1.0-h0_0.conda"
        lines = [
            f"PUT {path} HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {self.key}",
            *(f"{k}: {v}" for k, v in head.items()),
        ]
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=60) as wire:
            wire.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            if reset:
                return None
            wire.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := wire.recv(65536):
                answer += piece
        return None if not answer else (int(answer.split()[1]), "")

    # --- what is left ----------------------------------------------------------------------------------------------

    def left(self) -> dict[str, object]:
        """Everything an upload may leave behind: rows, staged files, stored packages."""
        data = self.server.data
        with contextlib.closing(sqlite3.connect(f"file:{data / 'fairway.db'}?mode=ro", uri=True)) as database:
            found: dict[str, object] = {
                table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES
            }
            found["used"] = database.execute("SELECT sum(artifacts), sum(size) FROM channels").fetchone()
        found["stored"] = sum(path.is_file() for path in (data / "blobs" / "packages").rglob("*"))
        found["staged"] = [path.name for path in (data / "blobs" / STAGING).iterdir()]
        return found

    def settled(self) -> dict[str, object]:
        """The same once requests that were cut off have ended."""
        deadline = time.monotonic() + 20
        while (found := self.left())["staged"] and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def children(self) -> dict[str, float]:
        """Processor seconds of each reading child; their memory is noted on the way."""
        assert self.server.process is not None
        found: dict[str, float] = {}
        for thread in Path(f"/proc/{self.server.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (thread / "children").read_text().split():
                    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                    found[child] = (int(fields[11]) + int(fields[12])) / 100
                    lines = Path(f"/proc/{child}/status").read_text().splitlines()
                    peaks = [int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")]
                    self.peak = max([self.peak, *peaks])
        return found


def told(answer: httpx.Response) -> Answer:
    """A refusal in the words of either dialect."""
    if answer.status_code < 400:
        return answer.status_code, ""
    code = answer.headers.get("fairway-error") or json.loads(answer.text)["code"]
    return answer.status_code, code


Ask = Callable[[Lab], Answer]


@dataclass(frozen=True)
class Case:
    """One hostile request: its number in the corpus, what it is, and what has to come of it."""

    number: int
    what: str
    ask: Ask
    expected: Answer


def put(filename: str, data: bytes | Callable[[], bytes], subdir: str | None = None, **params: str) -> Ask:
    return lambda lab: lab.put(filename, data if isinstance(data, bytes) else data(), subdir, **params)
