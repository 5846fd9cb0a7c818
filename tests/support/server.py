"""A real `fairway serve` in its own process, on a free port of the loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2 as httpx

PASSWORD = "correct horse battery staple"
FAIRWAY = Path(sys.executable).with_name("fairway")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One server and its data folder. `env` adds settings (FAIRWAY_... and AWS_...)."""

    def __init__(
        self,
        data: Path,
        *,
        env: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        port: int | None = None,
    ) -> None:
        self.data = data
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments = arguments
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRWAY_", "AWS_"))}
        self.env = inherited | {
            "FAIRWAY_DATA": str(data),
            "FAIRWAY_PORT": str(self.port),
            "FAIRWAY_LOG_FORMAT": "json",
            **(env or {}),
        }
        self.log = data.with_name(data.name + ".log")
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, *, seconds: float = 30) -> None:
        """Start, and wait until it is ready."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [FAIRWAY, "serve", *self.arguments], env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health/live", timeout=2).status_code == 200:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"the server was not ready in {seconds} s:\n{self.log.read_text()[-3000:]}")

    def stop(self, *, seconds: float = 30) -> int:
        """Ask it to stop, as a service manager does; its exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self.process = None
        return status

    def kill(self) -> None:
        """SIGKILL, to it and every process it started: what a power cut or the kernel's memory killer does."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None

    def cli(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `fairway ARGUMENTS` with this server's settings."""
        done = subprocess.run(
            [FAIRWAY, *arguments], env=self.env, input=stdin, capture_output=True, text=True, check=False, timeout=120
        )
        if check and done.returncode:
            raise RuntimeError(f"fairway {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def make_admin(self, name: str = "admin") -> None:
        self.make_user(name, "--admin")

    def make_user(self, name: str, *options: str) -> None:
        self.cli("user", "create", name, "--email", f"{name}@example.org", "--password-stdin", *options, stdin=PASSWORD)

    def make_channel(self, name: str, *options: str, owner: str = "admin") -> str:
        """Make a channel (private unless the options say otherwise); its URL."""
        self.cli("channel", "create", name, "--owner", owner, *options)
        return f"{self.url}/{name}"

    def key(self, scope: str = "upload", *options: str, user: str = "admin") -> str:
        """A new API key."""
        return self.cli("token", "create", "--user", user, "--name", "test", "--scope", scope, *options).stdout.strip()

    def put(self, channel: str, filename: str, data: bytes, key: str, **params: str) -> httpx.Response:
        return httpx.put(
            f"{self.url}/api/v1/channels/{channel}/artifacts/{filename}",
            params=params,
            content=data,
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
        )

    def get(self, path: str, key: str | None = None, **headers: str) -> httpx.Response:
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=60)

    def log_lines(self) -> list[dict[str, object]]:
        """What it logged, those lines that are JSON."""
        lines = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines
