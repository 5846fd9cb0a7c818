"""What the crash tests share: servers that start quickly or through another program, a client without comfort, and
what a refused upload must not leave behind.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from fairway.app import Fairway
from fairway.registry import accounts, channels, tokens
from fairway.registry.actor import CONSOLE, Scope, Visibility
from fairway.settings import load
from tests.support.server import FAIRWAY, Server

GONE = (OSError, http.client.HTTPException)
"""What a client sees when the server dies under it."""


class Process(Protocol):
    """What `Server` needs of a process."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...


class Zygote:
    """The process that forks servers (see zygote.py)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("FAIRWAY_")},
        )
        assert json.loads(self._process.stdout.readline())["ready"]

    def ask(self, **order: Any) -> dict[str, Any]:
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
            return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()


class Forked:
    """A server that the zygote has forked."""

    def __init__(self, zygote: Zygote, pid: int) -> None:
        self._zygote, self.pid, self._status = zygote, pid, None

    def poll(self) -> int | None:
        if self._status is None:
            self._status = self._zygote.ask(poll=self.pid)["status"]
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (60 if timeout is None else timeout)
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("fairway", timeout or 60)
            time.sleep(0.005)
        return status

    def send_signal(self, number: int, /) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Quick(Server):
    """A server whose start can be interrupted: `launch`, then perhaps `wait_ready`. `prefix` is a program to start it
    through (strace, a limit); with a zygote it is forked.
    """

    def __init__(
        self, data: Path, *, zygote: Zygote | None = None, prefix: Sequence[object] = (), **options: Any
    ) -> None:
        super().__init__(data, **options)
        self._zygote, self._prefix = zygote, prefix

    def launch(self) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        process: Process
        if self._zygote is not None:
            self.log.touch()
            order = self._zygote.ask(start=["serve", *self.arguments], env=self.env, log=str(self.log))
            process = Forked(self._zygote, order["pid"])
        else:
            command = [str(part) for part in (*self._prefix, FAIRWAY, "serve", *self.arguments)]
            with self.log.open("ab") as log:
                process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)
        self.process = process  # type: ignore[assignment]

    def start(self, *, seconds: float = 30) -> None:
        self.launch()
        self.wait_ready(seconds=seconds)

    def wait_ready(self, *, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(*GONE), Wire(self, seconds=5) as wire:
                if wire.ask("GET", "/health/live")[0] == 200:
                    return
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"the server ended:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.01)
        raise RuntimeError(f"the server was not ready in {seconds} s:\n{self.log.read_text()[-3000:]}")

    @property
    def staging(self) -> Path:
        """Where uploads wait, if blobs are in the data folder."""
        return self.data / "blobs" / ".staging"


class Wire:
    """One connection to a server, kept alive; nothing is tried twice."""

    def __init__(self, server: Server, key: str | None = None, *, seconds: float = 60) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=seconds)
        self._key = key

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of the answer. Raises one of `GONE`."""
        sent = dict(headers or {})
        if self._key is not None:
            sent["Authorization"] = f"Bearer {self._key}"
        self._connection.request(method, path, body=body, headers=sent)
        answer = self._connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def put(self, channel: str, filename: str, data: Any, **params: str) -> tuple[int, dict[str, Any]]:
        query = "&".join(f"{name}={value}" for name, value in params.items())
        path = f"/api/v1/channels/{channel}/artifacts/{filename}{'?' + query if query else ''}"
        status, _, body = self.ask("PUT", path, data)
        try:
            return status, json.loads(body)
        except ValueError:
            raise AssertionError(f"{status} {body!r}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


class Patient(Wire):
    """Asks again for half a minute when it is told to: a store on a loaded machine may be slow, and that is no loss."""

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        deadline = time.monotonic() + 30
        while (answer := super().ask(method, path, body, headers))[0] == 503 and time.monotonic() < deadline:
            time.sleep(0.2)
        return answer


@contextlib.contextmanager
def opened(server: Server) -> Iterator[Fairway]:
    """The parts of a server, in this process, beside it or while it does not run; as the command line opens them."""
    with Fairway(load(environ=server.env)) as app:
        yield app


def make_channel(server: Server, name: str, visibility: str = "private", *, user: str = "admin") -> str:
    """An administrator (unless there is one), a channel, and an API key that may upload: what four commands do, without
    the seconds that starting them takes.
    """
    with opened(server) as app, app.database.write() as session:
        now = app.now()
        if not accounts.count_users(session):
            accounts.create_user(
                session, CONSOLE, user, email=f"{user}@example.org", password_hash=None, is_admin=True, now=now
            )
        channels.create_channel(session, CONSOLE, name, owner=user, visibility=Visibility(visibility), now=now)
        return tokens.create_token(session, CONSOLE, user=user, name="test", scope=Scope.UPLOAD, now=now)


def eventually(fact: Callable[[], Any], *, seconds: float, pause: float = 0.05) -> Any:
    """The first true value of `fact`; the last value if there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := fact()) and time.monotonic() < deadline:
        time.sleep(pause)
    return value


def fsck(server: Server) -> list[dict[str, str]]:
    """What `fairway fsck --deep` finds."""
    found: list[dict[str, str]] = json.loads(server.cli("fsck", "--deep", "--json", check=False).stdout)
    return found


def errors(found: list[dict[str, str]]) -> list[dict[str, str]]:
    return [finding for finding in found if finding["harm"] == "error"]


def together(work: Callable[[int], Any], count: int) -> list[Any]:
    """Call `work(0)` ... `work(count - 1)` at the same moment in threads of their own; what each returned or raised."""
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        barrier.wait(timeout=30)
        try:
            results[number] = work(number)
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    return results


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] not in "ZX":
                found.append(int(stat.parent.name))
    return found


def running(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    """Hold a process that the test has started."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
