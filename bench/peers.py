"""The servers beside Fairway, and the load generator: nginx and wrk where they are installed, a bare granian always."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.client import ROOT, Client
from bench.measure import median, percentile
from tests.support.server import free_port

PASSWORD = "correct horse battery staple"
NGINX = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  default_type application/octet-stream;
  sendfile on; tcp_nopush on; keepalive_requests 100000000; open_file_cache {cache};
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port}; root {root}; etag on; add_header Cache-Control "no-cache, max-age=0";
    location /closed/ {{ auth_basic closed; auth_basic_user_file {folder}/htpasswd; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args} does not answer")


@contextmanager
def running(command: list[str | Path], port: int, *, quiet: bool = False) -> Iterator[Peer]:
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL if quiet else None)
    try:
        wait_for(port, process)
        yield Peer(process.pid, port)
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextmanager
def floor(root: Path) -> Iterator[Peer]:
    """A bare ASGI application on granian, serving `root` and taking any upload."""
    port = free_port()
    with running([sys.executable, "-m", "bench.floor", str(port), root], port) as peer:
        yield peer


@contextmanager
def nginx(root: Path, folder: Path, *, changing: bool = False) -> Iterator[Peer | None]:
    """An nginx of ours serving `root`, whose files may be `changing`; none where it is not installed. Below `/closed/`
    it asks for `PASSWORD`.
    """
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        print("bench: nginx is not installed, so there is no figure of it", file=sys.stderr)
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "nginx.conf"
    (folder / "htpasswd").write_text(f"bench:{hashed(PASSWORD)}\n")
    user = "user root;" if os.geteuid() == 0 else ""
    cache = "off" if changing else "max=1000"
    config.write_text(NGINX.format(folder=folder, root=root, port=port, user=user, cache=cache))
    with running([program, "-c", config, "-p", folder, "-e", folder / "error.log"], port) as peer:
        yield peer


def hashed(password: str) -> str:
    """As `htpasswd` does it by default (apr1: a thousand rounds of MD5); as a SHA-1, which is far cheaper, where there
    is no openssl.
    """
    if shutil.which("openssl") is None:
        digest = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
        return "{SHA}" + base64.b64encode(digest).decode()
    command = ["openssl", "passwd", "-apr1", password]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def basic() -> tuple[str, str]:
    """The header that nginx lets in."""
    return "Authorization", "Basic " + base64.b64encode(f"bench:{PASSWORD}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Fetched:
    """A round of one GET again and again. Times in seconds."""

    rate: float
    p50: float
    p99: float
    count: int


UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def fetch(
    port: int, target: str, *, connections: int, seconds: float, headers: Mapping[str, str] | None = None
) -> Fetched:
    """Load one address: with wrk, or our own client where there is no wrk."""
    return fetch_all(port, [(target, dict(headers or {}))], connections=connections, seconds=seconds)


# each connection of wrk asks for one address after the other
SCRIPT = """
local asked, at = {}, 0
init = function(args)
%s
end
request = function() at = at %% #asked + 1; return asked[at] end
"""


def fetch_all(
    port: int, targets: Sequence[tuple[str, Mapping[str, str]]], *, connections: int, seconds: float
) -> Fetched:
    """Load several addresses in turn. Raises RuntimeError at the first error of any kind."""
    program = shutil.which("wrk")
    if program is None:
        items = [{"method": "GET", "target": target, "headers": dict(headers)} for target, headers in targets]
        clients = [items[i % len(items) :] + items[: i % len(items)] for i in range(connections)]
        load = Client({"port": port, "clients": clients, "seconds": seconds, "again": True}).go()
        return Fetched(load.rate, median(load.took), percentile(load.took, 99), len(load.took))
    lines = []
    for target, headers in targets:
        fields = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items())
        lines.append(f'  asked[#asked + 1] = wrk.format("GET", {json.dumps(target)}, {{{fields}}})')
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT % "\n".join(lines))
        script.flush()
        command = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "--latency"]
        several = ["-s", script.name] if len(targets) > 1 else []
        single = [option for name, value in targets[0][1].items() for option in ("-H", f"{name}: {value}")]
        options = several or single
        url = f"http://127.0.0.1:{port}{targets[0][0]}"
        said = subprocess.run([*command, *options, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{targets[0][0]}: {said}")
    shares = {
        share: float(value) * UNITS[unit] for share, value, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s|m)\b", said)
    }
    count = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])  # type: ignore[index]
    return Fetched(rate, shares["50"], shares["99"], count)
