"""A conda channel on another server, over real HTTP on the loopback, which can be told to misbehave.

    with Upstream() as up:
        up.add("demo", "1.0", depends=["python"])      # a record and its file; real=True: a package that installs
        up.publish()                                   # repodata.json, .zst, shards; again after each change
        up.fault("*/repodata.json.zst", status(503, retry_after=7), times=2)
        ... up.url, up.allow (for the setting upstream_allow), up.asked, up.count("*.conda")

What misbehaves is a fault, a function that gets the handler and the good body, and answers: `misbehaving` has them.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any, Self

import msgspec

from tests.support.builders import conda_package, zst

DOCUMENTS = ("json", "zst", "shards")
PATIENCE = 30.0  # seconds after which a waiting fault gives up, so that a broken test ends

Fault = Callable[["Handler", bytes], None]


@dataclass(frozen=True)
class Asked:
    """One request: the path with its query, the headers with their names in lower case."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class _Rule:
    pattern: str
    fault: Fault
    times: int | None


@dataclass
class Upstream:
    """`folder` is served where nothing else is. `info` goes into the info of every document. With `wants` a request must
    have this header with this value, or begin with this path (`("/t/TOKEN/", "")`); else it gets 401.
    """

    channel: str = "up"
    folder: Path | None = None
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    documents: Sequence[str] = DOCUMENTS
    info: dict[str, Any] = field(default_factory=dict)
    wants: tuple[str, str] | None = None
    records: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # subdir -> file name -> record
    removed: dict[str, list[str]] = field(default_factory=dict)
    run_exports: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)  # path below the channel -> bytes
    headers: dict[str, str] = field(default_factory=dict)  # of every answer
    asked: list[Asked] = field(default_factory=list)
    validators: bool = True

    def __post_init__(self) -> None:
        self.port = 0
        self.released = threading.Event()
        self.seen = threading.Condition()
        self._rules: list[_Rule] = []
        self._server: _Server | None = None

    # --- being there -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Listen: on the same port as before, if it was up before."""
        self._server = _Server((self.host, self.port), Handler)
        self._server.upstream = self
        self.port = self._server.server_address[1]
        self.released.clear()
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="upstream", daemon=True).start()

    def down(self) -> None:
        """Be away: nobody listens, and every connection is cut."""
        self.released.set()
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.cut()

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/{self.channel}"

    @property
    def allow(self) -> str:
        """What FAIRWAY_UPSTREAM_ALLOW needs to say for this server."""
        return f"{self.host}:{self.port}"

    # --- what is in it ---------------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        version: str = "1.0",
        build: str = "h0_0",
        *,
        subdir: str = "noarch",
        depends: Iterable[str] = (),
        data: bytes | None = None,
        real: bool = False,
        filename: str | None = None,
        **record: Any,
    ) -> str:
        """Add a record and its file, whose name it returns. `record` adds to or replaces the record's fields."""
        usual = f"{name}-{version}-{build}.conda"
        if real:
            _, data = conda_package(name, version, build, subdir=subdir, depends=list(depends))
        filename = filename or usual
        body = f"{subdir}/{filename}".encode() * 50 if data is None else data
        made = {
            "build": build, "build_number": 0, "depends": list(depends), "name": name, "subdir": subdir, "version": version,
            "md5": hashlib.md5(body).hexdigest(), "sha256": hashlib.sha256(body).hexdigest(), "size": len(body),
            "timestamp": 1_700_000_000_000, **({"noarch": "generic"} if subdir == "noarch" else {}),
        }  # fmt: skip
        self.records.setdefault(subdir, {})[filename] = {**made, **record}
        self.files[f"{subdir}/{filename}"] = body
        return filename

    def remove(self, filename: str, subdir: str = "noarch") -> None:
        del self.records[subdir][filename]
        self.removed.setdefault(subdir, []).append(filename)
        self.files.pop(f"{subdir}/{filename}", None)

    def publish(self, *subdirs: str) -> None:
        """Write the documents of these subdirs, or of all; noarch always has some, as every channel's."""
        for subdir in subdirs or {"noarch", *self.records}:
            stale = ("repodata", "shards/", "run_exports")
            for path in [path for path in self.files if path.startswith(tuple(f"{subdir}/{part}" for part in stale))]:
                del self.files[path]
            for path, body in documents(
                subdir, self.records.get(subdir, {}), self.removed.get(subdir, []), self.info, self.documents
            ).items():
                self.files[f"{subdir}/{path}"] = body
            if subdir in self.run_exports:
                self.files[f"{subdir}/run_exports.json"] = body = json.dumps(self.run_exports[subdir]).encode()
                self.files[f"{subdir}/run_exports.json.zst"] = zst(body)

    # --- misbehaving and watching ----------------------------------------------------------------------------------

    def fault(self, pattern: str, fault: Fault, *, times: int | None = None) -> None:
        """Let `fault` answer requests whose path matches `pattern` (as of a shell, over the whole path), the next `times`
        of them or all. The last fault that matches counts.
        """
        self._rules.append(_Rule(pattern, fault, times))

    def heal(self) -> None:
        self._rules.clear()

    def count(self, pattern: str = "*") -> int:
        return sum(fnmatch.fnmatchcase(one.path, pattern) for one in list(self.asked))

    def wait_for(self, pattern: str, count: int = 1) -> None:
        """Until so many requests have come."""
        with self.seen:
            assert self.seen.wait_for(lambda: self.count(pattern) >= count, PATIENCE), self.asked

    def rule_for(self, path: str) -> Fault | None:
        for rule in reversed(self._rules):
            if fnmatch.fnmatchcase(path, rule.pattern) and rule.times != 0:
                if rule.times is not None:
                    rule.times -= 1
                return rule.fault
        return None

    def body(self, path: str) -> bytes | None:
        below = path.partition("?")[0].removeprefix(f"/{self.channel}/").removeprefix("/")
        if below in self.files:
            return self.files[below]
        if self.folder is not None and ".." not in below.split("/") and (self.folder / below).is_file():
            return (self.folder / below).read_bytes()
        return None


def documents(
    subdir: str, records: dict[str, dict[str, Any]], removed: list[str], info: dict[str, Any], which: Sequence[str]
) -> dict[str, bytes]:
    """The documents of a subdir by their paths in it. The records may be of any shape."""
    old = {name: record for name, record in records.items() if name.endswith(".tar.bz2")}
    new = {name: record for name, record in records.items() if name not in old}
    flat = {
        "info": {"subdir": subdir, **info}, "packages": old, "packages.conda": new, "removed": removed,
        "repodata_version": 2 if "base_url" in info else 1,
    }  # fmt: skip
    body = json.dumps(flat).encode()
    made = {"repodata.json": body} if "json" in which else {}
    if "zst" in which:
        made["repodata.json.zst"] = zst(body)
    if "shards" in which:
        hashes = {}
        for name in sorted({str(record["name"]) for record in records.values()}):
            shard = shard_of(*({f: r for f, r in part.items() if r["name"] == name} for part in (old, new)))
            hashes[name] = hashlib.sha256(shard).digest()
            made[f"shards/{hashes[name].hex()}.msgpack.zst"] = shard
        about = {"base_url": "", "shards_base_url": "./shards/", "subdir": subdir, **info}
        made["repodata_shards.msgpack.zst"] = zst(
            msgspec.msgpack.encode({"version": 1, "info": about, "shards": hashes})
        )
    return made


def shard_of(old: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]]) -> bytes:
    """A shard as rattler-index writes it: hashes are bytes."""

    def packed(records: dict[str, dict[str, Any]]) -> dict[str, Any]:
        binary = {"sha256", "md5"}
        return {
            filename: {key: bytes.fromhex(value) if key in binary else value for key, value in record.items()}
            for filename, record in records.items()
        }

    return zst(msgspec.msgpack.encode({"packages": packed(old), "packages.conda": packed(new), "removed": []}))


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    upstream: Upstream

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.upstream.tls is not None:  # in the thread of this connection: a client may not finish the handshake
            request = self.upstream.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nothing to print."""

    def cut(self) -> None:
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "upstream", ""
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server

    @property
    def upstream(self) -> Upstream:
        return self.server.upstream

    def do_GET(self) -> None:
        upstream = self.upstream
        with upstream.seen:
            upstream.asked.append(Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
            fault = upstream.rule_for(self.path)
            upstream.seen.notify_all()
        path = self.path
        if upstream.wants is not None:
            name, value = upstream.wants
            if not (path.startswith(name) if name.startswith("/") else self.headers.get(name) == value):
                return self.send(401, b"who are you?", {"WWW-Authenticate": 'Bearer realm="http://elsewhere.example/"'})
            path = "/" + path.removeprefix(name) if name.startswith("/") else path
        body = upstream.body(path)
        if fault is not None:
            return fault(self, body or b"")
        if body is None:
            return self.send(404, b"there is no such thing")
        return self.good(body)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def good(self, body: bytes) -> None:
        etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        validators = (
            {"ETag": etag, "Last-Modified": formatdate(1_700_000_000, usegmt=True)} if self.upstream.validators else {}
        )
        if self.upstream.validators and self.headers.get("If-None-Match") == etag:
            return self.send(304, b"", validators)
        return self.send(200, body, validators)

    def send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**self.upstream.headers, **(headers or {})}.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def pause(self, seconds: float = PATIENCE) -> bool:
        """Wait; true if the server stops or was released meanwhile."""
        return self.upstream.released.wait(seconds)

    def log_message(self, *_: Any) -> None:
        pass
