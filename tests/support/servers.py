"""Servers that several test processes share: started by the first, stopped by the last, found again after a kill.

Everything hangs on two locks that the kernel drops when a process dies. `mutex` is held while a server is started or
stopped. Each process that uses the server holds `users` shared; whoever can have `users` alone knows that nobody uses
the server, and so may stop it. What a killed run left running is found in `state.json` and stopped by its process ids,
each together with its start time, because process ids are used again.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"

_children: list[subprocess.Popen[bytes]] = []  # kept, because a forgotten Popen warns when it is collected


class Missing(Exception):
    """This machine cannot offer the server; the text says why. Fixtures turn it into a skip."""


class Shared:
    """One shared server: `start` makes it and returns what `state.json` keeps, with `pids` among it."""

    def __init__(self, name: str, start: Callable[[Path], dict[str, Any]], stop_signal: int = signal.SIGTERM) -> None:
        self.folder = CACHE / name
        self._start = start
        self._signal = stop_signal
        self._users: int | None = None
        self.state: dict[str, Any] = {}

    def acquire(self) -> dict[str, Any]:
        """The state of the running server, which stays up until `release`. Raises `Missing`."""
        if self._users is not None:
            return self.state
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.mutex():
            users = os.open(self.folder / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                alone = _lock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if alone:
                    self._clear()  # of a run that was killed
                self.state = self._read()
                if not self.state:
                    self.state = self._started()
                fcntl.flock(users, fcntl.LOCK_SH)
            except BaseException:
                os.close(users)
                raise
            self._users = users
        atexit.register(self.release)  # for a process that has no fixture to do it
        return self.state

    def release(self) -> None:
        """Let go of the server, and stop it if nobody else uses it."""
        if self._users is None:
            return
        users, self._users = self._users, None
        with self.mutex():
            try:
                if _lock(users, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    self._clear()
            finally:
                os.close(users)

    def clear_if_unused(self) -> bool:
        """Stop the server and remove its folder if nobody uses it, as after a killed run; True if that was so."""
        with contextlib.suppress(FileNotFoundError), self.mutex(), self._opened("users") as users:
            if not _lock(users, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return False
            self._clear()
            remove_tree(self.folder)
        return True

    def _started(self) -> dict[str, Any]:
        state = self._start(self.folder)
        state["started"] = {str(pid): started_at(pid) for pid in state["pids"]}
        file = self.folder / "state.json"
        file.with_suffix(".new").write_text(json.dumps(state))
        file.with_suffix(".new").replace(file)
        return state

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        except FileNotFoundError:
            return {}
        if all(started_at(int(pid)) == at for pid, at in found["started"].items()):
            return found
        raise Missing(f"a server that {self.folder.name} tests share has died meanwhile; see {self.folder}/*.log")

    def _clear(self) -> None:
        try:
            found = json.loads((self.folder / "state.json").read_text())
        except FileNotFoundError:
            return
        stop([int(pid) for pid, at in found["started"].items() if started_at(int(pid)) == at], self._signal)
        for folder in found.get("folders", []):
            remove_tree(Path(folder))
        (self.folder / "state.json").unlink(missing_ok=True)

    @contextlib.contextmanager
    def mutex(self) -> Iterator[None]:
        with self._opened("mutex") as fd:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        fd = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield fd
        finally:
            os.close(fd)


def launch(command: Sequence[object], log: Path, **options: Any) -> int:
    """Start a server in a session of its own, so that ^C of the tests does not hit it; return its process id."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
    _children.append(child)
    return child.pid


def stop(pids: Sequence[int], how: int = signal.SIGTERM, patience: float = 10.0) -> None:
    """End these processes, by force once `patience` seconds are over; returns when they are gone."""
    for number, seconds in ((how, patience), (signal.SIGKILL, 5.0)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)  # a paused process would not hear the first signal
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            _reap()
            if not any(started_at(pid) for pid in pids):
                return
            time.sleep(0.01)


def started_at(pid: int) -> int:
    """When a live process was started, in ticks since boot; 0 if there is none. With the pid it names a process."""
    _reap()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback that are free now, all different."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


def wait_for(ready: Callable[[], bool], pids: Sequence[int], seconds: float, what: str, log: Path) -> None:
    """Wait until `ready()`; raises `Missing` with the end of `log` if one of `pids` dies or time is over."""
    deadline = time.monotonic() + seconds
    while not ready():
        dead = [pid for pid in pids if not started_at(pid)]
        if dead or time.monotonic() > deadline:
            stop(pids)
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise Missing(f"{what} did not start ({'it ended' if dead else f'{seconds:.0f} s'}): {tail}")
        time.sleep(0.03)


def remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how)
    except BlockingIOError:
        return False
    return True


def _reap() -> None:
    for child in _children[:]:
        if child.poll() is not None:
            _children.remove(child)
