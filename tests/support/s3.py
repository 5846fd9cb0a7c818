"""A real S3 API for tests: OpenStack Swift with its s3api, in an environment of its own below `.cache/swift`.

Four processes (account, container, object, proxy) on free ports of the loopback, without memcached or any service.
`s3_server()` is shared by all test processes of a run; `own_s3_server()` is for tests that pause or kill it.
`FAIRWAY_TEST_S3_ENDPOINT`, `_ACCESS_KEY`, `_SECRET_KEY` and `_REGION` name another server instead.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairway.blobs.presign import Signer
from tests.support.servers import CACHE, ROOT, Missing, Shared, free_ports, launch, remove_tree, stop, wait_for

REQUIREMENTS = ROOT / "requirements" / "swift.txt"
OWN = "swift/own"
VENV = CACHE / "swift" / "venv"
ACCESS_KEY = "test:tester"
REGION = "us-east-1"
PARTS = ("account", "container", "object", "proxy")

PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats s3api tempauth bulk slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = 5
node_timeout = 30
recoverable_node_timeout = 30
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = {region}
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
"""
STORAGE = """
[pipeline:main]
pipeline = {part}-server
[app:{part}-server]
use = egg:swift#{part}
conn_timeout = 5
node_timeout = 30
container_update_timeout = 30
"""
COMMON = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
db_preallocation = off
log_level = WARNING
log_name = {part}
eventlet_debug = false
"""
RINGS = """
import sys
from swift.common.ring import RingBuilder
folder, *ports = sys.argv[1:]
for name, port in zip(("account", "container", "object"), ports):
    builder = RingBuilder(2, 1, 1)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": int(port), "device": "d"})
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{name}.ring.gz")
"""


@dataclass
class S3Server:
    """A running S3 API. `options` is what `open_store` takes. `pids` is empty for a server that is not ours."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = REGION
    pids: list[int] = field(default_factory=list)

    @property
    def options(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
        }

    def fresh_bucket(self) -> str:
        """The name of a bucket that has just been made through the S3 API and is empty."""
        name = f"test-{secrets.token_hex(8)}"
        self.request("PUT", name)
        return name

    def request(self, method: str, bucket: str, path: str = "", body: bytes | None = None) -> bytes:
        """Send one signed request; returns the body of the answer. Raises `urllib.error.HTTPError`."""
        signer = Signer(f"{self.endpoint}/{bucket}", self.region, self.access_key, self.secret_key)
        url = signer.url(method, path, seconds=60, now=datetime.now(UTC))
        with urllib.request.urlopen(urllib.request.Request(url, method=method, data=body), timeout=30) as answer:
            data: bytes = answer.read()
            return data

    def pause(self) -> None:
        """Let it hang: connections are accepted by the kernel and never answered."""
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """Let it be gone at once: connections are refused."""
        stop(self.pids, signal.SIGKILL)


def s3_server() -> S3Server:
    """The S3 server of this run, started or found; `release_s3()` lets go of it. Raises `Missing`."""
    if endpoint := os.environ.get("FAIRWAY_TEST_S3_ENDPOINT"):
        env = os.environ.get
        return S3Server(
            endpoint.rstrip("/"),
            env("FAIRWAY_TEST_S3_ACCESS_KEY", ""),
            env("FAIRWAY_TEST_S3_SECRET_KEY", ""),
            env("FAIRWAY_TEST_S3_REGION", REGION),
        )
    return _server(_shared.acquire())


def release_s3() -> None:
    """To be called at the end of a test process; the last one stops the server."""
    _shared.release()


def fresh_bucket() -> str:
    """A new bucket on the shared server. Raises `Missing`."""
    return s3_server().fresh_bucket()


@contextlib.contextmanager
def own_s3_server() -> Iterator[S3Server]:
    """A server for one test alone, which may pause and kill it. Raises `Missing`."""
    for left in (CACHE / OWN).glob("*"):
        Shared(f"{OWN}/{left.name}", start).clear_if_unused()
    _shared.folder.mkdir(parents=True, exist_ok=True)
    with _shared.mutex():
        install()
    own = Shared(f"{OWN}/{secrets.token_hex(8)}", start, signal.SIGKILL)
    try:
        yield _server(own.acquire())
    finally:
        own.release()
        remove_tree(own.folder)


def install() -> None:
    """Swift into its own environment, once for each state of its requirements. Raises `Missing`."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode() + str(VENV).encode()).hexdigest()
    stamp = VENV / "fairway-stamp"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    uv = ROOT / ".venv" / "bin" / "uv"
    pip = [uv, "pip", "install", "--quiet", "--require-hashes", "--python", VENV / "bin" / "python"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", "--without-pip", VENV],
        [*pip, "--requirement", REQUIREMENTS],
    ):
        env = {**os.environ, "UV_NO_PROGRESS": "1", "UV_HTTP_TIMEOUT": "20"}
        try:
            done = subprocess.run([str(c) for c in command], capture_output=True, env=env, check=False, timeout=300)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Missing(f"Swift could not be installed: {error}") from error
        if done.returncode:
            raise Missing(f"Swift could not be installed: {done.stderr.decode(errors='replace')[-500:]}")
    stamp.write_text(wanted)


def start(parent: Path) -> dict[str, Any]:
    """Start the four servers; returns `pids`, `folders` and what `S3Server` needs. Raises `Missing`."""
    folder = data_folder(parent)
    ports = free_ports(4)
    secret = secrets.token_hex(16)
    user = pwd.getpwuid(os.getuid()).pw_name
    (folder / "devices" / "d").mkdir(parents=True)
    (folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\nswift_hash_path_prefix = tests\n")
    python = VENV / "bin" / "python"
    subprocess.run([python, "-c", RINGS, folder, *map(str, ports[:3])], check=True, capture_output=True)
    log = folder / "swift.log"
    pids = []
    for part, port in zip(PARTS, ports, strict=True):
        text = COMMON + (PROXY if part == "proxy" else STORAGE)
        conf = folder / f"{part}.conf"
        conf.write_text(text.format(part=part, port=port, user=user, folder=folder, region=REGION, secret=secret))
        pids.append(launch([python, VENV / "bin" / f"swift-{part}-server", conf], log))
    endpoint = f"http://127.0.0.1:{ports[3]}"
    state = {"pids": pids, "folders": [str(folder)], "endpoint": endpoint, "secret": secret}
    probe = _server(state)
    try:
        wait_for(lambda: all(map(_listens, ports)) and _answers(probe), pids, 60, "Swift", log)
    except BaseException:
        stop(pids, signal.SIGKILL)
        remove_tree(folder)
        raise
    return state


def data_folder(parent: Path) -> Path:
    """A new folder on a file system with user attributes, in which Swift keeps what it knows of an object."""
    for place in (parent, Path(tempfile.gettempdir())):
        folder = Path(tempfile.mkdtemp(prefix="fairway-swift-", dir=place))
        try:
            os.setxattr(folder, "user.swift.test", b"1" * 200)
        except OSError as error:
            remove_tree(folder)
            if error.errno not in {errno.ENOTSUP, errno.EPERM, errno.ENOSPC}:
                raise
        else:
            return folder
    raise Missing("Swift needs a file system with extended attributes (user.*), here and in the temporary folder")


def _server(state: dict[str, Any]) -> S3Server:
    return S3Server(state["endpoint"], ACCESS_KEY, state["secret"], pids=state["pids"])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(server: S3Server) -> bool:
    try:
        server.fresh_bucket()
    except (urllib.error.HTTPError, OSError):
        return False
    return True


def _start_shared(folder: Path) -> dict[str, Any]:
    install()
    return start(folder)


_shared = Shared("swift", _start_shared, signal.SIGKILL)  # nothing it has is worth an orderly end
